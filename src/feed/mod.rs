//! The pump: change → subscription → policy → hub, in commit order; the one place where a position is handed over.
//!
//! Sessions see [`Feed`]: subscribe, unsubscribe, replace claims. Behind it, `pump` is the one task through which every
//! change goes, `keeper` what is known of the catalog, `roster` who is subscribed to what, and `assess`, `deliver` and
//! `payload` the way of one change. What may take its time is beside the pump, so that it never waits for it: `snapshot`,
//! `authority` (rights on private channels), `shaper` (events at their reader's pace), `shadow`.
//!
//! Not in here: what a client's message means, and any socket.

mod assess;
mod authority;
mod convert;
mod courtesy;
mod deliver;
mod distance;
mod fence;
mod keeper;
mod notice;
mod payload;
mod place;
mod prefetch;
mod pump;
mod request;
mod roster;
mod settings;
mod shadow;
mod shaper;
mod snapshot;
mod start;
mod terms;
#[cfg(test)]
mod tests;
mod together;
mod truncate;
mod unpublished;
mod watched;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::auth::Claims;
use crate::change::Cursor;
use crate::hub::Frame;
use crate::messages::Writers;
use crate::policy::listing::{self, Listing};
use crate::postgres::catalog::FilePolicy;

pub use crate::subscription::SubscriberId;
pub use authority::{AuthorityError, Seeker};
pub use keeper::CatalogError;
pub use request::{NewerClaims, Style, SubscribeError, SubscribeRequest, Subscribed, Subscriber};
pub use settings::{Settings, UnjudgedDeletes};
pub use snapshot::{Rows, RowsError, Sending, Settings as SnapshotSettings, Step as SnapshotStep};
pub use start::{Outlets, StreamEnds};

use authority::Authority;
use fence::Fence;
use keeper::Keeper;
use notice::notice;
use place::Place;
use prefetch::Prefetch;
use pump::{Add, Comes, Command};
use request::stopping;
use snapshot::Snapshots;

/// The sessions' handle on the pump. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed {
    commands: mpsc::UnboundedSender<Command>,
    keeper: Arc<Keeper>,
    fence: Fence,
    prefetch: Prefetch,
    authority: Authority,
    writers: Writers,
    place: Place,
    snapshots: Snapshots,
}

impl Feed {
    /// The transactions whose broadcasts were said last, for replays.
    pub fn writers(&self) -> Writers {
        self.writers.clone()
    }

    /// Behind everything that is in the outboxes of those who are live; `None` until the stream has begun. Whoever reads this
    /// first and empties an outbox then has everything up to here.
    pub fn position(&self) -> Option<Cursor> {
        self.place.get()
    }

    /// Registers row subscriptions; resolves when they are live, after `on_live` has been pushed, or when the rows that are
    /// to come first are being sent. While the replication stream is down this keeps waiting: put your own limit around it
    /// (dropping the future does not undo the registration; [`Feed::unsubscribe`] does).
    ///
    /// # Errors
    /// See [`SubscribeError`]; nothing stays registered then.
    pub async fn subscribe(&self, mut request: SubscribeRequest) -> Result<Subscribed, SubscribeError> {
        let rows_first = request.wants_snapshot();
        match request.snapshot.take() {
            Some(SnapshotStep::Take { reply, again }) => {
                let reply = request.reply.take().map(|held| (held, reply));
                self.take(&request, reply, again).await.map(Subscribed::Sending)
            }
            Some(SnapshotStep::Finish(sending)) => self.finish(request, sending).await,
            None if rows_first && request.since.is_some() => {
                self.go_live(&request, Comes::BackOrForRows).await
            }
            None => self.go_live(&request, Comes::Back).await,
        }
    }

    async fn go_live(&self, request: &SubscribeRequest, comes: Comes) -> Result<Subscribed, SubscribeError> {
        let (snapshot, bindings) = self.check(&request.claims, &request.bindings).await?;
        let prefetched = self.prefetch.read(&bindings, &request.claims, &snapshot).await;
        let target = self.fence.target().await.map_err(SubscribeError::Unavailable)?;
        let (answer_to, answer) = oneshot::channel();
        let add = Add {
            subscriber: request.subscriber.clone(),
            claims: Arc::clone(&request.claims),
            newer: request.newer.clone(),
            bindings,
            snapshot,
            prefetched,
            target,
            since: request.since.clone(),
            comes,
            reply: request.reply.clone(),
            on_live: request.on_live.clone(),
            answer: answer_to,
        };
        let command = Command::Add(Box::new(add));
        self.commands.send(command).map_err(|_| stopping())?;
        let live = answer.await.unwrap_or_else(|_| Err(stopping()));
        live.map(|()| Subscribed::Live)
    }

    /// Judges a subscriber's changes by new claims from now on, without a gap; `on_live` is pushed at that moment.
    ///
    /// # Errors
    /// As for [`Feed::subscribe`]; the subscription then ends.
    pub async fn replace_claims(
        &self,
        id: SubscriberId,
        claims: Arc<Claims>,
        on_live: Vec<Frame>,
    ) -> Result<(), SubscribeError> {
        if let Err(error) = self.role(&claims).await {
            self.unsubscribe(id);
            return Err(error);
        }
        let (answer_to, answer) = oneshot::channel();
        let command = Command::Replace {
            id,
            claims,
            on_live,
            answer: answer_to,
        };
        self.commands.send(command).map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Judges what is still to come of a replay by the claims that have been put into its [`SubscribeRequest::newer`]. Nothing
    /// happens to those who are live. Where the claims do not go with the subscription, that fails.
    pub async fn newer_claims(&self, id: SubscriberId, newer: NewerClaims) {
        if let Some(claims) = newer.get() {
            // Has the role known to the pump, which ends what it cannot judge.
            let _ = self.role(&claims).await;
            // As for unsubscribing.
            let _ = self.commands.send(Command::Newer { id, newer });
        }
    }

    /// Forgets a subscriber. Never waits; unknown ids are ignored.
    pub fn unsubscribe(&self, id: SubscriberId) {
        // The pump is gone only when the server stops, and then there is nothing to forget.
        let _ = self.commands.send(Command::Remove(id));
    }

    /// Puts these policy files in the place of those before. They hold for every change that is judged after this returns.
    ///
    /// # Errors
    /// Postgres refuses some of them, or did not answer. Then those before stay in force.
    pub async fn set_policy_files(&self, files: Vec<FilePolicy>) -> Result<(), CatalogError> {
        self.keeper.set_files(files).await?;
        let (answer_to, answer) = oneshot::channel();
        // Without a pump nothing is judged.
        if self.commands.send(Command::Adopt(answer_to)).is_ok() {
            let _ = answer.await;
        }
        Ok(())
    }

    /// The policies of every published table, as they are in force.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn policies(&self) -> Result<Listing, SubscribeError> {
        let unavailable = |error: &dyn std::fmt::Display| SubscribeError::Unavailable(error.to_string());
        let client = self.keeper.client().await.map_err(|e| unavailable(&e))?;
        let snapshot = self.keeper.snapshot();
        listing::read(&client, &snapshot.catalog)
            .await
            .map_err(|e| unavailable(&e))
    }
}
