//! What the transport needs of those who judge tokens and serve rows, so that tests can stand in for them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use crate::auth::{Claims, TokenError, Verifier};
use crate::change::StreamState;
use crate::feed::{Feed, SubscribeError, SubscribeRequest, SubscriberId};
use crate::hub::Frame;

/// An outcome that is still to come.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Judges tokens.
pub trait TokenVerifier: Send + Sync + 'static {
    /// See [`Verifier::verify`].
    fn verify(&self, token: Arc<str>) -> Pending<Result<Arc<Claims>, TokenError>>;
}

/// Serves row subscriptions. Each method has the contract of the [`Feed`] method of the same name.
pub trait RowFeed: Send + Sync + 'static {
    /// See [`Feed::next_id`].
    fn next_id(&self) -> SubscriberId;

    /// See [`Feed::subscribe`]. Dropping the future is followed by [`RowFeed::unsubscribe`].
    fn subscribe(&self, request: SubscribeRequest) -> Pending<Result<(), SubscribeError>>;

    /// See [`Feed::replace_claims`].
    fn replace_claims(
        &self,
        id: SubscriberId,
        claims: Arc<Claims>,
        on_live: Vec<Frame>,
    ) -> Pending<Result<(), SubscribeError>>;

    /// See [`Feed::unsubscribe`].
    fn unsubscribe(&self, id: SubscriberId);

    /// See [`Feed::stream`].
    fn stream(&self) -> watch::Receiver<StreamState>;
}

impl TokenVerifier for Verifier {
    fn verify(&self, token: Arc<str>) -> Pending<Result<Arc<Claims>, TokenError>> {
        let verifier = self.clone();
        Box::pin(async move { verifier.verify(&token).await })
    }
}

impl RowFeed for Feed {
    fn next_id(&self) -> SubscriberId {
        Self::next_id(self)
    }

    fn subscribe(&self, request: SubscribeRequest) -> Pending<Result<(), SubscribeError>> {
        let feed = self.clone();
        Box::pin(async move { Self::subscribe(&feed, request).await })
    }

    fn replace_claims(
        &self,
        id: SubscriberId,
        claims: Arc<Claims>,
        on_live: Vec<Frame>,
    ) -> Pending<Result<(), SubscribeError>> {
        let feed = self.clone();
        Box::pin(async move { Self::replace_claims(&feed, id, claims, on_live).await })
    }

    fn unsubscribe(&self, id: SubscriberId) {
        Self::unsubscribe(self, id);
    }

    fn stream(&self) -> watch::Receiver<StreamState> {
        Self::stream(self)
    }
}
