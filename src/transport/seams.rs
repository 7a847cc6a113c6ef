//! What the transport needs of those who judge tokens and serve rows, so that tests can stand in for them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use crate::auth::{Claims, TokenError, Verifier};
use crate::change::{Cursor, StreamStatus};
use crate::feed::{
    AuthorityError, NewerClaims, Rows, Seeker, SubscribeError, SubscribeRequest, Subscribed, SubscriberId,
};
use crate::hub::Frame;
use crate::messages::{MessagesError, Persist, Stored};
use crate::policy::Rights;
use crate::policy::listing::Listing;
use crate::protocol::Binding;
use crate::session::Written;

/// An outcome that is still to come.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Judges tokens.
pub trait TokenVerifier: Send + Sync + 'static {
    /// See [`Verifier::verify`].
    fn verify(&self, token: Arc<str>) -> Pending<Result<Arc<Claims>, TokenError>>;
}

/// Serves row subscriptions. Where a method has the name of one of [`Feed`](crate::feed::Feed), it has its contract.
pub trait RowFeed: Send + Sync + 'static {
    /// A subscriber id that was not given out before.
    fn next_id(&self) -> SubscriberId;

    /// See [`Feed::subscribe`](crate::feed::Feed::subscribe). Dropping the future is followed by [`RowFeed::unsubscribe`].
    fn subscribe(&self, request: SubscribeRequest) -> Pending<Result<Subscribed, SubscribeError>>;

    /// See [`Feed::replace_claims`](crate::feed::Feed::replace_claims).
    fn replace_claims(
        &self,
        id: SubscriberId,
        claims: Arc<Claims>,
        on_live: Vec<Frame>,
    ) -> Pending<Result<(), SubscribeError>>;

    /// See [`Feed::newer_claims`](crate::feed::Feed::newer_claims).
    fn newer_claims(&self, id: SubscriberId, newer: NewerClaims) -> Pending<()>;

    /// See [`Feed::unsubscribe`](crate::feed::Feed::unsubscribe).
    fn unsubscribe(&self, id: SubscriberId);

    /// See [`Feed::position`](crate::feed::Feed::position).
    fn position(&self) -> Option<Cursor>;

    /// See [`Feed::rows`](crate::feed::Feed::rows).
    fn rows(&self, claims: Arc<Claims>, binding: Binding) -> Pending<Result<Rows, SubscribeError>>;

    /// See [`Feed::policies`](crate::feed::Feed::policies).
    fn policies(&self) -> Pending<Result<Listing, SubscribeError>>;

    /// The state of the replication stream, and its changes.
    fn stream(&self) -> watch::Receiver<StreamStatus>;
}

/// Knows where clients were when they were with another server, and has the next one know.
pub trait PlaceKeeper: Send + Sync + 'static {
    /// The place of a client that this server does not know; `None` if nobody does.
    fn recall(&self, id: Arc<str>) -> Pending<Result<Option<Written>, Unread>>;

    /// Writes down what is known of a client by now, ahead of what waits; resolves when that is done, has failed, or takes too long.
    /// It is done also where nobody waits for it.
    fn write(&self, id: Arc<str>) -> Pending<()>;
}

/// Nobody can say what is written of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread;

/// Serves what private channels need of the database.
pub trait ChannelRights: Send + Sync + 'static {
    /// See [`Feed::rights`](crate::feed::Feed::rights).
    fn rights(&self, seeker: Seeker, wanted: Rights) -> Pending<Result<Rights, AuthorityError>>;

    /// See [`Feed::rights_changed`](crate::feed::Feed::rights_changed).
    fn rights_changed(&self, id: SubscriberId) -> Pending<Rights>;

    /// See [`Feed::forget_rights`](crate::feed::Feed::forget_rights).
    fn forget_rights(&self, id: SubscriberId);

    /// See [`Messages::replay`](crate::messages::Messages::replay).
    fn replay(
        &self,
        topic: Arc<str>,
        since_ms: i64,
        limit: u32,
    ) -> Pending<Result<Vec<Stored>, MessagesError>>;

    /// See [`Messages::persist`](crate::messages::Messages::persist).
    fn persist(&self, message: Persist) -> Pending<Result<Uuid, MessagesError>>;
}

impl TokenVerifier for Verifier {
    fn verify(&self, token: Arc<str>) -> Pending<Result<Arc<Claims>, TokenError>> {
        let verifier = self.clone();
        Box::pin(async move { verifier.verify(&token).await })
    }
}
