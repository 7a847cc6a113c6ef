//! What a client sends into a channel: done at once, or once the right to it is known, in the order it came.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use uuid::Uuid;

use super::channel::Stage;
use super::{Effect, Now, Session};
use crate::feed::{AuthorityError, SubscriberId};
use crate::messages::{MessagesError, Persist};
use crate::policy::Rights;
use crate::protocol::errors::{PersistError, PushError};
use crate::protocol::{Broadcast, Ref, Status};
use crate::topic;

/// Pushes that may wait for one channel's rights.
const MOST_WAITING: usize = 256;

/// Bytes that may wait on all channels of a connection; a single larger push may wait alone.
const MOST_WAITING_BYTES: usize = 4 << 20;

/// One push, with what its reply needs.
#[derive(Debug)]
pub(super) struct Push {
    pub(super) join_ref: Option<Ref>,
    pub(super) reference: Option<Ref>,
    pub(super) act: Act,
}

#[derive(Debug)]
pub(super) enum Act {
    /// Say something.
    Say {
        broadcast: Broadcast,
        keep: Option<Keep>,
    },
    /// Be present.
    Track(Box<RawValue>),
    /// Be present no more.
    Untrack,
}

/// A broadcast is to be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Keep {
    pub(super) ttl: Option<Duration>,
}

impl Act {
    /// What it takes. Who begins to be present on a private channel gets to hear of others, if it may.
    fn rights(&self) -> Rights {
        match self {
            Self::Say { keep: None, .. } => Rights::WRITE_BROADCAST,
            Self::Say { keep: Some(_), .. } => Rights::WRITE_BROADCAST | Rights::PERSIST,
            Self::Track(_) => Rights::WRITE_PRESENCE | Rights::READ_PRESENCE,
            Self::Untrack => Rights::NONE,
        }
    }

    /// Whether it waits for the database, also where it is allowed.
    fn is_kept(&self) -> bool {
        matches!(self, Self::Say { keep: Some(_), .. })
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Say { broadcast, .. } => broadcast.content.len(),
            Self::Track(payload) => payload.get().len(),
            Self::Untrack => 0,
        }
    }
}

impl Session {
    /// Does it now, or as soon as its right is known and what came before is done.
    pub(super) fn push(&mut self, topic: &Arc<str>, push: Push, now: Now) -> Vec<Effect> {
        let Some(channel) = self.channels.get_mut(topic) else {
            return Vec::new();
        };
        let Some(private) = &mut channel.private else {
            self.act(topic, push, now);
            return Vec::new();
        };
        let first = private.waiting.is_empty();
        let known = channel.verifying.is_none() && private.known.contains(push.act.rights());
        let at_once = first && known && !push.act.is_kept();
        let too_many = private.waiting.len() >= MOST_WAITING;
        if !at_once && (too_many || !self.has_room(push.act.bytes())) {
            self.deny(topic, &push, &PushError::TooMany);
            return Vec::new();
        }
        if let Some(private) = self.channels.get_mut(topic).and_then(|c| c.private.as_mut()) {
            private.waiting_bytes += push.act.bytes();
            private.waiting.push_back(push);
        }
        if first {
            return self.go_on(topic, now);
        }
        Vec::new()
    }

    /// Whether so many bytes more may wait.
    fn has_room(&self, bytes: usize) -> bool {
        let private = self.channels.values().filter_map(|c| c.private.as_ref());
        let waiting: usize = private.map(|private| private.waiting_bytes).sum();
        waiting == 0 || waiting.saturating_add(bytes) <= MOST_WAITING_BYTES
    }

    /// Does what waits, until something has to be asked.
    pub(super) fn go_on(&mut self, topic: &Arc<str>, now: Now) -> Vec<Effect> {
        loop {
            let Some(channel) = self.channels.get_mut(topic) else {
                return Vec::new();
            };
            // What came behind a new token is judged by that one: the answer to it comes back here.
            if channel.verifying.is_some() {
                return Vec::new();
            }
            let Some(private) = channel.private.as_mut() else {
                return Vec::new();
            };
            let Some(front) = private.waiting.front().filter(|_| !private.persisting) else {
                return Vec::new();
            };
            let wanted = front.act.rights();
            if !private.known.contains(wanted) {
                // A question that is under way comes back here.
                let unknown = wanted - private.known;
                let asks = !private.is_asking();
                return asks
                    .then(|| self.judge(topic, unknown))
                    .flatten()
                    .into_iter()
                    .collect();
            }
            if let Act::Say {
                broadcast,
                keep: Some(keep),
            } = &front.act
                && private.granted.contains(wanted)
            {
                private.persisting = true;
                let message = Persist {
                    topic: Arc::from(topic::sub_topic(topic).unwrap_or_default()),
                    content: broadcast.content.clone(),
                    ttl: keep.ttl.map(|ttl| ttl.as_secs()),
                };
                return vec![Effect::Persist {
                    id: private.id,
                    message,
                }];
            }
            if let Some(push) = private.next_push() {
                self.act_if_granted(topic, push, now);
            }
        }
    }

    fn act_if_granted(&mut self, topic: &Arc<str>, push: Push, now: Now) {
        let Some(private) = self.channels.get(topic).and_then(|c| c.private.as_ref()) else {
            return;
        };
        let granted = private.granted;
        let sub_topic = || topic::sub_topic(topic).unwrap_or_default().to_owned();
        match &push.act {
            Act::Say { .. } if !granted.contains(Rights::WRITE_BROADCAST) => {
                let error = PushError::Unauthorized {
                    sub_topic: sub_topic(),
                };
                self.deny(topic, &push, &error);
            }
            Act::Say { keep: Some(_), .. } => self.not_kept(topic, &push, PersistError::Unauthorized),
            Act::Track(_) if !granted.contains(Rights::WRITE_PRESENCE) => {
                self.answer_push(topic, &push, Status::Error, "{}");
            }
            _ => self.act(topic, push, now),
        }
    }

