//! What the user of a private channel may do: asked of the policies, and followed when that changes.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::channel::{Channel, Stage};
use super::push::Push;
use super::{Effect, Now, Session, Ticket};
use crate::auth::Scope;
use crate::feed::{AuthorityError, Seeker, SubscriberId};
use crate::hub::Frame;
use crate::messages::{MessagesError, Stored};
use crate::policy::Rights;
use crate::protocol::errors::{JoinError, Notice};
use crate::room::Hears;
use crate::topic;

/// A private channel.
#[derive(Debug)]
pub(super) struct Private {
    /// The authority's name for it.
    pub(super) id: SubscriberId,
    /// What has been judged for the claims in force.
    pub(super) known: Rights,
    /// What of that it has.
    pub(super) granted: Rights,
    /// The question under way. An answer to an earlier one does not count.
    asking: Option<Asking>,
    /// What the client sent and that waits for a right, in order.
    pub(super) waiting: VecDeque<Push>,
    /// Bytes of that.
    pub(super) waiting_bytes: usize,
    /// The first of them is being kept.
    pub(super) persisting: bool,
}

#[derive(Clone, Copy, Debug)]
struct Asking {
    ticket: Ticket,
    wanted: Rights,
}

/// What of the past a join wants to hear: `config.broadcast.replay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replay {
    /// Milliseconds since the Unix epoch.
    pub(super) since_ms: i64,
    /// At most so many.
    pub(super) limit: u32,
}

/// Most broadcasts that are replayed to one join.
const MOST_REPLAYED: u32 = 25;

impl Replay {
    /// What is no object counts as not given.
    fn parse(raw: &RawValue) -> Result<Option<Self>, JoinError> {
        #[derive(Deserialize)]
        struct Wanted {
            since: Option<serde_json::Value>,
            limit: Option<serde_json::Value>,
        }
        if !raw.get().starts_with('{') {
            return Ok(None);
        }
        let wanted: Wanted = serde_json::from_str(raw.get()).map_err(|_| JoinError::ReplayParams)?;
        let since_ms = wanted.since.and_then(|since| since.as_i64());
        let limit = wanted.limit.and_then(|limit| limit.as_i64());
        Ok(Some(Self {
            since_ms: since_ms.ok_or(JoinError::ReplayParams)?,
            limit: limit.map_or(MOST_REPLAYED, |limit| {
                u32::try_from(limit.max(1))
                    .unwrap_or(MOST_REPLAYED)
                    .min(MOST_REPLAYED)
            }),
        }))
    }
}

impl Private {
    fn new(id: SubscriberId) -> Self {
        Self {
            id,
            known: Rights::NONE,
            granted: Rights::NONE,
            asking: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            persisting: false,
        }
    }

    /// What its member gets.
    pub(super) fn hears(&self) -> Hears {
        Hears {
            broadcasts: self.granted.contains(Rights::READ_BROADCAST),
            presence: self.granted.contains(Rights::READ_PRESENCE),
        }
    }

    pub(super) fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// The push that waits longest.
    pub(super) fn next_push(&mut self) -> Option<Push> {
        let push = self.waiting.pop_front()?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(push.act.bytes());
        Some(push)
    }

    fn learn(&mut self, wanted: Rights, granted: Rights) {
        self.known = self.known | wanted;
        self.granted = (self.granted - wanted) | (granted & wanted);
    }
}

impl Session {
    /// Asks what the user may read, for a join.
    pub(super) fn judge_join(&mut self, topic: &Arc<str>) -> Option<Effect> {
        let id = (self.context.next_id)();
        let channel = self.channels.get_mut(topic)?;
        let Stage::Judging(config) = &channel.stage else {
            return None;
        };
        let presence = config.presence.enabled || self.context.limits.presence_enabled;
        channel.private = Some(Box::new(Private::new(id)));
        let wanted = if presence {
            Rights::READ
        } else {
            Rights::READ_BROADCAST
        };
        self.judge(topic, wanted)
    }

    /// Asks again for what was known to be readable, since the claims are other ones, and whether who is present may stay so;
    /// what else may be written is asked when it is wanted next. Until the answer is there, the rights stay as they were.
    pub(super) fn judge_again(&mut self, topic: &Arc<str>) -> Option<Effect> {
        let private = self.channels.get_mut(topic)?.private.as_mut()?;
        let asking = private.asking.take().map_or(Rights::NONE, |asking| asking.wanted);
        let wanted = (private.known | asking) & (Rights::READ | Rights::WRITE_PRESENCE);
        private.known = private.known & Rights::READ;
        self.judge(topic, wanted)
    }

