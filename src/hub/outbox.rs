use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::outboxes::Total;
use super::{At, Frame};
use crate::change::Position;

/// How much may wait for one connection. Both bounds hold; the first one reached overflows.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Frames.
    pub frames: usize,
    /// Bytes of payload. As long as fewer wait, one more frame fits, however large it is: a large row, or the state of a
    /// large room right behind the reply to a join, does not make a healthy connection unusable.
    pub bytes: usize,
}

/// What is gathered for an outbox may come to this part of its bounds, so that it fits when it is put in.
const HELD_PART: usize = 4;

/// The outbox was full or already closed: the frame was not queued and none will be again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// This frame did not fit. The backlog is freed at once and the connection ends with the slow-consumer code.
    Full,
    /// The connection is ending for this or another reason.
    Closed,
}

/// The queue between whoever has something to say to a client and the task that owns its socket.
///
/// An idle outbox holds no buffer. A full one is poisoned: losing one message in the middle is worse for a client
/// than coming back, so the queue is dropped and the connection's task is told to close.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    /// Of this outbox and others.
    total: Arc<Total>,
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// What was drained and may not have been written yet, as it counts in the total. Bytes.
    taken: usize,
    /// What is gathered for this outbox and not in it yet.
    held: Vec<Held>,
    /// How many have gathered for it so far.
    holds: u64,
    state: State,
    /// Where frames stand, if somebody follows that.
    places: Option<Vec<Placed>>,
}

/// Where one of the frames that were drained together stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Which of them.
    pub frame: usize,
    /// The [`Lane::tag`](super::Lane::tag) of the lane that it came by.
    pub lane: u32,
    /// Where.
    pub at: At,
}

/// See [`Hold`](super::Hold).
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) id: u64,
    /// Of the lane that it is for.
    pub(super) lane: usize,
    pub(super) frames: usize,
    pub(super) bytes: usize,
    pub(super) since: Option<Position>,
}

/// What so many frames of so many bytes together count in the total.
fn cost(frames: usize, bytes: usize) -> usize {
    bytes.saturating_add(frames * size_of::<Frame>())
}

impl Queue {
    fn queued(&self) -> usize {
        cost(self.frames.len(), self.bytes)
    }

    fn held(&self) -> usize {
        self.held.iter().map(|held| cost(held.frames, held.bytes)).sum()
    }

    /// Frees everything but what was taken; returns what it came to.
    fn clear(&mut self) -> usize {
        let freed = self.queued() + self.held();
        self.frames = VecDeque::new();
        self.bytes = 0;
        self.held = Vec::new();
        freed
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Overflowed,
    Closed,
}

/// What [`Outbox::drain`] found.
#[derive(Debug)]
pub enum Drained {
    /// These frames, in order; never empty.
    Frames(VecDeque<Frame>),
    /// The outbox overflowed: close the socket with the slow-consumer code.
    Overflowed,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let queue = self.queue.get_mut().unwrap_or_else(PoisonError::into_inner);
        if queue.state != State::Closed {
            self.total.remove(queue.clear() + queue.taken);
            self.total.closed();
        }
    }
}

impl Outbox {
    /// An empty outbox by itself. Those of a server are made by [`Outboxes`](super::Outboxes).
    pub fn new(bounds: Bounds) -> Self {
        Self::with(bounds, Arc::new(Total::unbounded()), Queue::default())
    }

    /// An empty outbox that shares a total with others.
    pub(super) fn among(bounds: Bounds, total: Arc<Total>) -> Self {
        Self::with(bounds, total, Queue::default())
    }

    /// The same, which remembers where frames stand: see [`Outbox::drain_placed`].
    pub(super) fn followed(bounds: Bounds, total: Arc<Total>) -> Self {
        let queue = Queue {
            places: Some(Vec::new()),
            ..Queue::default()
        };
        Self::with(bounds, total, queue)
    }

    fn with(bounds: Bounds, total: Arc<Total>, queue: Queue) -> Self {
        total.opened();
        Self(Arc::new(Shared {
            bounds,
            total,
            queue: Mutex::new(queue),
            wake: Notify::new(),
        }))
    }

    /// Queues a frame; never waits.
    ///
    /// # Errors
    /// [`Overflow`] if it did not fit or the outbox is closed. Callers need not act: the owner has been told.
    pub fn push(&self, frame: Frame) -> Result<(), Overflow> {
        self.push_if(frame, None, || true)
    }