    /// Does it. Whoever comes here may.
    fn act(&mut self, topic: &Arc<str>, push: Push, now: Now) {
        let Some(member) = self.channels.get(topic).and_then(|c| c.member.as_ref()) else {
            // The client wanted no place in the room.
            self.deny(topic, &push, &PushError::UnmatchedTopic);
            return;
        };
        match &push.act {
            Act::Say { broadcast, .. } => {
                let deliveries = member.publish(broadcast);
                self.count_said(broadcast, deliveries, now);
                self.acknowledge(topic, &push, "{}");
            }
            Act::Track(payload) => {
                let tracked = member.track(payload);
                match tracked {
                    Ok(()) => self.answer_push(topic, &push, Status::Ok, "{}"),
                    Err(_) => {
                        let response = PushError::TrackNotAMap.response();
                        self.answer_push(topic, &push, Status::Error, &response);
                    }
                }
            }
            Act::Untrack => {
                member.untrack();
                self.answer_push(topic, &push, Status::Ok, "{}");
            }
        }
    }

    fn count_said(&self, broadcast: &Broadcast, deliveries: usize, now: Now) {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (events, bytes) = (
            count(deliveries).saturating_add(1),
            count(broadcast.content.len()),
        );
        self.context.rates.traffic.count(events, bytes, now.instant);
    }

    /// [`Effect::Persist`] has an outcome.
    pub fn persisted(
        &mut self,
        id: SubscriberId,
        outcome: Result<Uuid, MessagesError>,
        now: Now,
    ) -> Vec<Effect> {
        let Some(topic) = self.private_topic(id) else {
            return Vec::new();
        };
        let Some(private) = self.channels.get_mut(&topic).and_then(|c| c.private.as_mut()) else {
            return Vec::new();
        };
        private.persisting = false;
        let Some(mut push) = private.next_push() else {
            return Vec::new();
        };
        match outcome {
            Ok(row) => {
                let member = self.channels.get(&topic).and_then(|c| c.member.as_ref());
                if let (Act::Say { broadcast, .. }, Some(member)) = (&mut push.act, member) {
                    broadcast.id = Some(row);
                    broadcast.content.name(row);
                    let deliveries = member.publish(broadcast);
                    self.count_said(broadcast, deliveries, now);
                }
                self.acknowledge(&topic, &push, &format!("{{\"id\":\"{row}\"}}"));
            }
            Err(error) => {
                tracing::warn!(%error, "a message could not be persisted");
                self.not_kept(&topic, &push, PersistError::Failed);
            }
        }
        self.go_on(&topic, now)
    }

    /// The rights of what waits could not be told. Where the database did not answer, it is not asked about each: the last
    /// of them would be said long after its sender has given it up.
    pub(super) fn fail_waiting(&mut self, topic: &Arc<str>, error: &AuthorityError, now: Now) -> Vec<Effect> {
        let Some(private) = self.channels.get_mut(topic).and_then(|c| c.private.as_mut()) else {
            return Vec::new();
        };
        let (most, error) = match error {
            AuthorityError::Unavailable(_) => (usize::MAX, PushError::Unavailable),
            AuthorityError::Canceled => (1, PushError::Canceled),
            AuthorityError::Busy => (usize::MAX, PushError::Busy),
        };
        let failed: Vec<Push> = std::iter::from_fn(|| private.next_push()).take(most).collect();
        for push in failed {
            match push.act {
                Act::Say { .. } => self.deny(topic, &push, &error),
                Act::Track(_) => self.answer_push(topic, &push, Status::Error, "{}"),
                Act::Untrack => self.act(topic, push, now),
            }
        }
        self.go_on(topic, now)
    }

    /// A refused push is told so where the client asked to be answered.
    pub(super) fn deny(&self, topic: &Arc<str>, push: &Push, error: &PushError) {
        match push.act {
            Act::Say { .. } if !self.acks(topic) => {}
            _ => self.answer_push(topic, push, Status::Error, &error.response()),
        }
    }

    pub(super) fn not_kept(&self, topic: &Arc<str>, push: &Push, error: PersistError) {
        if self.acks(topic) {
            self.answer_push(topic, push, Status::Error, &error.response());
        }
    }

    fn acknowledge(&self, topic: &Arc<str>, push: &Push, response: &str) {
        if self.acks(topic) {
            self.answer_push(topic, push, Status::Ok, response);
        }
    }

    pub(super) fn acks(&self, topic: &str) -> bool {
        self.channels.get(topic).is_some_and(|channel| channel.ack)
    }

    fn answer_push(&self, topic: &str, push: &Push, status: Status, response: &str) {
        self.reply(
            push.join_ref.as_ref(),
            push.reference.as_ref(),
            topic,
            status,
            response,
        );
    }

    /// The topic, if it is joined. The feed may have sent the reply just now.
    pub(super) fn joined(&mut self, topic: &str) -> Option<Arc<str>> {
        let (topic, channel) = self.channels.get_key_value(topic)?;
        let topic = Arc::clone(topic);
        if let Stage::Held { reply, .. } = &channel.stage
            && !reply.is_held()
        {
            self.answer(&topic);
        }
        self.channels.get(&topic)?.is_joined().then_some(topic)
    }
}