    pub(super) fn judge(&mut self, topic: &Arc<str>, wanted: Rights) -> Option<Effect> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let scope = Arc::new(Scope {
            topic: topic::sub_topic(topic).unwrap_or_default().into(),
            headers: Arc::clone(&self.headers),
        });
        let channel = self.channels.get_mut(topic)?;
        let claims = Arc::new(channel.claims.as_ref()?.within(scope));
        let private = channel.private.as_mut()?;
        private.asking = Some(Asking { ticket, wanted });
        Some(Effect::Judge {
            ticket,
            seeker: Seeker {
                id: Some(private.id),
                claims,
            },
            wanted,
        })
    }

    /// [`Effect::Judge`] has an outcome.
    pub fn judged(
        &mut self,
        ticket: Ticket,
        outcome: Result<Rights, AuthorityError>,
        now: Now,
    ) -> Vec<Effect> {
        let asks = |channel: &Channel| {
            let asking = channel.private.as_ref().and_then(|private| private.asking);
            asking.is_some_and(|asking| asking.ticket == ticket)
        };
        let found = self.channels.iter().find(|(_, channel)| asks(channel));
        let Some(topic) = found.map(|(topic, _)| Arc::clone(topic)) else {
            return Vec::new();
        };
        let Some(channel) = self.channels.get_mut(&topic) else {
            return Vec::new();
        };
        let joining = matches!(channel.stage, Stage::Judging(_));
        let Some(private) = channel.private.as_mut() else {
            return Vec::new();
        };
        let Some(Asking { wanted, .. }) = private.asking.take() else {
            return Vec::new();
        };
        match outcome {
            Err(error) if joining => self.refuse(&topic, &join_error(&error), now),
            Err(error) if wanted.intersects(private.known) => {
                self.shut(&topic, &notice(&error), join_error(&error), now)
            }
            Err(error) => self.fail_waiting(&topic, &error, now),
            Ok(granted) => {
                let before = private.granted;
                private.learn(wanted, granted);
                if joining {
                    return self.judged_join(&topic, now);
                }
                let mut effects = self.rights_are(&topic, before, now);
                effects.extend(self.go_on(&topic, now));
                effects
            }
        }
    }

    fn judged_join(&mut self, topic: &Arc<str>, now: Now) -> Vec<Effect> {
        let Some(channel) = self.channels.get_mut(topic) else {
            return Vec::new();
        };
        let Some(private) = &channel.private else {
            return Vec::new();
        };
        let (id, granted) = (private.id, private.granted);
        let Stage::Judging(config) = &channel.stage else {
            return Vec::new();
        };
        let replay = config.broadcast.replay.as_ref();
        let hears = granted.contains(Rights::READ_BROADCAST);
        let error = if !granted.intersects(Rights::READ) || (replay.is_some() && !hears) {
            let sub_topic = topic::sub_topic(topic).unwrap_or_default().to_owned();
            Err(JoinError::Unauthorized { sub_topic })
        } else {
            replay.map_or(Ok(None), |raw| Replay::parse(raw))
        };
        let replay = match error {
            Ok(replay) => replay,
            Err(error) => return self.refuse(topic, &error, now),
        };
        let Stage::Judging(config) = std::mem::replace(&mut channel.stage, Stage::Joined) else {
            return Vec::new();
        };
        let mut effects = self.granted(topic, config, replay, now);
        effects.push(Effect::FollowRights(id));
        effects
    }

    /// [`Effect::FollowRights`] has an outcome: what the policies say now of all that was asked.
    pub fn rights_changed(&mut self, id: SubscriberId, rights: Rights, now: Now) -> Vec<Effect> {
        let Some(topic) = self.private_topic(id) else {
            return Vec::new();
        };
        let mut effects = vec![Effect::FollowRights(id)];
        let Some(private) = self.channels.get_mut(&topic).and_then(|c| c.private.as_mut()) else {
            return effects;
        };
        let before = private.granted;
        // What is being asked now is answered anew.
        let asked = private.asking.map_or(Rights::NONE, |asking| asking.wanted);
        private.learn(private.known - asked, rights);
        effects.extend(self.rights_are(&topic, before, now));
        effects
    }

    /// Acts on what the rights have become.
    fn rights_are(&mut self, topic: &Arc<str>, before: Rights, now: Now) -> Vec<Effect> {
        let Some(channel) = self.channels.get(topic) else {
            return Vec::new();
        };
        let Some(private) = &channel.private else {
            return Vec::new();
        };
        let sub_topic = || topic::sub_topic(topic).unwrap_or_default().to_owned();
        let lost = before - private.granted;
        if !private.granted.intersects(Rights::READ) {
            let notice = Notice::Unauthorized {
                sub_topic: sub_topic(),
            };
            return self.revoke(topic, &notice, now);
        }
        if lost.intersects(Rights::READ) {
            let notice = Notice::Revoked {
                sub_topic: sub_topic(),
            };
            return self.revoke(topic, &notice, now);
        }
        if let Some(member) = &channel.member {
            member.hear(private.hears());
            if lost.contains(Rights::WRITE_PRESENCE) && private.known.contains(Rights::WRITE_PRESENCE) {
                member.untrack();
            }
        }
        Vec::new()
    }

    /// Ends a channel that may no longer be read.
    fn revoke(&mut self, topic: &Arc<str>, notice: &Notice, now: Now) -> Vec<Effect> {
        let sub_topic = topic::sub_topic(topic).unwrap_or_default().to_owned();
        self.shut(topic, notice, JoinError::Unauthorized { sub_topic }, now)
    }

    /// Ends a channel with a notice, or its join with an error if that is not answered yet.
    fn shut(&mut self, topic: &Arc<str>, notice: &Notice, error: JoinError, now: Now) -> Vec<Effect> {
        let unanswered = self
            .channels
            .get(topic)
            .and_then(|channel| channel.held_reply())
            .is_some_and(crate::hub::HeldFrame::discard);
        if unanswered {
            self.refuse(topic, &error, now)
        } else {
            self.close(topic, notice, now)
        }
    }

    /// [`Effect::Replay`] has an outcome.
    pub fn replayed(
        &mut self,
        id: SubscriberId,
        outcome: Result<Vec<Stored>, MessagesError>,
        now: Now,
    ) -> Vec<Effect> {
        let Some(topic) = self.private_topic(id) else {
            return Vec::new();
        };
        let Some(channel) = self.channels.get_mut(&topic) else {
            return Vec::new();
        };
        if !matches!(channel.stage, Stage::Replaying { .. }) {
            return Vec::new();
        }
        let stored = match outcome {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(%error, "messages could not be replayed");
                return self.refuse(&topic, &JoinError::ReplayFailed, now);
            }
        };
        let Stage::Replaying { config, reply } = std::mem::replace(&mut channel.stage, Stage::Joined) else {
            return Vec::new();
        };
        let join_ref = channel.own_ref();
        let version = self.version;
        let frames = stored
            .iter()
            .filter_map(|stored| stored.content.encode_replayed(version, join_ref, &topic))
            .map(Frame::from);
        reply.append(frames.collect());
        if let Some(member) = &channel.member {
            member.replayed(stored.iter().map(|stored| stored.id).collect::<Vec<Uuid>>());
        }
        self.rows_or_reply(&topic, config, reply, now)
    }

    pub(super) fn private_topic(&self, id: SubscriberId) -> Option<Arc<str>> {
        let has_id = |channel: &Channel| channel.private.as_ref().is_some_and(|private| private.id == id);
        let found = self.channels.iter().find(|(_, channel)| has_id(channel));
        found.map(|(topic, _)| Arc::clone(topic))
    }
}

