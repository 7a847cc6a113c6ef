use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::channel::{AtLimit, Calls, Channel, RowState, Rows, Stage};
use super::places::Shape;
use super::private::Replay;
use super::{Effect, Now, Session};
use crate::auth::{Claims, MAX_TOKEN_BYTES, User};
use crate::feed::Style;
use crate::hub::{Frame, HeldFrame, Lane};
use crate::protocol::errors::{Close, JoinError, PushError};
use crate::protocol::{self, ClientMessage, JoinConfig, Payload, Status, Version};
use crate::topic;

/// Error replies one connection may have waiting; beyond that the oldest goes out early.
const MAX_DELAYED: usize = 256;

/// An error reply larger than this, in bytes, is not held back: its topic is absurd.
const MAX_DELAYED_BYTES: usize = 16_384;

/// How long a client waits to be told that broadcasts from the database flow.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Stands for a longer one; no JWT either, so that the client is told that and not that there is none.
const OVERSIZED_TOKEN: &str = "oversized";

impl Session {
    /// `phx_join`: replaces what the client has under this topic, checks what needs no waiting (protocol.md b.3) and
    /// asks for the token to be verified.
    pub(super) fn join(&mut self, message: &ClientMessage<'_>, now: Now) -> Vec<Effect> {
        let (join_ref, reference) = (message.join_ref.as_ref(), message.reference.as_ref());
        let Some(sub_topic) = topic::sub_topic(&message.topic) else {
            let response = PushError::UnmatchedTopic.response();
            self.reply(join_ref, reference, &message.topic, Status::Error, &response);
            return Vec::new();
        };
        let mut effects = self.stop(&message.topic, now);
        match self.admit(sub_topic, &message.payload, now) {
            Ok(config) => effects.push(self.start(message, config, now)),
            Err(JoinError::TooManyJoins) => {
                // The connection closes at once, so the reply cannot wait.
                self.count_refusal(&JoinError::TooManyJoins);
                let response = JoinError::TooManyJoins.response();
                self.reply(join_ref, reference, &message.topic, Status::Error, &response);
                effects.push(Effect::Close(Close::JoinRate));
            }
            Err(error) => {
                self.count_refusal(&error);
                let response = error.response();
                let reply = protocol::reply(
                    self.version,
                    join_ref,
                    reference,
                    &message.topic,
                    Status::Error,
                    &response,
                );
                self.delay(Frame::Text(reply.into()), now.instant, now);
            }
        }
        effects
    }

    /// Ends the channel a second join replaces.
    fn stop(&mut self, topic: &str, now: Now) -> Vec<Effect> {
        let Some(channel) = self.remove(topic) else {
            return Vec::new();
        };
        self.note_if_empty(now);
        self.discard_reply(&channel);
        self.send(protocol::phx_close(self.version, channel.own_ref(), topic));
        channel.leftovers()
    }

    fn admit(&mut self, sub_topic: &str, payload: &Payload<'_>, now: Now) -> Result<JoinConfig, JoinError> {
        let limits = &self.context.limits;
        if self.restarting {
            return Err(JoinError::Restarting);
        }
        if !self.joins.take(limits.joins_per_second, now.instant)
            || !self.context.rates.joins.take(now.instant)
        {
            return Err(JoinError::TooManyJoins);
        }
        if self.channels.len() >= limits.channels_per_connection {
            return Err(JoinError::TooManyChannels);
        }
        if sub_topic.is_empty() {
            return Err(JoinError::TopicNameRequired);
        }
        if sub_topic.len() + topic::PREFIX.len() > limits.topic_bytes {
            return Err(JoinError::TopicNameTooLong {
                limit: limits.topic_bytes,
            });
        }
        let payload = match payload {
            Payload::Json(raw) => raw,
            // A join in a binary frame has nothing to read.
            Payload::Broadcast { .. } | Payload::Binary(_) => RawValue::NULL,
        };
        if payload.get().len() > limits.join_payload_bytes {
            return Err(JoinError::PayloadTooLarge {
                limit: limits.join_payload_bytes,
            });
        }
        let config = JoinConfig::parse(sub_topic, payload);
        if limits.private_only && !config.private {
            return Err(JoinError::PrivateOnly);
        }
        if config.bindings.len() > limits.bindings_per_channel {
            return Err(JoinError::TooManyBindings {
                limit: limits.bindings_per_channel,
            });
        }
        Ok(config)
    }

