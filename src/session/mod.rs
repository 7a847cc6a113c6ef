//! One client's state machine: a message, a finished effect or the time comes in; frames go to the outbox and
//! [`Effect`]s come out.
//!
//! No socket, no task, no clock: `transport` drives it, and tests drive it with values. Frames are queued in the
//! connection's [`Outbox`] right away, so that they keep their order with what the feed queues there.
//!
//! The reply to a join with row bindings is a fence: it is made up front and handed to the feed, which queues it at the
//! moment the subscription is live. If that takes longer than [`Limits::reply_wait`], the session sends it; a
//! [`HeldFrame`](crate::hub::HeldFrame) makes sure that exactly one of the two does.
//!
//! What a private channel's user may do is asked of the policies: reading at the join and with every new token, writing
//! when it is first wanted. Until the answer is there, what was sent waits, in order.
//!
//! Who was away and comes back goes on from what it says itself (`resume`), or from what is known of its session id
//! (`places`). What it missed is not kept here: rows come from the feed, broadcasts from the rooms.

mod broadcast;
mod channel;
mod join;
mod limits;
mod messages;
mod places;
mod presence;
mod private;
mod push;
mod resume;
mod rows;
mod timers;
mod token;

pub use limits::Limits;
pub use places::{Holder, Place, Places, Returning, Stay, TopicPlace, Turn, Unsaved, Written};

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::auth::Claims;
use crate::change::Cursor;
use crate::feed::{NewerClaims, Seeker, SubscribeRequest, SubscriberId};
use crate::hub::{Frame, Outbox};
use crate::messages::Persist;
use crate::policy::Rights;
use crate::protocol::errors::{Close, Notice};
use crate::protocol::{self, Ref, Status, SystemMessage, Version};
use crate::rate::{Bucket, SharedRate, Traffic};
use crate::room::Rooms;
use crate::telemetry::Metrics;

use channel::Channel;

/// What every session of a server shares.
pub struct Context {
    /// Limits and delays.
    pub limits: Limits,
    /// What all connections together may do.
    pub rates: Arc<Rates>,
    /// Who is where.
    pub rooms: Rooms,
    /// Where counts go.
    pub metrics: Arc<Metrics>,
    /// Gives out subscriber ids, each once.
    pub next_id: Box<dyn Fn() -> SubscriberId + Send + Sync>,
    /// [`Feed::position`](crate::feed::Feed::position).
    pub position: Box<dyn Fn() -> Option<Cursor> + Send + Sync>,
    /// Whether the replication stream flows.
    pub streaming: Box<dyn Fn() -> bool + Send + Sync>,
    /// Makes a key for who is present and gives none.
    pub presence_key: Box<dyn Fn() -> Arc<str> + Send + Sync>,
}

/// What all connections, and the requests that publish, may do together.
#[derive(Debug)]
pub struct Rates {
    /// Joins.
    pub joins: SharedRate,
    /// Broadcasts.
    pub traffic: Arc<Traffic>,
    /// Calls of `track` and `untrack`.
    pub presence: SharedRate,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The time, on both clocks a session needs.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For delays and limits.
    pub instant: Instant,
    /// For the `exp` of tokens: seconds since the Unix epoch.
    pub unix_seconds: i64,
}

/// Names a token verification of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// What the session wants done. The outcome comes back through the method each variant names.
#[derive(Debug)]
pub enum Effect {
    /// Verify a token; then [`Session::verified`].
    Verify {
        /// To give back.
        ticket: Ticket,
        /// The token.
        token: Arc<str>,
    },
    /// [`Feed::subscribe`](crate::feed::Feed::subscribe); then [`Session::subscribed`] with the subscriber's id.
    Subscribe(Box<SubscribeRequest>),
    /// [`Feed::replace_claims`](crate::feed::Feed::replace_claims); then [`Session::claims_replaced`].
    ReplaceClaims {
        /// Whose.
        id: SubscriberId,
        /// The new ones.
        claims: Arc<Claims>,
        /// As in [`SubscribeRequest::on_live`].
        on_live: Vec<Frame>,
    },
    /// [`Feed::newer_claims`](crate::feed::Feed::newer_claims). Nothing comes of it.
    NewerClaims {
        /// Whose.
        id: SubscriberId,
        /// Where they are.
        newer: NewerClaims,
    },
    /// [`Feed::rights`](crate::feed::Feed::rights); then [`Session::judged`].
    Judge {
        /// To give back.
        ticket: Ticket,
        /// Who wants to know.
        seeker: Seeker,
        /// What.
        wanted: Rights,
    },
    /// [`Feed::rights_changed`](crate::feed::Feed::rights_changed); then [`Session::rights_changed`].
    FollowRights(SubscriberId),
    /// [`Feed::forget_rights`](crate::feed::Feed::forget_rights); what is still under way for this id may be dropped.
    ForgetRights(SubscriberId),
    /// [`Messages::replay`](crate::messages::Messages::replay); then [`Session::replayed`].
    Replay {
        /// Names the private channel.
        id: SubscriberId,
        /// Without `realtime:`.
        topic: Arc<str>,
        /// Milliseconds since the Unix epoch.
        since_ms: i64,
        /// At most so many.
        limit: u32,
    },
    /// [`Messages::persist`](crate::messages::Messages::persist); then [`Session::persisted`].
    Persist {
        /// Names the private channel.
        id: SubscriberId,
        /// What.
        message: Persist,
    },
    /// [`Feed::unsubscribe`](crate::feed::Feed::unsubscribe); what is still under way for this id may be dropped.
    Unsubscribe(SubscriberId),
    /// Send what is queued, then close. Nothing follows.
    Close(Close),
}

