//! What is said in the rooms: 300 bytes of JSON that tell when they were sent.

use std::sync::LazyLock;
use std::time::Instant;

use super::super::wire;

/// Bytes of the user's payload.
pub const PAYLOAD: usize = 300;

/// The user's name for it.
pub const EVENT: &str = "message";

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Where the numbers are in the payload.
const SLOT: std::ops::Range<usize> = 9..14;
const SENT: std::ops::Range<usize> = 22..42;

/// What a message carries.
#[derive(Clone, Copy)]
pub struct Mark {
    /// Which of those that are under way it is.
    pub slot: usize,
    /// Nanoseconds since this program looked first.
    pub sent: u64,
}

impl Mark {
    pub fn now(slot: usize) -> Self {
        Self { slot, sent: clock() }
    }

    /// Of a frame's payload that ends with that of a message.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let message = payload.get(payload.len().checked_sub(PAYLOAD)?..)?;
        let number = |at| std::str::from_utf8(&message[at]).ok()?.parse::<u64>().ok();
        Some(Self {
            slot: usize::try_from(number(SLOT)?).ok()?,
            sent: number(SENT)?,
        })
    }

    /// Milliseconds since it was sent.
    pub fn age(self) -> f64 {
        clock().saturating_sub(self.sent) as f64 / 1e6
    }

    fn payload(self) -> String {
        let start = format!(r#"{{"slot":"{:05}","at":"{:020}","text":""#, self.slot, self.sent);
        format!(r#"{start}{}"}}"#, "x".repeat(PAYLOAD - start.len() - 2))
    }

    /// The frame that a client sends.
    pub fn frame(self, topic: &str) -> Vec<u8> {
        let (join_ref, reference) = ("1", "2");
        let mut frame = vec![3];
        for header in [join_ref, reference, topic, EVENT, ""] {
            frame.push(u8::try_from(header.len()).expect("short"));
        }
        frame.push(1);
        for part in [join_ref, reference, topic, EVENT, &self.payload()] {
            frame.extend_from_slice(part.as_bytes());
        }
        wire::of_client(wire::BINARY, &frame)
    }
}

/// The frame that a server makes of a message.
pub fn delivered(topic: &str, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![4];
    for header in [topic, EVENT, ""] {
        frame.push(u8::try_from(header.len()).expect("short"));
    }
    frame.push(1);
    for part in [topic.as_bytes(), EVENT.as_bytes(), message] {
        frame.extend_from_slice(part);
    }
    wire::of_server(wire::BINARY, &frame)
}

fn clock() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).expect("not that long")
}
