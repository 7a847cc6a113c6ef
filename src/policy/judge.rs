//! The Postgres judge: policy expressions evaluated by Postgres itself over WAL rows, as the subscriber.
//!
//! One call answers a whole batch. Only when a call runs out of time, or ends its connection again and again, are its
//! parts asked one by one, and what is slow by itself, or ends the connection, is left out for a while, so that one bad
//! policy or filter does not hold up everybody's changes.

mod call;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::value::RawValue;

use super::caller::{CallError, Caller, Losses, Slow};
use super::plan::{Plan, plan};
use super::question::{Failure, Question, Verdict};
use crate::auth::Scope;
use crate::change::Row;
use crate::postgres::Pool;
use crate::postgres::catalog::Types;
use crate::telemetry::Metrics;
pub(super) use call::row_json;

/// Pause before a database that takes no connections is asked again.
const RETRY: Duration = Duration::from_millis(100);

/// How long the judge may take.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// One round trip. The pool's connections must have a `statement_timeout` no longer than this.
    pub timeout: Duration,
    /// How long something that ran out of time by itself is not asked again.
    pub quarantine: Duration,
    /// Parts of a batch that are asked side by side once the whole ran out of time.
    pub parallel: usize,
    /// Most (row, class of subscribers) pairs in one round trip.
    pub batch: usize,
    /// Most rows of one relation that are kept.
    pub relation_rows: usize,
    /// Most rows of all relations together.
    pub relation_rows_total: usize,
}

/// Asks Postgres. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Judge {
    pub(super) caller: Arc<Caller>,
    pub(super) settings: Settings,
    metrics: Arc<Metrics>,
    slow: Arc<Slow>,
}

/// One verdict per question, in order: those that need no thought at once, the rest from Postgres.
pub(super) async fn decide(judge: &Judge, questions: &[Question<'_>], types: &Types) -> Vec<Verdict> {
    let mut asked = Vec::new();
    let mut verdicts: Vec<Verdict> = questions
        .iter()
        .enumerate()
        .map(|(i, question)| match plan(question, types) {
            Plan::Decided(verdict) => verdict,
            Plan::Ask(query) => {
                asked.push((i, query));
                Verdict::Deny
            }
        })
        .collect();
    if asked.is_empty() {
        return verdicts;
    }
    let (places, queries): (Vec<usize>, Vec<_>) = asked.into_iter().unzip();
    let asked: Vec<_> = places
        .iter()
        .filter_map(|i| questions.get(*i))
        .zip(queries)
        .collect();
    for (place, verdict) in places.iter().zip(judge.ask(&asked).await) {
        if let Some(slot) = verdicts.get_mut(*place) {
            *slot = verdict;
        }
    }
    verdicts
}

/// Questions that differ only in the row.
struct Item<'a> {
    question: &'a Question<'a>,
    query: &'a str,
    /// Indexes into the batch's rows.
    rows: Vec<usize>,
    /// Identifies who asks what, across batches.
    fingerprint: u64,
}

/// What a batch of questions has in common: the rows, and the transactions that wrote them.
#[derive(Default)]
struct Batch {
    rows: Vec<Box<RawValue>>,
    writers: Vec<i64>,
}

/// Everything but the row that a verdict depends on.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    role: &'a str,
    claims: &'a str,
    scope: Option<&'a Scope>,
    query: &'a str,
    values: Vec<&'a [Option<String>]>,
}

/// Verdicts by row index, for one item.
type Answers = HashMap<usize, Verdict>;

impl Judge {
    /// A judge on this pool.
    pub fn new(pool: Pool, settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self {
            caller: Arc::new(Caller::new(pool, settings.timeout)),
            slow: Arc::new(Slow::new(settings.quarantine)),
            settings,
            metrics,
        }
    }

