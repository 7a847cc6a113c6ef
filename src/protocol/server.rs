//! Frames to clients.
//!
//! V1: `{"topic","event","payload","ref"}`, always with `ref`, never with `join_ref` (realtime-py drops anything else).
//! V2, also as text only: `[join_ref, ref, topic, event, payload]`. Binary frames of kinds 0 to 2 are never sent: realtime-js breaks on
//! them.

use std::fmt::Write as _;

use super::{Ref, Version};

/// Outcome of a push, in `phx_reply`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok,
    /// Not done; the response says why.
    Error,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// The payload of a `system` event.
#[derive(Clone, Copy, Debug)]
pub struct SystemMessage<'a> {
    /// `postgres_changes` or `system`.
    pub extension: &'a str,
    /// Good news or bad. realtime-py rejoins on [`Status::Error`].
    pub status: Status,
    /// The text.
    pub message: &'a str,
    /// Sub-topic; absent only where every channel is meant.
    pub channel: Option<&'a str>,
    /// From where the channel's rows go on, for whoever wants to be able to say so later.
    pub cursor: Option<&'a str>,
    /// From where it goes on in its room: `meta.cursor`, as of broadcasts.
    pub room: Option<&'a str>,
}

impl SystemMessage<'_> {
    fn json(self) -> String {
        let mut out = String::with_capacity(128 + self.message.len());
        out.push_str("{\"extension\":");
        push_json_string(&mut out, self.extension);
        out.push_str(",\"status\":");
        push_json_string(&mut out, self.status.as_str());
        out.push_str(",\"message\":");
        push_json_string(&mut out, self.message);
        if let Some(channel) = self.channel {
            out.push_str(",\"channel\":");
            push_json_string(&mut out, channel);
        }
        if let Some(cursor) = self.cursor {
            out.push_str(",\"cursor\":");
            push_json_string(&mut out, cursor);
        }
        if let Some(cursor) = self.room {
            out.push_str(",\"meta\":{\"cursor\":");
            push_json_string(&mut out, cursor);
            out.push('}');
        }
        out.push('}');
        out
    }
}

/// `phx_reply`: the answer to the push that carried these refs. `response` is JSON.
pub fn reply(
    version: Version,
    join_ref: Option<&Ref>,
    reference: Option<&Ref>,
    topic: &str,
    status: Status,
    response: &str,
) -> String {
    let payload = format!("{{\"status\":\"{}\",\"response\":{response}}}", status.as_str());
    frame(version, join_ref, reference, topic, "phx_reply", &payload)
}

/// A `system` event for one channel.
pub fn system(version: Version, join_ref: Option<&Ref>, topic: &str, message: SystemMessage<'_>) -> String {
    frame(version, join_ref, None, topic, "system", &message.json())
}

/// A `system` event that every channel gets alike.
pub fn system_fan_out(version: Version, topic: &str, message: SystemMessage<'_>) -> String {
    frame(version, None, None, topic, "system", &message.json())
}

/// `phx_close`: the channel is over. Clients do not rejoin by themselves.
pub fn phx_close(version: Version, join_ref: Option<&Ref>, topic: &str) -> String {
    frame(version, join_ref, join_ref, topic, "phx_close", "{}")
}

/// `phx_error`: the channel broke. Clients rejoin.
pub fn phx_error(version: Version, join_ref: Option<&Ref>, topic: &str) -> String {
    frame(
        version,
        join_ref,
        join_ref,
        topic,
        "phx_error",
        "{\"reason\":\"channel_crash\"}",
    )
}

/// A message that every member of a topic gets alike: no refs. `payload` is JSON.
pub fn fan_out(version: Version, topic: &str, event: &str, payload: &str) -> String {
    frame(version, None, None, topic, event, payload)
}

/// A message for one channel: its `join_ref`, no ref. `payload` is JSON.
pub fn push(version: Version, join_ref: Option<&Ref>, topic: &str, event: &str, payload: &str) -> String {
    frame(version, join_ref, None, topic, event, payload)
}