/// One connection's state.
#[derive(Debug)]
pub struct Session {
    context: Arc<Context>,
    version: Version,
    outbox: Outbox,
    /// The token the connection was opened with, for joins that bring none.
    connect_token: Arc<str>,
    /// Boxed: the table has room for more than there are, and most connections have few.
    channels: HashMap<Arc<str>, Box<Channel>>,
    /// Error replies that are held back, by due time.
    delayed: VecDeque<(Instant, Frame)>,
    joins: Bucket,
    messages: Bucket,
    bytes: Bucket,
    paused_until: Option<Instant>,
    /// For policies: the `x-…` headers of the connection as a JSON object.
    headers: Arc<str>,
    tickets: u64,
    last_heard: Instant,
    /// Since when there is no channel, if there was one before.
    empty_since: Option<Instant>,
    restarting: bool,
    stream_interrupted: bool,
    /// Resets of the stream that have been told, or were before.
    stream_resets: u64,
    /// Who it is and where it was, if it has a session id. Boxed: few have.
    returning: Option<Box<Returning>>,
}

impl Session {
    /// A connection that has just been accepted with a verified token, and with these `x-…` headers (a JSON object).
    pub fn new(
        context: Arc<Context>,
        version: Version,
        outbox: Outbox,
        connect_token: Arc<str>,
        headers: Arc<str>,
        now: Instant,
    ) -> Self {
        Self {
            context,
            version,
            outbox,
            connect_token,
            channels: HashMap::new(),
            delayed: VecDeque::new(),
            joins: Bucket::default(),
            messages: Bucket::default(),
            bytes: Bucket::default(),
            paused_until: None,
            headers,
            tickets: 0,
            last_heard: now,
            empty_since: None,
            restarting: false,
            stream_interrupted: false,
            stream_resets: 0,
            returning: None,
        }
    }

    /// Somebody who can come back, and perhaps does.
    pub fn returns(&mut self, returning: Returning) {
        self.returning = Some(Box::new(returning));
    }

    /// The serialiser the client chose.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether any channel wants to hear of the stream: it has, or waits for, row changes, or for the stream itself.
    pub fn follows_stream(&self) -> bool {
        let mut channels = self.channels.values();
        channels.any(|channel| channel.rows.is_some() || channel.ready_by.is_some())
    }

    /// The server is about to stop: tells every channel; joins are refused from now on. The caller closes the
    /// connection with [`Close::Restart`] when it sees fit.
    pub fn restarting(&mut self) {
        self.restarting = true;
        for topic in self.joined_topics() {
            let notice = Notice::Disconnect;
            let text = notice.to_string();
            let message = SystemMessage {
                extension: notice.extension(),
                status: notice.status(),
                message: &text,
                channel: None,
                cursor: None,
                room: None,
            };
            self.send(protocol::system_fan_out(self.version, &topic, message));
        }
    }

    /// The connection is gone: what others still hold for it is to be undone.
    pub fn end(&mut self) -> Vec<Effect> {
        let topics: Vec<_> = self.channels.keys().cloned().collect();
        topics
            .iter()
            .filter_map(|topic| self.remove(topic))
            .flat_map(Channel::leftovers)
            .collect()
    }

    fn joined_topics(&self) -> Vec<Arc<str>> {
        let joined = self.channels.iter().filter(|(_, channel)| channel.is_joined());
        joined.map(|(topic, _)| Arc::clone(topic)).collect()
    }

    fn send(&self, text: String) {
        // A full outbox has told the connection's task, which closes it.
        let _ = self.outbox.push(Frame::Text(text.into()));
    }

    fn reply(
        &self,
        join_ref: Option<&Ref>,
        reference: Option<&Ref>,
        topic: &str,
        status: Status,
        response: &str,
    ) {
        self.send(protocol::reply(
            self.version,
            join_ref,
            reference,
            topic,
            status,
            response,
        ));
    }

    /// Lets no further row through, also of those that the feed is sending now.
    fn end_rows(&self, topic: &str) {
        if let Some(rows) = self.channels.get(topic).and_then(|channel| channel.rows.as_ref()) {
            rows.lane.end();
        }
    }

    /// Takes a channel out of the books. What the feed holds for it is the caller's to undo.
    fn remove(&mut self, topic: &str) -> Option<Channel> {
        self.remember(topic);
        self.take_out(topic)
    }

    /// The same of a channel whose place has been remembered.
    fn take_out(&mut self, topic: &str) -> Option<Channel> {
        self.end_rows(topic);
        let mut channel = *self.channels.remove(topic)?;
        // Nothing of the room follows what is said to the channel from now on.
        channel.member = None;
        if channel.is_joined() {
            self.context.metrics.channels.dec();
        }
        Some(channel)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
