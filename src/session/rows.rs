//! Row subscriptions: asking for them, their outcome, and the state of the stream they live on.

use std::sync::Arc;
use std::time::Duration;

use super::channel::{Channel, RowState, Rows, Stage};
use super::{Effect, Now, Session};
use crate::change::{Since, StreamState, StreamStatus};
use crate::feed::{
    NewerClaims, Sending, SnapshotStep, SubscribeError, SubscribeRequest, Subscribed, Subscriber,
    SubscriberId,
};
use crate::hub::Frame;
use crate::protocol::errors::{JoinError, Notice};
use crate::protocol::{self, Snapshot, SnapshotReply, SystemMessage, Version};
use crate::room::{self, Member};
use crate::topic;

/// Why rows come once more that had begun to come, or where a cursor is none.
const OUT_OF_DATE: &str = "the rows that came before may be out of date";

/// How often a subscription that could not be served is tried while the client waits for it.
const RETRY_WHILE_WAITED_FOR: Duration = Duration::from_millis(500);

impl Session {
    /// Asks the feed for a channel's rows, under the id and claims it has now.
    pub(super) fn subscribe(&mut self, topic: &Arc<str>) -> Option<Effect> {
        self.subscription(topic, None)
    }

    /// As [`Session::subscribe`]; or, with a snapshot whose rows are being sent, for what follows them.
    fn subscription(&mut self, topic: &Arc<str>, sending: Option<Sending>) -> Option<Effect> {
        let request = self.request(topic, sending)?;
        if let Some(SnapshotStep::Take { .. }) = request.snapshot {
            self.drop_rows(topic);
        }
        Some(Effect::Subscribe(Box::new(request)))
    }

    fn request(&mut self, topic: &Arc<str>, sending: Option<Sending>) -> Option<SubscribeRequest> {
        let rows = self.channels.get_mut(topic)?.rows.as_mut()?;
        let comes_back = rows.since.as_deref().is_some_and(|text| !text.is_empty());
        rows.newer = (comes_back || sending.is_some()).then(NewerClaims::default);
        let channel = self.channels.get(topic)?;
        let rows = channel.rows.as_ref()?;
        let reply = match &channel.stage {
            Stage::Held { reply, .. } => Some(reply.clone()),
            _ => None,
        };
        let asked = rows.since.as_deref().filter(|text| !text.is_empty());
        let since = asked.map(str::parse::<Since>);
        let mut on_live = vec![notice_frame(self.version, topic, channel, &Notice::Subscribed)];
        let snapshot = match (sending, &since) {
            (Some(sending), _) => Some(SnapshotStep::Finish(sending)),
            (None, None | Some(Err(_))) if rows.wants_snapshot() => Some(SnapshotStep::Take {
                reply: SnapshotReply {
                    version: self.version,
                    join_ref: channel.join_ref.clone(),
                    reference: channel.reference.clone(),
                    topic: Arc::clone(topic),
                    bindings: Arc::clone(&rows.bindings),
                },
                again: match (&rows.behind, rows.begun || since.is_some()) {
                    (Some(reason), _) => Some(reason.clone()),
                    (None, true) => Some(OUT_OF_DATE.to_owned()),
                    (None, false) => None,
                },
            }),
            _ => None,
        };
        if let (Some(Err(error)), None) = (&since, &snapshot) {
            let notice = Notice::Resync(error.to_string());
            on_live.insert(0, notice_frame(self.version, topic, channel, &notice));
        }
        Some(SubscribeRequest {
            subscriber: Subscriber {
                id: rows.id,
                topic: Arc::clone(topic),
                version: self.version,
                style: rows.style,
                cursors: rows.cursors,
                outbox: rows.lane.clone(),
            },
            claims: Arc::clone(channel.claims.as_ref()?),
            newer: rows.newer.clone(),
            bindings: Arc::clone(&rows.bindings),
            since: since.and_then(Result::ok),
            snapshot,
            reply,
            on_live,
        })
    }

    pub(super) fn replace_claims(&self, topic: &Arc<str>) -> Option<Effect> {
        let channel = self.channels.get(topic)?;
        Some(Effect::ReplaceClaims {
            id: channel.rows.as_ref()?.id,
            claims: Arc::clone(channel.claims.as_ref()?),
            on_live: vec![notice_frame(self.version, topic, channel, &Notice::Subscribed)],
        })
    }

    /// [`Effect::Subscribe`] has an outcome.
    pub fn subscribed(
        &mut self,
        id: SubscriberId,
        outcome: Result<Subscribed, SubscribeError>,
        now: Now,
    ) -> Vec<Effect> {
        if outcome.is_ok()
            && let Some(topic) = self.topic_of(id)
        {
            // The feed has sent the reply; this takes note of it.
            self.answer(&topic);
        }
        match outcome {
            Ok(Subscribed::Sending(sending)) => self.rows_begin(id, sending).into_iter().collect(),
            Ok(Subscribed::Live) => self.settled(id, Ok(()), now),
            Err(SubscribeError::Behind(reason)) => self.rows_instead(id, reason, now),
            Err(error) => self.settled(id, Err(error), now),
        }
    }

