use super::outbox::Held;
use super::{Lane, Overflow};
use crate::change::Position;

/// What somebody gathers to put it into a lane later. It counts as what waits in the outbox, so that gathering is no way
/// around its bounds. Dropped, it is nothing any more.
#[derive(Debug)]
pub struct Hold {
    lane: Lane,
    id: u64,
}

impl Hold {
    /// Nothing yet.
    pub fn new(lane: &Lane) -> Self {
        Self {
            id: lane.outbox().next_hold(),
            lane: lane.clone(),
        }
    }

    /// It is this now: so many frames of so many bytes, the first of which was gathered for the change at `since`.
    ///
    /// # Errors
    /// [`Overflow::Full`]: that is more than may be gathered, so it should be put into the outbox now.
    /// [`Overflow::Closed`]: the outbox takes nothing any more.
    pub fn set(&mut self, frames: usize, bytes: usize, since: Option<Position>) -> Result<(), Overflow> {
        self.lane.outbox().hold(Held {
            id: self.id,
            lane: self.lane.id(),
            frames,
            bytes,
            since,
        })
    }

    /// The lane it is for.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// As [`Lane::held_since`], of what others gather for the same lane.
    pub fn others_since(&self) -> Option<Position> {
        self.lane.outbox().held_since(self.lane.id(), Some(self.id))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // One that is closed holds nothing.
        let _ = self.set(0, 0, None);
    }
}
