//! Subscriptions that hold back what they get (`max_rate`, `conflate`): their events are gathered, and leave together.
//!
//! Only they pay for it. What is gathered counts as what waits in the outbox, so it is bounded with it: where it comes to too
//! much it leaves early. It was judged when it was gathered; whoever leaves the channel or loses its rights gets none of it.

mod pacer;
mod passing;
mod pending;
mod step;
#[cfg(test)]
mod tests;

pub(super) use pacer::Pacer;
pub(super) use passing::{Passing, Shapers};
pub(super) use pending::{At, Columns, Form, Step};
pub(super) use step::{Keys, step};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use self::pending::{Item, Pending, left_behind};
use super::Subscriber;
use crate::change::{Mark, Position};
use crate::hub::{self, Frame, Hold, Overflow};
use crate::protocol::{self, Shape};

/// Who conflates is behind while more than this waits to be written to it. Bytes.
const BEHIND: usize = 64 * 1024;

/// How soon, and how late, it is looked whether somebody has caught up.
const SOONEST: Duration = Duration::from_millis(5);
const LATEST: Duration = Duration::from_millis(320);

/// Where the events of one binding are gathered. Dropped with its subscription, and what it has gathered with it.
#[derive(Debug)]
pub(super) struct Shaper {
    subscriber: Subscriber,
    binding: i64,
    shape: Shape,
    pacer: Pacer,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pending: Pending,
    hold: Hold,
    /// [`Shaper::due`] will be called.
    called: bool,
    /// What was gathered must not leave before.
    next: Option<Instant>,
    /// When to look next at somebody who is behind.
    look: Duration,
}

/// A change on its way to a shaper.
pub(super) struct Gathered<F> {
    pub(super) at: At,
    pub(super) step: Step,
    /// Makes its `data`, in another form than its own if it is told to.
    pub(super) data: F,
}

impl Shaper {
    fn new(subscriber: &Subscriber, binding: i64, shape: Shape, pacer: &Pacer) -> Arc<Self> {
        Arc::new(Self {
            subscriber: subscriber.clone(),
            binding,
            shape,
            pacer: pacer.clone(),
            state: Mutex::new(State {
                pending: Pending::new(shape.conflate),
                hold: Hold::new(&subscriber.outbox),
                called: false,
                next: None,
                look: SOONEST,
            }),
        })
    }

    /// Takes a change. It leaves when its time has come; whether it has, as [`Shaper::leave`] should be told then.
    #[must_use]
    fn gather(
        self: &Arc<Self>,
        gathered: Gathered<impl FnOnce(Option<Form>) -> Arc<str>>,
        now: Instant,
    ) -> bool {
        let Gathered { at, step, data } = gathered;
        let state = &mut *self.lock();
        let left_out = state.pending.gather(at, step, data);
        self.pacer.metrics.changes_conflated.inc_by(left_out);
        let pending = &state.pending;
        match state.hold.set(pending.len(), pending.bytes(), pending.since()) {
            Ok(()) if self.shape.interval.is_none() && state.pending.len() == 1 && !self.is_behind() => true,
            Ok(()) => {
                self.call(state, now);
                false
            }
            Err(Overflow::Full) => true,
            Err(Overflow::Closed) => {
                drop(state.pending.take());
                false
            }
        }
    }

    /// Lets go of what was gathered, if nobody has yet.
    fn leave(&self, now: Instant) {
        let state = &mut *self.lock();
        if state.pending.len() > 0 {
            self.flush(state, now);
        }
    }

    /// How many changes are gathered.
    fn gathered(&self) -> usize {
        self.lock().pending.len()
    }

    /// Called when what was gathered may be due.
    fn due(self: &Arc<Self>, now: Instant) {
        let state = &mut *self.lock();
        state.called = false;
        if state.pending.len() == 0 {
            return;
        }
        if state.next.is_some_and(|next| next > now) {
            self.call(state, now);
        } else if self.shape.conflate && self.is_behind() {
            state.next = Some(now + state.look);
            state.look = (state.look * 2).min(LATEST);
            self.call(state, now);
        } else {
            self.flush(state, now);
        }
    }

    fn call(self: &Arc<Self>, state: &mut State, now: Instant) {
        if !std::mem::replace(&mut state.called, true) {
            let soonest = match self.shape.interval {
                Some(_) => now,
                None => now + SOONEST,
            };
            self.pacer
                .call(state.next.map_or(soonest, |next| next.max(now)), self);
        }
    }

    /// The client has much to read before it gets to what leaves now.
    fn is_behind(&self) -> bool {
        self.subscriber.outbox.outbox().waiting() > BEHIND
    }

    fn flush(&self, state: &mut State, now: Instant) {
        let since = state.pending.since();
        // No longer held, but not all in the outbox yet. One that is closed says so again below.
        let _ = state.hold.set(0, 0, since);
        let items: Vec<Item> = state.pending.take().collect();
        // A client that went on from there would miss what others have gathered, and what stands for several changes would not
        // stand for all of them.
        let behind = left_behind(&items, state.hold.others_since());
        let mut sent = 0;
        for (item, behind) in items.iter().zip(behind) {
            let at = match behind {
                None => hub::At::Row(item.cursor),
                Some(_) => hub::At::Ahead(item.cursor),
            };
            // A full or closed outbox has told its owner.
            if self
                .subscriber
                .outbox
                .push_at(self.frame(item, behind), at)
                .is_err()
            {
                break;
            }
            sent += 1;
        }
        let _ = state.hold.set(0, 0, None);
        self.pacer.metrics.deliveries.inc_by(sent);
        state.next = self.shape.interval.map(|interval| now + interval);
        state.look = SOONEST;
    }

    /// The message of what leaves in front of what came `behind` it.
    fn frame(&self, item: &Item, behind: Option<Position>) -> Frame {
        let data = item.data.strip_suffix('}').unwrap_or(&item.data);
        let mut payload = format!("{{\"ids\":[{}],\"data\":{data}", self.binding);
        if item.conflated > 0 {
            payload.push_str(&format!(",\"conflated\":{}", item.conflated));
        }
        payload.push('}');
        if item.told {
            let mark = Mark {
                cursor: item.cursor,
                from: behind.map(|behind| behind.before()),
            };
            payload.push_str(&format!(",\"cursor\":\"{mark}\""));
        }
        payload.push('}');
        let Subscriber { version, topic, .. } = &self.subscriber;
        Frame::Text(protocol::fan_out(*version, topic, "postgres_changes", &payload).into())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What was gathered is consistent after every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
