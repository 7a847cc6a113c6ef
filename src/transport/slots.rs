use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::shutdown::{Drain, Guest, Shutdown};
use crate::telemetry::Metrics;

/// Counts open connections and keeps them under a limit.
#[derive(Debug)]
pub(super) struct Slots {
    limit: usize,
    open: AtomicUsize,
    drain: Drain,
    metrics: Arc<Metrics>,
}

/// One open connection. Dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    _guest: Guest,
}

impl Slots {
    pub(super) fn new(limit: usize, drain: Drain, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            open: AtomicUsize::new(0),
            drain,
            metrics,
        })
    }

    /// A slot, if one is free.
    pub(super) fn take(self: &Arc<Self>) -> Option<Slot> {
        let one_more = |open| (open < self.limit).then_some(open + 1);
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .ok()?;
        self.metrics.connections.inc();
        Some(Slot {
            slots: Arc::clone(self),
            _guest: self.drain.enter(),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.metrics.connections.dec();
        self.slots.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Makes a shutdown wait for the connections, whose tasks the HTTP server started and nobody else knows.
pub(super) fn wait_on_shutdown(drain: &Drain, shutdown: &Shutdown) {
    let (drain, stopping) = (drain.clone(), shutdown.clone());
    shutdown.spawn("connections", async move {
        stopping.cancelled().await;
        drain.empty().await;
    });
}