    /// The rows of a snapshot are being sent. What changes behind them is judged by the claims that are in force by now.
    fn rows_begin(&mut self, id: SubscriberId, sending: Sending) -> Option<Effect> {
        let topic = self.topic_of(id)?;
        let rows = self.channels.get_mut(&topic)?.rows.as_mut()?;
        rows.begun = true;
        rows.state = RowState::Pending { again: false };
        self.rows_come(&topic);
        self.subscription(&topic, Some(sending))
    }

    /// A channel cannot go on from where it was. If it asked for its rows first, it gets them anew instead.
    fn rows_instead(&mut self, id: SubscriberId, reason: String, now: Now) -> Vec<Effect> {
        let wants = |rows: &&mut Rows| rows.wants_snapshot() && rows.since.is_some();
        let topic = self.topic_of(id);
        let rows = topic.as_ref().and_then(|topic| self.rows_mut(topic));
        let (Some(rows), Some(topic)) = (rows.filter(wants), &topic) else {
            return self.settled(id, Err(SubscribeError::Behind(reason)), now);
        };
        // From here on it has none to go on from, also where this fails.
        (rows.since, rows.behind) = (None, Some(reason));
        rows.state = RowState::Pending { again: false };
        self.answer(topic);
        self.subscribe(topic).into_iter().collect()
    }

    /// [`Effect::ReplaceClaims`] has an outcome.
    pub fn claims_replaced(
        &mut self,
        id: SubscriberId,
        outcome: Result<(), SubscribeError>,
        now: Now,
    ) -> Vec<Effect> {
        self.settled(id, outcome, now)
    }

    fn settled(&mut self, id: SubscriberId, outcome: Result<(), SubscribeError>, now: Now) -> Vec<Effect> {
        let Some(topic) = self.topic_of(id) else {
            return Vec::new();
        };
        let newer_claims = self.rows(&topic).is_some_and(|rows| {
            matches!(
                rows.state,
                RowState::Pending { again: true } | RowState::Replacing { again: true }
            )
        });
        match outcome {
            Ok(()) if newer_claims => {
                self.set_state(&topic, RowState::Replacing { again: false });
                self.replace_claims(&topic).into_iter().collect()
            }
            Ok(()) => {
                self.set_state(&topic, RowState::Live);
                let user = self.channels.get(&topic).map(|channel| channel.user);
                if let (Some(rows), Some(user)) = (self.rows_mut(&topic), user) {
                    (rows.newer, rows.user) = (None, user);
                }
                Vec::new()
            }
            // It failed for claims that are no longer in force: ask anew with those that are.
            Err(_) if newer_claims => self.resubscribe(&topic).into_iter().collect(),
            Err(error) => self.subscription_failed(&topic, error, now),
        }
    }

    /// Asks again, after the last attempt has ended.
    pub(super) fn resubscribe(&mut self, topic: &Arc<str>) -> Option<Effect> {
        let id = (self.context.next_id)();
        let rows = self.channels.get_mut(topic)?.rows.as_mut()?;
        rows.id = id;
        rows.state = RowState::Pending { again: false };
        self.subscribe(topic)
    }

    fn subscription_failed(&mut self, topic: &Arc<str>, error: SubscribeError, now: Now) -> Vec<Effect> {
        let Some(channel) = self.channels.get(topic) else {
            return Vec::new();
        };
        let waits = channel.waits_by_choice();
        match error {
            SubscribeError::Refused(text) if waits => {
                return self.refuse(topic, &JoinError::Subscription(text), now);
            }
            SubscribeError::Refused(text) => {
                self.answer(topic);
                self.notify(topic, &Notice::SubscriptionFailed(text));
                self.set_state(topic, RowState::Refused);
            }
            SubscribeError::Unavailable(_) | SubscribeError::Behind(_) if waits => {
                self.set_state(topic, RowState::Retry(now.instant + RETRY_WHILE_WAITED_FOR));
            }
            SubscribeError::Unavailable(text) | SubscribeError::Behind(text) => {
                self.answer(topic);
                self.notify(topic, &Notice::SubscriptionFailed(text));
                let pause = self.retry_pause(topic);
                self.set_state(topic, RowState::Retry(now.instant + pause));
            }
        }
        Vec::new()
    }

