use std::sync::Arc;

use crate::auth::Claims;
use crate::change::{Row, Transaction};
use crate::postgres::catalog::{Access, Table};
use crate::predicate::Condition;

/// May subscribers with these claims see this row version, and does it pass what is left of their filter?
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub claims: &'a Arc<Claims>,
    /// What their role may read of the table.
    pub access: &'a Access,
    /// The table.
    pub table: &'a Table,
    /// The row version from the WAL: the one that will be sent.
    pub row: &'a Row,
    /// The transaction that wrote it: what a policy reads beside the row is read after it. `None` for a row that nobody
    /// wrote.
    pub transaction: Option<&'a Transaction>,
    /// Filter conditions that only Postgres can evaluate.
    pub residual: Vec<&'a Condition>,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// It could not be decided: not shown, and the subscriber is told why.
    Failed(Failure),
}

impl Verdict {
    /// Metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Failed(_) => "failed",
        }
    }
}

/// Why a row could not be judged. `Display` is for the log and carries no row value and no claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The policy or the filter raised.
    #[error("the policy or the filter raised SQLSTATE {0}")]
    Raised(String),
    /// A policy reads a column that the WAL does not carry for this row.
    #[error("a policy reads column {0:?}, which this change does not carry (unchanged TOAST value)")]
    MissingColumn(String),
    /// Postgres took too long.
    #[error("the policy was not evaluated within the time limit")]
    Timeout,
    /// Postgres could not be asked.
    #[error("the database could not be asked: {0}")]
    Unavailable(String),
}

/// Classes of SQLSTATE that say something about the moment, not about the row: lost connections, deadlocks, resources,
/// limits, locks, operators, the system, and errors inside Postgres (manual, "PostgreSQL Error Codes").
const OF_THE_MOMENT: [&str; 8] = ["08", "40", "53", "54", "55", "57", "58", "XX"];

impl Failure {
    /// Whether an SQLSTATE says nothing about what was judged.
    pub fn is_of_the_moment(code: &str) -> bool {
        OF_THE_MOMENT.iter().any(|class| code.starts_with(class))
    }
}
