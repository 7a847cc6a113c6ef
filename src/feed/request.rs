//! What is asked of the feed, and what comes of it.

use std::sync::{Arc, Mutex, PoisonError};

use super::snapshot::{Sending, Step as SnapshotStep};
use crate::auth::Claims;
use crate::change::Since;
use crate::hub::{Frame, HeldFrame, Lane};
use crate::protocol::{Binding, Version};
use crate::subscription::SubscriberId;

/// A channel that wants row changes.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// Its id, which no other subscriber of this feed has or had.
    pub id: SubscriberId,
    /// Full topic, `realtime:…`.
    pub topic: Arc<str>,
    /// Serialiser of its connection.
    pub version: Version,
    /// How changes are wrapped.
    pub style: Style,
    /// Its events carry their cursor.
    pub cursors: bool,
    /// Where frames go.
    pub outbox: Lane,
}

/// How a change is wrapped for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// Event `postgres_changes`, payload `{ids, data}`.
    Modern,
    /// Event `INSERT`/`UPDATE`/`DELETE`, the change itself as payload (joins without `config`).
    Legacy,
}

/// What [`Feed::subscribe`](super::Feed::subscribe) takes.
#[derive(Debug)]
pub struct SubscribeRequest {
    /// Who.
    pub subscriber: Subscriber,
    /// With what rights.
    pub claims: Arc<Claims>,
    /// Where rights are put that take their place before it is live; `None` where nothing comes before that.
    pub newer: Option<NewerClaims>,
    /// To what. All or none: one bad binding refuses the request. Shared with the session, which keeps them to ask
    /// again.
    pub bindings: Arc<[Binding]>,
    /// From where it goes on: what was committed behind it comes before anything new, as the claims allow now. If that is not
    /// to be had, it is told that rows may be missing, and why. `None` for whoever wants only what is new.
    pub since: Option<Since>,
    /// Which rows come first, if any do: where a binding asks for a snapshot, and nothing else says from where to go on.
    pub snapshot: Option<SnapshotStep>,
    /// The reply to the join, if it waits for this subscription: sent before `on_live`. The session may have sent or
    /// discarded it by then; that is the session's business.
    pub reply: Option<HeldFrame>,
    /// Pushed into the outbox, in order, at the moment the subscription is live: every change behind them was
    /// committed after, none in front of them is sent.
    pub on_live: Vec<Frame>,
}

/// Claims that have come since a subscription was asked for. See [`Feed::newer_claims`](super::Feed::newer_claims).
#[derive(Clone, Debug, Default)]
pub struct NewerClaims(Arc<Mutex<Option<Arc<Claims>>>>);

impl NewerClaims {
    /// These are in force now.
    pub fn put(&self, claims: Arc<Claims>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(claims);
    }

    /// Those that are in force now, if any have come.
    pub fn get(&self) -> Option<Arc<Claims>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What has become of a request to subscribe.
#[derive(Debug)]
pub enum Subscribed {
    /// It is live.
    Live,
    /// The rows that were there before are being sent, and the reply to the join is out if the request had it: ask again, with
    /// this as its [`SnapshotStep`].
    Sending(Sending),
}

/// Why a subscription was refused. `Display` is the text for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The parameters are wrong or not allowed; trying again will not help.
    #[error("{0}")]
    Refused(String),
    /// The database or the stream cannot serve this now; trying again may help.
    #[error("{0}")]
    Unavailable(String),
    /// It cannot go on from where it was, for this reason, and wants its rows first: ask for them.
    #[error("{0}")]
    Behind(String),
}

/// For whoever asks when nobody is left to answer.
pub(super) fn stopping() -> SubscribeError {
    SubscribeError::Unavailable("the server is stopping".to_owned())
}