    /// Between once and twice the setting; subscriber ids spread the channels, so that they do not all come back in
    /// the same moment.
    fn retry_pause(&self, topic: &str) -> Duration {
        let pause = self.context.limits.subscribe_retry;
        let id = self.rows(topic).map_or(0, |rows| rows.id.0);
        let spread = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        pause + pause * u32::try_from(spread).unwrap_or_default() / 256
    }

    /// Sends the ok reply if it is still held. The channel is joined then.
    pub(super) fn answer(&mut self, topic: &str) {
        let Some(channel) = self.channels.get_mut(topic) else {
            return;
        };
        if let Stage::Held { reply, .. } = &channel.stage {
            reply.send(&self.outbox);
            channel.stage = Stage::Joined;
            self.context.metrics.channels.inc();
            self.tell_ready(topic);
            let member = self.channels.get(topic).and_then(|c| c.member.as_ref());
            if let Some(missed) = member.and_then(Member::open) {
                self.notify(topic, &Notice::Resync(missed.to_string()));
            }
        }
    }

    /// Tells a channel that broadcasts from the database flow, if it wants to know and they do.
    fn tell_ready(&mut self, topic: &str) {
        let streaming = (self.context.streaming)();
        let waits = |channel: &&mut Box<Channel>| channel.ready_by.is_some() && channel.is_joined();
        if let Some(channel) = self.channels.get_mut(topic).filter(waits)
            && streaming
        {
            channel.ready_by = None;
            self.notify(topic, &Notice::ReplicationReady);
        }
    }

    /// The replication stream's state, at the start and at every change. Only channels that have been told they are
    /// subscribed hear of it: clients take any `system` message with status `ok` for that one.
    pub fn stream(&mut self, status: &StreamStatus) {
        if status.flows() {
            for topic in self.joined_topics() {
                self.tell_ready(&topic);
            }
        }
        if status.resets != self.stream_resets {
            self.stream_resets = status.resets;
            self.stream_interrupted = false;
            let why = status.last_reset.as_deref().unwrap_or_default();
            self.tell_live(&Notice::StreamReset(why.to_owned()));
        }
        match status.state {
            StreamState::Interrupted(_) if !self.stream_interrupted => {
                self.stream_interrupted = true;
                self.tell_live(&Notice::StreamInterrupted);
            }
            StreamState::Live if self.stream_interrupted => {
                self.stream_interrupted = false;
                self.tell_live(&Notice::StreamLive);
            }
            _ => {}
        }
    }

    /// Tells every channel whose rows are live.
    fn tell_live(&self, notice: &Notice) {
        let live = |rows: &Rows| matches!(rows.state, RowState::Live | RowState::Replacing { .. });
        for (topic, channel) in &self.channels {
            if channel.rows.as_ref().is_some_and(live) {
                let _ = self
                    .outbox
                    .push(notice_frame(self.version, topic, channel, notice));
            }
        }
    }

    pub(super) fn notify(&self, topic: &str, notice: &Notice) {
        if let Some(channel) = self.channels.get(topic) {
            let _ = self
                .outbox
                .push(notice_frame(self.version, topic, channel, notice));
        }
    }

    fn rows(&self, topic: &str) -> Option<&Rows> {
        self.channels.get(topic)?.rows.as_ref()
    }

    fn rows_mut(&mut self, topic: &str) -> Option<&mut Rows> {
        self.channels.get_mut(topic)?.rows.as_mut()
    }

    fn set_state(&mut self, topic: &str, state: RowState) {
        if let Some(rows) = self.rows_mut(topic) {
            rows.state = state;
        }
    }

    /// The topic of the channel that has this row subscription.
    pub fn topic_of(&self, id: SubscriberId) -> Option<Arc<str>> {
        let has_id = |channel: &Channel| channel.rows.as_ref().is_some_and(|rows| rows.id == id);
        let found = self.channels.iter().find(|(_, channel)| has_id(channel));
        found.map(|(topic, _)| Arc::clone(topic))
    }
}

impl Rows {
    fn wants_snapshot(&self) -> bool {
        self.bindings
            .iter()
            .any(|binding| binding.snapshot == Snapshot::On)
    }
}

pub(super) fn notice_frame(version: Version, topic: &str, channel: &Channel, notice: &Notice) -> Frame {
    placed_notice(version, topic, channel, notice, None)
}

/// The same, with where the channel is in its room.
pub(super) fn placed_notice(
    version: Version,
    topic: &str,
    channel: &Channel,
    notice: &Notice,
    place: Option<room::Since>,
) -> Frame {
    let text = notice.to_string();
    let place = place.map(|place| place.to_string());
    let message = SystemMessage {
        extension: notice.extension(),
        status: notice.status(),
        message: &text,
        channel: topic::sub_topic(topic),
        cursor: None,
        room: place.as_deref(),
    };
    Frame::Text(protocol::system(version, channel.own_ref(), topic, message).into())
}
