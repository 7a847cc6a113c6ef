//! One reading: a snapshot is taken, and its rows go to everybody who waits for them, as fast as they are read.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::sync::SemaphorePermit;
use tokio_postgres::Client;

use super::Shared;
use super::files::Sieve;
use super::plan::{Item, Plan};
use super::seat::{Out, Seat};
use super::transaction::{Fetched, Snapshot};
use crate::change::{Action, Change, Lsn, Row, Since};
use crate::feed::SubscribeError;
use crate::feed::convert::Wanted;
use crate::feed::payload::{Payload, Problem};
use crate::hub::Frame;
use crate::policy::Failure;
use crate::postgres::{ErrorKind, SqlError};
use crate::protocol::{self, Version};

/// Rows that are judged, rendered and sent at a time; fewer if they are large.
const CHUNK_ROWS: usize = 200;
const CHUNK_BYTES: usize = 1 << 20;

/// Between two looks at outboxes that are waited for.
const LOOK: Duration = Duration::from_millis(2);

/// How long a reader may hold up others, and half of the time beside: those of about the same speed stay together.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Reading<'s> {
    pub(super) shared: &'s Shared,
    pub(super) plan: &'s Plan,
    pub(super) seats: Vec<Seat>,
    pub(super) rows: u64,
    pub(super) turn: Turn<'s>,
    pub(super) started: Instant,
    /// How long all readers were waited for.
    pub(super) idle: Duration,
}

/// What keeps the number of readings down.
pub(super) enum Turn<'s> {
    /// One of `snapshot.parallel`.
    Own(#[expect(dead_code, reason = "held")] SemaphorePermit<'s>),
    /// Its turn has gone to somebody else, since its readers are slow.
    Given(#[expect(dead_code, reason = "held")] SemaphorePermit<'s>),
}

/// Those who get equal frames for an item.
struct Audience {
    version: Version,
    topic: Arc<str>,
    binding: i64,
    /// Indexes of seats.
    seats: Vec<usize>,
}

impl Reading<'_> {
    /// Reads all of it.
    ///
    /// # Errors
    /// For everybody who is left.
    pub(super) async fn run(&mut self, client: &mut Client) -> Result<(), SubscribeError> {
        // Before the snapshot is taken: what is not in the outboxes of others yet is decided by what the snapshot sees.
        let cursor = self.shared.place.get();
        let cursor =
            cursor.ok_or_else(|| SubscribeError::Unavailable("row changes do not flow yet".to_owned()))?;
        let snapshot = Snapshot::take(client, self.plan).await.map_err(|e| refusal(&e))?;
        let since = Since {
            cursor,
            seen: Some(snapshot.seen.clone()),
            passed: false,
        };
        for seat in &mut self.seats {
            seat.begin(&since);
        }
        let plan = self.plan;
        for (number, item) in plan.items.iter().enumerate() {
            self.item(&snapshot, number, item).await?;
            if self.seats.is_empty() {
                break;
            }
        }
        snapshot.end().await.map_err(|e| refusal(&e))
    }

    async fn item(
        &mut self,
        snapshot: &Snapshot<'_>,
        number: usize,
        item: &Item,
    ) -> Result<(), SubscribeError> {
        let sieve = Sieve::new(self.plan, item, &self.shared.engine).await;
        loop {
            let fetched = snapshot.fetch(number, &item.layout).await;
            let mut fetched = pin!(fetched.map_err(|e| refusal(&e))?);
            let (mut chunk, mut bytes, mut came) = (Vec::new(), 0, 0);
            while let Some(next) = fetched.try_next().await.map_err(|e| refusal(&e))? {
                match next {
                    Fetched::Row(row) => {
                        bytes += row.text_bytes();
                        chunk.push(row);
                    }
                    Fetched::End(rows) => came = rows,
                }
                if chunk.len() >= CHUNK_ROWS || bytes >= CHUNK_BYTES {
                    bytes = 0;
                    let chunk = std::mem::take(&mut chunk);
                    self.chunk(&sieve, (number, item), chunk, snapshot.micros).await?;
                }
            }
            self.chunk(&sieve, (number, item), chunk, snapshot.micros).await?;
            if came == 0 || self.seats.is_empty() {
                return Ok(());
            }
        }
    }

    async fn chunk(
        &mut self,
        sieve: &Sieve<'_>,
        (number, item): (usize, &Item),
        rows: Vec<Row>,
        micros: i64,
    ) -> Result<(), SubscribeError> {
        let rows = sieve.pass(rows, micros).await.map_err(|e| unjudged(&e))?;
        self.seats.retain(|seat| !seat.is_empty());
        if rows.is_empty() || self.seats.is_empty() {
            return Ok(());
        }
        let most = self.shared.settings.rows as u64;
        self.rows += rows.len() as u64;
        if most > 0 && self.rows > most {
            let text = format!("the snapshot has more than {most} rows (snapshot.rows)");
            return Err(SubscribeError::Refused(text));
        }
        let types = &self.plan.rules.catalog.types;
        let mut wanted = Wanted::default();
        for row in &rows {
            wanted.note(&item.table, types, row);
        }
        let converted = wanted.ask(&self.shared.catalog_pool, types).await;
        let mut records = String::new();
        let mut audiences = Audience::all(&self.seats, number);
        let mut present = self.seats.len();
        for row in rows {
            // Somebody was too slow.
            if present != self.seats.len() {
                present = self.seats.len();
                audiences = Audience::all(&self.seats, number);
            }
            let change = inserted(item, row);
            let limit = self.shared.settings.record_bytes;
            let payload = Payload::render(&change, &item.table, types, micros, limit, &converted);
            self.send(&audiences, item, &payload, &mut records);
            self.wait().await;
        }
        self.send_records(&records).await;
        Ok(())
    }

    /// Queues a row for everybody; each distinct frame is encoded once.
    fn send(&mut self, audiences: &[Audience], item: &Item, payload: &Payload<'_>, records: &mut String) {
        let mut data = None;
        for audience in audiences {
            let data = data.get_or_insert_with(|| payload.snapshot(&item.columns));
            let wrapped = format!("{{\"ids\":[{}],\"data\":{data}}}", audience.binding);
            let text = protocol::fan_out(audience.version, &audience.topic, "postgres_changes", &wrapped);
            let frame = Frame::Text(text.into());
            let queued = audience.seats.iter().filter_map(|i| self.seats.get(*i));
            let queued = queued.filter(|seat| seat.push(frame.clone()).is_ok()).count();
            self.shared.metrics.snapshot_rows.inc_by(queued as u64);
        }
        if self.seats.iter().any(|seat| matches!(seat.out, Out::Body(_))) {
            let comma = if records.is_empty() { "" } else { "," };
            records.push_str(comma);
            records.push_str(&payload.record(&item.columns));
        }
    }

    /// Hands the records of a chunk to the bodies of requests.
    async fn send_records(&mut self, records: &str) {
        if records.is_empty() {
            return;
        }
        let bytes = Bytes::copy_from_slice(records.as_bytes());
        for seat in &self.seats {
            if let Out::Body(body) = &seat.out {
                // There is room: it has been waited for.
                let _ = body.try_send(bytes.clone());
            }
        }
        self.wait().await;
    }

    /// Waits for those who read slower than this does. Who holds up others for too long has to go on by itself, and if all are
    /// slow, those who wait for their turn get it.
    async fn wait(&mut self) {
        while self.seats.iter().any(Seat::is_pressed) {
            let since = Instant::now();
            tokio::time::sleep(LOOK).await;
            let patience = PATIENCE + self.started.elapsed() / 2;
            let waits = |seat: &Seat| !seat.is_pressed() && !seat.is_empty();
            if self.seats.iter().any(waits) {
                for seat in self.seats.iter_mut().filter(|seat| seat.is_pressed()) {
                    seat.held_up += since.elapsed();
                }
                let late = self.seats.extract_if(.., |seat| seat.held_up > patience);
                late.for_each(Seat::late);
            } else {
                self.idle += since.elapsed();
                if self.idle > patience {
                    self.give_way();
                }
            }
        }
    }

    /// Lets somebody else read meanwhile. Where too many have done that already, it ends if somebody waits.
    fn give_way(&mut self) {
        if matches!(self.turn, Turn::Given(_)) {
            return;
        }
        match self.shared.slow.try_acquire() {
            Ok(place) => self.turn = Turn::Given(place),
            Err(_) if self.shared.waiting().is_empty() => {}
            Err(_) => self.seats.drain(..).for_each(Seat::late),
        }
    }
}

