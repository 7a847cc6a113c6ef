//! One call of `rowcast.judge`: what goes into it, and what its answer means.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::types::{Json, ToSql};

use super::{Answers, Batch, Item, Judge};
use crate::change::{Row, Value};
use crate::policy::caller::CallError;
use crate::policy::identity::Identity;
use crate::policy::question::{Failure, Verdict};
use crate::postgres::jsonb::write_string;

/// An item as `rowcast.judge` takes it.
#[derive(Debug, Serialize)]
struct Asked<'a> {
    q: usize,
    #[serde(flatten)]
    identity: Identity<'a>,
    values: Vec<Option<&'a str>>,
    rows: Vec<usize>,
}

impl Judge {
    /// One round trip: answers in the order of `items`.
    pub(super) async fn call(
        &self,
        items: &[&Item<'_>],
        batch: &Batch,
        limit: Duration,
    ) -> Result<Vec<Answers>, CallError> {
        self.metrics.judge_calls.inc();
        let started = Instant::now();
        let result = self.query(items, batch, limit).await;
        self.metrics
            .judge_seconds
            .observe(started.elapsed().as_secs_f64());
        let mut answers: Vec<Answers> = items.iter().map(|_| Answers::new()).collect();
        for row in result? {
            let index = usize::try_from(row.get::<_, i32>("item")).unwrap_or(usize::MAX);
            let (Some(item), Some(answers)) = (items.get(index), answers.get_mut(index)) else {
                continue;
            };
            *answers = item.rows.iter().map(|row| (*row, Verdict::Deny)).collect();
            let state: Option<String> = row.get("state");
            let failure = Failure::Raised(state.unwrap_or_else(|| "XX000".to_owned()));
            let numbers = |column| {
                row.get::<_, Vec<i32>>(column)
                    .into_iter()
                    .filter_map(|n| usize::try_from(n - 1).ok())
            };
            answers.extend(numbers("allowed").map(|n| (n, Verdict::Allow)));
            answers.extend(numbers("failed").map(|n| (n, Verdict::Failed(failure.clone()))));
        }
        Ok(answers)
    }

    async fn query(
        &self,
        items: &[&Item<'_>],
        batch: &Batch,
        limit: Duration,
    ) -> Result<Vec<tokio_postgres::Row>, CallError> {
        let (queries, asked) = parameters(items);
        let rows: Vec<Json<&RawValue>> = batch.rows.iter().map(|row| Json(&**row)).collect();
        let parameters: [&(dyn ToSql + Sync); 4] = [&queries, &Json(&asked), &rows, &batch.writers];
        let sql = "select item, allowed, failed, state from rowcast.judge($1, $2, $3, $4)";
        self.caller.query(sql, &parameters, limit).await
    }
}

fn parameters<'a>(items: &[&Item<'a>]) -> (Vec<&'a str>, Vec<Asked<'a>>) {
    let mut queries: Vec<&str> = Vec::new();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let asked = items
        .iter()
        .map(|item| {
            let question = item.question;
            let q = *numbers.entry(item.query).or_insert_with(|| {
                queries.push(item.query);
                queries.len()
            });
            let values = question.residual.iter().flat_map(|condition| &condition.values);
            Asked {
                q,
                identity: Identity::of(question.claims),
                values: values.map(Option::as_deref).collect(),
                rows: item.rows.iter().map(|row| row + 1).collect(),
            }
        })
        .collect();
    (queries, asked)
}

pub(in crate::policy) fn row_json(row: &Row) -> Box<RawValue> {
    let mut json = String::with_capacity(row.text_bytes() + row.layout().columns.len() * 16 + 2);
    json.push('{');
    for (column, value) in row.iter() {
        if value == Value::Unchanged {
            continue;
        }
        if json.len() > 1 {
            json.push(',');
        }
        write_string(&column.name, &mut json);
        json.push(':');
        match value {
            Value::Text(text) => write_string(text, &mut json),
            Value::Null | Value::Unchanged => json.push_str("null"),
        }
    }
    json.push('}');
    // Built from escaped strings only, so it parses; if it ever did not, an empty row fails closed.
    RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
