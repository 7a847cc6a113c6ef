use std::sync::Arc;
use std::time::Instant;

use crate::auth::{Claims, User};
use crate::feed::{NewerClaims, Style, SubscriberId};
use crate::hub::{HeldFrame, Lane};
use crate::protocol::{Binding, JoinConfig, Ref};
use crate::room::Member;

use super::places::{Shape, Stay};
use super::private::Private;
use super::{Effect, Ticket};

/// One topic this connection has joined or is joining.
#[derive(Debug)]
pub(super) struct Channel {
    /// The refs of its `phx_join`, for the reply.
    pub(super) join_ref: Option<Ref>,
    pub(super) reference: Option<Ref>,
    /// When that came.
    pub(super) since: Instant,
    /// Broadcasts want an answer.
    pub(super) ack: bool,
    /// The token in force, or being verified for the join.
    pub(super) token: Arc<str>,
    /// From the first verification on.
    pub(super) claims: Option<Arc<Claims>>,
    /// Whose place in the channel is its client's; from the moment on that the join is granted.
    pub(super) user: User,
    /// The verification under way. There is never more than one.
    pub(super) verifying: Option<Verifying>,
    /// A token that came meanwhile; the last one counts.
    pub(super) next_token: Option<Arc<str>>,
    pub(super) stage: Stage,
    pub(super) rows: Option<Rows>,
    /// Its place in the room, once the join is granted.
    pub(super) member: Option<Member>,
    /// What it may do, if it is private.
    pub(super) private: Option<Box<Private>>,
    /// Calls of `track` and `untrack`.
    pub(super) calls: Calls,
    /// The client wants to be told when broadcasts from the database flow, and waits until then.
    pub(super) ready_by: Option<Instant>,
    /// It has been told that its token runs out.
    pub(super) warned: bool,
}

/// What was called within a time.
#[derive(Debug, Default)]
pub(super) struct Calls {
    since: Option<Instant>,
    count: usize,
}

#[derive(Debug)]
pub(super) struct Verifying {
    pub(super) ticket: Ticket,
    pub(super) token: Arc<str>,
}

/// How far a join has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its token is being verified.
    Admission(Box<JoinConfig>),
    /// What it may read is being judged.
    Judging(Box<JoinConfig>),
    /// What was said before is being read.
    Replaying {
        config: Box<JoinConfig>,
        reply: HeldFrame,
    },
    /// The ok reply waits for the row subscription.
    Held {
        reply: HeldFrame,
        until: Instant,
        /// What is due at `until`.
        then: AtLimit,
    },
    /// The ok reply has been sent.
    Joined,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtLimit {
    /// The ok reply goes out anyway.
    Reply,
    /// The client chose to wait, and the join has failed.
    Refuse {
        /// How long it waited, in milliseconds.
        waited_ms: u128,
    },
}

/// A channel's row subscription.
#[derive(Debug)]
pub(super) struct Rows {
    /// The feed's name for it; a new one for each attempt.
    pub(super) id: SubscriberId,
    pub(super) bindings: Arc<[Binding]>,
    /// Of the bindings.
    pub(super) shape: Option<Shape>,
    pub(super) style: Style,
    /// The client tells from where it wants to go on; empty or no cursor for somebody new.
    pub(super) since: Option<Box<str>>,
    /// Its events carry their cursor.
    pub(super) cursors: bool,
    pub(super) state: RowState,
    /// Whose rows have been coming. Another user's are not known until theirs do.
    pub(super) user: User,
    /// Where its newer claims go while it is on its way to being live, if rows come on that way.
    pub(super) newer: Option<NewerClaims>,
    /// Rows of a snapshot have been sent.
    pub(super) begun: bool,
    /// Why its rows come, although there was somewhere to go on from.
    pub(super) behind: Option<String>,
    /// What its rows come by; ended with the channel.
    pub(super) lane: Lane,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowState {
    /// Asked for, not live yet.
    Pending {
        /// Newer claims have come meanwhile. What is said again is judged by them, and as soon as it is live, it is told that
        /// they are in force: starting over instead could leave a gap behind a `Subscribed` that is just going out.
        again: bool,
    },
    /// Live.
    Live,
    /// Live, and its claims are being replaced.
    Replacing {
        /// Newer ones have come meanwhile.
        again: bool,
    },
    /// Could not be served; asked for again at this time.
    Retry(Instant),
    /// Refused for its parameters. A new token may change that.
    Refused,
}

impl Calls {
    /// Counts a call; whether it is one of the first `most` within `window`.
    pub(super) fn count(&mut self, most: usize, window: std::time::Duration, now: Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + window) {
            *self = Self {
                since: Some(now),
                count: 0,
            };
        }
        self.count += 1;
        self.count <= most
    }
}

impl Channel {
    /// What others hold for a channel that is over, to be undone.
    pub(super) fn leftovers(self) -> Vec<Effect> {
        let rows = self.rows.map(|rows| Effect::Unsubscribe(rows.id));
        let rights = self.private.map(|private| Effect::ForgetRights(private.id));
        rows.into_iter().chain(rights).collect()
    }

    /// Under what its place is known.
    pub(super) fn stay(&self, topic: &Arc<str>) -> Stay {
        Stay {
            topic: Arc::clone(topic),
            user: self.user,
        }
    }

    /// The ok reply that is still held, if one is.
    pub(super) fn held_reply(&self) -> Option<&HeldFrame> {
        match &self.stage {
            Stage::Held { reply, .. } | Stage::Replaying { reply, .. } => Some(reply),
            Stage::Admission(_) | Stage::Judging(_) | Stage::Joined => None,
        }
    }

    /// What `phx_close` and pushes carry: the join's `join_ref`, or its `ref` where an old client sends none, because
    /// a close without one would close whatever the client has under that topic by then.
    pub(super) fn own_ref(&self) -> Option<&Ref> {
        self.join_ref.as_ref().or(self.reference.as_ref())
    }

    /// Whether the ok reply still waits because the client chose so.
    pub(super) fn waits_by_choice(&self) -> bool {
        match &self.stage {
            Stage::Held { reply, then, .. } => *then != AtLimit::Reply && reply.is_held(),
            _ => false,
        }
    }

    /// Whose channel it is, is known.
    pub(super) fn is_granted(&self) -> bool {
        !matches!(self.stage, Stage::Admission(_) | Stage::Judging(_))
    }

    pub(super) fn is_joined(&self) -> bool {
        matches!(self.stage, Stage::Joined)
    }

    /// Whether a message belongs to an earlier join of the topic.
    pub(super) fn is_stale(&self, join_ref: Option<&Ref>) -> bool {
        join_ref.is_some() && join_ref != self.own_ref()
    }
}
