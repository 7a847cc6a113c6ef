use std::time::Instant;

use super::{Effect, Now, Session};
use crate::protocol::errors::PushError;
use crate::protocol::{self, ClientMessage, Status};
use crate::topic;

impl Session {
    /// A message from the client.
    pub fn message(&mut self, message: &ClientMessage<'_>, now: Now) -> Vec<Effect> {
        self.heard(now);
        match (message.topic.as_ref(), message.event.as_ref()) {
            ("phoenix", "heartbeat") => {
                let (join_ref, reference) = (message.join_ref.as_ref(), message.reference.as_ref());
                self.reply(join_ref, reference, "phoenix", Status::Ok, "{}");
                Vec::new()
            }
            (_, "phx_join") => self.join(message, now),
            (_, "phx_leave") => self.leave(message, now),
            (topic, event) => match self.channels.get(topic) {
                None => {
                    self.refuse_push(message, &PushError::UnmatchedTopic);
                    Vec::new()
                }
                Some(_) if event == "access_token" => self.new_token(message),
                Some(_) if event == "broadcast" => self.broadcast(message, now),
                Some(_) if event == "presence" => self.presence(message, now),
                Some(_) => Vec::new(),
            },
        }
    }

    /// Anything at all came from the client, if only a ping.
    pub fn heard(&mut self, now: Now) {
        self.last_heard = now.instant;
    }

    /// A frame of so many bytes came from the client, whatever it says. Who sends faster than it may is not read for a
    /// while ([`Session::paused_until`]).
    pub fn received(&mut self, bytes: usize, now: Now) {
        self.heard(now);
        let limits = &self.context.limits;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.messages.spend(1, limits.messages_per_second, now.instant);
        self.bytes.spend(bytes, limits.bytes_per_second, now.instant);
        let wait = self
            .messages
            .wait(limits.messages_per_second, now.instant)
            .max(self.bytes.wait(limits.bytes_per_second, now.instant));
        self.paused_until = (!wait.is_zero()).then(|| now.instant + wait);
    }

    /// Until when nothing is to be read from the client.
    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// `phx_leave`, also while the join is pending, which then gets no reply.
    fn leave(&mut self, message: &ClientMessage<'_>, now: Now) -> Vec<Effect> {
        let topic = message.topic.as_ref();
        let (join_ref, reference) = (message.join_ref.as_ref(), message.reference.as_ref());
        if topic::sub_topic(topic).is_none() {
            self.refuse_push(message, &PushError::UnmatchedTopic);
            return Vec::new();
        }
        let Some(channel) = self.channels.get(topic) else {
            // It may have been left while there was no connection: clients say so when there is one again.
            self.forget_all(topic);
            self.reply(join_ref, reference, topic, Status::Ok, "{}");
            return Vec::new();
        };
        if channel.is_stale(join_ref) {
            return Vec::new();
        }
        let Some(channel) = self.remove(topic) else {
            return Vec::new();
        };
        match channel.is_granted() {
            true => self.forget(&channel.stay(&topic.into())),
            false => self.forget_all(topic),
        }
        self.note_if_empty(now);
        self.discard_reply(&channel);
        self.reply(join_ref, reference, topic, Status::Ok, "{}");
        self.send(protocol::phx_close(self.version, channel.own_ref(), topic));
        channel.leftovers()
    }

    pub(super) fn refuse_push(&self, message: &ClientMessage<'_>, error: &PushError) {
        let (join_ref, reference) = (message.join_ref.as_ref(), message.reference.as_ref());
        self.reply(
            join_ref,
            reference,
            &message.topic,
            Status::Error,
            &error.response(),
        );
    }
}
