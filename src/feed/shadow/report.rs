//! What is said of the checks: counts, and an error in the log for a row that memory and Postgres do not agree about.

use std::fmt;
use std::time::{Duration, Instant};

use super::Sample;
use crate::change::Value;
use crate::policy::{ParamKey, Verdict};
use crate::telemetry::Metrics;

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Memory and Postgres say the same.
    Agree,
    /// They do not.
    Disagree,
    /// They were not asked the same, or that cannot be told.
    Inconclusive,
    /// It was not made: too many wait.
    Dropped,
    /// Postgres was not to be had.
    Failed,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Agree => "agree",
            Self::Disagree => "disagree",
            Self::Inconclusive => "inconclusive",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

/// Counts checks.
pub(super) fn count(metrics: &Metrics, outcome: Outcome, checks: usize) {
    if checks > 0 {
        let checks = u64::try_from(checks).unwrap_or(u64::MAX);
        let counter = metrics
            .shadow_checks
            .get_or_create(&[("outcome", outcome.label())]);
        counter.inc_by(checks);
    }
}

/// Disagreements that are logged within an interval; more are only counted.
const MOST: u32 = 10;
const INTERVAL: Duration = Duration::from_secs(60);

/// Logs disagreements, not more than anybody reads.
#[derive(Debug, Default)]
pub(super) struct Reports {
    since: Option<Instant>,
    said: u32,
    left_out: u64,
}

impl Reports {
    /// Says that Postgres says something else than memory did.
    pub(super) fn disagreement(&mut self, sample: &Sample, postgres: &Verdict) {
        if self.since.is_none_or(|since| since.elapsed() >= INTERVAL) {
            if self.left_out > 0 {
                tracing::error!(
                    disagreements = self.left_out,
                    "more disagreements were not logged"
                );
            }
            *self = Self {
                since: Some(Instant::now()),
                ..Self::default()
            };
        }
        if self.said >= MOST {
            self.left_out += 1;
            return;
        }
        self.said += 1;
        let rule = &sample.class.rule;
        let policies: Vec<&str> = rule
            .program
            .policies()
            .iter()
            .map(|policy| &*policy.name)
            .collect();
        tracing::error!(
            table = %sample.table.name,
            role = %rule.role,
            ?policies,
            memory = sample.verdict.label(),
            postgres = postgres.label(),
            key = %PrimaryKey(sample),
            "a verdict from memory is not that of Postgres; please report this"
        );
        if tracing::enabled!(tracing::Level::DEBUG) {
            tracing::debug!(claims = ?claims(sample), "what the policies read of the claims, shortened");
        }
    }
}

/// The row's primary key, and nothing else of it.
struct PrimaryKey<'a>(&'a Sample);

impl fmt::Display for PrimaryKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sample { table, row, .. } = self.0;
        for (n, column) in table.primary_key.iter().enumerate() {
            let Some(column) = table.columns.get(*column) else {
                continue;
            };
            let value = match row.get(&column.name) {
                Some(Value::Text(text)) => shortened(text),
                Some(Value::Null) => "NULL",
                Some(Value::Unchanged) | None => "?",
            };
            let separator = if n > 0 { ", " } else { "" };
            write!(f, "{separator}{}={value:?}", column.name)?;
        }
        Ok(())
    }
}

/// What makes the class. Never whole claims, which may hold more than its policies read.
fn claims(sample: &Sample) -> Vec<String> {
    let bound = sample.class.rule.program.bind(&sample.class.claims);
    let key = |key: &ParamKey| match key {
        ParamKey::Null => "NULL".to_owned(),
        ParamKey::Text(text) => shortened(text).to_owned(),
        ParamKey::Stop(_) => "raises".to_owned(),
        ParamKey::Unknown(_) => "not known".to_owned(),
    };
    bound.keys.iter().map(key).collect()
}

/// Enough of a text to find it by.
fn shortened(text: &str) -> &str {
    let end = text.char_indices().nth(SHORT).map_or(text.len(), |(end, _)| end);
    text.get(..end).unwrap_or_default()
}

/// As long as a UUID.
const SHORT: usize = 36;