    /// One verdict per question, in order.
    async fn ask(&self, asked: &[(&Question<'_>, String)]) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(asked.len());
        for batch in asked.chunks(self.settings.batch.max(1)) {
            verdicts.extend(self.ask_batch(batch).await);
        }
        verdicts
    }

    async fn ask_batch(&self, asked: &[(&Question<'_>, String)]) -> Vec<Verdict> {
        let mut rows: Vec<&Row> = Vec::new();
        // By address: the caller keeps the rows where they are.
        let mut row_index: HashMap<usize, usize> = HashMap::new();
        let mut items: Vec<Item<'_>> = Vec::new();
        let mut item_index: HashMap<Key<'_>, usize> = HashMap::new();
        let mut places = Vec::with_capacity(asked.len());
        for (question, query) in asked {
            let row = *row_index
                .entry(std::ptr::from_ref(question.row).addr())
                .or_insert_with(|| {
                    rows.push(question.row);
                    rows.len() - 1
                });
            let key = key(question, query);
            let fingerprint = fingerprint(&key);
            let item = *item_index.entry(key).or_insert_with(|| {
                items.push(Item {
                    question,
                    query,
                    rows: Vec::new(),
                    fingerprint,
                });
                items.len() - 1
            });
            if let Some(item) = items.get_mut(item).filter(|item| item.rows.last() != Some(&row)) {
                item.rows.push(row);
            }
            places.push((item, row));
        }
        let mut writers: Vec<i64> = asked
            .iter()
            .filter_map(|(question, _)| Some(question.transaction?.xid.into()))
            .collect();
        writers.dedup();
        let batch = Batch {
            rows: rows.into_iter().map(row_json).collect(),
            writers,
        };
        let answers = self.answer(&items, &batch).await;
        places
            .into_iter()
            .map(|(item, row)| {
                let verdict = answers.get(item).and_then(|answers| answers.get(&row)).cloned();
                verdict.unwrap_or_else(|| Verdict::Failed(Failure::Unavailable("no answer".to_owned())))
            })
            .collect()
    }

    async fn answer(&self, items: &[Item<'_>], batch: &Batch) -> Vec<Answers> {
        let mut answers: Vec<Answers> = Vec::with_capacity(items.len());
        let mut open = Vec::new();
        for (i, item) in items.iter().enumerate() {
            if self.slow.contains(item.fingerprint) {
                answers.push(all(item, &Failure::Timeout));
            } else {
                answers.push(Answers::new());
                open.push((i, item));
            }
        }
        let together: Vec<&Item<'_>> = open.iter().map(|(_, item)| *item).collect();
        let outcome = if together.is_empty() {
            Ok(Vec::new())
        } else {
            self.together(&together, batch).await
        };
        match outcome {
            Ok(found) => place(&mut answers, open.iter().map(|(i, _)| *i).zip(found)),
            Err(CallError::Unreachable(why) | CallError::Unavailable(why)) => {
                let failure = Failure::Unavailable(why);
                place(
                    &mut answers,
                    open.iter().map(|(i, item)| (*i, all(item, &failure))),
                );
            }
            Err(CallError::Timeout) => {
                let found = self.one_by_one(&together, batch, self.settings.parallel).await;
                place(&mut answers, open.iter().map(|(i, _)| *i).zip(found));
            }
            // What crashes a backend ends all connections: only one after the other shows which one does.
            Err(CallError::Lost(_)) => {
                let found = self.one_by_one(&together, batch, 1).await;
                place(&mut answers, open.iter().map(|(i, _)| *i).zip(found));
            }
        }
        answers
    }

    /// All of them in one call.
    async fn together(&self, items: &[&Item<'_>], batch: &Batch) -> Result<Vec<Answers>, CallError> {
        let mut losses = Losses::default();
        loop {
            match self.call(items, batch, self.settings.timeout).await {
                Err(error) if self.caller.again(&error, &mut losses, &batch.writers).await => {}
                outcome => return outcome,
            }
        }
    }

    /// After a timeout, or where something ends every connection: each item by itself, within one more time limit for
    /// all of them. What holds no filter goes first: clients write filters, and cannot take others' time by slow ones.
    async fn one_by_one(&self, items: &[&Item<'_>], batch: &Batch, parallel: usize) -> Vec<Answers> {
        let deadline = Instant::now() + self.settings.timeout;
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|i| {
            items
                .get(*i)
                .is_some_and(|item| !item.question.residual.is_empty())
        });
        let mut answers: Vec<Answers> = items.iter().map(|_| Answers::new()).collect();
        let mut asking = FuturesUnordered::new();
        for i in order {
            if asking.len() >= parallel.max(1) {
                place(&mut answers, asking.next().await.into_iter());
            }
            if let Some(item) = items.get(i) {
                asking.push(async move { (i, self.alone(item, batch, deadline).await) });
            }
        }
        while let Some(found) = asking.next().await {
            place(&mut answers, std::iter::once(found));
        }
        answers
    }

    async fn alone(&self, item: &Item<'_>, batch: &Batch, deadline: Instant) -> Answers {
        while Instant::now() < deadline {
            match self.call(&[item], batch, self.settings.timeout / 4).await {
                Ok(mut found) => return found.pop().unwrap_or_default(),
                Err(CallError::Timeout) => {
                    self.slow.insert(item.fingerprint);
                    return all(item, &Failure::Timeout);
                }
                Err(CallError::Lost(why)) => {
                    self.slow.insert(item.fingerprint);
                    return all(item, &Failure::Unavailable(why));
                }
                // After a crash Postgres takes a moment to take connections again.
                Err(CallError::Unreachable(_)) => tokio::time::sleep(RETRY).await,
                Err(CallError::Unavailable(why)) => return all(item, &Failure::Unavailable(why)),
            }
        }
        all(item, &Failure::Timeout)
    }
}

fn place(answers: &mut [Answers], found: impl Iterator<Item = (usize, Answers)>) {
    for (i, found) in found {
        if let Some(slot) = answers.get_mut(i) {
            *slot = found;
        }
    }
}

fn all(item: &Item<'_>, failure: &Failure) -> Answers {
    item.rows
        .iter()
        .map(|row| (*row, Verdict::Failed(failure.clone())))
        .collect()
}

fn key<'a>(question: &'a Question<'_>, query: &'a str) -> Key<'a> {
    Key {
        role: &question.claims.role,
        claims: &question.claims.json,
        scope: question.claims.scope.as_deref(),
        query,
        values: question
            .residual
            .iter()
            .map(|condition| condition.values.as_slice())
            .collect(),
    }
}

/// Only ever decides that something is not asked for a while, so that a collision shows nobody anything.
fn fingerprint(key: &Key<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
