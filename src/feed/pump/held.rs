//! The changes of the transaction that is coming, until its commit: by then it is known what it did to the tables that
//! policies read, and all its rows are judged by that.

use crate::change::{Change, Lsn, Row, Transaction};

/// Changes of one transaction, in order.
#[derive(Debug, Default)]
pub(super) struct Held {
    changes: Vec<Change>,
    bytes: usize,
    /// It is judged as it comes: it was too large to hold, or changed the catalog.
    pub(super) streams: bool,
    /// The catalog has been read since everybody could see what the transaction did: that goes for all of its statements.
    pub(super) reread: bool,
    /// What stands up to here in the stream was judged when the transaction came for the first time.
    judged: Option<Lsn>,
}

/// A transaction that made a table which the stream did not carry: it comes again with that table, and goes on behind the
/// place where this was known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    xid: u32,
    commit_micros: i64,
    judged: Lsn,
}

impl Again {
    /// This transaction, up to this place.
    pub(super) fn of(transaction: &Transaction, judged: Lsn) -> Self {
        Self {
            xid: transaction.xid,
            commit_micros: transaction.commit_micros,
            judged,
        }
    }

    fn is(&self, transaction: &Transaction) -> bool {
        (self.xid, self.commit_micros) == (transaction.xid, transaction.commit_micros)
    }
}

/// Most changes of one transaction that wait for its commit, and most bytes of their rows' text.
pub(super) const MOST_CHANGES: usize = 4096;
const MOST_BYTES: usize = 8 * 1024 * 1024;

impl Held {
    /// Nothing yet of this transaction, which may be the one that comes again.
    pub(super) fn begin(transaction: &Transaction, again: Option<Again>) -> Self {
        let again = again.filter(|again| again.is(transaction));
        Self {
            reread: again.is_some(),
            judged: again.map(|again| again.judged),
            ..Self::default()
        }
    }

    /// Whether what stands at this position was judged before.
    pub(super) fn knows(&self, lsn: Lsn) -> bool {
        self.judged.is_some_and(|judged| lsn <= judged)
    }

    pub(super) fn push(&mut self, change: Change) {
        let rows = change.new.iter().chain(&change.old);
        self.bytes += rows.map(Row::text_bytes).sum::<usize>();
        self.changes.push(change);
    }

    pub(super) fn is_full(&self) -> bool {
        self.changes.len() >= MOST_CHANGES || self.bytes >= MOST_BYTES
    }

    pub(super) fn take(&mut self) -> Vec<Change> {
        self.bytes = 0;
        std::mem::take(&mut self.changes)
    }
}
