use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{At, Frame, Outbox, Overflow};
use crate::change::{Cursor, Position};

/// One channel's way into a connection's outbox, which the session can end while frames for it are still under way.
///
/// Both happen under the outbox's lock: once [`Lane::end`] has returned, whatever the session queues next has nothing
/// of this channel behind it.
#[derive(Clone, Debug)]
pub struct Lane {
    outbox: Outbox,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ended: AtomicBool,
    tag: u32,
    sent: AtomicU32,
    reached: Mutex<Option<Cursor>>,
}

impl Lane {
    /// An open lane into this outbox.
    pub fn new(outbox: &Outbox) -> Self {
        Self::tagged(outbox, 0)
    }

    /// An open lane of this topic: its frames can be told from others.
    pub fn of(outbox: &Outbox, topic: &str) -> Self {
        Self::tagged(outbox, Self::tag(topic))
    }

    fn tagged(outbox: &Outbox, tag: u32) -> Self {
        let shared = Shared {
            ended: AtomicBool::new(false),
            tag,
            sent: AtomicU32::new(0),
            reached: Mutex::new(None),
        };
        Self {
            outbox: outbox.clone(),
            shared: Arc::new(shared),
        }
    }

    /// What the lanes of this topic are called where frames are told [apart by them](Outbox::drain_placed): the same on every
    /// server. Two topics may have one tag.
    pub fn tag(topic: &str) -> u32 {
        // FNV-1a.
        let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        topic.bytes().fold(0x811c_9dc5, step)
    }

    /// The outbox it leads to.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// As [`Outbox::push`].
    ///
    /// # Errors
    /// As [`Outbox::push`]; [`Overflow::Closed`] also once the lane has ended.
    pub fn push(&self, frame: Frame) -> Result<(), Overflow> {
        self.push_placed(frame, None)
    }

    /// As [`Lane::push`], of a frame that stands at this place: whoever follows the outbox's places gets to know it with the
    /// frame.
    ///
    /// # Errors
    /// As [`Lane::push`].
    pub fn push_at(&self, frame: Frame, at: At) -> Result<(), Overflow> {
        self.push_placed(frame, Some((self.shared.tag, at)))
    }

    fn push_placed(&self, frame: Frame, place: Option<(u32, At)>) -> Result<(), Overflow> {
        // Relaxed is enough: the outbox's lock orders it.
        let open = || !self.shared.ended.load(Ordering::Relaxed);
        self.outbox.push_if(frame, place, open)?;
        self.shared.sent.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// How many frames have come by it, modulo 2^32. It may lag a moment behind what is in the outbox.
    pub fn sent(&self) -> u32 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Where the first change is that was gathered for this channel and is not in the outbox yet: whoever has got everything
    /// out of the outbox may miss what stands from there on.
    pub fn held_since(&self) -> Option<Position> {
        self.outbox.held_since(self.id(), None)
    }

    /// Whoever comes back has got what it missed up to here: it is in the outbox, or gathered.
    pub fn reach(&self, cursor: Cursor) {
        *self.lock_reached() = Some(cursor);
    }

    /// How far somebody has got who comes back, once everything that is in the outbox has arrived. `None` if nothing has come.
    pub fn reached(&self) -> Option<Cursor> {
        let reached = (*self.lock_reached())?;
        // Asked for in this order: what leaves in between is in the outbox.
        let behind = self.held_since().map(|held| held.before());
        Some(Cursor {
            position: behind.map_or(reached.position, |behind| behind.min(reached.position)),
            ..reached
        })
    }

    fn lock_reached(&self) -> MutexGuard<'_, Option<Cursor>> {
        self.shared.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No other lane has it while there is this one, or a clone of it.
    pub(super) fn id(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    /// Lets nothing more through.
    pub fn end(&self) {
        let end = || self.shared.ended.store(true, Ordering::Relaxed);
        self.outbox.locked(end);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::hub::{Bounds, Drained};

    fn frame(text: &str) -> Frame {
        Frame::Text(text.to_owned().into())
    }

    #[test]
    fn nothing_follows_the_end_of_a_lane() {
        let outbox = Outbox::new(Bounds {
            frames: usize::MAX,
            bytes: usize::MAX,
        });
        let lane = Lane::new(&outbox);
        let feed = std::thread::spawn({
            let lane = lane.clone();
            move || while lane.push(frame("row")).is_ok() {}
        });
        while outbox.drain().now_or_never().is_none() {}
        lane.end();
        outbox.push(frame("left")).unwrap();
        feed.join().unwrap();
        let Some(Drained::Frames(frames)) = outbox.drain().now_or_never() else {
            panic!("nothing queued")
        };
        assert_eq!(frames.back(), Some(&frame("left")));
    }

    #[test]
    fn followed_outboxes_tell_where_frames_stand_and_others_do_not() {
        let bounds = Bounds {
            frames: 3,
            bytes: 100,
        };
        let fill = |outbox: &Outbox| {
            let (a, b) = (Lane::of(outbox, "realtime:a"), Lane::of(outbox, "realtime:b"));
            outbox.push(frame("reply")).unwrap();
            a.push_at(frame("one"), At::Room(7)).unwrap();
            b.push_at(frame("two"), At::Room(3)).unwrap();
        };
        let followed = crate::hub::Outboxes::new(bounds, usize::MAX, Default::default()).open_followed();
        fill(&followed);
        let (_, places) = followed.drain_placed().now_or_never().unwrap();
        let [a, b] = ["realtime:a", "realtime:b"].map(Lane::tag);
        let place = |frame, lane, room| crate::hub::Placed {
            frame,
            lane,
            at: At::Room(room),
        };
        assert_eq!(places, [place(1, a, 7), place(2, b, 3)]);
        // Counted anew after each time.
        Lane::of(&followed, "realtime:a")
            .push_at(frame("three"), At::Room(8))
            .unwrap();
        let (_, places) = followed.drain_placed().now_or_never().unwrap();
        assert_eq!(places, [place(0, a, 8)]);
        let other = Outbox::new(bounds);
        fill(&other);
        assert!(other.drain_placed().now_or_never().unwrap().1.is_empty());
    }
}