fn frame(
    version: Version,
    join_ref: Option<&Ref>,
    reference: Option<&Ref>,
    topic: &str,
    event: &str,
    payload: &str,
) -> String {
    let reference = reference.map_or("null", Ref::json);
    let mut out = String::with_capacity(payload.len() + topic.len() + event.len() + reference.len() + 64);
    match version {
        Version::V1 => {
            out.push_str("{\"topic\":");
            push_json_string(&mut out, topic);
            out.push_str(",\"event\":");
            push_json_string(&mut out, event);
            out.push_str(",\"payload\":");
            out.push_str(payload);
            out.push_str(",\"ref\":");
            out.push_str(reference);
            out.push('}');
        }
        Version::V2 | Version::V2Text => {
            out.push('[');
            out.push_str(join_ref.map_or("null", Ref::json));
            out.push(',');
            out.push_str(reference);
            out.push(',');
            push_json_string(&mut out, topic);
            out.push(',');
            push_json_string(&mut out, event);
            out.push(',');
            out.push_str(payload);
            out.push(']');
        }
        Version::Events => {
            out.push_str("event: ");
            out.push_str(event);
            out.push_str("\ndata: {\"topic\":");
            push_json_string(&mut out, topic);
            out.push_str(",\"event\":");
            push_json_string(&mut out, event);
            out.push_str(",\"payload\":");
            // Between the tokens of JSON a line break is a space; within strings there is none.
            out.extend(
                payload
                    .chars()
                    .map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }),
            );
            out.push_str("}\n\n");
        }
    }
    out
}

/// Appends `text` as a JSON string (RFC 8259, section 7: quote, backslash and controls are escaped).
pub fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        // Only ASCII bytes are escaped, so `at` is a character boundary.
        out.push_str(text.get(plain..at).unwrap_or_default());
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "\\u{byte:04x}")),
        }
    }
    out.push_str(text.get(plain..).unwrap_or_default());
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    const NOTICE: SystemMessage<'_> = SystemMessage {
        extension: "postgres_changes",
        status: Status::Ok,
        message: "Subscribed to PostgreSQL",
        channel: Some("room"),
        cursor: None,
        room: None,
    };

    #[test]
    fn v1_has_exactly_four_keys_and_always_a_ref() {
        let one = Ref::text("1");
        assert_eq!(
            reply(
                Version::V1,
                Some(&one),
                Some(&one),
                "realtime:room",
                Status::Ok,
                "{}"
            ),
            r#"{"topic":"realtime:room","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}"#
        );
        assert_eq!(
            value(&reply(Version::V1, None, None, "phoenix", Status::Ok, "{}"))["ref"],
            Value::Null
        );
        assert_eq!(
            value(&system(Version::V1, Some(&one), "realtime:room", NOTICE)),
            json!({"topic": "realtime:room", "event": "system", "ref": null, "payload": {
                "extension": "postgres_changes", "status": "ok",
                "message": "Subscribed to PostgreSQL", "channel": "room"}})
        );
        assert_eq!(
            value(&phx_close(Version::V1, Some(&one), "realtime:room")),
            json!({"topic": "realtime:room", "event": "phx_close", "payload": {}, "ref": "1"})
        );
    }

    #[test]
    fn v2_refs_follow_the_table() {
        let (join, push) = (Ref::text("1"), Ref::text("2"));
        assert_eq!(
            reply(
                Version::V2,
                Some(&join),
                Some(&push),
                "t",
                Status::Error,
                r#"{"reason":"x"}"#
            ),
            r#"["1","2","t","phx_reply",{"status":"error","response":{"reason":"x"}}]"#
        );
        let system = value(&system(Version::V2, Some(&join), "t", NOTICE));
        assert_eq!((&system[0], &system[1]), (&json!("1"), &Value::Null));
        assert_eq!(
            phx_close(Version::V2, Some(&join), "t"),
            r#"["1","1","t","phx_close",{}]"#
        );
        assert_eq!(
            phx_error(Version::V2, Some(&join), "t"),
            r#"["1","1","t","phx_error",{"reason":"channel_crash"}]"#
        );
    }

    #[test]
    fn a_fan_out_has_no_refs() {
        assert_eq!(
            fan_out(Version::V1, "t", "postgres_changes", r#"{"ids":[1]}"#),
            r#"{"topic":"t","event":"postgres_changes","payload":{"ids":[1]},"ref":null}"#
        );
        assert_eq!(
            fan_out(Version::V2, "t", "postgres_changes", r#"{"ids":[1]}"#),
            r#"[null,null,"t","postgres_changes",{"ids":[1]}]"#
        );
        let all = SystemMessage {
            channel: None,
            cursor: None,
            ..NOTICE
        };
        let frame = value(&system_fan_out(Version::V2, "t", all));
        assert_eq!(frame[0], Value::Null);
        assert!(frame[4].get("channel").is_none());
    }

    proptest! {
        #[test]
        fn every_text_becomes_the_json_string_it_is(text in any::<String>()) {
            let mut out = String::new();
            push_json_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }
}
