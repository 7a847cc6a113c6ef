//! The daily partitions of `realtime.messages`: made ahead, so that every message finds its place, and dropped when they are
//! old. Days are those of the database's clock, in UTC.
//!
//! Also for a table that others made, as far as we may become its owner.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{Client, Transaction};

use crate::postgres::{
    ADD_MESSAGES_PARTITION, ConnectSettings, Session, SqlError, connect, quote_identifier,
};
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// How often the partitions are looked at. They last for three days.
const ROUND: Duration = Duration::from_secs(3600);

/// How long a statement waits for a lock: as long as it does, those who write messages may wait behind it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// Which days have to be there and are not; and who owns the table. No row if the table is missing or is not partitioned as
/// it should be.
const MISSING: &str = "
    SELECT pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
           ARRAY(SELECT (t.today + d)::text
                   FROM pg_catalog.generate_series(-1, 3) AS days(d)
                  WHERE t.today + d >= t.oldest
                    AND NOT EXISTS (
                        SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid
                         WHERE i.inhparent = c.oid
                           AND p.relname = 'messages_' || pg_catalog.to_char(t.today + d, 'YYYY_MM_DD'))
                  ORDER BY d) AS days
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     CROSS JOIN LATERAL (
         SELECT pg_catalog.timezone('UTC', pg_catalog.now())::date AS today,
                (pg_catalog.timezone('UTC', pg_catalog.now()) - $1::bigint * '1 second'::interval)::date AS oldest) t
     WHERE n.nspname = 'realtime' AND c.relname = 'messages' AND c.relkind = 'p'
       AND pg_catalog.pg_get_partkeydef(c.oid) = 'RANGE (inserted_at)'";

/// Partitions of one day that has passed, with their owners: only what is named for a day and holds just that one. Further back than
/// ten years nothing is looked for.
const EXPIRED: &str = "
    SELECT p.relname::text AS name, pg_catalog.pg_get_userbyid(p.relowner)::text AS owner
      FROM pg_catalog.generate_series(1, 3660) AS days(back)
     CROSS JOIN LATERAL (
         SELECT (pg_catalog.timezone('UTC', pg_catalog.now()) - $1::bigint * '1 second'::interval)::date - back AS day) t
      JOIN pg_catalog.pg_class p ON p.relname = 'messages_' || pg_catalog.to_char(t.day, 'YYYY_MM_DD')
      JOIN pg_catalog.pg_inherits i ON i.inhrelid = p.oid
      JOIN pg_catalog.pg_class c ON c.oid = i.inhparent
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.oid = p.relnamespace
     WHERE n.nspname = 'realtime' AND c.relname = 'messages' AND p.relkind = 'r'
       AND pg_catalog.pg_get_expr(p.relpartbound, p.oid) = pg_catalog.format(
               'FOR VALUES FROM (%L) TO (%L)', t.day::timestamp, (t.day + 1)::timestamp)
     ORDER BY t.day";

/// What a look at the partitions came to.
#[derive(Debug, Default)]
pub struct Round {
    /// Made, by their days (`YYYY-MM-DD`).
    pub added: Vec<String>,
    /// Dropped, by their names.
    pub dropped: Vec<String>,
    /// What could not be done this time.
    pub failures: Vec<SqlError>,
}

