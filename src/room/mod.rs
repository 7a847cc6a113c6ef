//! The members of a topic: what one says goes to the others. Public and private channels of the same name are different
//! rooms.
//!
//! Knows neither Postgres nor sockets nor who may what: members come in with what they may hear, and what they say has
//! been allowed. Nothing here waits: a frame is encoded once per serialiser and put into every member's outbox.

use std::sync::Arc;

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::hub::{HeldFrame, Lane};
use crate::protocol::{Broadcast, Ref, Version};
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// Names a room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomName {
    /// Full topic, `realtime:…`.
    pub topic: Arc<str>,
    /// Of private channels.
    pub private: bool,
}

/// What a member gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hears {
    /// Broadcasts.
    pub broadcasts: bool,
    /// Changes of presence.
    pub presence: bool,
}

/// Who comes in.
#[derive(Debug)]
pub struct Entry {
    /// Where its frames go.
    pub lane: Lane,
    /// The serialiser of its connection.
    pub version: Version,
    /// The channel's `join_ref`, for what is meant for it alone.
    pub join_ref: Option<Ref>,
    /// What it gets.
    pub hears: Hears,
    /// It gets the state of presence once it is in (`config.presence.enabled`).
    pub wants_state: bool,
    /// Its broadcasts come back to it (`config.broadcast.self`).
    pub own: bool,
    /// The key it is present by.
    pub key: Arc<str>,
    /// The reply to its join: until that has been sent, nothing goes out to it.
    pub reply: Option<HeldFrame>,
    /// What is said until then is kept for it, instead of passed over; what was replayed to it is not said again.
    pub replayed: Option<Vec<Uuid>>,
}

/// All rooms of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rooms {}

/// Somebody's place in a room, given up when it is dropped.
#[derive(Debug)]
pub struct Member {}

/// Whether a `track` came to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackError {
    /// The payload is no JSON object.
    #[error("Presence track payload must be a map")]
    NotAMap,
}

impl Rooms {
    /// No rooms yet. Starts the task that tells large rooms what changed.
    pub fn start(_metrics: Arc<Metrics>, _shutdown: &Shutdown) -> Self {
        Self {}
    }

    /// Lets somebody in.
    pub fn enter(&self, _name: RoomName, _entry: Entry) -> Member {
        Member {}
    }

    /// Says something to everybody in a room, from outside. Returns to how many.
    pub fn publish(&self, _name: &RoomName, _broadcast: &Broadcast) -> usize {
        0
    }
}

impl Member {
    /// The reply to its join has been sent: it gets what was kept, and the state of presence.
    pub fn open(&self) {}

    /// Says something to everybody who is in the room by now, to itself only with [`Entry::own`]. Returns to how many.
    pub fn publish(&self, _broadcast: &Broadcast) -> usize {
        0
    }

    /// It is present with this payload, also if it was with another. It gets changes from now on, and the state if it
    /// has not had it.
    ///
    /// # Errors
    /// See [`TrackError`].
    pub fn track(&self, _payload: &RawValue) -> Result<(), TrackError> {
        Ok(())
    }

    /// It is not present any more.
    pub fn untrack(&self) {}

    /// What it gets from now on. It gets the state of presence where it begins to hear that and wants it.
    pub fn hear(&self, _hears: Hears) {}
}
