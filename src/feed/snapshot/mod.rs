//! The rows first, then what changes: snapshots for those who ask for them.
//!
//! A snapshot is read in one repeatable-read transaction as the user, and its rows go out as INSERTs. What it sees is told by
//! transactions, not by positions in the WAL (a commit can be written before a snapshot that does not see it): the pump then
//! delivers from the replay window what it does not see, and nothing that it does.
//!
//! Those who ask for the same rows while they wait for their turn share one reading, and its frames. Few are read at a time, on
//! connections of their own.

mod feed;
mod files;
mod plan;
mod reading;
mod seat;
mod transaction;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use tokio::sync::{Semaphore, oneshot};

pub use feed::{Rows, RowsError};
pub(super) use plan::Plan;
pub(super) use seat::{End, Out, Seat, Ticket};

use super::place::Place;
use super::{SubscribeError, stopping};
use crate::change::Since;
use crate::policy::Engine;
use crate::postgres::Pool;
use crate::protocol::SnapshotReply;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;
use plan::Key;
use reading::{Reading, Turn};

/// How much may be read for snapshots.
#[derive(Clone, Debug)]
pub struct Settings {
    /// At once.
    pub parallel: usize,
    /// For one.
    pub timeout: Duration,
    /// Most rows of one; 0 for no limit.
    pub rows: usize,
    /// As [`super::Settings::max_record_bytes`].
    pub record_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            parallel: 2,
            timeout: Duration::from_secs(60),
            rows: 1_000_000,
            record_bytes: 1 << 20,
        }
    }
}

/// The part that a snapshot has in a subscription.
#[derive(Debug)]
pub enum Step {
    /// Take it and send its rows. The outcome is [`super::Subscribed::Sending`], as soon as the reply is out.
    Take {
        /// What the reply is then, if it is still held.
        reply: SnapshotReply,
        /// Rows have come before, which do not count any more for this reason.
        again: Option<String>,
    },
    /// Its rows are being sent; live once they and what has changed since have been.
    Finish(Sending),
}

/// A snapshot whose rows are on their way to a subscriber. Dropping it stops them.
#[derive(Debug)]
pub struct Sending {
    since: Since,
    done: oneshot::Receiver<End>,
}

#[cfg(test)]
impl Sending {
    /// One that nothing comes of.
    pub(crate) fn nothing() -> Self {
        let cursor = crate::change::Cursor {
            epoch: crate::change::Epoch::default(),
            position: crate::change::Position::default(),
        };
        Self {
            since: cursor.into(),
            done: oneshot::channel().1,
        }
    }
}

/// Those who wait for snapshots, and those who read them. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Snapshots(Arc<Shared>);

struct Shared {
    settings: Settings,
    /// Connections for the transactions.
    pool: Pool,
    /// For values that only Postgres can render.
    catalog_pool: Pool,
    engine: Engine,
    place: Place,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    turns: Semaphore,
    /// Places for those who read too slowly to keep their turn.
    slow: Semaphore,
    waiting: Mutex<HashMap<Key, Group>>,
    apart: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Those who will get the same rows.
#[derive(Debug)]
struct Group {
    plan: Plan,
    seats: Vec<Seat>,
}

/// What snapshots are made with.
pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) pool: Pool,
    pub(super) catalog_pool: Pool,
    pub(super) engine: Engine,
    pub(super) place: Place,
    pub(super) metrics: Arc<Metrics>,
}

/// Most who may wait.
const MOST_WAITING: usize = 4096;

/// Between two looks whether the stream has begun.
const LOOK: Duration = Duration::from_millis(20);

const TOO_SLOW: &str = "the snapshot took longer than snapshot.timeout";

impl Snapshots {
    pub(super) fn new(parts: Parts, shutdown: &Shutdown) -> Self {
        let Parts {
            settings,
            pool,
            catalog_pool,
            engine,
            place,
            metrics,
        } = parts;
        Self(Arc::new(Shared {
            turns: Semaphore::new(settings.parallel.max(1)),
            slow: Semaphore::new(settings.parallel.max(1)),
            settings,
            pool,
            catalog_pool,
            engine,
            place,
            metrics,
            shutdown: shutdown.clone(),
            waiting: Mutex::default(),
            apart: AtomicU64::new(0),
        }))
    }

