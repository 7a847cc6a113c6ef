//! A second opinion: what Postgres would have said where memory has answered.

use std::time::Duration;

use super::judge::{self, Judge};
use super::question::{Failure, Question, Verdict};
use super::relations::Moment;
use crate::change::Lsn;
use crate::postgres::catalog::Types;

/// Asks Postgres beside the stream. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shadow {
    share: f64,
    judge: Judge,
}

/// How two verdicts on one row compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Both show the row, or neither does.
    Agree,
    /// One shows the row and the other does not.
    Differ,
    /// Postgres was not able to judge this row: nothing follows.
    Unjudged,
    /// Postgres was not to be had.
    Failed,
}

/// `insufficient_privilege`. The judge may meet it where the policy itself would not (sql/rowcast/evaluate.sql).
const REFUSED: &str = "42501";

/// Compares the verdict from memory with that of Postgres.
pub fn compare(memory: &Verdict, postgres: &Verdict) -> Comparison {
    let shows = |verdict: &Verdict| *verdict == Verdict::Allow;
    match postgres {
        Verdict::Failed(Failure::Timeout | Failure::Unavailable(_)) => Comparison::Failed,
        // The judge wants every column that a policy names, memory only those that matter.
        Verdict::Failed(Failure::MissingColumn(_)) => Comparison::Unjudged,
        Verdict::Failed(Failure::Raised(code)) if Failure::is_of_the_moment(code) => Comparison::Failed,
        _ if shows(memory) == shows(postgres) => Comparison::Agree,
        Verdict::Failed(Failure::Raised(code)) if code == REFUSED => Comparison::Unjudged,
        _ => Comparison::Differ,
    }
}

impl Shadow {
    /// Has `judge` asked about this share (0 to 1) of the verdicts. It needs connections and metrics of its own: those
    /// of the judge that changes wait for say how that one does.
    pub fn new(share: f64, judge: Judge) -> Self {
        Self { share, judge }
    }

    /// Of all verdicts, from 0 to 1.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// The longest time one round trip may take.
    pub fn timeout(&self) -> Duration {
        self.judge.settings.timeout
    }

    /// One verdict per question, in order.
    pub async fn ask(&self, questions: &[Question<'_>], types: &Types) -> Vec<Verdict> {
        judge::decide(&self.judge, questions, types).await
    }

    /// Whether everything that the stream had brought by then can be seen by those who ask now; false as well if that
    /// cannot be told.
    pub async fn sees(&self, moment: &Moment) -> bool {
        self.judge.caller.ended(moment.writers()).await == Some(true)
    }

    /// A position behind every commit that anybody has been able to see so far; `None` if it cannot be had.
    ///
    /// That is where records are inserted: a commit that waits for no flush is seen before it is flushed. A standby does
    /// not know.
    pub async fn position(&self) -> Option<Lsn> {
        let query = "select case when not pg_catalog.pg_is_in_recovery() \
                     then pg_catalog.pg_current_wal_insert_lsn()::text end";
        let rows = self.judge.caller.query(query, &[], self.timeout()).await.ok()?;
        rows.first()?.get::<_, Option<String>>(0)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(code: &str) -> Verdict {
        Verdict::Failed(Failure::Raised(code.to_owned()))
    }

    #[test]
    fn to_raise_is_not_to_show() {
        let same = [
            (Verdict::Allow, Verdict::Allow),
            (Verdict::Deny, Verdict::Deny),
            (Verdict::Deny, raised("22012")),
            (raised("22012"), Verdict::Deny),
            (raised("22012"), raised("22003")),
            (raised("42501"), raised("42501")),
        ];
        for (memory, postgres) in same {
            assert_eq!(
                compare(&memory, &postgres),
                Comparison::Agree,
                "{memory:?} {postgres:?}"
            );
        }
        let different = [
            (Verdict::Allow, Verdict::Deny),
            (Verdict::Deny, Verdict::Allow),
            (Verdict::Allow, raised("22012")),
            (raised("22012"), Verdict::Allow),
        ];
        for (memory, postgres) in different {
            assert_eq!(
                compare(&memory, &postgres),
                Comparison::Differ,
                "{memory:?} {postgres:?}"
            );
        }
    }

    #[test]
    fn what_postgres_could_not_judge_proves_nothing() {
        let missing = Verdict::Failed(Failure::MissingColumn("a".to_owned()));
        for memory in [Verdict::Allow, Verdict::Deny, raised("22012")] {
            assert_eq!(compare(&memory, &missing), Comparison::Unjudged);
            for failed in [
                Verdict::Failed(Failure::Timeout),
                Verdict::Failed(Failure::Unavailable("gone".to_owned())),
                raised("40P01"),
                raised("XX000"),
            ] {
                assert_eq!(compare(&memory, &failed), Comparison::Failed, "{failed:?}");
            }
        }
        assert_eq!(compare(&Verdict::Allow, &raised("42501")), Comparison::Unjudged);
    }
}
