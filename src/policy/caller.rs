//! How Postgres is asked: with a time limit that ends the query there too, again where the connection was at fault, and
//! not for a while what ran out of time by itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::postgres::{Pool, SqlError};

/// Pause before a connection is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// How often the same questions may end their connection: after that, they are what ends it.
const MOST_LOST: u32 = 2;

/// Connections of the judge, and the longest time one round trip may take.
#[derive(Debug)]
pub(super) struct Caller {
    pool: Pool,
    timeout: Duration,
}

/// Why there is no answer.
pub(super) enum CallError {
    Timeout,
    /// There is no connection to be had for the moment.
    Unreachable(String),
    /// The connection ended while the questions were asked.
    Lost(String),
    Unavailable(String),
}

/// How often the same call has ended its connection.
#[derive(Default)]
pub(super) struct Losses(u32);

impl Caller {
    pub(super) fn new(pool: Pool, timeout: Duration) -> Self {
        Self { pool, timeout }
    }

    /// Postgres itself ends the call at the limit, so that the connection is free for the next one: a query that we
    /// only stopped waiting for would take the time of whoever is asked next.
    pub(super) async fn query(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        limit: Duration,
    ) -> Result<Vec<Row>, CallError> {
        let mut client = self.client().await?;
        let work = async {
            let statement = client.prepare_cached(sql).await?;
            // The session's own limit is that of the longest call.
            if limit >= self.timeout {
                return client.query(&statement, parameters).await;
            }
            let transaction = client.transaction().await?;
            let set = format!("set local statement_timeout = {}", limit.as_millis().max(1));
            transaction.batch_execute(&set).await?;
            let found = transaction.query(&statement, parameters).await?;
            transaction.rollback().await?;
            Ok(found)
        };
        let result = tokio::time::timeout(limit + self.timeout / 4, work).await;
        match result {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => {
                let error = call_error(error);
                if let CallError::Lost(_) = error {
                    // The pool may not know yet that it is dead, and whoever asks next would be blamed for it.
                    drop(Object::take(client));
                }
                Err(error)
            }
            Err(_) => {
                // Not even that was answered: whatever the connection is busy with, nobody waits behind it.
                drop(Object::take(client));
                Err(CallError::Timeout)
            }
        }
    }

    /// After a call of everything at once failed: whether to try the same again, after a pause if need be. A database
    /// that is gone for the moment is waited for: what it committed must not be skipped. Where it takes too long
    /// because what these transactions wrote cannot be seen yet (the commit waits for a synchronous standby), nobody is
    /// to blame: it is asked again, and what follows waits as it does in the database.
    pub(super) async fn again(&self, error: &CallError, losses: &mut Losses, writers: &[i64]) -> bool {
        match error {
            CallError::Timeout if !self.visible(writers).await => {
                tracing::warn!("a commit cannot be seen yet; its changes wait");
                true
            }
            CallError::Unreachable(why) => {
                tracing::warn!(why, "the database cannot be asked; changes wait");
                tokio::time::sleep(RETRY).await;
                true
            }
            CallError::Lost(why) if losses.0 < MOST_LOST => {
                tracing::warn!(why, "the connection ended; the questions are asked again");
                losses.0 += 1;
                true
            }
            _ => false,
        }
    }

    /// Whether all these transactions have ended for those who look now; true as well if that cannot be told.
    async fn visible(&self, writers: &[i64]) -> bool {
        self.ended(writers).await != Some(false)
    }

    /// Whether all these transactions have ended for those who look now; `None` if that cannot be told.
    pub(super) async fn ended(&self, writers: &[i64]) -> Option<bool> {
        if writers.is_empty() {
            return Some(true);
        }
        let asking = async {
            let client = self.client().await.ok()?;
            let query = "select pg_catalog.bool_and(rowcast.is_visible(x)) from pg_catalog.unnest($1::int8[]) as w(x)";
            let row = client.query_one(query, &[&writers]).await.ok()?;
            row.get::<_, Option<bool>>(0)
        };
        tokio::time::timeout(self.timeout, asking).await.ok().flatten()
    }

    async fn client(&self) -> Result<Object, CallError> {
        let client = self.pool.get().await;
        client.map_err(|e| match e.kind().is_transient() {
            true => CallError::Unreachable(e.to_string()),
            false => CallError::Unavailable(e.to_string()),
        })
    }
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

/// What ran out of time by itself and is left alone for a while, by fingerprint.
#[derive(Debug)]
pub(super) struct Slow {
    quarantine: Duration,
    until: Mutex<HashMap<u64, Instant>>,
}

impl Slow {
    pub(super) fn new(quarantine: Duration) -> Self {
        Self {
            quarantine,
            until: Mutex::default(),
        }
    }

    pub(super) fn contains(&self, fingerprint: u64) -> bool {
        let mut slow = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        match slow.get(&fingerprint) {
            Some(until) if *until > Instant::now() => true,
            Some(_) => {
                slow.remove(&fingerprint);
                false
            }
            None => false,
        }
    }

    pub(super) fn insert(&self, fingerprint: u64) {
        let mut slow = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        slow.retain(|_, until| *until > now);
        slow.insert(fingerprint, now + self.quarantine);
    }
}
