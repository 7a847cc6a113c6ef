//! One call of `rowcast.judge`: what goes into it, and what its answer means.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Json, ToSql};

use super::{Answers, Batch, CallError, Item, Judge};
use crate::change::{Row, Value};
use crate::policy::question::{Failure, Verdict};
use crate::postgres::SqlError;
use crate::postgres::jsonb::write_string;

/// An item as `rowcast.judge` takes it.
#[derive(Debug, Serialize)]
struct Asked<'a> {
    q: usize,
    role: &'a str,
    claims: &'a str,
    sub: Option<&'a str>,
    email: Option<String>,
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

    /// Postgres itself ends the call at the limit, so that the connection is free for the next one: a query that we
    /// only stopped waiting for would take the time of whoever is asked next.
    async fn query(
        &self,
        items: &[&Item<'_>],
        batch: &Batch,
        limit: Duration,
    ) -> Result<Vec<tokio_postgres::Row>, CallError> {
        let (queries, asked) = parameters(items);
        let rows: Vec<Json<&RawValue>> = batch.rows.iter().map(|row| Json(&**row)).collect();
        let mut client = self.client().await?;
        let work = async {
            let statement = client
                .prepare_cached("select item, allowed, failed, state from rowcast.judge($1, $2, $3, $4)")
                .await?;
            let parameters: [&(dyn ToSql + Sync); 4] = [&queries, &Json(&asked), &rows, &batch.writers];
            // The session's own limit is that of the longest call.
            if limit >= self.settings.timeout {
                return client.query(&statement, &parameters).await;
            }
            let transaction = client.transaction().await?;
            let set = format!("set local statement_timeout = {}", limit.as_millis().max(1));
            transaction.batch_execute(&set).await?;
            let found = transaction.query(&statement, &parameters).await?;
            transaction.rollback().await?;
            Ok(found)
        };
        let result = tokio::time::timeout(limit + self.settings.timeout / 4, work).await;
        match result {
            Ok(result) => result.map_err(call_error),
            Err(_) => {
                // Not even that was answered: whatever the connection is busy with, nobody waits behind it.
                drop(Object::take(client));
                Err(CallError::Timeout)
            }
        }
    }

    pub(super) async fn client(&self) -> Result<Object, CallError> {
        let client = self.pool.get().await;
        client.map_err(|e| match e.kind().is_transient() {
            true => CallError::Unreachable(e.to_string()),
            false => CallError::Unavailable(e.to_string()),
        })
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
                role: &question.claims.role,
                claims: &question.claims.json,
                sub: question.claims.sub.as_deref(),
                email: email(&question.claims.json),
                values: values.map(Option::as_deref).collect(),
                rows: item.rows.iter().map(|row| row + 1).collect(),
            }
        })
        .collect();
    (queries, asked)
}

fn email(claims: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Email {
        email: Option<String>,
    }
    serde_json::from_str::<Email>(claims).ok()?.email
}

pub(super) fn row_json(row: &Row) -> Box<RawValue> {
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

fn call_error(error: tokio_postgres::Error) -> CallError {
    if error.code() == Some(&SqlState::QUERY_CANCELED) {
        return CallError::Timeout;
    }
    let code = error.code().map(|code| format!("SQLSTATE {}", code.code()));
    let error = SqlError::new("judging", error);
    let why = code.unwrap_or_else(|| error.to_string());
    match error.kind().is_transient() {
        true => CallError::Lost(why),
        false => CallError::Unavailable(why),
    }
}
