//! The engine with nothing but the judge that asks Postgres.

use std::sync::Arc;
use std::time::Duration;

use rowcast::change::{Lsn, Transaction};
use rowcast::policy::{Engine, Judge, Question, Settings, Verdict};
use rowcast::postgres::{Pool, PoolOptions, Session};
use rowcast::telemetry::Metrics;

use super::rig::{Known, Rig};
use super::subject::Answer;

pub fn engine(rig: &Rig) -> Engine {
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
        relation_rows: 100_000,
        relation_rows_total: 1_000_000,
    };
    let metrics = Metrics::new();
    Engine::new(Judge::new(pool, settings, Arc::clone(&metrics)), metrics)
}

/// Answers by reader and row. A faulty one takes everybody without an email for somebody else.
pub async fn answers(engine: &Engine, known: &Known<'_>, faulty: bool) -> Vec<Vec<Answer>> {
    let transaction = Transaction {
        xid: 3,
        commit_lsn: Lsn(0),
        end_lsn: Lsn(0),
        commit_micros: 0,
    };
    let stranger = known.loaded.claims.first().expect("somebody");
    let mut questions = Vec::new();
    for claims in &known.loaded.claims {
        let access = &known.loaded.access[&*claims.role].tables[&known.table.oid];
        let other = faulty && !claims.json.contains("\"email\"");
        for row in &known.rows {
            questions.push(Question {
                claims: if other { stranger } else { claims },
                access,
                table: known.table,
                row,
                transaction: Some(&transaction),
                residual: Vec::new(),
            });
        }
    }
    let verdicts = engine.decide(&questions, &known.loaded.catalog.types).await;
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
