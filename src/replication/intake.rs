//! From the plugin's messages to batches of events: decodes, leaves out what was passed on before, and keeps to the
//! contract of [`Event`]. No I/O.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::failure::{Failure, ServerError};
use super::progress::{Disorder, End, Item, Progress};
use super::watcher::HEARTBEAT;
use super::{Message, pgoutput, wal2json};
use crate::change::{Change, Event, FailedOver, Lineage, Lsn, StreamState, Streamed, TableName};
use crate::telemetry::Metrics;

/// A batch is passed on once it holds this many events or bytes of the stream.
const MAX_EVENTS: usize = 512;
const MAX_BYTES: usize = 256 * 1024;
/// A batch of this size is a large one: it ended with a row far beyond the rest.
const LARGE_BYTES: usize = 4 * 1024 * 1024;

/// Events on their way to the feed. What is in here counts as passed on: it outlives a connection.
#[derive(Debug, Default)]
pub(super) struct Batch {
    events: Vec<Event>,
    bytes: usize,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.events.len() >= MAX_EVENTS || self.bytes >= MAX_BYTES
    }

    /// How many places have to be free in a channel of `all` before it is passed on: one that holds rows of many megabytes waits
    /// until there is nothing before it, so that they do not add up.
    pub(super) fn places(&self, all: usize) -> usize {
        if self.bytes < LARGE_BYTES { 1 } else { all }
    }

    pub(super) fn take(&mut self) -> Vec<Event> {
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }

    /// Drops everything but what says how the stream is. Which tables come late, as far as that was to be told.
    fn keep_states(&mut self) -> BTreeSet<TableName> {
        let mut late = BTreeSet::new();
        self.events.retain(|event| {
            if let Event::Tables(streamed) = event {
                late.extend(streamed.late.iter().cloned());
            }
            matches!(
                event,
                Event::Stream(_) | Event::Epoch { .. } | Event::FailedOver(_)
            )
        });
        self.bytes = 0;
        late
    }

    fn push(&mut self, event: Event, bytes: usize) {
        // A later position says all that an earlier one said.
        if let (Event::Position(new), Some(Event::Position(old))) = (&event, self.events.last_mut()) {
            *old = *new;
            return;
        }
        self.events.push(event);
        self.bytes += bytes;
    }
}

/// What the plugin's messages are read with.
#[derive(Debug)]
enum Decoder {
    Wal2json(wal2json::Decoder),
    Pgoutput(Box<pgoutput::Decoder>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) progress: Progress,
    pub(super) batch: Batch,
    decoder: Decoder,
    metrics: Arc<Metrics>,
    /// A change of the current transaction that could not be decoded.
    missing: Option<Lsn>,
    /// Where the last change of the current transaction stands, and its number there.
    last: Option<(Lsn, u32)>,
    /// A logical message of ours came: tables may have changed.
    pub(super) announced: bool,
}

