//! Broadcasts from the client, and the channel's place in its room.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::push::{Act, Keep, Push};
use super::{Effect, Now, Session};
use crate::hub::{HeldFrame, Lane};
use crate::protocol::errors::{Notice, PAYLOAD_SIZE_EXCEEDED, PersistError, PushError};
use crate::protocol::{Broadcast, BroadcastPayload, ClientMessage, Content, JoinConfig, Payload, Status};
use crate::room::{Entry, Hears, Return, RoomName};

impl Session {
    /// `broadcast`.
    pub(super) fn broadcast(&mut self, message: &ClientMessage<'_>, now: Now) -> Vec<Effect> {
        let Some(topic) = self.joined(&message.topic) else {
            self.refuse_push(message, &PushError::UnmatchedTopic);
            return Vec::new();
        };
        let traffic = &self.context.rates.traffic;
        if traffic.events().is_exhausted(now.instant) || traffic.bytes().is_exhausted(now.instant) {
            return self.close(&topic, &Notice::TooManyMessages, now);
        }
        let Some(content) = content(&message.payload) else {
            if self.acks(&topic) {
                self.refuse_push(message, &PushError::BroadcastNotAMap);
            }
            return Vec::new();
        };
        if content.len() > self.context.limits.payload_bytes {
            if self.acks(&topic) {
                let (join_ref, reference) = (message.join_ref.as_ref(), message.reference.as_ref());
                self.reply(join_ref, reference, &topic, Status::Error, PAYLOAD_SIZE_EXCEEDED);
            }
            return Vec::new();
        }
        let keep = keep(&message.payload);
        let push = Push {
            join_ref: message.join_ref.clone(),
            reference: message.reference.clone(),
            act: Act::Say {
                broadcast: Broadcast { content, id: None },
                keep: keep.unwrap_or_default(),
            },
        };
        let private = self.channels.get(&topic).is_some_and(|c| c.private.is_some());
        match keep {
            Err(error) => self.not_kept(&topic, &push, error),
            Ok(Some(_)) if !private => self.not_kept(&topic, &push, PersistError::Public),
            Ok(_) => return self.push(&topic, push, now),
        }
        Vec::new()
    }

    /// Takes the channel's place in its room. Until `reply` has been sent, nothing goes out to it; what is said
    /// meanwhile is kept if something of the past comes first.
    pub(super) fn enter(
        &mut self,
        topic: &Arc<str>,
        config: &JoinConfig,
        reply: &HeldFrame,
        keep: bool,
        returns: Option<Return>,
    ) {
        let key = config.presence.key.as_deref().map(Arc::from);
        let enabled = config.presence.enabled || self.context.limits.presence_enabled;
        let Some(channel) = self.channels.get_mut(topic) else {
            return;
        };
        let everything = Hears {
            broadcasts: true,
            presence: true,
        };
        let entry = Entry {
            lane: Lane::of(&self.outbox, topic),
            version: self.version,
            join_ref: channel.own_ref().cloned(),
            hears: channel
                .private
                .as_ref()
                .map_or(everything, |private| private.hears()),
            wants_state: enabled,
            own: config.broadcast.own,
            key: key.unwrap_or_else(|| (self.context.presence_key)()),
            reply: Some(reply.clone()),
            replayed: keep.then(Vec::new),
            returns,
        };
        let name = RoomName {
            topic: Arc::clone(topic),
            private: config.private,
        };
        channel.member = Some(self.context.rooms.enter(name, entry));
        if let Some(returns) = returns {
            self.tell_room(topic, returns, config.bindings.is_empty(), reply);
        }
    }
}

/// What is said; `None` for what is no broadcast.
fn content(payload: &Payload<'_>) -> Option<Content> {
    match payload {
        Payload::Json(raw) if raw.get().starts_with('{') => Some(Content::Envelope(raw.get().into())),
        Payload::Json(_) | Payload::Binary(_) => None,
        Payload::Broadcast { event, payload, .. } => Some(match payload {
            BroadcastPayload::Json(raw) => Content::Json {
                event: (*event).into(),
                payload: raw.get().into(),
                meta: None,
            },
            BroadcastPayload::Binary(bytes) => Content::Binary {
                event: (*event).into(),
                payload: Bytes::copy_from_slice(bytes),
                meta: None,
            },
        }),
    }
}

/// Whether it shall be kept: `{"persist": true}` or `{"persist": {"ttl": seconds}}` in the metadata. Other metadata, also
/// such as is no JSON, is ignored.
fn keep(payload: &Payload<'_>) -> Result<Option<Keep>, PersistError> {
    let Payload::Broadcast {
        metadata: Some(metadata),
        ..
    } = payload
    else {
        return Ok(None);
    };
    let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
    match metadata.get("persist") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(None),
        Some(Value::Bool(true)) => Ok(Some(Keep { ttl: None })),
        Some(Value::Object(options)) => match options.get("ttl") {
            None | Some(Value::Null) => Ok(Some(Keep { ttl: None })),
            Some(ttl) => {
                let seconds = ttl.as_u64().filter(|seconds| *seconds > 0);
                let ttl = Duration::from_secs(seconds.ok_or(PersistError::Params)?);
                Ok(Some(Keep { ttl: Some(ttl) }))
            }
        },
        Some(_) => Err(PersistError::Params),
    }
}