fn join_error(error: &AuthorityError) -> JoinError {
    match error {
        AuthorityError::Unavailable(_) => JoinError::Unavailable,
        AuthorityError::Canceled => JoinError::Canceled,
        AuthorityError::Busy => JoinError::Busy,
    }
}

fn notice(error: &AuthorityError) -> Notice {
    match error {
        AuthorityError::Unavailable(_) | AuthorityError::Busy => Notice::Unavailable,
        AuthorityError::Canceled => Notice::Canceled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> Result<Option<Replay>, JoinError> {
        Replay::parse(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn replay_wants_a_whole_number_and_bounds_the_limit() {
        let replay = |since_ms, limit| Ok(Some(Replay { since_ms, limit }));
        assert_eq!(parsed(r#"{"since": 5}"#), replay(5, 25));
        assert_eq!(parsed(r#"{"since": 5, "limit": 3}"#), replay(5, 3));
        assert_eq!(parsed(r#"{"since": -5, "limit": 0}"#), replay(-5, 1));
        assert_eq!(parsed(r#"{"since": 5, "limit": 1000}"#), replay(5, 25));
        assert_eq!(parsed(r#"{"since": 5, "limit": "all"}"#), replay(5, 25));
        for none in ["null", "[]", "7", "\"x\"", "true"] {
            assert_eq!(parsed(none), Ok(None), "{none}");
        }
        for wrong in [
            "{}",
            r#"{"since": null}"#,
            r#"{"since": "5"}"#,
            r#"{"since": 5.5}"#,
        ] {
            assert_eq!(parsed(wrong), Err(JoinError::ReplayParams), "{wrong}");
        }
    }
}