    fn start(&mut self, message: &ClientMessage<'_>, mut config: JoinConfig, now: Now) -> Effect {
        let token = match config.token.take() {
            Some(token) if *token != *self.connect_token => bounded_token(&token),
            _ => Arc::clone(&self.connect_token),
        };
        let (verifying, effect) = self.verify(&token);
        let channel = Channel {
            join_ref: message.join_ref.clone(),
            reference: message.reference.clone(),
            since: now.instant,
            ack: config.broadcast.ack,
            token,
            claims: None,
            user: User::default(),
            verifying: Some(verifying),
            next_token: None,
            stage: Stage::Admission(Box::new(config)),
            rows: None,
            member: None,
            private: None,
            calls: Calls::default(),
            ready_by: None,
            warned: false,
        };
        self.empty_since = None;
        self.channels
            .insert(Arc::from(message.topic.as_ref()), Box::new(channel));
        effect
    }

    /// The token of a join is good. What may be read of a private channel is asked next.
    pub(super) fn admitted(&mut self, topic: &Arc<str>, claims: Arc<Claims>, now: Now) -> Vec<Effect> {
        let Some(channel) = self.channels.get_mut(topic) else {
            return Vec::new();
        };
        channel.claims = Some(claims);
        let Stage::Admission(config) = std::mem::replace(&mut channel.stage, Stage::Joined) else {
            return Vec::new();
        };
        if config.private {
            channel.stage = Stage::Judging(config);
            return self.judge_join(topic).into_iter().collect();
        }
        if config.broadcast.replay.is_some() {
            channel.stage = Stage::Admission(config);
            return self.refuse(topic, &JoinError::ReplayPublic, now);
        }
        self.granted(topic, config, None, now)
    }

    /// Nothing stands in the way of a join any more: its place in the room is taken, and the reply goes out, or waits
    /// for what was said before and for its row subscription.
    pub(super) fn granted(
        &mut self,
        topic: &Arc<str>,
        config: Box<JoinConfig>,
        replay: Option<Replay>,
        now: Now,
    ) -> Vec<Effect> {
        let Some(channel) = self.channels.get_mut(topic) else {
            return Vec::new();
        };
        channel.user = channel
            .claims
            .as_ref()
            .map(|claims| claims.user())
            .unwrap_or_default();
        let reply = protocol::reply(
            self.version,
            channel.join_ref.as_ref(),
            channel.reference.as_ref(),
            topic,
            Status::Ok,
            &config.response(),
        );
        if config.broadcast.replication_ready {
            channel.ready_by = Some(now.instant + READY_LIMIT);
        }
        let reply = HeldFrame::new(Frame::Text(reply.into()));
        let mut config = config;
        let returns = self.resume(topic, &mut config, &reply);
        // In front of its seat, as in `place`.
        let cursor = (self.context.position)();
        if !config.broadcast.off {
            self.enter(topic, &config, &reply, replay.is_some(), returns);
        }
        self.begin(topic, &config, cursor);
        let Some(Replay { since_ms, limit }) = replay else {
            return self.rows_or_reply(topic, config, reply, now);
        };
        let Some(channel) = self.channels.get_mut(topic) else {
            return Vec::new();
        };
        let Some(id) = channel.private.as_ref().map(|private| private.id) else {
            return Vec::new();
        };
        channel.stage = Stage::Replaying { config, reply };
        vec![Effect::Replay {
            id,
            topic: Arc::from(topic::sub_topic(topic).unwrap_or_default()),
            since_ms,
            limit,
        }]
    }

