//! The changes of the transaction that is coming, until its commit: by then it is known what it did to the tables that
//! policies read, and all its rows are judged by that.

use crate::change::{Change, Row};

/// Changes of one transaction, in order.
#[derive(Debug, Default)]
pub(super) struct Held {
    changes: Vec<Change>,
    bytes: usize,
    /// It is judged as it comes: it was too large to hold, or changed the catalog.
    pub(super) streams: bool,
    /// The catalog has been read since everybody could see what the transaction did: that goes for all of its statements.
    pub(super) reread: bool,
}

/// Most changes of one transaction that wait for its commit, and most bytes of their rows' text.
pub(super) const MOST_CHANGES: usize = 4096;
const MOST_BYTES: usize = 8 * 1024 * 1024;

impl Held {
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
