//! What private channels need of the database, also while there is none yet.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use crate::feed::{AuthorityError, Feed, Seeker, SubscriberId};
use crate::messages::{Messages, MessagesError, Persist, Stored};
use crate::policy::Rights;
use crate::transport::{ChannelRights, Pending};

/// How long the feed is waited for. Clients give a join up after 10 s.
const ARRIVAL: Duration = Duration::from_secs(5);

/// A feed that may be still to come, and the table of messages.
pub(super) struct Channels {
    feed: watch::Receiver<Option<Feed>>,
    messages: Messages,
}

impl Channels {
    pub(super) fn new(feed: watch::Receiver<Option<Feed>>, messages: Messages) -> Self {
        Self { feed, messages }
    }

    /// What the feed says. One that is still to come is waited for, as long as a join may take.
    fn ask<T, F>(&self, ask: impl FnOnce(Feed) -> F + Send + 'static) -> Pending<Result<T, AuthorityError>>
    where
        F: Future<Output = Result<T, AuthorityError>> + Send,
    {
        let mut feed = self.feed.clone();
        Box::pin(async move {
            let arrival = async { feed.wait_for(Option::is_some).await.ok()?.clone() };
            let arrived = tokio::time::timeout(ARRIVAL, arrival).await;
            let waiting = || AuthorityError::Unavailable("the database is still being waited for".to_owned());
            ask(arrived.ok().flatten().ok_or_else(waiting)?).await
        })
    }
}

impl ChannelRights for Channels {
    fn rights(&self, seeker: Seeker, wanted: Rights) -> Pending<Result<Rights, AuthorityError>> {
        self.ask(move |feed| async move { feed.rights(seeker, wanted).await })
    }

    fn rights_changed(&self, id: SubscriberId) -> Pending<Rights> {
        let feed = self.feed.borrow().clone();
        Box::pin(async move {
            match feed {
                Some(feed) => feed.rights_changed(id).await,
                // Nothing was ever judged.
                None => std::future::pending().await,
            }
        })
    }

    fn forget_rights(&self, id: SubscriberId) {
        if let Some(feed) = &*self.feed.borrow() {
            feed.forget_rights(id);
        }
    }

    fn replay(
        &self,
        topic: Arc<str>,
        since_ms: i64,
        limit: u32,
    ) -> Pending<Result<Vec<Stored>, MessagesError>> {
        let messages = self.messages.clone();
        let writers = self.feed.borrow().as_ref().map(Feed::writers).unwrap_or_default();
        Box::pin(async move { messages.replay(&topic, since_ms, limit, &writers).await })
    }

    fn persist(&self, message: Persist) -> Pending<Result<Uuid, MessagesError>> {
        let messages = self.messages.clone();
        Box::pin(async move { messages.persist(&message).await })
    }
}
