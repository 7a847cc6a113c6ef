//! What is held against Postgres.

use rowcast::policy::Engine;

use super::compiled::Compiled;
use super::judged;
use super::rig::{Known, Rig};

/// What one side of the comparison says of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Allow,
    Deny,
    /// Not shown, because of this.
    Failed(String),
    /// Only Postgres can say, because of this.
    Ask(String),
}

/// What is under test.
pub enum Subject {
    /// Policies compiled and evaluated in memory.
    Compiled(Compiled),
    /// The judge that asks Postgres.
    Judged(Engine),
    /// The same, wrong on purpose: everybody without an email is somebody else.
    Faulty(Engine),
}

impl Subject {
    /// Policies in memory.
    pub async fn compiled(rig: &Rig) -> Self {
        Self::Compiled(Compiled::new(rig).await)
    }

    /// The judge.
    pub fn judged(rig: &Rig) -> Self {
        Self::Judged(judged::engine(rig))
    }

    /// One that is wrong.
    pub fn faulty(rig: &Rig) -> Self {
        Self::Faulty(judged::engine(rig))
    }

    /// Answers by reader and row.
    pub async fn answers(&self, known: &Known<'_>) -> Vec<Vec<Answer>> {
        match self {
            Self::Compiled(compiled) => compiled.answers(known).await,
            Self::Judged(engine) => judged::answers(engine, known, false).await,
            Self::Faulty(engine) => judged::answers(engine, known, true).await,
        }
    }
}
