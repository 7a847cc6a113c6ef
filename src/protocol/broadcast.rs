//! Broadcasts: one content, encoded once per serialiser.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::server::{fan_out, push, push_json_string};
use super::{Ref, Version};

/// A broadcast on its way to a room, wherever it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// What was said.
    pub content: Content,
    /// The row of `realtime.messages` that it is, so that nobody gets it again who has had it replayed.
    pub id: Option<Uuid>,
}

/// What a broadcast says, in the shape that its sender chose. JSON is text that has been parsed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The whole `{"type":"broadcast","event":…,"payload":…}`, relayed as it is.
    Envelope(Box<str>),
    /// An event with a JSON payload.
    Json {
        /// The user's event name.
        event: Box<str>,
        /// JSON.
        payload: Box<str>,
        /// A JSON object, if there is any.
        meta: Option<Box<str>>,
    },
    /// An event with bytes. Clients of `vsn=1.0.0`, and those that can be sent text only, cannot get it.
    Binary {
        /// The user's event name.
        event: Box<str>,
        /// The bytes.
        payload: Bytes,
        /// A JSON object, if there is any.
        meta: Option<Box<str>>,
    },
}

/// A frame's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

impl Content {
    /// Bytes of what was said, for limits.
    pub fn len(&self) -> usize {
        match self {
            Self::Envelope(text) => text.len(),
            Self::Json { event, payload, .. } => event.len() + payload.len(),
            Self::Binary { event, payload, .. } => event.len() + payload.len(),
        }
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells the row's id in the metadata, where there is room for it.
    pub fn name(&mut self, id: Uuid) {
        match self {
            Self::Json { meta, .. } | Self::Binary { meta, .. } => {
                *meta = Some(format!("{{\"id\":\"{id}\"}}").into());
            }
            Self::Envelope(_) => {}
        }
    }

    /// The same, with a place in the room (text that needs no escaping) as `cursor` of the metadata. What the sender has put
    /// there gives way, and so does metadata that is no object.
    pub fn with_cursor(&self, cursor: &str) -> Self {
        let cursor = format!("\"{cursor}\"");
        match self {
            Self::Json { event, payload, meta } => Self::Json {
                event: event.clone(),
                payload: payload.clone(),
                meta: Some(with_member(meta.as_deref(), "cursor", &cursor).into()),
            },
            Self::Binary { event, payload, meta } => Self::Binary {
                event: event.clone(),
                payload: payload.clone(),
                meta: Some(with_member(meta.as_deref(), "cursor", &cursor).into()),
            },
            Self::Envelope(text) => {
                let members: Members<'_> = serde_json::from_str(text).unwrap_or_default();
                let meta = members.get("meta").map(|meta| meta.get());
                let meta = with_member(meta, "cursor", &cursor);
                Self::Envelope(with_member(Some(text), "meta", &meta).into())
            }
        }
    }

    /// The frame for everybody with this serialiser; `None` if it has none for this.
    pub fn encode(&self, version: Version, topic: &str) -> Option<Encoded> {
        if version == Version::V2
            && let Some(frame) = self.kind_four(topic)
        {
            return Some(Encoded::Binary(frame));
        }
        let payload = self.envelope()?;
        Some(Encoded::Text(fan_out(version, topic, "broadcast", &payload)))
    }

    /// The frame for one channel, of a broadcast that was sent before.
    pub fn encode_replayed(&self, version: Version, join_ref: Option<&Ref>, topic: &str) -> Option<Encoded> {
        match self {
            Self::Binary { .. } => self.encode(version, topic),
            _ => Some(Encoded::Text(push(
                version,
                join_ref,
                topic,
                "broadcast",
                &self.envelope()?,
            ))),
        }
    }

    /// Kind 4: `T E M` lengths and the encoding, then topic, user event, metadata, payload. `None` where a header is
    /// too long for it, and for what was sent as text.
    fn kind_four(&self, topic: &str) -> Option<Vec<u8>> {
        let (event, meta, encoding, payload) = match self {
            Self::Envelope(_) => return None,
            Self::Json { event, payload, meta } => (event, meta, 1, payload.as_bytes()),
            Self::Binary { event, payload, meta } => (event, meta, 0, &**payload),
        };
        let meta = meta.as_deref().unwrap_or_default();
        let mut frame = Vec::with_capacity(5 + topic.len() + event.len() + meta.len() + payload.len());
        frame.push(4);
        for header in [topic, event, meta] {
            frame.push(u8::try_from(header.len()).ok()?);
        }
        frame.push(encoding);
        for part in [topic.as_bytes(), event.as_bytes(), meta.as_bytes(), payload] {
            frame.extend_from_slice(part);
        }
        Some(frame)
    }

    /// As one JSON object; `None` for bytes.
    fn envelope(&self) -> Option<String> {
        let (event, payload, meta) = match self {
            Self::Envelope(text) => return Some(text.to_string()),
            Self::Json { event, payload, meta } => (event, payload, meta),
            Self::Binary { .. } => return None,
        };
        let mut out = String::with_capacity(64 + event.len() + payload.len());
        out.push_str("{\"event\":");
        push_json_string(&mut out, event);
        out.push_str(",\"payload\":");
        out.push_str(payload);
        out.push_str(",\"type\":\"broadcast\"");
        if let Some(meta) = meta {
            out.push_str(",\"meta\":");
            out.push_str(meta);
        }
        out.push('}');
        Some(out)
    }
}

/// The members of a JSON object, the last one of a name.
type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// A JSON object with this member, which is JSON; without another one of the name.
fn with_member(object: Option<&str>, name: &str, value: &str) -> String {
    let object = object.unwrap_or_default().trim();
    let mut out = String::with_capacity(object.len() + name.len() + value.len() + 8);
    out.push('{');
    match serde_json::from_str::<Members<'_>>(object) {
        Ok(members) => {
            for (other, value) in members.iter().filter(|(other, _)| **other != name) {
                push_json_string(&mut out, other);
                out.push(':');
                out.push_str(value.get());
                out.push(',');
            }
        }
        // A name in it is no Unicode: it stays as it is, and of two members the last counts.
        Err(_) => {
            let inner = object.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
            if let Some(inner) = inner.filter(|inner| !inner.trim().is_empty()) {
                out.push_str(inner);
                out.push(',');
            }
        }
    }
    push_json_string(&mut out, name);
    out.push(':');
    out.push_str(value);
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn json_content(event: &str, meta: Option<&str>) -> Content {
        Content::Json {
            event: event.into(),
            payload: r#"{"x":1}"#.into(),
            meta: meta.map(Into::into),
        }
    }

