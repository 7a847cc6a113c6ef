//! Reads relations from Postgres, as those they are for (sql/rowcast/read_relations.sql).
//!
//! As in the judge, one call serves many; only when it runs out of time are its parts read one by one, and what is slow
//! by itself is left out for a while.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio_postgres::types::{Json, ToSql};

use super::clock::Moment;
use crate::expression::{Relation, Stop};
use crate::policy::Settings;
use crate::policy::caller::{CallError, Caller, Losses, Slow};
use crate::policy::identity::Identity;
use crate::policy::relation::{RelationQuery, RelationRequest};
use crate::telemetry::Metrics;

/// Reads relations. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RelationReader {
    caller: Arc<Caller>,
    settings: Settings,
    metrics: Arc<Metrics>,
    slow: Arc<Slow>,
    /// Leaves connections to the pump while many subscribe.
    guests: Arc<Semaphore>,
}

/// What a reading of many came to.
pub(super) struct Readings {
    /// In the order they were asked for.
    pub(super) results: Vec<Result<Relation, Stop>>,
    /// The writers were seen to have ended.
    pub(super) seen: bool,
    /// Time ran out before all could be tried: more of the same should not be.
    pub(super) exhausted: bool,
}

/// A relation to be read, and the role of those it is for.
pub(super) type Asked = (RelationRequest, Arc<str>);

/// An item as `rowcast.read_relations` takes it.
#[derive(Debug, Serialize)]
struct Item<'a> {
    q: usize,
    reader: &'a str,
    #[serde(flatten)]
    identity: Identity<'a>,
}

/// Relations in one round trip. Each may bring as many rows as one relation may have.
const PER_CALL: usize = 32;

/// Bytes of text that the rows of a relation may have for each row that it may have.
const ROW_BYTES: usize = 256;

type Read = Result<Relation, Stop>;

impl RelationReader {
    pub(in crate::policy) fn new(caller: Arc<Caller>, settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self {
            caller,
            slow: Arc::new(Slow::new(settings.quarantine)),
            guests: Arc::new(Semaphore::new((settings.parallel / 2).max(1))),
            settings,
            metrics,
        }
    }

    /// Reads relations for somebody who is not the pump, each for its role and as of `moment` or later; see
    /// [`super::Relations::offer`]. A result per request, in order; [`Stop::Unavailable`] where there was none to be
    /// had at once.
    pub async fn read(&self, asked: &[(RelationRequest, Arc<str>)], moment: &Moment) -> Vec<Read> {
        let mut results: Vec<Read> = asked.iter().map(|_| Err(slow())).collect();
        for places in self.open(asked).chunks(PER_CALL) {
            // Never closed.
            let _permit = self.guests.acquire().await;
            let items: Vec<&Asked> = places.iter().filter_map(|i| asked.get(*i)).collect();
            match self.call(&items, moment.writers(), self.settings.timeout).await {
                Ok(read) => put(&mut results, places.iter().copied().zip(read)),
                Err(error) => put(
                    &mut results,
                    places.iter().map(|i| (*i, Err(unavailable(&error)))),
                ),
            }
        }
        results
    }

    /// Reads all of them once `writers` have ended, waiting for the database if it is gone for the moment.
    pub(super) async fn insist(&self, asked: &[Asked], writers: &[i64]) -> Readings {
        let open = self.open(asked);
        let mut readings = Readings {
            results: asked.iter().map(|_| Err(slow())).collect(),
            seen: false,
            exhausted: false,
        };
        let mut chunks: VecDeque<&[usize]> = open.chunks(PER_CALL).collect();
        if chunks.is_empty() && !writers.is_empty() {
            chunks.push_back(&[]);
        }
        let calls = chunks.into_iter().map(|chunk| async move {
            let items: Vec<&Asked> = chunk.iter().filter_map(|i| asked.get(*i)).collect();
            (chunk, self.together(&items, writers).await)
        });
        let mut late = Vec::new();
        for (chunk, outcome) in self.side_by_side(calls).await {
            match outcome {
                Ok(read) => {
                    readings.seen = true;
                    put(&mut readings.results, chunk.iter().copied().zip(read));
                }
                Err(CallError::Timeout) => late.extend_from_slice(chunk),
                Err(error) => put(
                    &mut readings.results,
                    chunk.iter().map(|i| (*i, Err(unavailable(&error)))),
                ),
            }
        }
        self.one_by_one(asked, &late, writers, &mut readings).await;
        readings
    }

