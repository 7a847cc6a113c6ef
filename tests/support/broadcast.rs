//! Broadcasts as clients send and get them, binary frames included.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Raw;

use super::{Client, Message};

/// The event of a [`Message`] that came in a kind 4 frame; its payload is `{event, payload | bytes, meta}`.
pub const KIND_FOUR: &str = "kind 4";

/// `{"type":"broadcast","event":…,"payload":…}`
pub fn envelope(event: &str, payload: Value) -> Value {
    json!({"type": "broadcast", "event": event, "payload": payload})
}

/// Reads a kind 4 frame.
pub fn decode(frame: &[u8]) -> Message {
    assert_eq!(frame[0], 4, "only kind 4 may be sent to clients: {frame:?}");
    let lengths: Vec<usize> = frame[1..4].iter().map(|n| usize::from(*n)).collect();
    let (encoding, mut rest) = (frame[4], &frame[5..]);
    let mut text = |length: usize| {
        let (head, tail) = rest.split_at(length);
        rest = tail;
        String::from_utf8(head.to_vec()).expect("UTF-8")
    };
    let (topic, event, meta) = (text(lengths[0]), text(lengths[1]), text(lengths[2]));
    let mut payload = json!({"event": event, "meta": null});
    if !meta.is_empty() {
        payload["meta"] = serde_json::from_str(&meta).expect("JSON metadata");
    }
    match encoding {
        0 => payload["bytes"] = json!(rest),
        _ => payload["payload"] = serde_json::from_slice(rest).expect("a JSON payload"),
    }
    Message {
        join_ref: Value::Null,
        reference: Value::Null,
        topic,
        event: KIND_FOUR.to_owned(),
        payload,
    }
}

/// What a kind 3 frame carries.
#[derive(Clone, Copy, Debug)]
pub enum Inner<'a> {
    /// Encoding 1.
    Json(&'a Value),
    /// Encoding 0.
    Bytes(&'a [u8]),
}

/// A kind 3 frame.
pub fn kind_three(reference: &str, topic: &str, event: &str, metadata: &str, inner: Inner<'_>) -> Raw {
    let (encoding, payload) = match inner {
        Inner::Json(value) => (1, value.to_string().into_bytes()),
        Inner::Bytes(bytes) => (0, bytes.to_vec()),
    };
    let length = |text: &str| u8::try_from(text.len()).expect("a short header");
    let mut frame = vec![
        3,
        0,
        length(reference),
        length(topic),
        length(event),
        length(metadata),
        encoding,
    ];
    for part in [reference, topic, event, metadata] {
        frame.extend_from_slice(part.as_bytes());
    }
    frame.extend(payload);
    Raw::binary(frame)
}

impl Client {
    /// Joins and expects it to succeed.
    pub async fn enter(&mut self, topic: &str, config: Value) {
        let reply = self.join(topic, config).await;
        assert_eq!(reply["status"], "ok", "{reply}");
    }

    /// Sends a broadcast as text; returns its ref.
    pub async fn say(&mut self, topic: &str, event: &str, payload: Value) -> String {
        self.push(topic, "broadcast", envelope(event, payload)).await
    }

    /// Sends a broadcast in a kind 3 frame with this ref.
    pub async fn say_binary(&mut self, reference: &str, topic: &str, event: &str, inner: Inner<'_>) {
        let topic = format!("realtime:{topic}");
        self.raw(kind_three(reference, &topic, event, "", inner)).await;
    }

    /// The next broadcast on a topic, in whatever frame it came.
    pub async fn heard(&mut self, topic: &str) -> Message {
        let topic = format!("realtime:{topic}");
        self.expect("a broadcast", |m| {
            m.topic == topic && (m.event == "broadcast" || m.event == KIND_FOUR)
        })
        .await
    }

    /// Everything that came so far and was not looked for, of these events.
    pub async fn everything(&mut self, events: &[&str]) -> Vec<Message> {
        self.round_trip().await;
        let mut found = self.pending().to_vec();
        found.retain(|message| events.contains(&&*message.event));
        found
    }
}
