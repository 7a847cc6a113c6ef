//! Broadcasts that were sent before, and such as clients want kept.

use std::time::{Duration, Instant};

use deadpool_postgres::Client;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_postgres::Row;
use uuid::Uuid;

use super::error::inserting;
use super::{Messages, MessagesError, Persist, Stored, Writers};
use crate::postgres::SqlError;
use crate::protocol::Content;

/// What stands around [`NEWEST`]: of its rows, those that have no more bytes together than may be replayed, but always the
/// first. Without an order of their own, the window functions see them as they come.
const FITTING: [&str; 2] = [
    "
    SELECT f.id::text, f.event, f.payload, f.binary_payload
      FROM (SELECT n.*, pg_catalog.row_number() OVER () AS place,
                   pg_catalog.sum(pg_catalog.octet_length(coalesce(n.payload, ''))
                                  + coalesce(pg_catalog.octet_length(n.binary_payload), 0))
                       OVER (ROWS UNBOUNDED PRECEDING) AS bytes
              FROM (SELECT r.id, r.event, r.payload::text, r.binary_payload FROM (",
    ") r) n) f
     WHERE f.place = 1 OR f.bytes <= $4::bigint
     ORDER BY f.place",
];

/// The newest rows of a topic, newest first. `inserted_at` is the start of a row's transaction; within that, `seq` tells. The
/// epoch and the current time are UTC, as the column is.
const NEWEST: &str = "
    SELECT m.id, m.event, m.payload, m.binary_payload
      FROM realtime.messages m
     WHERE m.topic = $1::text AND m.extension = 'broadcast' AND m.private
       AND m.inserted_at >= '1970-01-01'::timestamp + $2::bigint * '1 millisecond'::interval
       AND m.inserted_at < pg_catalog.timezone('UTC', pg_catalog.now()) + '1 minute'::interval
       AND m.event IS NOT NULL AND (m.payload IS NOT NULL OR m.binary_payload IS NOT NULL)";

/// What ends [`NEWEST`] for our own table.
const OURS: &str = "
       AND (m.expires_at IS NULL OR m.expires_at > pg_catalog.timezone('UTC', pg_catalog.now()))
     ORDER BY m.inserted_at DESC, m.seq DESC, m.cmin::text::bigint DESC, m.ctid DESC
     LIMIT $3::bigint";

/// What ends [`NEWEST`] for a table that others made: the number of the command within the transaction is as good for calls of
/// `realtime.send`, and where the rows of one command lie is mostly their order.
const THEIRS: &str = "
     ORDER BY m.inserted_at DESC, m.cmin::text::bigint DESC, m.ctid DESC
     LIMIT $3::bigint";

/// Whether all these transactions have ended for those who look now.
const ENDED: &str = "
    SELECT coalesce(pg_catalog.bool_and(rowcast.is_visible(w.xid)), true) FROM pg_catalog.unnest($1::bigint[]) AS w(xid)";

/// How long they are waited for: a commit may wait for a synchronous standby, and clients give a join up after 10 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// Before it is looked again.
const PAUSE: Duration = Duration::from_millis(1);

/// Keeps a broadcast. `now()` is what `inserted_at` becomes.
const KEEP: &str = "
    INSERT INTO realtime.messages
           (topic, extension, event, private, payload, binary_payload, skip_broadcast, expires_at)
    VALUES ($1::text, 'broadcast', $2::text, true, $3::text::jsonb, $4::bytea, true,
            pg_catalog.timezone('UTC', pg_catalog.now()) + $5::bigint * '1 second'::interval)
    RETURNING id::text";

/// The last moment of the year 9999, in milliseconds since the Unix epoch: later ones are as far away.
const FAR: i64 = 253_402_300_799_999;

/// Longer than any row is kept, in seconds: a hundred years.
const FOREVER: i64 = 100 * 366 * 24 * 60 * 60;

impl Messages {
    /// The newest `limit` broadcasts of a private topic since `since_ms` (milliseconds since the Unix epoch), oldest
    /// first, in the order in which they were inserted. What has expired is left out, and what is older than those that
    /// may be replayed together. What `writers` have sent is among them: their rows are waited for.
    ///
    /// # Errors
    /// See [`MessagesError`].
    pub async fn replay(
        &self,
        topic: &str,
        since_ms: i64,
        limit: u32,
        writers: &Writers,
    ) -> Result<Vec<Stored>, MessagesError> {
        let client = self.client().await?;
        wait_for(&client, writers).await?;
        let since = since_ms.clamp(0, FAR);
        let newest = async |end: &str| {
            let [head, tail] = FITTING;
            let query = format!("{head}{NEWEST}{end}{tail}");
            let statement = client.prepare_cached(&query).await?;
            let bytes = i64::try_from(self.replay_bytes).unwrap_or(i64::MAX);
            client
                .query(&statement, &[&topic, &since, &i64::from(limit), &bytes])
                .await
        };
        let rows = match newest(OURS).await {
            // Not ours, and without our columns.
            Err(error) if error.code().is_some_and(|code| code.code() == UNDEFINED_COLUMN) => {
                newest(THEIRS).await
            }
            other => other,
        };
        let doing = SqlError::during("reading broadcasts to replay");
        let rows = rows.map_err(&doing)?;
        let stored: Result<Vec<Option<Stored>>, _> = rows.iter().rev().map(stored).collect();
        Ok(stored.map_err(doing)?.into_iter().flatten().collect())
    }

    /// Keeps a broadcast; the stream will not send it. Returns the row's id.
    ///
    /// # Errors
    /// See [`MessagesError`].
    pub async fn persist(&self, message: &Persist) -> Result<Uuid, MessagesError> {
        let relayed;
        let (event, payload, bytes) = match &message.content {
            Content::Json { event, payload, .. } => (&**event, Some(&**payload), None),
            Content::Binary { event, payload, .. } => (&**event, None, Some(&**payload)),
            Content::Envelope(text) => {
                relayed = serde_json::from_str::<Envelope>(text)
                    .map_err(|_| MessagesError::Refused("it names no event".to_owned()))?;
                (&*relayed.event, Some(relayed.payload()), None)
            }
        };
        let ttl = message
            .ttl
            .map(|seconds| i64::try_from(seconds).unwrap_or(FOREVER).min(FOREVER));
        let client = self.client().await?;
        let statement = client.prepare_cached(KEEP).await.map_err(inserting)?;
        let row = client
            .query_one(&statement, &[&&*message.topic, &event, &payload, &bytes, &ttl])
            .await
            .map_err(inserting)?;
        let id: &str = row.try_get(0).map_err(inserting)?;
        Uuid::parse_str(id).map_err(|_| MessagesError::Unusable("its id is no uuid".to_owned()))
    }
}

impl Messages {
    /// Whatever keeps a connection from being made, it is not the table.
    async fn client(&self) -> Result<Client, MessagesError> {
        let client = self.pool.get().await;
        client.map_err(|error| MessagesError::Unavailable(error.chain()))
    }
}

/// Waits until what these transactions wrote can be seen.
async fn wait_for(client: &Client, writers: &Writers) -> Result<(), MessagesError> {
    let open = writers.open();
    if open.is_empty() {
        return Ok(());
    }
    let doing = SqlError::during("waiting for broadcasts to replay");
    let ended = client.prepare_cached(ENDED).await.map_err(&doing)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let row = client.query_one(&ended, &[&open]).await.map_err(&doing)?;
        if row.try_get(0).map_err(&doing)? {
            writers.seen(&open);
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(MessagesError::Canceled);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

const UNDEFINED_COLUMN: &str = "42703";

/// The parts of a broadcast that was sent as text.
#[derive(Debug, Deserialize)]
struct Envelope {
    event: String,
    payload: Option<Box<RawValue>>,
}

impl Envelope {
    fn payload(&self) -> &str {
        self.payload.as_deref().map_or("{}", RawValue::get)
    }
}

/// A row of [`NEWEST`]; `None` if its id is no uuid.
fn stored(row: &Row) -> Result<Option<Stored>, tokio_postgres::Error> {
    let Ok(id) = Uuid::parse_str(row.try_get(0)?) else {
        return Ok(None);
    };
    let event: Box<str> = row.try_get::<_, &str>(1)?.into();
    let meta = Some(format!("{{\"replayed\":true,\"id\":\"{id}\"}}").into());
    let content = match row.try_get::<_, Option<&[u8]>>(3)? {
        Some(bytes) => Content::Binary {
            event,
            payload: bytes.to_vec().into(),
            meta,
        },
        None => Content::Json {
            event,
            payload: row.try_get::<_, &str>(2)?.into(),
            meta,
        },
    };
    Ok(Some(Stored { id, content }))
}