    /// Queues a frame, that stands there on a lane, if `allowed` says so under the lock; [`Overflow::Closed`] otherwise.
    pub(super) fn push_if(
        &self,
        frame: Frame,
        place: Option<(u32, At)>,
        allowed: impl FnOnce() -> bool,
    ) -> Result<(), Overflow> {
        let mut queue = self.lock();
        if queue.state != State::Open || !allowed() {
            return Err(Overflow::Closed);
        }
        let (bounds, total) = (&self.0.bounds, &self.0.total);
        let full = queue.frames.len() >= bounds.frames
            || queue.bytes >= bounds.bytes
            || total.is_too_much(queue.queued() + queue.taken + queue.held());
        if full {
            queue.state = State::Overflowed;
            total.remove(queue.clear());
        } else {
            total.add(cost(1, frame.len()));
            let number = queue.frames.len();
            if let (Some(places), Some((lane, at))) = (&mut queue.places, place) {
                places.push(Placed {
                    frame: number,
                    lane,
                    at,
                });
            }
            queue.bytes = queue.bytes.saturating_add(frame.len());
            queue.frames.push_back(frame);
        }
        drop(queue);
        self.0.wake.notify_one();
        if full { Err(Overflow::Full) } else { Ok(()) }
    }

    /// Does something that no push may overlap.
    pub(super) fn locked(&self, action: impl FnOnce()) {
        let _queue = self.lock();
        action();
    }

    /// Waits until there is something to send and takes all of it. Whoever comes has written what it took before.
    /// Cancel-safe; one task at a time.
    pub async fn drain(&self) -> Drained {
        self.drain_placed().await.0
    }

    /// As [`Outbox::drain`], with where the frames stand if the outbox is [followed](super::Outboxes::open_followed): those that stand
    /// somewhere, in order.
    pub async fn drain_placed(&self) -> (Drained, Vec<Placed>) {
        loop {
            {
                let mut queue = self.lock();
                if queue.state == State::Overflowed {
                    return (Drained::Overflowed, Vec::new());
                }
                if queue.taken > 0 {
                    self.0.total.remove(queue.taken);
                    queue.taken = 0;
                }
                if !queue.frames.is_empty() {
                    queue.taken = queue.queued();
                    queue.bytes = 0;
                    let places = queue.places.as_mut().map(std::mem::take).unwrap_or_default();
                    let frames = std::mem::take(&mut queue.frames);
                    return (Drained::Frames(frames), places);
                }
            }
            self.0.wake.notified().await;
        }
    }

    /// Waits until [`Outbox::drain`] would not wait, and takes nothing. Cancel-safe; in place of it, not beside it.
    pub async fn filled(&self) {
        let waits = |queue: &Queue| queue.frames.is_empty() && queue.state != State::Overflowed;
        while waits(&self.lock()) {
            self.0.wake.notified().await;
        }
    }

    /// Waits until the outbox has overflowed. Cancel-safe; in place of [`Outbox::drain`], not beside it.
    pub async fn overflowed(&self) {
        while self.lock().state != State::Overflowed {
            self.0.wake.notified().await;
        }
    }

    /// Refuses further frames and frees what is queued. For the owner, when the socket is gone.
    pub fn close(&self) {
        let mut queue = self.lock();
        if queue.state != State::Closed {
            queue.state = State::Closed;
            self.0.total.remove(queue.clear() + queue.taken);
            self.0.total.closed();
            queue.taken = 0;
        }
    }

    /// Of what was taken, no more than this is left to be written: the owner dropped the rest. Bytes.
    pub fn forgot(&self, left: usize) {
        let mut queue = self.lock();
        if queue.taken > left {
            self.0.total.remove(queue.taken - left);
            queue.taken = left;
        }
    }

    /// Bytes that wait to be written, in the outbox and with its owner.
    pub fn waiting(&self) -> usize {
        let queue = self.lock();
        queue.queued() + queue.taken
    }

    /// See [`Lane::held_since`](super::Lane::held_since).
    pub(super) fn held_since(&self, lane: usize, except: Option<u64>) -> Option<Position> {
        let queue = self.lock();
        let wanted = |held: &&Held| held.lane == lane && except != Some(held.id);
        let held = queue.held.iter().filter(wanted);
        held.filter_map(|held| held.since).min()
    }

