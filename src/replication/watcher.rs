//! What Postgres keeps for our slot, and how near it is to giving it up. One look in a while, from the SQL side: a slot in
//! trouble has no stream that could say so.

mod health;
mod heartbeat;

pub use health::{SlotHealth, WalStatus};
pub(super) use heartbeat::HEARTBEAT;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::health::Warnings;
use self::heartbeat::Pulse;
use crate::change::StreamStatus;
use crate::postgres::{ErrorKind, Pool, SqlError};
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// What is watched and how.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// The slot.
    pub slot: String,
    /// How often it is looked at.
    pub interval: Duration,
    /// Most WAL that the replay window may hold back, in bytes.
    pub wal_budget: u64,
    /// How long the slot may stand still, while WAL is written, before a message is written to move it; zero for ever.
    pub heartbeat: Duration,
}

/// What the watcher tells.
#[derive(Debug)]
pub struct Watched {
    /// How the slot is; `None` before the first look, and while the database does not answer.
    pub health: watch::Sender<Option<SlotHealth>>,
    /// How many bytes of WAL the replay window may hold back now.
    pub wal_budget: watch::Sender<u64>,
}

/// `to_jsonb` reads the columns that newer versions add (`conflicting` from 16, `invalidation_reason` from 17).
const LOOK: &str = "
    SELECT s.slot_name IS NOT NULL AS found, s.wal_status, s.safe_wal_size,
           (wal.at - s.restart_lsn)::bigint AS retained,
           (wal.at - s.confirmed_flush_lsn)::bigint AS unconfirmed,
           (s.confirmed_flush_lsn - '0/0')::bigint AS confirmed,
           coalesce(to_jsonb(s)->>'invalidation_reason',
                    CASE WHEN to_jsonb(s)->>'conflicting' = 'true' THEN 'conflict with recovery' END) AS invalidated,
           pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_slot_wal_keep_size')) AS keep_size,
           wal.in_recovery
      FROM (SELECT in_recovery, CASE WHEN in_recovery THEN pg_catalog.pg_last_wal_replay_lsn()
                                     ELSE pg_catalog.pg_current_wal_lsn() END AS at
              FROM pg_catalog.pg_is_in_recovery() AS in_recovery) AS wal
      LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1::text";

/// Looks until `shutdown`. Heartbeats are only for the one who streams, which `stream` tells.
pub async fn watch(
    settings: WatchSettings,
    pool: Pool,
    stream: watch::Receiver<StreamStatus>,
    watched: Watched,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) {
    let watcher = Watcher {
        pulse: Pulse::new(settings.heartbeat),
        warnings: Warnings::default(),
        settings,
        pool,
        stream,
        watched,
        metrics,
    };
    tokio::select! {
        () = watcher.run() => {}
        () = shutdown.cancelled() => {}
    }
}

struct Watcher {
    settings: WatchSettings,
    pool: Pool,
    stream: watch::Receiver<StreamStatus>,
    watched: Watched,
    metrics: Arc<Metrics>,
    warnings: Warnings,
    pulse: Pulse,
}

impl Watcher {
    async fn run(mut self) {
        let mut looks = interval(self.settings.interval);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            match self.look().await {
                Ok(health) => {
                    self.tell(&health);
                    self.beat(&health).await;
                }
                Err(error) => {
                    // That the database is away is said by those who need it for more.
                    tracing::debug!(error = %error.chain(), "the replication slot was not looked at");
                    self.watched.health.send_replace(None);
                }
            }
        }
    }

    async fn look(&self) -> Result<SlotHealth, SqlError> {
        let client = self.pool.get().await?;
        let doing = SqlError::during("looking at the replication slot");
        let row = client
            .query_one(LOOK, &[&self.settings.slot])
            .await
            .map_err(&doing)?;
        let bytes = |column: &str| -> Result<Option<u64>, tokio_postgres::Error> {
            let bytes: Option<i64> = row.try_get(column)?;
            Ok(bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0)))
        };
        let health = || {
            let keep_size: i64 = row.try_get("keep_size")?;
            let found: bool = row.try_get("found")?;
            let status: Option<String> = row.try_get("wal_status")?;
            Ok(SlotHealth {
                status: match found {
                    true => WalStatus::from_postgres(status.as_deref()),
                    false => WalStatus::Missing,
                },
                invalidated: row.try_get("invalidated")?,
                retained: bytes("retained")?.unwrap_or(0),
                unconfirmed: bytes("unconfirmed")?.unwrap_or(0),
                confirmed: bytes("confirmed")?.unwrap_or(0),
                safe: bytes("safe_wal_size")?,
                keep_size: u64::try_from(keep_size).ok(),
                wal_budget: self.settings.wal_budget,
                in_recovery: row.try_get("in_recovery")?,
            })
        };
        health().map_err(doing)
    }

    fn tell(&mut self, health: &SlotHealth) {
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let metrics = &self.metrics;
        metrics.slot_retained.set(gauge(health.retained));
        metrics.slot_unconfirmed.set(gauge(health.unconfirmed));
        metrics.slot_safe.set(health.safe.map_or(-1, gauge));
        metrics.slot_wal_budget.set(gauge(health.headroom()));
        for status in WalStatus::ALL {
            let label = [("status", status.name())];
            let is_it = i64::from(status == health.status);
            metrics.slot_wal_status.get_or_create(&label).set(is_it);
        }
        self.warnings.look(&self.settings.slot, health);
        self.watched.wal_budget.send_if_modified(|budget| {
            let before = std::mem::replace(budget, health.headroom());
            before != *budget
        });
        self.watched.health.send_replace(Some(health.clone()));
    }

    async fn beat(&mut self, health: &SlotHealth) {
        let streams = self.stream.borrow().flows();
        let moves = streams && !health.in_recovery && health.status.is_there();
        if !self.pulse.is_due(
            moves.then_some((health.confirmed, health.unconfirmed)),
            Instant::now(),
        ) {
            return;
        }
        match self.emit().await {
            Ok(()) => {
                self.metrics.heartbeats.inc();
                tracing::debug!(slot = self.settings.slot, "heartbeat written");
            }
            Err(error) if error.kind() == ErrorKind::InsufficientPrivilege => {
                self.pulse.stop();
                tracing::warn!(
                    error = %error.chain(),
                    "no heartbeats: a quiet database beside busy ones may hold back their wal; grant execute on function \
                     pg_logical_emit_message(boolean, text, text), or set replication.heartbeat to 0"
                );
            }
            Err(error) => tracing::debug!(error = %error.chain(), "no heartbeat"),
        }
    }

    async fn emit(&self) -> Result<(), SqlError> {
        let doing = SqlError::during("writing a heartbeat");
        let client = self.pool.get().await?;
        let sql = "SELECT pg_catalog.pg_logical_emit_message(false, $1::text, ''::text)::text";
        client
            .query_one(sql, &[&HEARTBEAT])
            .await
            .map(drop)
            .map_err(doing)
    }
}

#[cfg(test)]
mod tests;