impl Intake {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            progress: Progress::default(),
            batch: Batch::default(),
            decoder: Decoder::Wal2json(wal2json::Decoder::new()),
            metrics,
            missing: None,
            last: None,
            announced: false,
        }
    }

    /// From here on wal2json prints.
    pub(super) fn read_wal2json(&mut self) {
        if !matches!(self.decoder, Decoder::Wal2json(_)) {
            self.decoder = Decoder::Wal2json(wal2json::Decoder::new());
        }
    }

    /// From here on pgoutput prints, on a connection that has not described any table yet.
    pub(super) fn read_pgoutput(&mut self, tables: Arc<BTreeSet<TableName>>) {
        let mut decoder =
            match std::mem::replace(&mut self.decoder, Decoder::Wal2json(wal2json::Decoder::new())) {
                Decoder::Pgoutput(decoder) => decoder,
                Decoder::Wal2json(_) => Box::default(),
            };
        decoder.restart(tables);
        self.decoder = Decoder::Pgoutput(decoder);
    }

    /// What an error response in the midst of the stream means.
    pub(super) fn failure(&self, error: ServerError) -> Failure {
        match self.decoder {
            Decoder::Wal2json(_) => Failure::at_work(error),
            Decoder::Pgoutput(_) => Failure::of_pgoutput(error),
        }
    }

    /// Passes on a state of the stream, in its place among the events.
    pub(super) fn tell(&mut self, state: StreamState) {
        self.batch.push(Event::Stream(state), 0);
    }

    /// Positions belong to another history from here on. Must be followed by [`Intake::carry`].
    pub(super) fn begin_epoch(&mut self, lineage: Arc<Lineage>, start: Lsn) {
        self.batch
            .events
            .pop_if(|event| matches!(event, Event::Tables(_)));
        self.batch.push(Event::Epoch { lineage, start }, 0);
    }

    /// The stream goes on in a history that came from the one before.
    pub(super) fn fail_over(&mut self, over: FailedOver) {
        self.missing = None;
        self.batch.push(Event::FailedOver(over), 0);
    }

    /// These tables are streamed from here on, and what was passed on stays so.
    pub(super) fn carry(&mut self, streamed: Streamed) {
        self.batch.push(Event::Tables(streamed), 0);
    }

    /// Another set of tables is streamed from here on, starting behind what was handed over. A set before it that has not left
    /// yet is not told any more, but what came late with it still is.
    pub(super) fn rewind(&mut self, handed_over: Lsn, mut streamed: Streamed) {
        self.progress.rewind(handed_over);
        let untold = self.batch.keep_states();
        if !untold.is_empty() {
            Arc::make_mut(&mut streamed.late).extend(untold);
        }
        self.missing = None;
        self.carry(streamed);
    }

    /// Nothing more comes of what was committed up to here.
    pub(super) fn left_out(&mut self, end: Lsn) {
        self.missing = None;
        self.batch.push(Event::Position(end), 0);
    }

    /// The sender has sent everything before `wal_end`.
    pub(super) fn keepalive(&mut self, wal_end: Lsn) {
        if let Some(position) = self.progress.keepalive(wal_end) {
            self.batch.push(Event::Position(position), 0);
        }
    }

    /// One message of the plugin, `start` being its position on the stream.
    pub(super) fn message(&mut self, start: Lsn, payload: &[u8]) -> Result<(), Failure> {
        let decoded = match &mut self.decoder {
            Decoder::Wal2json(decoder) => decoder.decode(payload).map_err(|e| e.to_string()),
            Decoder::Pgoutput(decoder) => decoder.decode(start, payload).map_err(|e| e.to_string()),
        };
        match decoded {
            Ok(message) => self.take_in(message, payload.len()).map_err(Failure::from),
            Err(error) => {
                self.metrics.changes_undecodable.inc();
                tracing::error!(lsn = %start, bytes = payload.len(), %error, "message could not be decoded");
                self.undecodable(start)
            }
        }
    }

    fn take_in(&mut self, message: Message, bytes: usize) -> Result<(), Disorder> {
        match message {
            Message::Begin(transaction) => {
                self.last = None;
                self.progress.begin(transaction)?;
            }
            Message::Change(change) => self.change(change, bytes)?,
            Message::Truncate(changes) => {
                for change in changes {
                    self.change(change, bytes)?;
                }
            }
            Message::Message {
                transactional,
                lsn,
                prefix,
                ..
            } if !transactional && prefix == HEARTBEAT => {
                // Everything that committed before it has been sent, and that is all it says.
                self.keepalive(lsn);
            }
            Message::Message {
                transactional,
                lsn,
                prefix,
                content,
            } => {
                let passes = match transactional {
                    true => self.passes(lsn)?,
                    false => self.progress.message(lsn),
                };
                if passes {
                    self.announced = true;
                    self.batch.push(Event::Message { lsn, prefix, content }, bytes);
                }
            }
            Message::Nothing => {}
            Message::Commit(transaction) => match self.progress.commit(transaction)? {
                End::Commit(transaction) => {
                    self.metrics.transactions.inc();
                    self.batch.push(Event::Commit(transaction), bytes);
                    self.tell_missing();
                }
                End::Empty(position) => self.batch.push(Event::Position(position), 0),
                End::Skip => {}
            },
        }
        Ok(())
    }

    /// Numbers the changes of one WAL record.
    fn ordinal(&mut self, lsn: Lsn) -> u32 {
        let ordinal = match self.last {
            Some((last, ordinal)) if last == lsn => ordinal + 1,
            _ => 0,
        };
        self.last = Some((lsn, ordinal));
        ordinal
    }

    fn change(&mut self, mut change: Change, bytes: usize) -> Result<(), Disorder> {
        change.ordinal = self.ordinal(change.lsn);
        if self.passes(change.lsn)? {
            self.metrics.changes.inc();
            self.batch.push(Event::Change(change), bytes);
        }
        Ok(())
    }

    /// Whether an item of the transaction is new; passes on its begin before the first.
    fn passes(&mut self, lsn: Lsn) -> Result<bool, Disorder> {
        match self.progress.item(lsn)? {
            Item::Pass => Ok(true),
            Item::First(transaction) => {
                self.batch.push(Event::Begin(transaction), 0);
                Ok(true)
            }
            Item::Skip => {
                self.metrics.changes_repeated.inc();
                Ok(false)
            }
        }
    }

    /// A change that cannot be read must not vanish in silence: behind its transaction the receivers are told that
    /// they missed something. The stream goes on, since the change would come back the same.
    fn undecodable(&mut self, start: Lsn) -> Result<(), Failure> {
        if self.progress.at_boundary() {
            self.missing = Some(start);
            self.tell_missing();
        } else if self.passes(start)? {
            self.missing = Some(start);
        }
        Ok(())
    }

    fn tell_missing(&mut self) {
        if let Some(lsn) = self.missing.take() {
            let what = format!("a change at {lsn} could not be decoded and is missing");
            self.tell(StreamState::Reset(what));
            self.tell(StreamState::Live);
        }
    }
}

