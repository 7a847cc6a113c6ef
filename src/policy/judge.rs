//! The Postgres judge: policy expressions evaluated by Postgres itself over WAL rows, as the subscriber.
//!
//! One call answers a whole batch. Only when a call runs out of time are its parts asked one by one, and what is slow
//! by itself is left out for a while, so that one slow policy or filter does not hold up everybody's changes.

mod call;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::value::RawValue;

use super::question::{Failure, Question, Verdict};
use crate::change::Row;
use crate::postgres::Pool;
use crate::telemetry::Metrics;
use call::row_json;

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
}

/// Asks Postgres. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Judge {
    pool: Pool,
    settings: Settings,
    metrics: Arc<Metrics>,
    slow: Arc<Mutex<HashMap<u64, Instant>>>,
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
    query: &'a str,
    values: Vec<&'a [Option<String>]>,
}

/// Verdicts by row index, for one item.
type Answers = HashMap<usize, Verdict>;

/// Pause before a connection is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// How often the same questions may end their connection: after that, they are what ends it.
const MOST_LOST: u32 = 2;

enum CallError {
    Timeout,
    /// There is no connection to be had for the moment.
    Unreachable(String),
    /// The connection ended while the questions were asked.
    Lost(String),
    Unavailable(String),
}

impl Judge {
    /// A judge on this pool.
    pub fn new(pool: Pool, settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self {
            pool,
            settings,
            metrics,
            slow: Arc::default(),
        }
    }

    /// One verdict per question, in order.
    pub(super) async fn ask(&self, asked: &[(&Question<'_>, String)]) -> Vec<Verdict> {
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
            .map(|(question, _)| question.transaction.xid.into())
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
            if self.is_slow(item.fingerprint) {
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
            Err(CallError::Unreachable(why) | CallError::Lost(why) | CallError::Unavailable(why)) => {
                let failure = Failure::Unavailable(why);
                place(
                    &mut answers,
                    open.iter().map(|(i, item)| (*i, all(item, &failure))),
                );
            }
            Err(CallError::Timeout) => {
                let found = self.one_by_one(&together, batch).await;
                place(&mut answers, open.iter().map(|(i, _)| *i).zip(found));
            }
        }
        answers
    }

    /// All of them in one call. A database that is gone for the moment is waited for: what it committed must not be
    /// skipped. Where that takes too long because the rows cannot be seen yet (the commit waits for a
    /// synchronous standby), nobody is to blame: it is asked again, and what follows waits as it does in the database.
    async fn together(&self, items: &[&Item<'_>], batch: &Batch) -> Result<Vec<Answers>, CallError> {
        let mut lost = 0;
        loop {
            match self.call(items, batch, self.settings.timeout).await {
                Err(CallError::Timeout) if !self.visible(batch).await => {
                    tracing::warn!("a commit cannot be seen yet; its changes wait");
                }
                Err(CallError::Unreachable(why)) => {
                    tracing::warn!(why, "the database cannot be asked; changes wait");
                    tokio::time::sleep(RETRY).await;
                }
                Err(CallError::Lost(why)) if lost < MOST_LOST => {
                    tracing::warn!(why, "the connection ended; the questions are asked again");
                    lost += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Whether all transactions of the batch have ended for those who look now; true as well if that cannot be told.
    async fn visible(&self, batch: &Batch) -> bool {
        let asking = async {
            let client = self.client().await.ok()?;
            let query = "select pg_catalog.bool_and(rowcast.is_visible(x)) from pg_catalog.unnest($1::int8[]) as w(x)";
            let row = client.query_one(query, &[&batch.writers]).await.ok()?;
            row.get::<_, Option<bool>>(0)
        };
        let answer = tokio::time::timeout(self.settings.timeout, asking).await;
        !matches!(answer, Ok(Some(false)))
    }

    /// After a timeout: each item by itself, within one more time limit for all of them. What holds no filter goes
    /// first: clients write filters, and cannot take others' time by slow ones.
    async fn one_by_one(&self, items: &[&Item<'_>], batch: &Batch) -> Vec<Answers> {
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
            if asking.len() >= self.settings.parallel.max(1) {
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
        if Instant::now() >= deadline {
            return all(item, &Failure::Timeout);
        }
        match self.call(&[item], batch, self.settings.timeout / 4).await {
            Ok(mut found) => found.pop().unwrap_or_default(),
            Err(CallError::Timeout) => {
                self.remember_slow(item.fingerprint);
                all(item, &Failure::Timeout)
            }
            Err(CallError::Unreachable(why) | CallError::Lost(why) | CallError::Unavailable(why)) => {
                all(item, &Failure::Unavailable(why))
            }
        }
    }

    fn is_slow(&self, fingerprint: u64) -> bool {
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        match slow.get(&fingerprint) {
            Some(until) if *until > Instant::now() => true,
            Some(_) => {
                slow.remove(&fingerprint);
                false
            }
            None => false,
        }
    }

    fn remember_slow(&self, fingerprint: u64) {
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        slow.retain(|_, until| *until > now);
        slow.insert(fingerprint, now + self.settings.quarantine);
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
