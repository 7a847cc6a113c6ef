//! When a room is told who came and went. A diff costs one delivery per member, so that n members who all come at once
//! would cost n²: large rooms are told what several changes came to.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::time::DelayQueue;

use super::members::Room;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// Up to so many members are told at once.
const SMALL: usize = 32;

/// Deliveries of diffs per second that one room may cost, about.
const DELIVERIES_PER_SECOND: f64 = 20_000.0;

/// However large the room, nobody waits longer.
const LONGEST: Duration = Duration::from_millis(1_500);

/// The least time between two diffs to so many members.
pub(super) fn interval(members: usize) -> Duration {
    if members <= SMALL {
        return Duration::ZERO;
    }
    // Exact up to 2^53 members.
    let seconds = members as f64 / DELIVERIES_PER_SECOND;
    Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64()))
}

/// What every room needs from outside: counters, and to be called when it is due.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    pub(super) metrics: Arc<Metrics>,
    /// One entry per room that waits; a room waits once.
    due: mpsc::UnboundedSender<Due>,
}

#[derive(Debug)]
struct Due {
    at: Instant,
    room: Weak<Room>,
}

impl Teller {
    /// Has [`Room::due`] called then.
    pub(super) fn call(&self, at: Instant, room: &Arc<Room>) {
        // The task is gone only once the server stops, when there is nobody left to tell.
        let _ = self.due.send(Due {
            at,
            room: Arc::downgrade(room),
        });
    }
}

/// Starts the one task that waits for all rooms.
pub(super) fn start(metrics: Arc<Metrics>, shutdown: &Shutdown) -> Teller {
    let (due, waiting) = mpsc::unbounded_channel();
    let stopping = shutdown.clone();
    shutdown.spawn("presence", async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tell_those_due(waiting) => {}
        }
    });
    Teller { metrics, due }
}

/// Ends when there are no rooms any more and will be none.
async fn tell_those_due(mut waiting: mpsc::UnboundedReceiver<Due>) {
    let mut queue = DelayQueue::new();
    loop {
        tokio::select! {
            due = waiting.recv() => match due {
                Some(Due { at, room }) => drop(queue.insert_at(room, at)),
                None => return,
            },
            Some(room) = queue.next(), if !queue.is_empty() => {
                if let Some(room) = room.into_inner().upgrade() {
                    room.due();
                }
            }
        }
    }
}