impl From<Disorder> for Failure {
    fn from(disorder: Disorder) -> Self {
        match disorder {
            Disorder::Order => Self::Protocol("begin, changes and commit are out of order"),
            Disorder::Diverged(end) => Self::Diverged(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_batches_wait_for_an_empty_channel() {
        let mut batch = Batch::default();
        batch.push(Event::Position(Lsn(1)), MAX_BYTES);
        assert_eq!((batch.is_full(), batch.places(16)), (true, 1));
        batch.push(Event::Stream(StreamState::Live), LARGE_BYTES);
        assert_eq!(batch.places(16), 16);
        batch.take();
        assert_eq!(batch.places(16), 1);
    }

    /// Whoever asks for other tables must still hear what came late of those before, which nobody will say again.
    #[test]
    fn what_is_late_is_told_whatever_is_asked_for_meanwhile() {
        let late = |tables: &[&str]| Streamed {
            late: Arc::new(
                tables
                    .iter()
                    .map(|table| TableName::new("public", table))
                    .collect(),
            ),
            ..Streamed::default()
        };
        let mut intake = Intake::new(Metrics::new());
        intake.carry(late(&["a"]));
        intake.batch.push(Event::Position(Lsn(5)), 0);
        intake.rewind(Lsn(0), late(&["b"]));
        intake.rewind(Lsn(0), late(&[]));
        let events = intake.batch.take();
        match events.as_slice() {
            [Event::Tables(told)] => assert_eq!(*told, late(&["a", "b"])),
            other => panic!("{other:?}"),
        }
        intake.rewind(Lsn(0), late(&[]));
        assert!(matches!(intake.batch.take().as_slice(), [Event::Tables(told)] if told.late.is_empty()));
    }
}
