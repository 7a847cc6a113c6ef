//! The rows as the sessions see them, also while there is no database yet: who subscribes then waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::auth::Claims;
use crate::change::{Cursor, StreamStatus};
use crate::feed::{self, Feed, NewerClaims, SubscribeError, SubscribeRequest, Subscribed, SubscriberId};
use crate::hub::Frame;
use crate::policy::listing::Listing;
use crate::protocol::Binding;
use crate::transport::{Pending, RowFeed};

/// A feed that may be still to come.
pub(super) struct Rows {
    feed: watch::Receiver<Option<Feed>>,
    stream: watch::Receiver<StreamStatus>,
    next_id: AtomicU64,
}

impl Rows {
    pub(super) fn new(feed: watch::Receiver<Option<Feed>>, stream: watch::Receiver<StreamStatus>) -> Self {
        Self {
            feed,
            stream,
            next_id: AtomicU64::new(0),
        }
    }
}

impl RowFeed for Rows {
    fn next_id(&self) -> SubscriberId {
        SubscriberId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    fn subscribe(&self, request: SubscribeRequest) -> Pending<Result<Subscribed, SubscribeError>> {
        let feed = self.feed.clone();
        Box::pin(async move { arrival(feed).await?.subscribe(request).await })
    }

    fn replace_claims(
        &self,
        id: SubscriberId,
        claims: Arc<Claims>,
        on_live: Vec<Frame>,
    ) -> Pending<Result<(), SubscribeError>> {
        let feed = self.feed.clone();
        Box::pin(async move { arrival(feed).await?.replace_claims(id, claims, on_live).await })
    }

    fn newer_claims(&self, id: SubscriberId, newer: NewerClaims) -> Pending<()> {
        let feed = self.feed.borrow().clone();
        Box::pin(async move {
            // Without one nobody catches up, and who asked to subscribe has them ready for it.
            if let Some(feed) = feed {
                feed.newer_claims(id, newer).await;
            }
        })
    }

    fn unsubscribe(&self, id: SubscriberId) {
        // Without a feed nobody is subscribed.
        if let Some(feed) = &*self.feed.borrow() {
            feed.unsubscribe(id);
        }
    }

    fn position(&self) -> Option<Cursor> {
        self.feed.borrow().as_ref()?.position()
    }

    fn rows(&self, claims: Arc<Claims>, binding: Binding) -> Pending<Result<feed::Rows, SubscribeError>> {
        let feed = self.feed.borrow().clone();
        Box::pin(async move { feed.ok_or_else(waiting)?.rows(&claims, binding).await })
    }

    fn policies(&self) -> Pending<Result<Listing, SubscribeError>> {
        let feed = self.feed.borrow().clone();
        Box::pin(async move { feed.ok_or_else(waiting)?.policies().await })
    }

    fn stream(&self) -> watch::Receiver<StreamStatus> {
        self.stream.clone()
    }
}

fn waiting() -> SubscribeError {
    SubscribeError::Unavailable("the database is still being waited for".to_owned())
}

async fn arrival(mut feed: watch::Receiver<Option<Feed>>) -> Result<Feed, SubscribeError> {
    let arrived = feed.wait_for(Option::is_some).await;
    let stopping = || SubscribeError::Unavailable("the server is stopping".to_owned());
    arrived.map_err(|_| stopping())?.clone().ok_or_else(stopping)
}
