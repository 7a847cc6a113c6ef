//! What is held against Postgres.

use std::sync::Arc;
use std::time::Duration;

use rowcast::change::{Lsn, Transaction};
use rowcast::policy::{Engine, Judge, Question, Settings, Verdict};
use rowcast::postgres::{Pool, PoolOptions, Session};
use rowcast::telemetry::Metrics;

use super::rig::{Known, Rig};

/// What one side of the comparison says of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Allow,
    Deny,
    /// Not shown, because of this.
    Failed(String),
    /// Only Postgres can say, because of this.
    #[allow(dead_code, reason = "the judge never answers so")]
    Ask(String),
}

/// What is under test.
pub enum Subject {
    /// The engine with the judge that asks Postgres.
    Judged(Engine),
    /// The same, wrong on purpose: everybody without an email is somebody else.
    Faulty(Engine),
}

impl Subject {
    /// The engine that asks Postgres.
    pub fn judged(rig: &Rig) -> Self {
        Self::Judged(engine(rig))
    }

    /// One that is wrong.
    pub fn faulty(rig: &Rig) -> Self {
        Self::Faulty(engine(rig))
    }

    /// Answers by reader and row.
    pub async fn answers(&self, known: &Known<'_>) -> Vec<Vec<Answer>> {
        match self {
            Self::Judged(engine) => decide(engine, known, false).await,
            Self::Faulty(engine) => decide(engine, known, true).await,
        }
    }
}

fn engine(rig: &Rig) -> Engine {
    let mut session = Session::new("rowcast_judge");
    session.read_only = true;
    session.statement_timeout = Some(Duration::from_secs(30));
    let options = PoolOptions {
        size: 2,
        wait: Duration::from_secs(30),
        session,
    };
    let pool = Pool::new(&rig.database().settings, &options).expect("a pool");
    let settings = Settings {
        timeout: Duration::from_secs(30),
        quarantine: Duration::from_secs(1),
        parallel: 2,
        batch: 10_000,
    };
    let metrics = Metrics::new();
    Engine::new(Judge::new(pool, settings, Arc::clone(&metrics)), metrics)
}

async fn decide(engine: &Engine, known: &Known<'_>, faulty: bool) -> Vec<Vec<Answer>> {
    let transaction = Transaction {
        xid: 3,
        end_lsn: Lsn(0),
        commit_micros: 0,
    };
    let stranger = known.claims.first().expect("somebody");
    let mut questions = Vec::new();
    for claims in known.claims {
        let access = &known.access[&*claims.role].tables[&known.table.oid];
        let other = faulty && !claims.json.contains("\"email\"");
        for row in &known.rows {
            questions.push(Question {
                claims: if other { stranger } else { claims },
                access,
                table: known.table,
                row,
                transaction: &transaction,
                residual: Vec::new(),
            });
        }
    }
    let verdicts = engine.decide(&questions, &known.catalog.types).await;
    let answer = |verdict: &Verdict| match verdict {
        Verdict::Allow => Answer::Allow,
        Verdict::Deny => Answer::Deny,
        Verdict::Failed(failure) => Answer::Failed(failure.to_string()),
    };
    let answers: Vec<Answer> = verdicts.iter().map(answer).collect();
    answers
        .chunks(known.rows.len().max(1))
        .map(<[Answer]>::to_vec)
        .collect()
}
