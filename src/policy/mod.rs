//! May they see this row? The one place where that is decided.
//!
//! [`Engine::decide`] is the seam: questions in, verdicts out, whatever decides them. What needs no thought (no
//! row-level security, no policy at all) is decided here; the rest goes to the Postgres judge, in one round trip.
//! Fail closed: whatever cannot be decided is not an allow.

mod caller;
mod class;
mod generated;
mod identity;
mod judge;
pub mod listing;
mod plan;
mod program;
mod question;
mod rehearsal;
mod relation;
mod relations;
mod rights;
mod rules;
mod shadow;
mod trace;

pub use class::{Class, ClassKey, Decision};
pub use generated::VirtualColumns;
pub use identity::assume;
pub use judge::{Judge, Settings};
pub use program::{Bound, Explained, Judged, Program, Source};
pub use question::{Failure, Question, Verdict};
pub use rehearsal::{Compiled, Rehearsal, RehearsalError, Unsaid};
pub use relation::{ParamKey, Probe, RelationQuery, RelationRequest};
pub use relations::{Clock, Moment, RelationId, RelationReader, Relations};
pub use rights::Rights;
pub use rules::{Rule, Rules, Side};
pub use shadow::{Comparison, Shadow, compare};
pub use trace::Step;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::postgres::catalog::Types;
use crate::telemetry::Metrics;

/// Decides questions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    judge: Judge,
    metrics: Arc<Metrics>,
    shadow: Option<Shadow>,
}

impl Engine {
    /// An engine that asks Postgres through `judge`.
    pub fn new(judge: Judge, metrics: Arc<Metrics>) -> Self {
        Self {
            judge,
            metrics,
            shadow: None,
        }
    }

    /// With verdicts from memory checked by `shadow`.
    #[must_use]
    pub fn shadowed(self, shadow: Shadow) -> Self {
        Self {
            shadow: Some(shadow),
            ..self
        }
    }

    /// What checks verdicts from memory, if anything does.
    pub fn shadow(&self) -> Option<&Shadow> {
        self.shadow.as_ref()
    }

    /// What reads relations on the judge's connections.
    pub fn relation_reader(&self) -> RelationReader {
        let judge = &self.judge;
        RelationReader::new(
            Arc::clone(&judge.caller),
            judge.settings,
            Arc::clone(&self.metrics),
        )
    }

    /// A store of relations with nothing in it, within the bounds of the settings.
    pub fn relations(&self) -> Relations {
        let settings = &self.judge.settings;
        let bounds = relations::Bounds {
            rows: settings.relation_rows_total,
            pause: settings.quarantine,
        };
        Relations::new(bounds, Arc::clone(&self.metrics))
    }

    /// Longest time of one round trip to Postgres.
    pub fn timeout(&self) -> Duration {
        self.judge.settings.timeout
    }

    /// As [`Engine::decide`], about rows that nobody wrote: they are not among the verdicts that are counted.
    pub async fn consult(&self, questions: &[Question<'_>], types: &Types) -> Vec<Verdict> {
        judge::decide(&self.judge, questions, types).await
    }

    /// One verdict per question, in order. Never fails as a whole.
    pub async fn decide(&self, questions: &[Question<'_>], types: &Types) -> Vec<Verdict> {
        let verdicts = judge::decide(&self.judge, questions, types).await;
        self.count(&verdicts);
        verdicts
    }

    /// Counts verdicts. Adds up first: the counters are behind a lock, and a batch has thousands of verdicts.
    pub fn count(&self, verdicts: &[Verdict]) {
        let mut counts = BTreeMap::new();
        for verdict in verdicts {
            *counts.entry(verdict.label()).or_insert(0) += 1;
        }
        for (outcome, count) in counts {
            self.metrics
                .verdicts
                .get_or_create(&[("outcome", outcome)])
                .inc_by(count);
        }
    }
}