    /// An id for [`Outbox::hold`].
    pub(super) fn next_hold(&self) -> u64 {
        let mut queue = self.lock();
        queue.holds += 1;
        queue.holds
    }

    /// Puts this in the place of what was held under its id.
    ///
    /// # Errors
    /// See [`Hold::set`](super::Hold::set).
    pub(super) fn hold(&self, now: Held) -> Result<(), Overflow> {
        let mut queue = self.lock();
        if queue.state != State::Open {
            return Err(Overflow::Closed);
        }
        let before = queue.held();
        queue.held.retain(|held| held.id != now.id);
        if now.frames > 0 || now.since.is_some() {
            queue.held.push(now);
        }
        let after = queue.held();
        match after.checked_sub(before) {
            Some(more) => self.0.total.add(more),
            None => self.0.total.remove(before - after),
        }
        let frames: usize = queue.held.iter().map(|held| held.frames).sum();
        let full = frames > self.0.bounds.frames / HELD_PART
            || after > self.0.bounds.bytes / HELD_PART
            || self.0.total.is_too_much(queue.queued() + queue.taken + after);
        if full { Err(Overflow::Full) } else { Ok(()) }
    }

    /// Whether half of a bound is used up.
    pub fn is_pressed(&self) -> bool {
        let queue = self.lock();
        queue.frames.len() * 2 >= self.0.bounds.frames || queue.bytes * 2 >= self.0.bounds.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lock().frames.is_empty()
    }

    /// Whether frames are still accepted.
    pub fn is_open(&self) -> bool {
        self.lock().state == State::Open
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is consistent after every statement above, so a panic elsewhere while it was held changes nothing.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn frame(text: &str) -> Frame {
        Frame::Text(text.to_owned().into())
    }

    #[tokio::test]
    async fn frames_leave_in_order_and_all_at_once() {
        let outbox = Outbox::new(Bounds {
            frames: 3,
            bytes: 100,
        });
        outbox.push(frame("a")).unwrap();
        outbox.push(frame("b")).unwrap();
        let Drained::Frames(frames) = outbox.drain().await else {
            panic!("overflowed")
        };
        assert_eq!(frames, [frame("a"), frame("b")]);
    }

    #[tokio::test]
    async fn too_many_frames_end_it_and_free_the_backlog() {
        let outbox = Outbox::new(Bounds {
            frames: 2,
            bytes: 100,
        });
        outbox.push(frame("a")).unwrap();
        outbox.push(frame("b")).unwrap();
        assert_eq!(outbox.push(frame("c")), Err(Overflow::Full));
        assert_eq!(outbox.push(frame("d")), Err(Overflow::Closed));
        assert!(matches!(outbox.drain().await, Drained::Overflowed));
        assert_eq!(outbox.lock().frames.capacity(), 0);
    }

    #[tokio::test]
    async fn an_overflow_wakes_who_waits_for_it_and_leaves_the_rest_to_drain() {
        let outbox = Outbox::new(Bounds {
            frames: 1,
            bytes: 100,
        });
        outbox.push(frame("a")).unwrap();
        assert!(outbox.overflowed().now_or_never().is_none());
        assert!(matches!(outbox.drain().await, Drained::Frames(_)));
        let waiting = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.overflowed().await }
        });
        tokio::task::yield_now().await;
        outbox.push(frame("b")).unwrap();
        outbox.push(frame("c")).unwrap_err();
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn bytes_bound_too_but_one_large_frame_passes() {
        let outbox = Outbox::new(Bounds { frames: 10, bytes: 4 });
        outbox.push(frame("ok")).unwrap();
        outbox.push(frame("larger than four")).unwrap();
        assert_eq!(outbox.push(frame("x")), Err(Overflow::Full));
    }

    #[tokio::test]
    async fn a_push_wakes_a_waiting_drain() {
        let outbox = Outbox::new(Bounds {
            frames: 10,
            bytes: 100,
        });
        let waiting = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.drain().await }
        });
        tokio::task::yield_now().await;
        outbox.push(frame("a")).unwrap();
        assert!(matches!(waiting.await.unwrap(), Drained::Frames(f) if f.len() == 1));
    }

    #[test]
    fn a_closed_outbox_takes_nothing() {
        let outbox = Outbox::new(Bounds {
            frames: 10,
            bytes: 100,
        });
        outbox.close();
        assert_eq!(outbox.push(frame("a")), Err(Overflow::Closed));
    }
}