    /// Those that are not known to be slow, by index.
    fn open(&self, asked: &[Asked]) -> Vec<usize> {
        let open = asked.iter().map(|asked| !self.slow.contains(fingerprint(asked)));
        open.enumerate()
            .filter(|(_, open)| *open)
            .map(|(i, _)| i)
            .collect()
    }

    async fn together(&self, items: &[&Asked], writers: &[i64]) -> Result<Vec<Read>, CallError> {
        let mut losses = Losses::default();
        loop {
            match self.call(items, writers, self.settings.timeout).await {
                Err(error) if self.caller.again(&error, &mut losses, writers).await => {}
                outcome => return outcome,
            }
        }
    }

    /// After a timeout: each by itself, within one more time limit for all of them.
    async fn one_by_one(&self, asked: &[Asked], places: &[usize], writers: &[i64], readings: &mut Readings) {
        let deadline = Instant::now() + self.settings.timeout;
        let calls = places.iter().map(|i| async move {
            let read = match asked.get(*i) {
                Some(item) if Instant::now() < deadline => self.alone(item, writers).await,
                _ => Err(late()),
            };
            (*i, read)
        });
        let read = self.side_by_side(calls).await;
        put(&mut readings.results, read.into_iter());
        readings.exhausted = !places.is_empty() && Instant::now() >= deadline;
    }

