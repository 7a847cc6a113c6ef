//! Frames from clients.
//!
//! Text: V1 `{"topic","event","payload","ref","join_ref"?}`, V2 `[join_ref, ref, topic, event, payload]`. Binary (V2
//! only): kind 3, a user broadcast, and kind 0, a push. All lengths in binary headers are single bytes.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Ref, Version};

/// One message from a client, borrowed from its frame.
#[derive(Clone, Debug)]
pub struct ClientMessage<'a> {
    /// Which join of the topic this belongs to, if the client said.
    pub join_ref: Option<Ref>,
    /// What the reply must carry; heartbeats of realtime-py have none.
    pub reference: Option<Ref>,
    /// Full topic, `realtime:…` or `phoenix`.
    pub topic: Cow<'a, str>,
    /// `phx_join`, `heartbeat`, `broadcast` and so on.
    pub event: Cow<'a, str>,
    /// What it carries.
    pub payload: Payload<'a>,
}

/// What a [`ClientMessage`] carries.
#[derive(Clone, Debug)]
pub enum Payload<'a> {
    /// JSON text as the client wrote it.
    Json(&'a RawValue),
    /// A broadcast in a kind 3 frame.
    Broadcast {
        /// The user's event name.
        event: &'a str,
        /// Metadata, JSON text.
        metadata: Option<&'a str>,
        /// The inner payload.
        payload: BroadcastPayload<'a>,
    },
    /// The data of a kind 0 frame.
    Binary(&'a [u8]),
}

/// The inner payload of a broadcast in a kind 3 frame.
#[derive(Clone, Debug)]
pub enum BroadcastPayload<'a> {
    /// JSON text.
    Json(&'a RawValue),
    /// Bytes.
    Binary(&'a [u8]),
}

/// A frame that was not understood. It is dropped and counted; the connection stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or not in the shape of the connection's serialiser. The text itself is not repeated: it may hold
    /// user data.
    #[error("not a {shape} message: line {line}, column {column}")]
    Text {
        /// What was expected.
        shape: &'static str,
        /// Where parsing stopped.
        line: usize,
        /// Where parsing stopped.
        column: usize,
    },
    /// A header of a binary frame promises more bytes than there are.
    #[error("binary frame is cut short")]
    Truncated,
    /// A string in a binary frame is not UTF-8.
    #[error("binary frame has a string that is not UTF-8")]
    NotUtf8,
    /// A binary frame of a kind that clients do not send.
    #[error("binary frame of unknown kind {0}")]
    UnknownKind(u8),
    /// Binary frames need `vsn=2.0.0`.
    #[error("binary frame on a connection with vsn 1.0.0")]
    BinaryOnV1,
    /// A kind 3 frame says its payload is JSON, and it is not.
    #[error("binary broadcast whose JSON payload is not JSON")]
    BroadcastNotJson,
}

/// Decodes a text frame.
///
/// # Errors
/// [`Malformed::Text`].
pub fn decode_text(version: Version, text: &str) -> Result<ClientMessage<'_>, Malformed> {
    match version {
        Version::V1 => {
            // serde would also take an array for the struct.
            let object = if text.trim_start().starts_with('{') {
                text
            } else {
                ""
            };
            let frame: ObjectFrame<'_> = serde_json::from_str(object).map_err(malformed("V1"))?;
            Ok(ClientMessage {
                join_ref: frame.join_ref,
                reference: frame.reference,
                topic: frame.topic,
                event: frame.event,
                payload: Payload::Json(frame.payload),
            })
        }
        Version::V2 | Version::V2Text | Version::Events => {
            let ArrayFrame(message) = serde_json::from_str(text).map_err(malformed("V2"))?;
            Ok(message)
        }
    }
}

fn malformed(shape: &'static str) -> impl FnOnce(serde_json::Error) -> Malformed {
    move |error| Malformed::Text {
        shape,
        line: error.line(),
        column: error.column(),
    }
}

