//! The members here are outboxes; what is in them is read as clients would.

mod crowd;
mod cursors;
mod gates;
mod presences;
mod returns;
mod sayings;

use std::collections::HashMap;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};

use super::*;
use crate::hub::{Bounds, Drained, Frame, Outbox};
use crate::protocol::Content;

/// A frame that was pushed in by a test, as text.
fn frame(text: &str) -> Frame {
    Frame::Text(text.to_owned().into())
}

struct House {
    rooms: Rooms,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

impl House {
    fn new() -> Self {
        Self::keeping(Duration::from_secs(60))
    }

    /// What is said is kept for this time, and a megabyte of it.
    fn keeping(age: Duration) -> Self {
        let (metrics, shutdown) = (Metrics::new(), Shutdown::new());
        let keeps = Keeps { age, bytes: 1 << 20 };
        Self {
            rooms: Rooms::start(keeps, Arc::clone(&metrics), &shutdown),
            metrics,
            shutdown,
        }
    }

    fn enter(&self, topic: &str, entry: Entry) -> Member {
        self.rooms.enter(name(topic), entry)
    }

    /// Everybody has left, and nothing stays behind.
    async fn close(self) {
        assert_eq!(self.rooms.0.len(), 0);
        assert_eq!((self.metrics.rooms.get(), self.metrics.present.get()), (0, 0));
        self.shutdown.cancel();
        self.shutdown.wait(Duration::from_secs(30)).await.unwrap();
    }
}

fn name(topic: &str) -> RoomName {
    RoomName {
        topic: topic.into(),
        private: false,
    }
}

const ALL: Hears = Hears {
    broadcasts: true,
    presence: true,
};

fn outbox() -> Outbox {
    Outbox::new(Bounds {
        frames: usize::MAX,
        bytes: usize::MAX,
    })
}

/// An ordinary member of wire version 2.
fn entry(outbox: &Outbox, key: &str) -> Entry {
    Entry {
        lane: Lane::new(outbox),
        version: Version::V2,
        join_ref: Some(Ref::text("7")),
        hears: ALL,
        wants_state: false,
        own: false,
        key: key.into(),
        reply: None,
        replayed: None,
        returns: None,
    }
}

fn said(event: &str) -> Broadcast {
    Broadcast {
        content: Content::Envelope(json!({"type": "broadcast", "event": event}).to_string().into()),
        id: None,
    }
}

fn row(event: &str, id: u128) -> Broadcast {
    Broadcast {
        id: Some(Uuid::from_u128(id)),
        ..said(event)
    }
}

fn frames(outbox: &Outbox) -> Vec<Frame> {
    match outbox.drain().now_or_never() {
        Some(Drained::Frames(frames)) => frames.into(),
        Some(Drained::Overflowed) => panic!("too much for an outbox without bounds"),
        None => Vec::new(),
    }
}

/// What is in an outbox, of text frames in wire version 2.
fn texts(outbox: &Outbox) -> Vec<Value> {
    frames(outbox).iter().map(text).collect()
}

fn text(frame: &Frame) -> Value {
    let Frame::Text(text) = frame else {
        panic!("binary: {frame:?}")
    };
    serde_json::from_str(text).unwrap()
}

/// The user's event of each broadcast, and the name of every other frame.
fn heard(outbox: &Outbox) -> Vec<String> {
    let name = |frame: &Value| match frame[4]["event"].as_str() {
        Some(event) => event.to_owned(),
        None => frame[3].as_str().unwrap().to_owned(),
    };
    texts(outbox).iter().map(name).collect()
}

fn payload(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}
