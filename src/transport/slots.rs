use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// Counts open connections and keeps them under a limit.
#[derive(Debug)]
pub(super) struct Slots {
    limit: usize,
    open: AtomicUsize,
    emptied: Notify,
    metrics: Arc<Metrics>,
}

/// One open connection. Dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Slot(Arc<Slots>);

impl Slots {
    pub(super) fn new(limit: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            open: AtomicUsize::new(0),
            emptied: Notify::new(),
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
        Some(Slot(Arc::clone(self)))
    }

    async fn all_free(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.metrics.connections.dec();
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}

/// Makes a shutdown wait for the connections, whose tasks the HTTP server started and nobody else knows.
pub(super) fn wait_on_shutdown(slots: &Arc<Slots>, shutdown: &Shutdown) {
    let (slots, stopping) = (Arc::clone(slots), shutdown.clone());
    shutdown.spawn("connections", async move {
        stopping.cancelled().await;
        slots.all_free().await;
    });
}