/// Keeps the partitions until `shutdown`: one look every hour, on a connection of its own.
pub async fn keep(
    settings: ConnectSettings,
    session: Session,
    retention: Duration,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) {
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first one is at once, and has been done at the start.
    rounds.tick().await;
    let work = async {
        loop {
            rounds.tick().await;
            if let Err(error) = look(&settings, &session, retention, &metrics).await {
                metrics.partition_failures.inc();
                tracing::warn!(error = %error.chain(), "the partitions of realtime.messages were not looked at");
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}

/// Looks at the partitions once, and says what it did and what it could not do.
///
/// # Errors
/// They could not be looked at.
pub async fn look(
    settings: &ConnectSettings,
    session: &Session,
    retention: Duration,
    metrics: &Metrics,
) -> Result<(), SqlError> {
    let mut client = connect(settings, session).await?;
    let round = round(&mut client, retention).await?;
    if !round.added.is_empty() || !round.dropped.is_empty() {
        tracing::info!(added = ?round.added, dropped = ?round.dropped, "partitions of realtime.messages");
    }
    for error in &round.failures {
        metrics.partition_failures.inc();
        tracing::warn!(error = %error.chain(), "the partitions of realtime.messages are not as they should be");
    }
    Ok(())
}

/// Adds the partitions that are missing from yesterday to three days from now, and drops those of days before
/// `retention`. Each is a transaction of its own; what fails is left to the next time.
///
/// # Errors
/// The partitions could not be looked at.
pub async fn round(client: &mut Client, retention: Duration) -> Result<Round, SqlError> {
    let doing = SqlError::during("looking for partitions of realtime.messages");
    let seconds = i64::try_from(retention.as_secs()).unwrap_or(LONGEST).min(LONGEST);
    let mut round = Round::default();
    let Some(table) = client.query_opt(MISSING, &[&seconds]).await.map_err(&doing)? else {
        return Ok(round);
    };
    let owner: String = table.try_get("owner").map_err(&doing)?;
    let days: Vec<String> = table.try_get("days").map_err(&doing)?;
    for day in days {
        match add(client, &owner, &day).await {
            Ok(()) => round.added.push(day),
            // Another partition has room for that day.
            Err(error) if error.sqlstate() == Some(OVERLAP) => {}
            // What keeps this one from being made keeps the others as well.
            Err(error) => {
                round.failures.push(error);
                break;
            }
        }
    }
    for row in client.query(EXPIRED, &[&seconds]).await.map_err(&doing)? {
        let name: String = row.try_get("name").map_err(&doing)?;
        let owner: String = row.try_get("owner").map_err(&doing)?;
        match drop_partition(client, &owner, &name).await {
            Ok(()) => round.dropped.push(name),
            Err(error) => {
                round.failures.push(error);
                break;
            }
        }
    }
    Ok(round)
}

/// Far enough, and within what a timestamp can be moved by. Seconds.
const LONGEST: i64 = 100 * 366 * 24 * 60 * 60;

/// `invalid_object_definition`: the bounds overlap with those of another partition.
const OVERLAP: &str = "42P17";

async fn add(client: &mut Client, owner: &str, day: &str) -> Result<(), SqlError> {
    let doing = SqlError::during("adding a partition to realtime.messages");
    let transaction = begin(client, owner).await.map_err(&doing)?;
    transaction
        .batch_execute(ADD_MESSAGES_PARTITION)
        .await
        .map_err(&doing)?;
    transaction
        .execute(
            "SELECT pg_temp.rowcast_add_messages_partition($1::text::date)",
            &[&day],
        )
        .await
        .map_err(&doing)?;
    transaction
        .batch_execute("DROP FUNCTION pg_temp.rowcast_add_messages_partition(date)")
        .await
        .map_err(&doing)?;
    transaction.commit().await.map_err(doing)
}

async fn drop_partition(client: &mut Client, owner: &str, name: &str) -> Result<(), SqlError> {
    let doing = SqlError::during("dropping a partition of realtime.messages");
    let transaction = begin(client, owner).await.map_err(&doing)?;
    let sql = format!("DROP TABLE realtime.{}", quote_identifier(name));
    transaction.batch_execute(&sql).await.map_err(&doing)?;
    transaction.commit().await.map_err(doing)
}

/// A transaction as `owner`. Nothing that it leaves to the session can mislead the next one: all names are qualified.
async fn begin<'c>(client: &'c mut Client, owner: &str) -> Result<Transaction<'c>, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let setup = format!(
        "SET LOCAL search_path = ''; SET LOCAL lock_timeout = {}; SET LOCAL ROLE {}",
        LOCK_TIMEOUT.as_millis(),
        quote_identifier(owner)
    );
    transaction.batch_execute(&setup).await?;
    Ok(transaction)
}
