//! One call of the judge about several rights.

use std::sync::Arc;
use std::time::Duration;

use super::groups::{GroupId, Open, Step};
use super::said::Said;
use super::{AuthorityError, probe};
use crate::change::Row;
use crate::policy::{Engine, Question, Rights};
use crate::postgres::catalog::Types;

/// What Postgres says.
#[derive(Debug)]
pub(super) struct Round {
    /// When it was asked.
    pub(super) step: Step,
    pub(super) said: Vec<(GroupId, Rights, Said)>,
}

/// The longest time it may take, whatever the judge's own limit is.
const MOST: Duration = Duration::from_secs(6);

/// Asks at `now` (microseconds since 2000-01-01 UTC). What the policies read beside the row is read as it is: nobody wrote
/// these rows.
pub(super) async fn ask(
    engine: Engine,
    open: Vec<Open>,
    types: Arc<Types>,
    (step, now): (Step, i64),
) -> Round {
    let rows: Vec<Row> = open
        .iter()
        .map(|open| probe::row(&open.table, &open.topic, open.right, now))
        .collect();
    let questions: Vec<Question<'_>> = open
        .iter()
        .zip(&rows)
        .map(|(open, row)| Question {
            claims: &open.class.claims,
            access: &open.class.rule.access,
            table: &open.table,
            row,
            transaction: None,
            residual: Vec::new(),
        })
        .collect();
    // All at once, and after a timeout one by one. The judge waits for a database that is away; nobody does here.
    let limit = (engine.timeout() * 3).min(MOST);
    let verdicts = tokio::time::timeout(limit, Box::pin(engine.consult(&questions, &types))).await;
    let nothing = || Said::Failed(AuthorityError::Unavailable("no answer".to_owned()));
    let mut verdicts = verdicts.unwrap_or_default().into_iter();
    let said = open
        .iter()
        .map(|open| {
            let said = verdicts.next().map(|verdict| Said::of(verdict, &open.class));
            (open.group, open.right, said.unwrap_or_else(nothing))
        })
        .collect();
    Round { step, said }
}