#[derive(Deserialize)]
struct ObjectFrame<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
    /// Must be there, though it may be null.
    #[serde(rename = "ref", deserialize_with = "Option::deserialize")]
    reference: Option<Ref>,
    #[serde(default)]
    join_ref: Option<Ref>,
}

struct ArrayFrame<'a>(ClientMessage<'a>);

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for ArrayFrame<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FrameVisitor;

        impl<'de> Visitor<'de> for FrameVisitor {
            type Value = ArrayFrame<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[join_ref, ref, topic, event, payload]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let join_ref = next(&mut items, 0)?;
                let reference = next(&mut items, 1)?;
                let Text(topic) = next(&mut items, 2)?;
                let Text(event) = next(&mut items, 3)?;
                let payload: &RawValue = next(&mut items, 4)?;
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(ArrayFrame(ClientMessage {
                    join_ref,
                    reference,
                    topic,
                    event,
                    payload: Payload::Json(payload),
                }))
            }
        }

        deserializer.deserialize_seq(FrameVisitor)
    }
}

fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(items: &mut A, index: usize) -> Result<T, A::Error> {
    items
        .next_element()?
        .ok_or_else(|| serde::de::Error::invalid_length(index, &"five items"))
}

/// Decodes a binary frame.
///
/// # Errors
/// [`Malformed`].
pub fn decode_binary(version: Version, frame: &[u8]) -> Result<ClientMessage<'_>, Malformed> {
    if version == Version::V1 {
        return Err(Malformed::BinaryOnV1);
    }
    let mut reader = Reader(frame);
    match reader.byte()? {
        0 => push(reader),
        3 => user_broadcast(reader),
        kind => Err(Malformed::UnknownKind(kind)),
    }
}

/// Kind 0: `J R T E` lengths, then `join_ref`, `ref`, topic, event, data.
fn push(mut reader: Reader<'_>) -> Result<ClientMessage<'_>, Malformed> {
    let [j, r, t, e] = reader.lengths()?;
    Ok(ClientMessage {
        join_ref: reader.reference(j)?,
        reference: reader.reference(r)?,
        topic: Cow::Borrowed(reader.text(t)?),
        event: Cow::Borrowed(reader.text(e)?),
        payload: Payload::Binary(reader.0),
    })
}

/// Kind 3: `J R T E M` lengths and the encoding, then `join_ref`, `ref`, topic, user event, metadata, payload.
fn user_broadcast(mut reader: Reader<'_>) -> Result<ClientMessage<'_>, Malformed> {
    let [j, r, t, e, m, encoding] = reader.lengths()?;
    let join_ref = reader.reference(j)?;
    let reference = reader.reference(r)?;
    let topic = reader.text(t)?;
    let event = reader.text(e)?;
    let metadata = reader.text(m)?;
    let payload = if encoding == 0 {
        BroadcastPayload::Binary(reader.0)
    } else {
        BroadcastPayload::Json(serde_json::from_slice(reader.0).map_err(|_| Malformed::BroadcastNotJson)?)
    };
    Ok(ClientMessage {
        join_ref,
        reference,
        topic: Cow::Borrowed(topic),
        event: Cow::Borrowed("broadcast"),
        payload: Payload::Broadcast {
            event,
            metadata: (!metadata.is_empty()).then_some(metadata),
            payload,
        },
    })
}

/// What is left of a binary frame.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.0.split_first().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(first)
    }

    fn lengths<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    fn text(&mut self, len: u8) -> Result<&'a str, Malformed> {
        let (head, rest) = self
            .0
            .split_at_checked(usize::from(len))
            .ok_or(Malformed::Truncated)?;
        self.0 = rest;
        std::str::from_utf8(head).map_err(|_| Malformed::NotUtf8)
    }

    /// A ref of length 0 means none.
    fn reference(&mut self, len: u8) -> Result<Option<Ref>, Malformed> {
        let text = self.text(len)?;
        Ok((!text.is_empty()).then(|| Ref::text(text)))
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