    async fn alone(&self, item: &Asked, writers: &[i64]) -> Read {
        match self.call(&[item], writers, self.settings.timeout / 4).await {
            Ok(mut read) => read.pop().unwrap_or_else(|| Err(nothing())),
            Err(CallError::Timeout) => {
                self.slow.insert(fingerprint(item));
                Err(slow())
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// As many at once as there are connections.
    async fn side_by_side<F: Future>(&self, calls: impl Iterator<Item = F>) -> Vec<F::Output> {
        let mut running = FuturesUnordered::new();
        let mut done = Vec::new();
        for call in calls {
            if running.len() >= self.settings.parallel.max(1) {
                done.extend(running.next().await);
            }
            running.push(call);
        }
        while let Some(output) = running.next().await {
            done.push(output);
        }
        done
    }

    /// One round trip: results in the order of `items`.
    async fn call(&self, items: &[&Asked], writers: &[i64], limit: Duration) -> Result<Vec<Read>, CallError> {
        let started = Instant::now();
        let (queries, parameters) = parameters(items);
        let most = i32::try_from(self.settings.relation_rows).unwrap_or(i32::MAX);
        let parameters: [&(dyn ToSql + Sync); 4] = [&queries, &Json(&parameters), &most, &writers];
        let sql = "select item, rows, state from rowcast.read_relations($1, $2, $3, $4)";
        let found = self.caller.query(sql, &parameters, limit).await;
        self.metrics.relation_reads.inc_by(items.len() as u64);
        self.metrics
            .relation_read_seconds
            .observe(started.elapsed().as_secs_f64());
        let mut read: Vec<Read> = items.iter().map(|_| Err(nothing())).collect();
        for row in found? {
            let index = usize::try_from(row.get::<_, i32>("item")).unwrap_or(usize::MAX);
            let (Some((request, role)), Some(slot)) = (items.get(index), read.get_mut(index)) else {
                continue;
            };
            *slot = match row.get::<_, Option<String>>("state") {
                None => self.relation(request, row.get("rows")),
                Some(state) => Err(stop(&state, reader(request, role))),
            };
        }
        Ok(read)
    }

    fn relation(&self, request: &RelationRequest, rows: Option<Json<Rows>>) -> Read {
        let rows = rows.map(|Json(rows)| rows).unwrap_or_default();
        let most = self.settings.relation_rows;
        if rows.len() > most {
            return Err(Stop::ask(format!("a subquery returns more than {most} rows")));
        }
        let bytes: usize = rows.iter().flatten().flatten().map(String::len).sum();
        if bytes > most.saturating_mul(ROW_BYTES) {
            return Err(Stop::ask("a subquery returns long values"));
        }
        Relation::read(&request.query.columns, rows)
    }
}

type Rows = Vec<Vec<Option<String>>>;

fn put(results: &mut [Read], read: impl Iterator<Item = (usize, Read)>) {
    for (i, read) in read {
        if let Some(slot) = results.get_mut(i) {
            *slot = read;
        }
    }
}

/// The role to read as.
pub(super) fn reader<'a>(request: &'a RelationRequest, role: &'a Arc<str>) -> &'a Arc<str> {
    request.query.owner.as_ref().unwrap_or(role)
}

fn parameters<'a>(items: &[&'a Asked]) -> (Vec<String>, Vec<Item<'a>>) {
    let mut queries = Vec::new();
    let mut numbers: HashMap<*const RelationQuery, usize> = HashMap::new();
    let items = items
        .iter()
        .map(|(request, role)| {
            let q = *numbers.entry(Arc::as_ptr(&request.query)).or_insert_with(|| {
                queries.push(rows_query(&request.query));
                queries.len()
            });
            Item {
                q,
                reader: reader(request, role),
                identity: Identity::of(&request.claims),
            }
        })
        .collect();
    (queries, items)
}

/// The query that returns the rows as one JSON array. `format` prints what a type's output function does, which a cast
/// to text does not always (`bool`, `char(n)`).
fn rows_query(query: &RelationQuery) -> String {
    let names: Vec<String> = (1..=query.columns.len()).map(|i| format!("c{i}")).collect();
    let values: Vec<String> = names
        .iter()
        .map(|c| format!("case when r.{c} is not null then pg_catalog.format('%s', r.{c}) end"))
        .collect();
    let columns = if names.is_empty() {
        String::new()
    } else {
        format!("({})", names.join(", "))
    };
    format!(
        "select pg_catalog.json_agg(pg_catalog.json_build_array({})) from (select * from ({}\n) as q limit $1) as r{columns}",
        values.join(", "),
        query.sql,
    )
}

/// What a state of `rowcast.read_relations` means.
fn stop(state: &str, reader: &str) -> Stop {
    if state == "role" {
        return Stop::ask(format!("the server cannot become role \"{reader}\""));
    }
    match state.get(..2) {
        // Not the query's doing: another transaction, a lack of memory or files, an operator.
        Some("40" | "53" | "55" | "57" | "58") => Stop::Unavailable(format!("SQLSTATE {state}").into()),
        // A limit of the server, which our wrapping may have met before the query would.
        Some("54") => Stop::ask(format!("a subquery raised SQLSTATE {state}")),
        _ => Stop::Raised(state.into()),
    }
}

fn unavailable(error: &CallError) -> Stop {
    match error {
        CallError::Timeout => slow(),
        CallError::Unreachable(why) | CallError::Lost(why) | CallError::Unavailable(why) => {
            Stop::Unavailable(why.as_str().into())
        }
    }
}

fn slow() -> Stop {
    Stop::Unavailable("a subquery was not answered within the time limit".into())
}

/// Others took the time. It may be read quickly for one row, so that can be asked.
pub(super) fn late() -> Stop {
    Stop::ask("there was no time left to read a subquery")
}

fn nothing() -> Stop {
    Stop::Unavailable("no answer".into())
}

/// Only ever decides that something is not read for a while.
fn fingerprint((request, role): &Asked) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&request.query.sql, &request.params, reader(request, role)).hash(&mut hasher);
    hasher.finish()
}
