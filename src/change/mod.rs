//! What a committed transaction looks like inside Rowcast: positions, rows and their text.
//!
//! Plain data. No I/O, no JSON for clients, no catalog: a change knows the names and type oids that came with it
//! in the WAL and nothing else. Both decoders (`replication::wal2json` and `replication::pgoutput`) produce these types.

mod cursor;
mod lineage;
mod lsn;
mod row;

pub use cursor::{Cursor, Epoch, InvalidCursor, Mark, Position, Seen, Since};
pub use lineage::{Elsewhere, Lineage};
pub use lsn::{InvalidLsn, Lsn};
pub use row::{Layout, LayoutColumn, Row, RowBuilder, Value};

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A table's schema and name as the catalog spells them: unquoted, case kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Schema, for example `public`.
    pub schema: Arc<str>,
    /// Relation name without the schema.
    pub table: Arc<str>,
}

impl TableName {
    /// Builds a name from its two parts.
    pub fn new(schema: &str, table: &str) -> Self {
        Self {
            schema: Arc::from(schema),
            table: Arc::from(table),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// What happened to a row (or, for `Truncate`, to a whole table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A new row; `Change::new` is set.
    Insert,
    /// A new version of a row; `Change::new` is set, `Change::old` as the replica identity carries it.
    Update,
    /// A removed row; `Change::old` holds what the replica identity carries.
    Delete,
    /// The table was emptied; neither row is set.
    Truncate,
}

impl Action {
    /// The name on the wire: `INSERT`, `UPDATE`, `DELETE` or `TRUNCATE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
        }
    }
}

/// One row change of a committed transaction.
#[derive(Clone, Debug)]
pub struct Change {
    /// Position of the change's own WAL record (not of its commit).
    pub lsn: Lsn,
    /// Which of the transaction's consecutive changes with this position it is, from 0: one record can insert many rows.
    pub ordinal: u32,
    /// Insert, update, delete or truncate.
    pub action: Action,
    /// The table, by the name it had when the change was decoded.
    pub table: TableName,
    /// The new row version. Unchanged TOAST columns are absent or [`Value::Unchanged`].
    pub new: Option<Row>,
    /// The old row as far as the replica identity carries it: key columns, or the whole row under FULL.
    pub old: Option<Row>,
    /// Bytes this change took on the replication stream; the 1 MiB rule of `postgres_changes` counts these.
    pub wire_bytes: usize,
}

/// What every change of one transaction shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Transaction id, modulo 2^32 as Postgres prints it.
    pub xid: u32,
    /// Start of the commit record. Orders transactions, and is known from the begin on, whatever decodes the WAL.
    pub commit_lsn: Lsn,
    /// End of the commit record: once this is confirmed, the transaction is not sent again. Only [`Event::Commit`] is sure
    /// to carry it: pgoutput does not say it before, and it is zero until then.
    pub end_lsn: Lsn,
    /// Commit time in microseconds since the Unix epoch.
    pub commit_micros: i64,
}

/// How far the receiver of the stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// Of which history the positions are, once that is known.
    pub epoch: Option<Epoch>,
    /// Everything committed up to here has been delivered: within this process it need not come again.
    pub delivered: Lsn,
    /// Everything committed up to here is not needed by the next process either, and may be confirmed to the slot.
    pub confirmable: Lsn,
}

impl From<Lsn> for HandedOver {
    fn from(lsn: Lsn) -> Self {
        Self {
            epoch: None,
            delivered: lsn,
            confirmable: lsn,
        }
    }
}

impl Transaction {
    /// Where it stands among the others: just behind the start of its commit record. Everything that committed before it ends
    /// before this, and it ends behind this.
    pub fn place(&self) -> Lsn {
        Lsn(self.commit_lsn.0.saturating_add(1))
    }
}

/// What the replication stream hands to the feed, in stream order.
#[derive(Clone, Debug)]
pub enum Event {
    /// A committed transaction starts; its changes follow, then exactly one [`Event::Commit`].
    Begin(Arc<Transaction>),
    /// A row change of the transaction that was begun last.
    Change(Change),
    /// A logical message (`pg_logical_emit_message`), transactional ones in their place within the transaction.
    Message {
        /// Position of its WAL record.
        lsn: Lsn,
        /// The prefix its sender gave it.
        prefix: String,
        /// Its content as text.
        content: String,
    },
    /// The transaction that was begun last is complete.
    Commit(Arc<Transaction>),
    /// Everything committed before this position has been handed over (from a keepalive).
    Position(Lsn),
    /// From here on the stream carries the changes of these tables. If the receiver has asked for this very set, it starts behind
    /// the position that was handed over last: what came between that position and this event comes again. Otherwise it goes on
    /// where it is, which is between two transactions.
    Tables(Streamed),
    /// Positions from here on belong to this history, and everything that was committed behind `start` follows.
    Epoch {
        /// Which.
        lineage: Arc<Lineage>,
        /// Where the slot stood.
        start: Lsn,
    },
    /// Postgres has failed over, and the stream goes on.
    FailedOver(FailedOver),
    /// The state of the stream itself changed.
    Stream(StreamState),
}

/// The database goes on under another history, which came from the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedOver {
    /// Positions from here on belong to this history.
    pub lineage: Arc<Lineage>,
    /// Where the one before was left: what follows was committed behind that, and what came before this event and was committed
    /// behind it has never happened.
    pub left: Lsn,
    /// Something of that kind came: what is to be said of it.
    pub undone: Option<String>,
}

/// The tables that the stream carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streamed {
    /// Those that were asked for.
    pub tables: Arc<BTreeSet<TableName>>,
    /// Those of them whose changes do not come: nothing may be concluded from not hearing of them.
    pub missing: Arc<BTreeSet<TableName>>,
    /// Those whose changes come only from `from` on: what they committed before may not come.
    pub late: Arc<BTreeSet<TableName>>,
    /// See `late`.
    pub from: Lsn,
    /// A table that is made anew under the name of one of these does not come before it is asked for once more, by another
    /// value of the set.
    pub by_identity: bool,
}

/// Whether changes are flowing, as operators and subscribers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// Not connected yet; nothing has been tried.
    Starting,
    /// Connected and streaming.
    Live,
    /// The connection is gone or was refused and is being retried; the text says why and what to do.
    Interrupted(String),
    /// The stream came back at a place that does not continue the old one (slot recreated, other system or
    /// timeline): changes may have been missed. The text says why.
    Reset(String),
}

/// The state of the stream, for those who look now and then: a reset that is over is not lost on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// What holds now.
    pub state: StreamState,
    /// How often it was [`StreamState::Reset`] so far.
    pub resets: u64,
    /// Why, the last time.
    pub last_reset: Option<Arc<str>>,
}

impl StreamStatus {
    /// Changes flow.
    pub fn flows(&self) -> bool {
        matches!(self.state, StreamState::Live | StreamState::Reset(_))
    }

    /// Takes over another state; whether that is news. Streaming goes on right after a reset, and both mean that changes flow.
    pub fn becomes(&mut self, state: StreamState) -> bool {
        if let StreamState::Reset(why) = &state {
            self.resets += 1;
            self.last_reset = Some(why.as_str().into());
        } else if self.state == state || (state == StreamState::Live && self.flows()) {
            return false;
        }
        self.state = state;
        true
    }
}

impl From<StreamState> for StreamStatus {
    /// Without a reset before.
    fn from(state: StreamState) -> Self {
        let mut status = Self {
            state: StreamState::Starting,
            resets: 0,
            last_reset: None,
        };
        status.becomes(state);
        status
    }
}
