//! Puts samples to Postgres, and makes sure of those that it does not agree with.
//!
//! Postgres answers by what its tables and its catalog are today, and the stream may not have brought that yet. So what
//! does not agree is asked once more, after everything that the verdict knew of can be seen; then the stream is waited for
//! until it has brought all that Postgres may have answered by. Only where none of it concerns the verdict, and the
//! catalog is still the one it was decided by, memory and Postgres were asked the same, and do not say the same.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::report::{Outcome, Reports, count};
use super::{Dispute, Sample};
use crate::expression::{Expr, Node};
use crate::feed::keeper::Keeper;
use crate::feed::pump::Command;
use crate::policy::{Comparison, Question, Shadow, Verdict, compare};
use crate::telemetry::Metrics;

/// Samples put to Postgres at once.
const BATCH: usize = 256;

/// How long the stream is waited for. A position that nothing has flushed yet is passed once something does: at the latest
/// when Postgres notes its running transactions, every 15 seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause before it is looked again whether a transaction can be seen.
const RETRY: Duration = Duration::from_millis(20);

/// Checks one batch after another.
pub(super) struct Worker {
    shadow: Shadow,
    keeper: Arc<Keeper>,
    pump: mpsc::UnboundedSender<Command>,
    metrics: Arc<Metrics>,
    reports: Reports,
}

/// A sample that Postgres does not agree with.
type Disagreement = (Sample, Verdict);

impl Worker {
    pub(super) fn new(
        shadow: Shadow,
        keeper: Arc<Keeper>,
        pump: mpsc::UnboundedSender<Command>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            shadow,
            keeper,
            pump,
            metrics,
            reports: Reports::default(),
        }
    }

    pub(super) async fn run(mut self, mut samples: mpsc::Receiver<Sample>) {
        let mut batch = Vec::with_capacity(BATCH);
        while samples.recv_many(&mut batch, BATCH).await > 0 {
            let mut rest = std::mem::take(&mut batch);
            // Those of one catalog together: it says how their values are cast.
            while let Some(generation) = rest.first().map(|sample| sample.generation) {
                let end = rest.iter().position(|sample| sample.generation != generation);
                let later = rest.split_off(end.unwrap_or(rest.len()));
                self.check(std::mem::replace(&mut rest, later)).await;
            }
        }
    }

    async fn check(&mut self, samples: Vec<Sample>) {
        let verdicts = self.verdicts(&samples).await;
        let sorted = sort(samples, verdicts);
        count(&self.metrics, Outcome::Agree, sorted.agreed);
        count(&self.metrics, Outcome::Inconclusive, sorted.inconclusive);
        count(&self.metrics, Outcome::Failed, sorted.failed);
        let doubtful = sorted.disagreeing.len();
        if doubtful == 0 {
            return;
        }
        let proven = self.make_sure(sorted.disagreeing).await.unwrap_or_default();
        count(&self.metrics, Outcome::Inconclusive, doubtful - proven.len());
        count(&self.metrics, Outcome::Disagree, proven.len());
        for (sample, verdict) in &proven {
            self.reports.disagreement(sample, verdict);
        }
    }

    /// A verdict per sample; none where Postgres takes longer than the judge may.
    async fn verdicts(&self, samples: &[Sample]) -> Vec<Option<Verdict>> {
        let Some(first) = samples.first() else {
            return Vec::new();
        };
        let questions: Vec<Question<'_>> = samples.iter().map(Sample::question).collect();
        // All at once, and after a timeout one by one.
        let limit = self.shadow.timeout() * 3;
        let asking = self.shadow.ask(&questions, &first.catalog.types);
        match tokio::time::timeout(limit, Box::pin(asking)).await {
            Ok(verdicts) => verdicts.into_iter().map(Some).collect(),
            Err(_) => samples.iter().map(|_| None).collect(),
        }
    }

    /// Those about which Postgres was asked the same as memory, and says something else. `None` if that cannot be told.
    async fn make_sure(&self, doubtful: Vec<Disagreement>) -> Option<Vec<Disagreement>> {
        let (samples, _): (Vec<Sample>, Vec<Verdict>) = doubtful.into_iter().unzip();
        within(PATIENCE, self.see(&samples)).await?;
        let verdicts = self.verdicts(&samples).await;
        let mut disagreeing = sort(samples, verdicts).disagreeing;
        let asked = Instant::now();
        let target = self.shadow.position().await?;
        // What no message of the stream announces.
        if !self.keeper.refresh_since(asked).await {
            return None;
        }
        let generation = self.keeper.snapshot().generation;
        disagreeing.retain(|(sample, _)| sample.generation == generation);
        let since = disagreeing
            .iter()
            .map(|(sample, _)| (Arc::clone(&sample.moment), sample.reads().collect()))
            .collect();
        if disagreeing.is_empty() {
            return None;
        }
        let (answer, unchanged) = oneshot::channel();
        let dispute = Dispute {
            target,
            since,
            answer,
        };
        self.pump.send(Command::Dispute(dispute)).ok()?;
        let unchanged = within(PATIENCE, unchanged).await?.ok()?;
        let mut unchanged = unchanged.into_iter();
        disagreeing.retain(|_| unchanged.next() == Some(true));
        Some(disagreeing)
    }

    /// Waits until what the verdicts knew of can be seen.
    async fn see(&self, samples: &[Sample]) {
        let mut last: Option<&Arc<_>> = None;
        for sample in samples {
            if last.is_some_and(|last| Arc::ptr_eq(last, &sample.moment)) {
                continue;
            }
            while !self.shadow.sees(&sample.moment).await {
                tokio::time::sleep(RETRY).await;
            }
            last = Some(&sample.moment);
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

/// Samples by what Postgres says of them.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) disagreeing: Vec<Disagreement>,
    pub(super) agreed: usize,
    pub(super) inconclusive: usize,
    pub(super) failed: usize,
}

pub(super) fn sort(samples: Vec<Sample>, verdicts: Vec<Option<Verdict>>) -> Sorted {
    let mut sorted = Sorted::default();
    for (sample, verdict) in samples.into_iter().zip(verdicts) {
        let Some(verdict) = verdict else {
            sorted.failed += 1;
            continue;
        };
        match compare(&sample.verdict, &verdict) {
            Comparison::Agree => sorted.agreed += 1,
            // It is later for Postgres than it was for memory.
            Comparison::Differ if reads_clock(&sample) => sorted.inconclusive += 1,
            Comparison::Differ => sorted.disagreeing.push((sample, verdict)),
            Comparison::Unjudged => sorted.inconclusive += 1,
            Comparison::Failed => sorted.failed += 1,
        }
    }
    sorted
}

fn reads_clock(sample: &Sample) -> bool {
    let now = &mut |part: &Expr| matches!(part.node, Node::Now);
    sample.class.residual.contains(now)
}
