//! Bounded outboxes: where everything that leaves for a client waits, and what happens when it waits too long.
//!
//! Knows neither Postgres nor HTTP. A frame's bytes are shared by every outbox they are in.

mod held;
mod hold;
mod lane;
mod outbox;
mod outboxes;

pub use held::HeldFrame;
pub use hold::Hold;
pub use lane::Lane;
pub use outbox::{Bounds, Drained, Outbox, Overflow, Placed};
pub use outboxes::Outboxes;

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;

use crate::change::Cursor;
use crate::protocol::Encoded;

/// Where a frame stands among those of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// A row change, in the stream.
    Row(Cursor),
    /// The same, and something in front of it that is for the same lane may still be gathered.
    Ahead(Cursor),
    /// A broadcast, in its room.
    Room(u64),
}

/// One encoded WebSocket message. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(Bytes),
}

impl Frame {
    /// Payload bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Encoded> for Frame {
    fn from(encoded: Encoded) -> Self {
        match encoded {
            Encoded::Text(text) => Self::Text(text.into()),
            Encoded::Binary(bytes) => Self::Binary(bytes.into()),
        }
    }
}
