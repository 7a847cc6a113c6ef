use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{At, Frame, Outbox, Overflow};
use crate::change::Position;

/// One channel's way into a connection's outbox, which the session can end while frames for it are still under way.
///
/// Both happen under the outbox's lock: once [`Lane::end`] has returned, whatever the session queues next has nothing
/// of this channel behind it.
#[derive(Clone, Debug)]
pub struct Lane {
    outbox: Outbox,
    ended: Arc<AtomicBool>,
}

impl Lane {
    /// An open lane into this outbox.
    pub fn new(outbox: &Outbox) -> Self {
        Self {
            outbox: outbox.clone(),
            ended: Arc::default(),
        }
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
        // Relaxed is enough: the outbox's lock orders it.
        self.outbox.push_if(frame, || !self.ended.load(Ordering::Relaxed))
    }

    /// As [`Lane::push`], of a frame that stands at this place: whoever follows the outbox's places gets to know it with the
    /// frame.
    ///
    /// # Errors
    /// As [`Lane::push`].
    pub fn push_at(&self, frame: Frame, _at: At) -> Result<(), Overflow> {
        self.push(frame)
    }

    /// Where the first change is that was gathered for this channel and is not in the outbox yet: whoever has got everything
    /// out of the outbox may miss what stands from there on.
    pub fn held_since(&self) -> Option<Position> {
        self.outbox.held_since(self.id(), None)
    }

    /// No other lane has it while there is this one, or a clone of it.
    pub(super) fn id(&self) -> usize {
        Arc::as_ptr(&self.ended).addr()
    }

    /// Lets nothing more through.
    pub fn end(&self) {
        self.outbox.locked(|| self.ended.store(true, Ordering::Relaxed));
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
}
