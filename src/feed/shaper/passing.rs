//! The shapers of one subscriber, and a change that passes them.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::{Form, Gathered, Pacer, Shaper};
use crate::change::Position;
use crate::feed::Subscriber;
use crate::feed::roster::Bound;
use crate::hub::Hold;

/// The shapers of one subscriber, by the ids of their bindings.
#[derive(Debug, Default)]
pub(in crate::feed) struct Shapers {
    shapers: Vec<Arc<Shaper>>,
    /// Of those who have some.
    door: Option<Box<Mutex<Door>>>,
}

/// What changes pass, one at a time.
#[derive(Debug)]
struct Door {
    /// The change that passes: until all of it is in the outbox or gathered, nothing that leaves meanwhile leads past it.
    hold: Hold,
    /// While somebody catches up: what is gathered leaves once so many frames are on their way since it did last. A little first, and
    /// each time twice as much. So whoever is cut off again and again comes further each time, by a good part of what it got; and the
    /// state of each row leaves only so many times more often than once as there are doublings.
    portion: usize,
    /// [`Lane::sent`](crate::hub::Lane::sent) by then.
    sent: u32,
}

impl Shapers {
    pub(in crate::feed) fn new(subscriber: &Subscriber, bindings: &[Bound], pacer: &Pacer) -> Self {
        let mut shapers: Vec<Arc<Shaper>> = Vec::new();
        for Bound { binding, .. } in bindings {
            // Equal bindings have one id.
            let known = shapers.iter().any(|shaper| shaper.binding == binding.id);
            if let (Some(shape), false) = (binding.shaping.shape(), known) {
                shapers.push(Shaper::new(subscriber, binding.id, shape, pacer));
            }
        }
        Self::of(subscriber, shapers)
    }

    pub(super) fn of(subscriber: &Subscriber, shapers: Vec<Arc<Shaper>>) -> Self {
        let door = (!shapers.is_empty()).then(|| {
            Box::new(Mutex::new(Door {
                hold: Hold::new(&subscriber.outbox),
                portion: 1,
                sent: subscriber.outbox.sent(),
            }))
        });
        Self { shapers, door }
    }

    /// A change that stands there comes, live or to somebody who catches up. `None` if there are no shapers.
    pub(in crate::feed) fn pass(&self, position: Position, catches_up: bool) -> Option<Passing<'_>> {
        let door = self.door.as_ref()?;
        // The hold is consistent after every step. An outbox that is full or closed says so again.
        let _ = lock(door).hold.set(0, 0, Some(position));
        Some(Passing {
            shapers: &self.shapers,
            door,
            catches_up,
            leaving: Vec::new(),
        })
    }

    /// Lets everything go that was gathered.
    pub(in crate::feed) fn flush(&self) {
        let now = Instant::now();
        for shaper in &self.shapers {
            shaper.flush(&mut shaper.lock(), now);
        }
    }
}

fn lock(door: &Mutex<Door>) -> std::sync::MutexGuard<'_, Door> {
    door.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A change on its way to a subscriber; over with [`Passing::end`].
pub(in crate::feed) struct Passing<'a> {
    shapers: &'a [Arc<Shaper>],
    door: &'a Mutex<Door>,
    catches_up: bool,
    /// Those from which it leaves at once.
    leaving: Vec<&'a Arc<Shaper>>,
}

impl<'a> Passing<'a> {
    /// Where a binding gathers it, if it does. What was missed comes in its order, and at once; only what is conflated is gathered.
    pub(in crate::feed) fn shaper(&self, binding: i64) -> Option<&'a Arc<Shaper>> {
        let mut shapers = self.shapers.iter();
        let found = shapers.find(|shaper| shaper.binding == binding)?;
        (!self.catches_up || found.shape.conflate).then_some(found)
    }

    pub(in crate::feed) fn gather(
        &mut self,
        shaper: &'a Arc<Shaper>,
        gathered: Gathered<impl FnOnce(Option<Form>) -> Arc<str>>,
    ) {
        if shaper.gather(gathered, Instant::now()) {
            self.leaving.push(shaper);
        }
    }

    /// The first change that is gathered. A client that goes on from a cursor behind it would miss it.
    pub(in crate::feed) fn held(&self) -> Option<Position> {
        lock(self.door).hold.others_since()
    }

    /// Everything is in the outbox that is not gathered.
    pub(in crate::feed) fn end(self) {
        let door = &mut *lock(self.door);
        let _ = door.hold.set(0, 0, None);
        let now = Instant::now();
        for shaper in self.leaving {
            shaper.leave(now);
        }
        if !self.catches_up {
            return;
        }
        let gathered: usize = self.shapers.iter().map(|shaper| shaper.gathered()).sum();
        let lane = door.hold.lane();
        let frames = usize::try_from(lane.sent().wrapping_sub(door.sent)).unwrap_or(usize::MAX);
        if gathered > 0 && frames.saturating_add(gathered) < door.portion {
            return;
        }
        if gathered > 0 {
            for shaper in self.shapers {
                shaper.leave(now);
            }
            door.portion = door.portion.saturating_mul(2);
        }
        door.sent = door.hold.lane().sent();
    }
}