    fn text_payload(content: &Content) -> Value {
        text(content.encode(Version::V1, "realtime:a"))["payload"].clone()
    }

    fn text(encoded: Option<Encoded>) -> Value {
        match encoded {
            Some(Encoded::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("not a text: {other:?}"),
        }
    }

    #[test]
    fn text_is_relayed_as_it_was_sent() {
        let content =
            Content::Envelope(r#"{"type":"broadcast","event":"e","payload":[1],"more":null}"#.into());
        let payload = json!({"type": "broadcast", "event": "e", "payload": [1], "more": null});
        assert_eq!(
            text(content.encode(Version::V2, "realtime:a")),
            json!([null, null, "realtime:a", "broadcast", payload])
        );
        assert_eq!(
            text(content.encode(Version::V1, "realtime:a")),
            json!({"topic": "realtime:a", "event": "broadcast", "payload": payload, "ref": null})
        );
    }

    #[test]
    fn json_is_kind_four_on_one_side_and_an_envelope_on_the_other() {
        let content = json_content("é", Some(r#"{"id":"7"}"#));
        let mut expected = vec![4, 10, 2, 10, 1];
        expected.extend_from_slice("realtime:aé{\"id\":\"7\"}{\"x\":1}".as_bytes());
        assert_eq!(
            content.encode(Version::V2, "realtime:a"),
            Some(Encoded::Binary(expected))
        );
        let envelope = json!({"type": "broadcast", "event": "é", "payload": {"x": 1}, "meta": {"id": "7"}});
        assert_eq!(
            text(content.encode(Version::V1, "realtime:a"))["payload"],
            envelope
        );
    }

    #[test]
    fn as_text_there_are_envelopes_and_no_bytes() {
        let content = json_content("e", Some(r#"{"id":"7"}"#));
        let frame = text(content.encode(Version::V2Text, "realtime:a"));
        let envelope = json!({"type": "broadcast", "event": "e", "payload": {"x": 1}, "meta": {"id": "7"}});
        assert_eq!(frame, json!([null, null, "realtime:a", "broadcast", envelope]));
        let one = Ref::text("1");
        let replayed = text(content.encode_replayed(Version::V2Text, Some(&one), "realtime:a"));
        assert_eq!((&replayed[0], &replayed[4]), (&json!("1"), &envelope));
        let bytes = Content::Binary {
            event: "e".into(),
            payload: Bytes::from_static(&[0, 255]),
            meta: None,
        };
        assert_eq!(bytes.encode(Version::V2Text, "realtime:a"), None);
        assert_eq!(
            bytes.encode_replayed(Version::V2Text, Some(&one), "realtime:a"),
            None
        );
    }

    #[test]
    fn bytes_have_no_frame_in_version_one() {
        let content = Content::Binary {
            event: "e".into(),
            payload: Bytes::from_static(&[0, 255]),
            meta: None,
        };
        assert_eq!(content.encode(Version::V1, "realtime:a"), None);
        let expected = [&[4, 10, 1, 0, 0][..], b"realtime:ae", &[0, 255]].concat();
        assert_eq!(
            content.encode(Version::V2, "realtime:a"),
            Some(Encoded::Binary(expected))
        );
    }

    #[test]
    fn a_name_too_long_for_a_binary_header_goes_as_text() {
        let long = "e".repeat(256);
        let frame = text(json_content(&long, None).encode(Version::V2, "realtime:a"));
        assert_eq!(
            frame[4],
            json!({"type": "broadcast", "event": long, "payload": {"x": 1}})
        );
        let longest = "e".repeat(255);
        assert!(matches!(
            json_content(&longest, None).encode(Version::V2, "realtime:a"),
            Some(Encoded::Binary(_))
        ));
    }

    #[test]
    fn a_place_is_told_in_every_shape_and_nobody_can_forge_one() {
        let said = |text: &str| {
            let content = Content::Envelope(text.into()).with_cursor("1-2");
            text_payload(&content)
        };
        let placed = json!({"cursor": "1-2"});
        let plain = r#"{"type":"broadcast","event":"e","payload":{"meta":{"cursor":"x"}}}"#;
        let payload = json!({"meta": {"cursor": "x"}});
        let expected = json!({"type": "broadcast", "event": "e", "payload": payload, "meta": placed});
        assert_eq!(said(plain), expected);
        assert_eq!(said("{}"), json!({"meta": placed}));
        assert_eq!(said(r#" {"meta":7} "#), json!({"meta": placed}));
        let forged = r#"{"meta":{"cursor":"9-9","a":[1]},"é":" }"}"#;
        assert_eq!(
            said(forged),
            json!({"meta": {"a": [1], "cursor": "1-2"}, "é": " }"})
        );
        let twice = said(r#"{"meta":{"a":1},"meta":{"b":"}"}}"#);
        assert_eq!(twice, json!({"meta": {"b": "}", "cursor": "1-2"}}));
        let surrogate = Content::Envelope(r#"{"\ud800":1}"#.into()).with_cursor("1-2");
        let Content::Envelope(surrogate) = surrogate else {
            panic!("{surrogate:?}")
        };
        assert_eq!(&*surrogate, r#"{"\ud800":1,"meta":{"cursor":"1-2"}}"#);
        let named = json_content("e", Some(r#"{"id":"7"}"#)).with_cursor("1-2");
        assert_eq!(text_payload(&named)["meta"], json!({"id": "7", "cursor": "1-2"}));
    }

    #[test]
    fn bytes_have_room_for_the_longest_place() {
        let mut content = Content::Binary {
            event: "e".into(),
            payload: Bytes::from_static(&[0, 255]),
            meta: None,
        };
        content.name(Uuid::max());
        let place = ["f".repeat(16), "f".repeat(16)].join("-");
        let longest = format!("{place}@{place}-{place}");
        let frame = content.with_cursor(&longest).encode(Version::V2, "realtime:a");
        let Some(Encoded::Binary(frame)) = frame else {
            panic!("not binary: {frame:?}")
        };
        assert!(String::from_utf8_lossy(&frame).contains(&longest));
    }

    #[test]
    fn a_replayed_one_is_text_for_its_channel() {
        let one = Ref::text("1");
        let content = json_content("e", Some(r#"{"replayed":true}"#));
        let frame = text(content.encode_replayed(Version::V2, Some(&one), "realtime:a"));
        assert_eq!((&frame[0], &frame[1]), (&json!("1"), &Value::Null));
        assert_eq!(frame[4]["meta"], json!({"replayed": true}));
    }
}
