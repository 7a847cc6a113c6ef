//! The members of a topic: what one says goes to the others. Public and private channels of the same name are different
//! rooms.
//!
//! Knows neither Postgres nor sockets nor who may what: members come in with what they may hear, and what they say has
//! been allowed. Nothing here waits: a frame is encoded once per serialiser and put into every member's outbox.
//!
//! What is said in a room has one order, the same for everybody in it: it goes out under the room's lock. The lock of the
//! registry is held to look a room up and never while anything is said.

mod frames;
mod members;
mod past;
mod registry;
mod seat;
mod telling;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::change::{Cursor, Lineage};
use crate::hub::{Frame, HeldFrame, Lane};
use crate::presence::Payload;
use crate::protocol::{Broadcast, Ref, Version};
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

pub use past::{InvalidPlace, Keeps, Missed, Origin, Since};

use members::Room;
use past::Store;
use registry::Registry;
use seat::Seat;

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
    /// The reply to its join: until that has been sent, nothing goes out to it, and nothing ever if it is discarded.
    pub reply: Option<HeldFrame>,
    /// What is said before [`Member::open`] is kept for it, instead of passed over until the reply is out; what was
    /// replayed to it is not said again. See [`Member::replayed`] for what is read once it is in.
    pub replayed: Option<Vec<Uuid>>,
    /// It can come back, and what is said is kept for it from now on.
    pub returns: Option<Return>,
}

/// Somebody who can come back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Return {
    /// By what it is known again, if by anything: so it does not get what it said itself.
    pub who: Option<u64>,
    /// Where it was. What was said since goes out first, before what is new.
    pub since: Option<Since>,
    /// It keeps its place itself: every broadcast that it gets says where in the room it stands.
    pub cursors: bool,
}

/// All rooms of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rooms(Arc<Registry>);

/// Somebody's place in a room, given up when it is dropped.
#[derive(Debug)]
pub struct Member {
    rooms: Arc<Registry>,
    room: Arc<Room>,
    /// Where in the room it sits, for as long as this lives.
    at: usize,
    entered: Entered,
}

/// How somebody has come in.
#[derive(Clone, Copy, Debug)]
struct Entered {
    /// Behind what had been said by then.
    place: Since,
    missed: Option<Missed>,
}

/// Whether a `track` came to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackError {
    /// The payload is no JSON object, or one that not every client can read.
    #[error("Presence track payload must be a map")]
    NotAMap,
}

impl Rooms {
    /// No rooms yet. Starts the tasks that tell large rooms what changed and forget what was said; to be called in a runtime.
    pub fn start(keeps: Keeps, metrics: Arc<Metrics>, shutdown: &Shutdown) -> Self {
        let store = Arc::new(Store::new(keeps, Arc::clone(&metrics)));
        let registry = Arc::new(Registry::new(telling::start(metrics, shutdown), store));
        let (forgetting, stopping) = (Arc::clone(&registry), shutdown.clone());
        shutdown.spawn("rooms", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = forgetting.forget_the_past() => {}
            }
        });
        Self(registry)
    }

    /// By which this run of the server is told from others in [`Since`].
    pub fn instance(&self) -> u64 {
        self.0.instance()
    }

    /// Places in what comes from the database are of this history from here on, or of one that it came from.
    pub fn follow(&self, lineage: Arc<Lineage>) {
        self.0.follow(lineage);
    }

    /// How far the feed is with what comes from the database, to be said in places. The first one counts.
    pub fn locate(&self, position: impl Fn() -> Option<Cursor> + Send + Sync + 'static) {
        self.0.locate(Box::new(position));
    }

    /// Lets somebody in. Without a reply to wait for it gets the state of presence right away.
    pub fn enter(&self, name: RoomName, entry: Entry) -> Member {
        let (room, at, entered) = self.0.enter(&name, Seat::new(entry));
        Member {
            rooms: Arc::clone(&self.0),
            room,
            at,
            entered,
        }
    }

    /// Says something to everybody in a room, from outside. Returns to how many.
    pub fn publish(&self, name: &RoomName, broadcast: &Broadcast, origin: Origin) -> usize {
        self.0.publish(name, broadcast, origin)
    }

    /// The lanes of those in a room whose outboxes are filling up, so that whoever says much can wait for them.
    pub fn pressed(&self, name: &RoomName) -> Vec<Lane> {
        self.0.find(name).map(|room| room.pressed()).unwrap_or_default()
    }
}

impl Member {
    /// The reply to its join has been sent, and what was replayed to it is queued: it gets what was kept, and the state
    /// of presence if it hears that and wants it. Of somebody who can come back: why that is not all that was said, if it is not.
    pub fn open(&self) -> Option<Missed> {
        self.room.open(self.at)
    }

    /// These rows have been replayed to it and are not said again, nor what was kept of them.
    pub fn replayed(&self, rows: Vec<Uuid>) {
        self.room.replayed(self.at, rows);
    }

    /// Why it does not get all that was said since it was there.
    pub fn missed(&self) -> Option<Missed> {
        self.entered.missed
    }

    /// Where it came in: what was said before it has had, or has been given again.
    pub fn entered(&self) -> Since {
        self.entered.place
    }

    /// Tells it something of its past: behind what it is given again, and in front of what was said since it came in.
    pub fn announce(&self, frame: Frame) {
        self.room.announce(self.at, frame, self.entered.place.number);
    }

    /// The number of the last broadcast that is in its outbox, or was not for it.
    pub fn place(&self) -> u64 {
        self.room.number()
    }

    /// Says something to everybody who is in the room by now, to itself only with [`Entry::own`]. Returns to how many.
    pub fn publish(&self, broadcast: &Broadcast) -> usize {
        self.room.publish(broadcast, Some(self.at), Origin::Client(None))
    }

    /// It is present with this payload, also if it was with another. It gets changes from now on, and the state if it
    /// has not had it.
    ///
    /// # Errors
    /// See [`TrackError`].
    pub fn track(&self, payload: &RawValue) -> Result<(), TrackError> {
        let payload = Payload::parse(payload).ok_or(TrackError::NotAMap)?;
        self.room.track(self.at, payload);
        Ok(())
    }

    /// It is not present any more.
    pub fn untrack(&self) {
        self.room.untrack(self.at);
    }

    /// By what it is known again from now on, if it can come back.
    pub fn known_as(&self, who: u64) {
        self.room.known_as(self.at, who);
    }

    /// What it gets from now on. It gets the state of presence where it begins to hear that and wants it.
    pub fn hear(&self, hears: Hears) {
        self.room.hear(self.at, hears);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.room.leave(self.at) {
            self.rooms.forget(&self.room);
        }
    }
}
