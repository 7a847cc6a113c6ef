//! May they see this row? The one place where that is decided.
//!
//! [`Engine::decide`] is the seam: questions in, verdicts out, whatever decides them. What needs no thought (no
//! row-level security, no policy at all) is decided here; the rest goes to the Postgres judge, in one round trip.
//! Fail closed: whatever cannot be decided is not an allow.

mod caller;
mod class;
mod judge;
pub mod listing;
mod plan;
mod program;
mod question;
mod rehearsal;
mod relation;
mod relations;
mod rules;
mod trace;

pub use class::{Class, ClassKey, Decision};
pub use judge::{Judge, Settings};
pub use program::{Bound, Explained, Judged, Program, Source};
pub use question::{Failure, Question, Verdict};
pub use rehearsal::{Compiled, Rehearsal, RehearsalError, Unsaid};
pub use relation::{ParamKey, Probe, RelationQuery, RelationRequest};
pub use relations::{Clock, Moment, RelationId, RelationReader, Relations};
pub use rules::{Rule, Rules};
pub use trace::Step;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::postgres::catalog::Types;
use crate::telemetry::Metrics;
use plan::Plan;

/// Decides questions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    judge: Judge,
    metrics: Arc<Metrics>,
}

impl Engine {
    /// An engine that asks Postgres through `judge`.
    pub fn new(judge: Judge, metrics: Arc<Metrics>) -> Self {
        Self { judge, metrics }
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

    /// One verdict per question, in order. Never fails as a whole.
    pub async fn decide(&self, questions: &[Question<'_>], types: &Types) -> Vec<Verdict> {
        let mut asked = Vec::new();
        let mut verdicts: Vec<Verdict> = questions
            .iter()
            .enumerate()
            .map(|(i, question)| match plan::plan(question, types) {
                Plan::Decided(verdict) => verdict,
                Plan::Ask(query) => {
                    asked.push((i, query));
                    Verdict::Deny
                }
            })
            .collect();
        if !asked.is_empty() {
            let (places, queries): (Vec<usize>, Vec<_>) = asked.into_iter().unzip();
            let asked: Vec<_> = places
                .iter()
                .filter_map(|i| questions.get(*i))
                .zip(queries)
                .collect();
            for (place, verdict) in places.iter().zip(self.judge.ask(&asked).await) {
                if let Some(slot) = verdicts.get_mut(*place) {
                    *slot = verdict;
                }
            }
        }
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
