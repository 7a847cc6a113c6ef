//! Policy files: `CREATE POLICY` statements in a directory, which narrow what subscriptions may see, and the cases that
//! say what they should do.
//!
//! Text in, plain values out. What an expression means is for Postgres to say; where it is used is not known here.

mod cases;
mod directory;
mod parse;
mod watch;

use std::fmt;
use std::sync::Arc;

pub use cases::{Case, CaseFile, read_cases};
pub use directory::{Directory, Texts};
pub use parse::{parse, table_name};
pub use watch::Watcher;

use crate::postgres::catalog::{self, FileProblem};

/// A policy and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePolicy {
    /// What its file says. No other one has this name on this table; the expression is as it is written, without the
    /// parentheses around it; the role `public` is everybody.
    pub policy: catalog::FilePolicy,
    /// Where it is.
    pub place: Place,
    /// Where its expression begins.
    pub expression: Place,
}

impl FilePolicy {
    /// What Postgres says of it, at the line that it means.
    pub fn problem(&self, problem: &FileProblem) -> Problem {
        let place = match problem {
            FileProblem::Refused {
                position: Some(position),
                ..
            } => {
                let before = self.policy.using.chars().take(position.saturating_sub(1));
                let lines = before.filter(|c| *c == '\n').count();
                Place::new(&self.expression.file, self.expression.line + lines)
            }
            _ => self.place.clone(),
        };
        place.problem(format!("policy {}: {problem}", self.policy.name))
    }
}

/// Where something is in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, by the path of the directory that was given.
    pub file: Arc<str>,
    /// Line, from 1; 0 is the file as a whole.
    pub line: usize,
}

/// Something that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong, and what to write instead where that is short.
    pub what: String,
}

impl Place {
    /// A line of a file.
    pub fn new(file: &Arc<str>, line: usize) -> Self {
        Self {
            file: Arc::clone(file),
            line,
        }
    }

    /// That this is wrong there.
    pub fn problem(&self, what: impl Into<String>) -> Problem {
        Problem {
            place: self.clone(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}
