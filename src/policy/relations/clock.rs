//! Which changes a reading has to come after, for those who read while the stream goes on.
//!
//! The WAL of a commit can be read a moment before its rows can be seen. So whoever reads takes the time first: it says
//! which transactions, passed by the stream already, may not be visible yet. A reading that waits for those holds until
//! the next change of a table that it reads comes down the stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A place in the stream.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// Grows with every change that is marked.
    version: u64,
    /// Transactions marked so far that may not be visible yet, ascending.
    writers: Vec<i64>,
}

impl Moment {
    pub(in crate::policy) fn writers(&self) -> &[i64] {
        &self.writers
    }
}

/// Tells the time. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Mutex<Moment>>);

impl Clock {
    /// The place that the stream is at.
    pub fn now(&self) -> Moment {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn advance(&self, advance: impl FnOnce(&mut Moment)) {
        advance(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What was marked, and when.
#[derive(Debug, Default)]
pub(super) struct Marks {
    clock: Clock,
    version: u64,
    /// Version of each table's last change.
    tables: HashMap<u32, u64>,
    /// Version at which everything was marked.
    everything: u64,
    /// The last change marked: table and transaction.
    last: Option<(u32, u32)>,
}

/// Writers after which it is time to look which of them have ended: each of them costs a reading some microseconds.
const MANY_WRITERS: usize = 256;

impl Marks {
    pub(super) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// A table was changed by a transaction.
    pub(super) fn change(&mut self, table: u32, xid: u32) {
        // Whoever took the time since will wait for that same transaction.
        if self.last == Some((table, xid)) {
            return;
        }
        self.last = Some((table, xid));
        self.version += 1;
        self.tables.insert(table, self.version);
        self.publish(Some(xid));
    }

    /// Anything may have changed.
    pub(super) fn everything(&mut self, xid: Option<u32>) {
        self.last = None;
        self.version += 1;
        self.everything = self.version;
        self.tables.clear();
        self.publish(xid);
    }

    fn publish(&self, xid: Option<u32>) {
        self.clock.advance(|moment| {
            moment.version = self.version;
            add(&mut moment.writers, xid);
        });
    }

    /// What was marked elsewhere by then may not be visible yet, either.
    pub(super) fn follow(&mut self, moment: &Moment) {
        self.clock.advance(|own| {
            for writer in &moment.writers {
                if let Err(place) = own.writers.binary_search(writer) {
                    own.writers.insert(place, *writer);
                }
            }
        });
    }

    /// Transactions that may not be visible yet, and one more.
    pub(super) fn writers(&self, after: Option<u32>) -> Vec<i64> {
        let mut writers = self.clock.now().writers;
        add(&mut writers, after);
        writers
    }

    /// These are visible to everybody.
    pub(super) fn seen(&mut self, writers: &[i64]) {
        // A later change by one of them is another mark, whose readers need not wait.
        self.last = None;
        self.clock.advance(|moment| {
            moment
                .writers
                .retain(|writer| writers.binary_search(writer).is_err());
        });
    }

    /// Nobody has to wait for transactions of before.
    pub(super) fn forget_writers(&mut self) {
        self.last = None;
        self.clock.advance(|moment| moment.writers.clear());
    }

    /// It is time to look.
    pub(super) fn is_long(&self) -> bool {
        let clock = self.clock.0.lock().unwrap_or_else(PoisonError::into_inner);
        clock.writers.len() > MANY_WRITERS
    }

    /// Whether what was read of these tables as of a moment is what they are now.
    pub(super) fn holds<'a>(&self, moment: &Moment, mut tables: impl Iterator<Item = &'a u32>) -> bool {
        let since = |version: &u64| *version <= moment.version;
        since(&self.everything) && tables.all(|table| self.tables.get(table).is_none_or(since))
    }
}

fn add(writers: &mut Vec<i64>, xid: Option<u32>) {
    let Some(xid) = xid.map(i64::from) else { return };
    if let Err(place) = writers.binary_search(&xid) {
        writers.insert(place, xid);
    }
}
