//! The shadow: a share of the verdicts decided in memory is put to Postgres as well, behind their delivery. Nothing waits
//! for it, and nothing that it finds changes what was delivered: it says whether memory and Postgres agree.

mod report;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::keeper::{Keeper, Snapshot};
use super::pump::Command;
use crate::auth::Claims;
use crate::change::{Change, Lsn, Row, Transaction};
use crate::policy::{Class, Clock, Failure, Moment, Question, Relations, Shadow, Verdict};
use crate::postgres::catalog::{Catalog, Table};
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;
use worker::Worker;

/// A verdict from memory and all that it was about.
#[derive(Debug)]
struct Sample {
    class: Arc<Class>,
    table: Arc<Table>,
    row: Row,
    transaction: Transaction,
    verdict: Verdict,
    catalog: Arc<Catalog>,
    generation: u64,
    /// The place in the stream that it was decided at.
    moment: Arc<Moment>,
    /// Given back with the sample.
    _room: OwnedSemaphorePermit,
}

impl Sample {
    fn question(&self) -> Question<'_> {
        let claims: &Arc<Claims> = &self.class.claims;
        Question {
            claims,
            access: &self.class.rule.access,
            table: &self.table,
            row: &self.row,
            transaction: Some(&self.transaction),
            residual: Vec::new(),
        }
    }

    /// Every table beside its own that its policies read, as far as they are decided in memory.
    fn reads(&self) -> impl Iterator<Item = u32> {
        let relations = self.class.rule.program.relations().iter();
        relations.flat_map(|query| {
            query
                .reads
                .iter()
                .chain(query.probe.iter().map(|probe| &probe.table))
                .copied()
        })
    }
}

/// What has changed since verdicts, up to a position? The pump knows once the stream has passed that.
#[derive(Debug)]
pub(super) struct Dispute {
    pub(super) target: Lsn,
    /// When something was decided, and by which tables.
    since: Vec<(Arc<Moment>, Vec<u32>)>,
    /// For each of them whether nothing has changed.
    answer: oneshot::Sender<Vec<bool>>,
}

impl Dispute {
    pub(super) fn settle(self, relations: &Relations) {
        let unchanged =
            |(moment, tables): &(Arc<Moment>, Vec<u32>)| relations.unchanged(moment, tables.iter());
        // Whoever asked may have given up.
        let _ = self.answer.send(self.since.iter().map(unchanged).collect());
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.answer.is_closed()
    }
}

/// Samples that may wait, and bytes of their rows' text together.
const QUEUE: usize = 1024;
const QUEUED_BYTES: usize = 8 * 1024 * 1024;

/// Chooses which verdicts are checked.
#[derive(Debug)]
pub(super) struct Sampling {
    /// Those of which the hash is no larger.
    threshold: u64,
    hasher: RandomState,
    queue: mpsc::Sender<Sample>,
    room: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Sampling {
    /// Starts what checks them.
    pub(super) fn start(
        (shadow, keeper, pump): (Shadow, Arc<Keeper>, mpsc::UnboundedSender<Command>),
        metrics: &Arc<Metrics>,
        shutdown: &Shutdown,
    ) -> Self {
        let (queue, samples) = mpsc::channel(QUEUE);
        let sampling = Self::new(shadow.share(), queue, metrics);
        let worker = Worker::new(shadow, keeper, pump, Arc::clone(metrics));
        let stopping = shutdown.clone();
        shutdown.spawn("shadow", async move {
            tokio::select! {
                () = worker.run(samples) => {}
                () = stopping.cancelled() => {}
            }
        });
        sampling
    }

    fn new(share: f64, queue: mpsc::Sender<Sample>, metrics: &Arc<Metrics>) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share, and the cast saturates"
        )]
        let threshold = (share * u64::MAX as f64) as u64;
        Self {
            threshold,
            hasher: RandomState::new(),
            queue,
            room: Arc::new(Semaphore::new(QUEUED_BYTES)),
            metrics: Arc::clone(metrics),
        }
    }

    /// Takes samples of what is judged by this snapshot, at this place of the stream.
    pub(super) fn sampler<'a>(&'a self, snapshot: &'a Snapshot, clock: Clock) -> Sampler<'a> {
        Sampler {
            sampling: self,
            snapshot,
            clock,
            moment: None,
            taken: HashSet::new(),
        }
    }
}

/// Takes samples at one place of the stream.
#[derive(Debug)]
pub(super) struct Sampler<'a> {
    sampling: &'a Sampling,
    snapshot: &'a Snapshot,
    clock: Clock,
    moment: Option<Arc<Moment>>,
    /// Class and row, by address: filters may have a class judge the same row more than once.
    taken: HashSet<(usize, usize)>,
}

impl Sampler<'_> {
    /// Takes a verdict if it is among the share. Never waits.
    pub(super) fn take(
        &mut self,
        class: &Arc<Class>,
        verdict: &Verdict,
        row: &Row,
        (table, change, transaction): (&Arc<Table>, &Change, &Transaction),
    ) {
        let judged = match verdict {
            Verdict::Allow | Verdict::Deny | Verdict::Failed(Failure::Raised(_)) => {
                class.is_restricted(table)
            }
            Verdict::Failed(_) => false,
        };
        let of_class = Arc::as_ptr(class).addr();
        let chosen = || {
            let hash = (change.lsn, std::ptr::from_ref(change).addr(), of_class);
            self.sampling.hasher.hash_one(hash) <= self.sampling.threshold
        };
        if !judged || !chosen() || !self.taken.insert((of_class, std::ptr::from_ref(row).addr())) {
            return;
        }
        let moment = self.moment.get_or_insert_with(|| Arc::new(self.clock.now()));
        let moment = Arc::clone(moment);
        let bytes = u32::try_from(row.text_bytes()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.sampling.room).try_acquire_many_owned(bytes);
        let queued = room.is_ok_and(|room| {
            let sample = Sample {
                class: Arc::clone(class),
                table: Arc::clone(table),
                row: row.clone(),
                transaction: transaction.clone(),
                verdict: verdict.clone(),
                catalog: Arc::clone(&self.snapshot.catalog),
                generation: self.snapshot.generation,
                moment,
                _room: room,
            };
            self.sampling.queue.try_send(sample).is_ok()
        });
        if !queued {
            report::count(&self.sampling.metrics, report::Outcome::Dropped, 1);
        }
    }
}
