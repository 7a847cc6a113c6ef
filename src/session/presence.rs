//! `track` and `untrack` from the client.

use serde_json::value::RawValue;

use super::push::{Act, Push};
use super::{Effect, Now, Session};
use crate::protocol::errors::{Notice, PushError};
use crate::protocol::{ClientMessage, Payload, Status, presence_call};

impl Session {
    /// `presence`.
    pub(super) fn presence(&mut self, message: &ClientMessage<'_>, now: Now) -> Vec<Effect> {
        let Some(topic) = self.joined(&message.topic) else {
            self.refuse_push(message, &PushError::UnmatchedTopic);
            return Vec::new();
        };
        let raw = match message.payload {
            Payload::Json(raw) => raw,
            Payload::Broadcast { .. } | Payload::Binary(_) => RawValue::NULL,
        };
        let (join_ref, reference) = (message.join_ref.as_ref(), message.reference.as_ref());
        let (event, payload) = presence_call(raw);
        let Some(event) = event else {
            self.reply(join_ref, reference, &topic, Status::Ok, "{}");
            return Vec::new();
        };
        let act = match event.to_ascii_lowercase().as_str() {
            "track" => Act::Track(payload),
            "untrack" => Act::Untrack,
            _ => {
                self.reply(join_ref, reference, &topic, Status::Error, "{}");
                return Vec::new();
            }
        };
        let limits = &self.context.limits;
        if let Act::Track(payload) = &act
            && payload.get().len() > limits.presence_bytes
        {
            return self.close(&topic, &Notice::TrackTooLarge, now);
        }
        let Some(channel) = self.channels.get_mut(&topic) else {
            return Vec::new();
        };
        let (most, window) = (limits.presence_calls, limits.presence_window);
        if most > 0 && !channel.calls.count(most, window, now.instant) {
            return self.close(&topic, &Notice::TooManyTracks, now);
        }
        if !self.context.rates.presence.take(now.instant) {
            return self.close(&topic, &Notice::TooManyPresences, now);
        }
        let push = Push {
            join_ref: message.join_ref.clone(),
            reference: message.reference.clone(),
            act,
        };
        self.push(&topic, push, now)
    }
}
