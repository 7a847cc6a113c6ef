//! Subscriptions that hold back what they get (`max_rate`, `conflate`): their events are gathered, and leave together.
//!
//! Only they pay for it. What is gathered counts as what waits in the outbox, so it is bounded with it: where it comes to too
//! much it leaves early. It was judged when it was gathered; whoever leaves the channel or loses its rights gets none of it.

mod pacer;
mod pending;
mod step;
#[cfg(test)]
mod tests;

pub(super) use pacer::Pacer;
pub(super) use pending::{At, Columns, Form, Step};
pub(super) use step::{Keys, step};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use self::pending::{Item, Pending};
use super::Subscriber;
use super::roster::Bound;
use crate::hub::{self, Frame, Hold, Overflow};
use crate::protocol::{self, Shape};

/// Who conflates is behind while more than this waits to be written to it. Bytes.
const BEHIND: usize = 64 * 1024;

/// How soon, and how late, it is looked whether somebody has caught up.
const SOONEST: Duration = Duration::from_millis(5);
const LATEST: Duration = Duration::from_millis(320);

/// The shapers of one subscriber, by the ids of their bindings.
#[derive(Debug, Default)]
pub(super) struct Shapers(Vec<Arc<Shaper>>);

impl Shapers {
    pub(super) fn new(subscriber: &Subscriber, bindings: &[Bound], pacer: &Pacer) -> Self {
        let mut shapers: Vec<Arc<Shaper>> = Vec::new();
        for Bound { binding, .. } in bindings {
            // Equal bindings have one id.
            let known = shapers.iter().any(|shaper| shaper.binding == binding.id);
            if let (Some(shape), false) = (binding.shaping.shape(), known) {
                shapers.push(Shaper::new(subscriber, binding.id, shape, pacer));
            }
        }
        Self(shapers)
    }

    /// That of a binding, if it holds back what it gets.
    pub(super) fn of(&self, binding: i64) -> Option<&Arc<Shaper>> {
        self.0.iter().find(|shaper| shaper.binding == binding)
    }

    /// Something is gathered. A client that goes on from a cursor behind it would miss it, so it must not be told of any.
    pub(super) fn hold_back(&self) -> bool {
        self.0
            .first()
            .is_some_and(|shaper| shaper.subscriber.outbox.held_since().is_some())
    }

    /// Lets everything go that was gathered.
    pub(super) fn flush(&self) {
        let now = Instant::now();
        for shaper in &self.0 {
            shaper.flush(&mut shaper.lock(), now);
        }
    }
}

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

    /// Takes a change. It leaves when its time has come.
    pub(super) fn gather(self: &Arc<Self>, gathered: Gathered<impl FnOnce(Option<Form>) -> Arc<str>>) {
        self.gather_at(gathered, Instant::now());
    }

    fn gather_at(self: &Arc<Self>, gathered: Gathered<impl FnOnce(Option<Form>) -> Arc<str>>, now: Instant) {
        let Gathered { at, step, data } = gathered;
        let state = &mut *self.lock();
        let left_out = state.pending.gather(at, step, data);
        self.pacer.metrics.changes_conflated.inc_by(left_out);
        let pending = &state.pending;
        match state.hold.set(pending.len(), pending.bytes(), pending.since()) {
            Ok(()) if self.shape.interval.is_none() && state.pending.len() == 1 && !self.is_behind() => {
                self.flush(state, now);
            }
            Ok(()) => self.call(state, now),
            Err(Overflow::Full) => self.flush(state, now),
            Err(Overflow::Closed) => drop(state.pending.take()),
        }
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
        let others = state.hold.others_since();
        let mut sent = 0;
        for item in state.pending.take() {
            // A client that went on from there would miss what others have gathered.
            let behind = others.is_none_or(|others| item.cursor.position < others);
            let frame = self.frame(&item, item.told && behind);
            // One that conflates is promised something for all of what leaves together, and has a place behind that.
            let at = match behind && !self.shape.conflate {
                true => hub::At::Row(item.cursor),
                false => hub::At::Ahead(item.cursor),
            };
            // A full or closed outbox has told its owner.
            if self.subscriber.outbox.push_at(frame, at).is_err() {
                break;
            }
            sent += 1;
        }
        let _ = state.hold.set(0, 0, None);
        self.pacer.metrics.deliveries.inc_by(sent);
        state.next = self.shape.interval.map(|interval| now + interval);
        state.look = SOONEST;
    }

    fn frame(&self, item: &Item, told: bool) -> Frame {
        let data = item.data.strip_suffix('}').unwrap_or(&item.data);
        let mut payload = format!("{{\"ids\":[{}],\"data\":{data}", self.binding);
        if item.conflated > 0 {
            payload.push_str(&format!(",\"conflated\":{}", item.conflated));
        }
        payload.push('}');
        if told {
            payload.push_str(&format!(",\"cursor\":\"{}\"", item.cursor));
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