    /// Asks for the rows, if any are wanted; otherwise the reply goes out.
    pub(super) fn rows_or_reply(
        &mut self,
        topic: &Arc<str>,
        config: Box<JoinConfig>,
        reply: HeldFrame,
        now: Now,
    ) -> Vec<Effect> {
        let (until, then) = self.reply_limit(&config, now);
        let Some(user) = self.channels.get(topic).map(|channel| channel.user) else {
            return Vec::new();
        };
        let rows = (!config.bindings.is_empty()).then(|| Rows {
            id: (self.context.next_id)(),
            shape: Shape::of(&config.bindings),
            bindings: config.bindings.into(),
            since: config.since,
            cursors: config.cursors,
            style: if config.legacy {
                Style::Legacy
            } else {
                Style::Modern
            },
            state: RowState::Pending { again: false },
            user,
            newer: None,
            begun: false,
            behind: None,
            lane: Lane::of(&self.outbox, topic),
        });
        let Some(channel) = self.channels.get_mut(topic) else {
            return Vec::new();
        };
        let wants_rows = rows.is_some();
        channel.stage = Stage::Held { reply, until, then };
        channel.rows = rows;
        if wants_rows {
            return self.subscribe(topic).into_iter().collect();
        }
        self.answer(topic);
        Vec::new()
    }

    fn reply_limit(&self, config: &JoinConfig, now: Now) -> (Instant, AtLimit) {
        let limits = &self.context.limits;
        let Some(wait) = config.wait else {
            return (now.instant + limits.reply_wait, AtLimit::Reply);
        };
        let asked = wait
            .timeout_ms
            .map_or(limits.subscribe_wait, std::time::Duration::from_millis);
        let granted = asked.min(limits.subscribe_wait_max);
        let then = AtLimit::Refuse {
            waited_ms: granted.as_millis(),
        };
        (now.instant + granted, then)
    }

    /// Ends a join that has not been answered, with an error. The reply is held back.
    pub(super) fn refuse(&mut self, topic: &str, error: &JoinError, now: Now) -> Vec<Effect> {
        let Some(channel) = self.remove(topic) else {
            return Vec::new();
        };
        self.note_if_empty(now);
        self.discard_reply(&channel);
        self.count_refusal(error);
        let reply = protocol::reply(
            self.version,
            channel.join_ref.as_ref(),
            channel.reference.as_ref(),
            topic,
            Status::Error,
            &error.response(),
        );
        self.delay(Frame::Text(reply.into()), channel.since, now);
        channel.leftovers()
    }

    pub(super) fn discard_reply(&self, channel: &Channel) {
        if let Some(reply) = channel.held_reply() {
            reply.discard();
        }
    }

    fn count_refusal(&self, error: &JoinError) {
        self.context
            .metrics
            .joins_refused
            .get_or_create(&[("code", error.code())])
            .inc();
    }

    /// Holds back the error reply to a join that came at `since`. What was waited for meanwhile counts: clients give up on
    /// a join after ten seconds.
    fn delay(&mut self, frame: Frame, since: Instant, now: Now) {
        let due = since + self.context.limits.join_error_delay;
        // Who joins by a request is not told by this frame, and waits for the answer to that.
        if self.version == Version::Events || due <= now.instant || frame.len() > MAX_DELAYED_BYTES {
            let _ = self.outbox.push(frame);
            return;
        }
        let at = self.delayed.partition_point(|(other, _)| *other <= due);
        self.delayed.insert(at, (due, frame));
        if self.delayed.len() > MAX_DELAYED
            && let Some((_, oldest)) = self.delayed.pop_front()
        {
            let _ = self.outbox.push(oldest);
        }
    }

    /// Remembers when the last channel went.
    pub(super) fn note_if_empty(&mut self, now: Now) {
        if self.channels.is_empty() {
            self.empty_since = Some(now.instant);
        }
    }
}

/// A token worth verifying. One that is far too long is no JWT, whatever it says, and its text need not be kept.
pub(super) fn bounded_token(token: &str) -> Arc<str> {
    Arc::from(if token.len() > MAX_TOKEN_BYTES {
        OVERSIZED_TOKEN
    } else {
        token
    })
}
