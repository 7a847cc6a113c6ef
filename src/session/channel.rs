use std::sync::Arc;
use std::time::Instant;

use crate::auth::Claims;
use crate::feed::{Style, SubscriberId};
use crate::hub::{HeldFrame, Lane};
use crate::protocol::{Binding, JoinConfig, Ref};

use super::Ticket;

/// One topic this connection has joined or is joining.
#[derive(Debug)]
pub(super) struct Channel {
    /// The refs of its `phx_join`, for the reply.
    pub(super) join_ref: Option<Ref>,
    pub(super) reference: Option<Ref>,
    /// Broadcasts want an answer.
    pub(super) ack: bool,
    /// The token in force, or being verified for the join.
    pub(super) token: Arc<str>,
    /// From the first verification on.
    pub(super) claims: Option<Arc<Claims>>,
    /// The verification under way. There is never more than one.
    pub(super) verifying: Option<Verifying>,
    /// A token that came meanwhile; the last one counts.
    pub(super) next_token: Option<Arc<str>>,
    pub(super) stage: Stage,
    pub(super) rows: Option<Rows>,
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
    pub(super) style: Style,
    pub(super) state: RowState,
    /// What its rows come by; ended with the channel.
    pub(super) lane: Lane,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowState {
    /// Asked for, not live yet.
    Pending {
        /// Newer claims have come meanwhile. They take over as soon as it is live: starting over instead could leave
        /// a gap behind a `Subscribed` that is just going out.
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

impl Channel {
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

    pub(super) fn is_joined(&self) -> bool {
        matches!(self.stage, Stage::Joined)
    }

    /// Whether a message belongs to an earlier join of the topic.
    pub(super) fn is_stale(&self, join_ref: Option<&Ref>) -> bool {
        join_ref.is_some() && join_ref != self.own_ref()
    }
}
