//! How clients are asked to leave before the server stops: evenly, in small batches, so that those who take them in are
//! not met by all of them at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Shutdown;

/// Those whose turn is within the same step leave together.
const STEP: Duration = Duration::from_millis(50);

/// The stages of an end, before everything is cancelled: it is announced, then clients leave in turns.
///
/// Cheap to clone. Stopping altogether ([`Shutdown::cancel`]) counts as both.
#[derive(Clone, Debug)]
pub struct Drain {
    shared: Arc<Shared>,
    begun: Shutdown,
}

#[derive(Debug)]
struct Shared {
    announced: AtomicBool,
    span: Duration,
    /// Those who are there, and those who were when it began.
    guests: AtomicUsize,
    expected: AtomicUsize,
    /// Turns given out.
    turns: AtomicUsize,
    left: Notify,
}

/// Somebody who has to leave before the server stops. Dropped once gone.
#[derive(Debug)]
pub struct Guest(Arc<Shared>);

impl Drain {
    /// Clients leave within `span`.
    pub fn new(shutdown: &Shutdown, span: Duration) -> Self {
        let shared = Shared {
            announced: AtomicBool::new(false),
            span,
            guests: AtomicUsize::new(0),
            expected: AtomicUsize::new(0),
            turns: AtomicUsize::new(0),
            left: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
            begun: shutdown.part(),
        }
    }

    /// The server will end soon: whoever asks is told, nobody is sent away yet.
    pub fn announce(&self) {
        self.shared.announced.store(true, Ordering::Release);
    }

    /// Whether the end is near.
    pub fn is_announced(&self) -> bool {
        self.shared.announced.load(Ordering::Acquire) || self.has_begun()
    }

    /// From now on clients take turns in leaving.
    pub fn begin(&self) {
        self.announce();
        let guests = self.shared.guests.load(Ordering::Acquire);
        self.shared.expected.store(guests, Ordering::Release);
        self.begun.cancel();
    }

    /// Whether clients are leaving. Costs no lock.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Resolves when clients begin to leave.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// How long it takes until the last turn has come.
    pub fn span(&self) -> Duration {
        self.shared.span
    }

    /// Somebody has come.
    pub fn enter(&self) -> Guest {
        self.shared.guests.fetch_add(1, Ordering::AcqRel);
        Guest(Arc::clone(&self.shared))
    }

    /// When it is somebody's turn to leave. To be asked once by each guest, when clients begin to leave.
    pub fn turn(&self) -> Instant {
        let turn = self.shared.turns.fetch_add(1, Ordering::AcqRel);
        let expected = self.shared.expected.load(Ordering::Acquire);
        Instant::now() + pace(turn, expected, self.shared.span)
    }

    /// Resolves once nobody is there.
    pub async fn empty(&self) {
        loop {
            let left = self.shared.left.notified();
            if self.shared.guests.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.0.guests.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.left.notify_waiters();
        }
    }
}

/// How long the guest with this number, of so many, stays. Whoever came too late to be expected goes with the last.
fn pace(turn: usize, expected: usize, span: Duration) -> Duration {
    let share = turn as f64 / expected.max(1) as f64;
    let exact = span.mul_f64(share.min(1.0));
    let steps = exact.as_nanos() / STEP.as_nanos();
    STEP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_even_and_come_in_batches() {
        let span = Duration::from_secs(10);
        let turns: Vec<Duration> = (0..5000).map(|turn| pace(turn, 5000, span)).collect();
        assert!(turns.is_sorted());
        assert_eq!(turns.first(), Some(&Duration::ZERO), "nobody waits for nothing");
        assert!(turns.last().is_some_and(|last| *last < span));
        for batch in turns.chunk_by(|a, b| a == b) {
            assert_eq!(batch.len(), 25, "as many in each step");
        }
        assert_eq!(pace(7000, 5000, span), span, "late comers are last");
        assert_eq!(pace(0, 0, span), Duration::ZERO);
        assert_eq!(pace(3, 5, Duration::ZERO), Duration::ZERO);
    }

    #[tokio::test]
    async fn stages_come_one_after_another() {
        let shutdown = Shutdown::new();
        let drain = Drain::new(&shutdown, Duration::ZERO);
        let guest = drain.enter();
        drain.announce();
        assert!(drain.is_announced() && !drain.has_begun());
        drain.begin();
        drain.begun().await;
        assert!(!shutdown.is_cancelled(), "only the clients");
        let empty = tokio::spawn({
            let drain = drain.clone();
            async move { drain.empty().await }
        });
        drop(guest);
        empty.await.unwrap();
    }

    #[tokio::test]
    async fn an_end_without_stages_is_an_end() {
        let shutdown = Shutdown::new();
        let drain = Drain::new(&shutdown, Duration::ZERO);
        shutdown.cancel();
        drain.begun().await;
        assert!(drain.is_announced() && drain.has_begun());
    }
}
