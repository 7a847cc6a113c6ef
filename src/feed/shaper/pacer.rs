//! One task waits for all shapers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::time::DelayQueue;

use super::Shaper;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// Nobody is waited for longer in one go: whoever is gone by then is forgotten.
const LONGEST: Duration = Duration::from_secs(10);

/// What every shaper needs from outside: counters, and to be called when it is due.
#[derive(Clone, Debug)]
pub(in crate::feed) struct Pacer {
    pub(super) metrics: Arc<Metrics>,
    /// One entry per shaper that waits; a shaper waits once.
    due: mpsc::UnboundedSender<Due>,
}

#[derive(Debug)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) shaper: Weak<Shaper>,
}

impl Pacer {
    /// Starts the task.
    pub(in crate::feed) fn start(metrics: Arc<Metrics>, shutdown: &Shutdown) -> Self {
        let (pacer, waiting) = Self::new(metrics);
        let stopping = shutdown.clone();
        shutdown.spawn("shaping", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = call_those_due(waiting) => {}
            }
        });
        pacer
    }

    /// With what it is asked for.
    pub(super) fn new(metrics: Arc<Metrics>) -> (Self, mpsc::UnboundedReceiver<Due>) {
        let (due, waiting) = mpsc::unbounded_channel();
        (Self { metrics, due }, waiting)
    }

    /// Has [`Shaper::due`] called then, or sooner.
    pub(super) fn call(&self, at: Instant, shaper: &Arc<Shaper>) {
        // The task is gone only once the server stops.
        let _ = self.due.send(Due {
            at,
            shaper: Arc::downgrade(shaper),
        });
    }
}

/// Ends when there are no shapers any more and will be none.
async fn call_those_due(mut waiting: mpsc::UnboundedReceiver<Due>) {
    let mut queue = DelayQueue::new();
    loop {
        tokio::select! {
            due = waiting.recv() => match due {
                Some(Due { at, shaper }) => drop(queue.insert_at(shaper, at.min(Instant::now() + LONGEST))),
                None => return,
            },
            Some(shaper) = queue.next(), if !queue.is_empty() => {
                if let Some(shaper) = shaper.into_inner().upgrade() {
                    shaper.due(Instant::now());
                }
            }
        }
    }
}