    /// Puts somebody among those who wait for the rows of a plan; `alone` if nobody else may have to wait for it.
    fn join(&self, plan: Plan, seat: Seat, alone: bool) -> Result<(), SubscribeError> {
        let shared = &self.0;
        let apart = alone.then(|| shared.apart.fetch_add(1, Ordering::Relaxed));
        let key = plan.key(apart);
        let mut waiting = shared.waiting();
        let counted = &shared.metrics.snapshots_waiting;
        if waiting.values().map(|group| group.seats.len()).sum::<usize>() >= MOST_WAITING {
            return Err(SubscribeError::Unavailable(
                "too many snapshots are waited for".to_owned(),
            ));
        }
        match waiting.entry(key.clone()) {
            Entry::Occupied(mut group) => group.get_mut().seats.push(seat),
            Entry::Vacant(place) => {
                let seats = vec![seat];
                place.insert(Group { plan, seats });
                let shared = Arc::clone(shared);
                self.0.shutdown.spawn("snapshot", async move {
                    tokio::select! {
                        () = shared.serve(&key) => {}
                        () = shared.shutdown.cancelled() => {}
                    }
                    // Whoever still waits learns that nobody is there any more.
                });
            }
        }
        counted.inc();
        Ok(())
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Key, Group>> {
        // Consistent after every statement.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, then serves everybody who has come meanwhile.
    async fn serve(&self, key: &Key) {
        while self.place.get().is_none() {
            tokio::time::sleep(LOOK).await;
        }
        let Ok(turn) = self.turns.acquire().await else {
            return;
        };
        let Some(Group { plan, mut seats }) = self.waiting().remove(key) else {
            return;
        };
        let came = i64::try_from(seats.len()).unwrap_or_default();
        self.metrics.snapshots_waiting.dec_by(came);
        seats.retain(|seat| !seat.is_empty());
        if seats.is_empty() {
            return;
        }
        let sharers = seats.len() as u64 - 1;
        self.count("shared", sharers);
        let started = Instant::now();
        let mut reading = Reading {
            shared: self,
            plan: &plan,
            seats,
            rows: 0,
            turn: Turn::Own(turn),
            started,
            idle: Duration::ZERO,
        };
        let outcome = self.read(&mut reading).await;
        self.metrics
            .snapshot_seconds
            .observe(started.elapsed().as_secs_f64());
        let Reading { seats, rows, .. } = reading;
        match outcome {
            Ok(()) => {
                self.count("read", 1);
                for seat in seats {
                    seat.complete(rows);
                }
            }
            Err(error) => {
                let refused = matches!(error, SubscribeError::Refused(_));
                self.count(if refused { "refused" } else { "failed" }, 1);
                for seat in seats {
                    seat.fail(&error);
                }
            }
        }
    }

    async fn read(&self, reading: &mut Reading<'_>) -> Result<(), SubscribeError> {
        let client = self.pool.get().await;
        let mut client = client.map_err(|e| SubscribeError::Unavailable(e.chain()))?;
        let limit = self.settings.timeout;
        let outcome = tokio::time::timeout(limit, Box::pin(reading.run(&mut client))).await;
        match outcome {
            Ok(Ok(())) if !reading.seats.is_empty() => return Ok(()),
            // Whatever it is in the middle of: nobody shall have to wait for it, nor the database for us.
            _ => drop(Object::take(client)),
        }
        outcome.unwrap_or_else(|_| Err(SubscribeError::Refused(TOO_SLOW.to_owned())))
    }

    fn count(&self, outcome: &'static str, number: u64) {
        let snapshots = &self.metrics.snapshots;
        snapshots.get_or_create(&[("outcome", outcome)]).inc_by(number);
    }
}

/// A snapshot that ended without an outcome: its task is gone.
fn gone() -> SubscribeError {
    stopping()
}
