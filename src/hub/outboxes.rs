use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::metrics::gauge::Gauge;

use super::{Bounds, Outbox};

/// However many outboxes there are, one may always hold this much. Bytes.
const LEAST_SHARE: i64 = 64 * 1024;

/// The outboxes of one server: each is bounded, and so is what waits in all of them together.
///
/// Past that bound, an outbox that holds more than its share (the bound, divided by the open outboxes, and at least 64 KiB)
/// overflows with the next frame; whoever reads goes on.
#[derive(Clone, Debug)]
pub struct Outboxes {
    bounds: Bounds,
    total: Arc<Total>,
}

impl Outboxes {
    /// No outboxes yet. Each will have these bounds, and all together hold about so many bytes; `waiting` shows how many it is.
    /// Shared frames count once for each outbox, and what was gathered or taken to be written counts as well.
    pub fn new(bounds: Bounds, bytes: usize, waiting: Gauge) -> Self {
        let total = Total {
            bytes: signed(bytes),
            waiting,
            open: AtomicI64::new(0),
        };
        Self {
            bounds,
            total: Arc::new(total),
        }
    }

    /// One more, empty.
    pub fn open(&self) -> Outbox {
        Outbox::among(self.bounds, Arc::clone(&self.total))
    }

    /// One more, which remembers where frames stand.
    pub fn open_followed(&self) -> Outbox {
        Outbox::followed(self.bounds, Arc::clone(&self.total))
    }
}

/// What several outboxes hold together. The count is the metric itself: one relaxed addition for each frame.
#[derive(Debug)]
pub(super) struct Total {
    bytes: i64,
    waiting: Gauge,
    open: AtomicI64,
}

impl Total {
    /// Of an outbox by itself.
    pub(super) fn unbounded() -> Self {
        Self {
            bytes: i64::MAX,
            waiting: Gauge::default(),
            open: AtomicI64::new(0),
        }
    }

    /// An outbox that holds so many bytes must not get more.
    pub(super) fn is_too_much(&self, held: usize) -> bool {
        self.waiting.get() >= self.bytes && signed(held) > self.share()
    }

    fn share(&self) -> i64 {
        let open = self.open.load(Ordering::Relaxed).max(1);
        (self.bytes / open).max(LEAST_SHARE)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.waiting.inc_by(signed(bytes));
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.waiting.dec_by(signed(bytes));
    }

    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::hub::{Drained, Frame, Hold, Lane, Overflow};

    const BOUNDS: Bounds = Bounds {
        frames: 1_000,
        bytes: 10 << 20,
    };

    fn outboxes(bytes: usize) -> (Outboxes, Gauge) {
        let waiting = Gauge::default();
        (Outboxes::new(BOUNDS, bytes, waiting.clone()), waiting)
    }

    fn frame(bytes: usize) -> Frame {
        Frame::Text("x".repeat(bytes).into())
    }

    fn cost(bytes: usize) -> i64 {
        signed(bytes + size_of::<Frame>())
    }

    fn drained(outbox: &Outbox) -> usize {
        match outbox.drain().now_or_never() {
            Some(Drained::Frames(frames)) => frames.len(),
            _ => 0,
        }
    }

    #[test]
    fn what_waits_is_counted_until_it_is_written() {
        let (outboxes, waiting) = outboxes(1 << 20);
        let (one, other) = (outboxes.open(), outboxes.open());
        one.push(frame(1_000)).unwrap();
        other.push(frame(10)).unwrap();
        assert_eq!(waiting.get(), cost(1_000) + cost(10));
        // Taken, but not written before somebody comes for more.
        assert_eq!(drained(&one), 1);
        one.push(frame(5)).unwrap();
        assert_eq!(waiting.get(), cost(1_000) + cost(10) + cost(5));
        assert_eq!(drained(&one), 1);
        assert_eq!(waiting.get(), cost(10) + cost(5));
        assert_eq!(drained(&one), 0);
        assert_eq!(waiting.get(), cost(10));
        other.close();
        other.close();
        assert_eq!(waiting.get(), 0);
    }

    #[test]
    fn what_ends_gives_back_what_it_held() {
        let (outboxes, waiting) = outboxes(1 << 20);
        for end in ["close", "drop", "overflow", "forget"] {
            let outbox = outboxes.open();
            for _ in 0..3 {
                outbox.push(frame(1_000)).unwrap();
            }
            assert_eq!(drained(&outbox), 3);
            outbox.push(frame(100)).unwrap();
            let mut hold = Hold::new(&Lane::new(&outbox));
            assert_eq!(hold.set(1, 50, None), Ok(()));
            assert_eq!(waiting.get(), 3 * cost(1_000) + cost(100) + cost(50));
            match end {
                "close" => outbox.close(),
                "overflow" => {
                    while outbox.push(frame(0)) != Err(Overflow::Full) {}
                    // What was taken is being written all the same.
                    assert_eq!(waiting.get(), 3 * cost(1_000));
                    assert!(matches!(outbox.drain().now_or_never(), Some(Drained::Overflowed)));
                    assert_eq!(waiting.get(), 3 * cost(1_000));
                    outbox.forgot(70);
                    assert_eq!(waiting.get(), 70);
                }
                "forget" => {
                    outbox.forgot(1_000_000);
                    assert_eq!(waiting.get(), 3 * cost(1_000) + cost(100) + cost(50));
                }
                _ => {}
            }
            drop((outbox, hold));
            assert_eq!(waiting.get(), 0, "{end}");
        }
        assert_eq!(outboxes.total.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn past_the_bound_those_with_more_than_their_share_end() {
        // Four share 400 KiB: 100 KiB each.
        let (outboxes, waiting) = outboxes(400 << 10);
        let all: Vec<Outbox> = (0..4).map(|_| outboxes.open()).collect();
        let [greedy, taking, modest, small] = &all[..] else {
            panic!("four")
        };
        greedy.push(frame(150 << 10)).unwrap();
        taking.push(frame(120 << 10)).unwrap();
        modest.push(frame(90 << 10)).unwrap();
        // Below the bound everybody may hold more.
        greedy.push(frame(50 << 10)).unwrap();
        assert!(waiting.get() > 400 << 10);
        for outbox in [modest, small] {
            outbox.push(frame(5 << 10)).unwrap();
        }
        // What it has taken and not written is held, too.
        assert_eq!(drained(taking), 1);
        assert_eq!(taking.push(frame(1)), Err(Overflow::Full));
        assert_eq!(greedy.push(frame(1)), Err(Overflow::Full));
        assert_eq!(drained(greedy) + drained(taking), 0);
        // With their memory given back there is room again.
        modest.push(frame(50 << 10)).unwrap();
        modest.push(frame(1)).unwrap();
    }

    #[test]
    fn nobody_ends_below_the_least_share() {
        let (outboxes, _) = outboxes(1_000);
        let all: Vec<Outbox> = (0..100).map(|_| outboxes.open()).collect();
        for outbox in &all {
            outbox.push(frame(60 << 10)).unwrap();
            outbox.push(frame(10 << 10)).unwrap();
        }
        for outbox in &all {
            assert_eq!(outbox.push(frame(1)), Err(Overflow::Full));
        }
    }
}