impl Audience {
    /// All who get rows of this item.
    fn all(seats: &[Seat], number: usize) -> Vec<Self> {
        let mut audiences: HashMap<(Version, Arc<str>, i64), Vec<usize>> = HashMap::new();
        for (i, seat) in seats.iter().enumerate() {
            if let (Out::Lane { subscriber, .. }, Some(binding)) = (&seat.out, seat.ids.get(number)) {
                let alike = (subscriber.version, Arc::clone(&subscriber.topic), *binding);
                audiences.entry(alike).or_default().push(i);
            }
        }
        let audience = |((version, topic, binding), seats)| Self {
            version,
            topic,
            binding,
            seats,
        };
        audiences.into_iter().map(audience).collect()
    }
}

fn inserted(item: &Item, row: Row) -> Change {
    Change {
        lsn: Lsn::default(),
        ordinal: 0,
        action: Action::Insert,
        table: item.table.name.clone(),
        wire_bytes: row.text_bytes(),
        new: Some(row),
        old: None,
    }
}

/// What an error of Postgres means for who asked for the rows.
fn refusal(error: &SqlError) -> SubscribeError {
    match error.kind() {
        ErrorKind::Cancelled => SubscribeError::Refused(super::TOO_SLOW.to_owned()),
        // The catalog has changed in this very moment: what is asked for anew is settled by what it is now.
        ErrorKind::Undefined => SubscribeError::Unavailable(error.chain()),
        kind if kind.is_transient() => SubscribeError::Unavailable(error.chain()),
        _ => SubscribeError::Refused(error.chain()),
    }
}

/// As for a SELECT: where a policy cannot be evaluated there are no rows.
fn unjudged(failure: &Failure) -> SubscribeError {
    tracing::debug!(%failure, "a snapshot could not be judged by policy files");
    match failure {
        Failure::Raised(_) | Failure::MissingColumn(_) => {
            SubscribeError::Refused(Problem::Policy.text().to_owned())
        }
        Failure::Timeout | Failure::Unavailable(_) => {
            SubscribeError::Unavailable(Problem::Unavailable.text().to_owned())
        }
    }
}
