//! The replay window: the row changes of the last minutes, and from which places somebody can go on without a gap.
//!
//! Plain data and arithmetic: no clock, no I/O, and no idea of who may see what. What leaves the window may be confirmed to
//! the slot; after a crash, Postgres sends the rest again and the window is what it was.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::change::{
    Change, Elsewhere, Epoch, Lineage, Lsn, Position, Row, Seen, Since, TableName, Transaction,
};

/// How much is kept. Each bound holds.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Age at which changes leave; zero keeps none.
    pub age: Duration,
    /// Bytes of memory, roughly.
    pub bytes: usize,
}

/// Why somebody cannot go on from a place. `Display` is for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// The place belongs to another history.
    #[error("the database was replaced or restored")]
    Epoch,
    /// The place belongs to a history that the database has left, and is behind where it did.
    #[error("the database failed over, and the last of what was seen may be gone")]
    Undone,
    /// What came behind the place has left the window.
    #[error("what was missed is older than the replay window")]
    TooOld,
    /// The place lies ahead of all that has happened.
    #[error("the cursor is ahead of the database")]
    Ahead,
    /// The table's changes were not followed all the time.
    #[error("table {0} was not followed all the time")]
    Table(TableName),
}

/// Bytes that a change takes beside the text of its rows, and a value beside its text.
const PER_CHANGE: usize = 200;
const PER_VALUE: usize = 12;

/// How often the position is noted in a window.
const MARKS: u32 = 16;

/// Transactions that have left and are remembered, so that a snapshot that does not see them is told to be too late.
const REMEMBERED: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub struct History {
    bounds: Bounds,
    lineage: Option<Arc<Lineage>>,
    /// Some changes of one transaction each; a large one comes in parts.
    parts: VecDeque<Part>,
    bytes: usize,
    /// Whoever stands here or behind can go on.
    floor: Position,
    /// May be confirmed.
    left: Lsn,
    /// Where the stream was, and when, a few times in a window.
    marks: VecDeque<(Instant, Lsn)>,
    /// Those that left last.
    gone: VecDeque<u32>,
    /// The tables whose changes come, each with the position from which on they have.
    carried: HashMap<TableName, Lsn>,
}

#[derive(Debug)]
struct Part {
    transaction: Arc<Transaction>,
    /// Everything that was committed up to here had been delivered before.
    before: Lsn,
    /// Changes in front of it, some of which may have left.
    preceded: usize,
    changes: Vec<Change>,
    bytes: usize,
    at: Instant,
}

impl Part {
    fn end(&self) -> Position {
        match self.changes.last() {
            Some(change) => Position::of(&self.transaction, change),
            None => Position::behind(self.transaction.place()),
        }
    }
}

impl History {
    /// An empty window, from which nobody can go on until an epoch begins.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            lineage: None,
            parts: VecDeque::new(),
            bytes: 0,
            floor: Position::default(),
            left: Lsn::default(),
            marks: VecDeque::new(),
            gone: VecDeque::new(),
            carried: HashMap::new(),
        }
    }

    /// Which history is kept here.
    pub fn epoch(&self) -> Option<Epoch> {
        self.lineage.as_ref().map(|lineage| lineage.epoch())
    }

    /// Everything that comes belongs to this history, and was committed behind `start`.
    pub fn begin(&mut self, lineage: Arc<Lineage>, start: Lsn) {
        *self = Self {
            lineage: Some(lineage),
            floor: Position::behind(start),
            left: start,
            ..Self::new(self.bounds)
        };
    }

    /// Everything that comes belongs to another history, which came from this one and left it there: what was committed behind
    /// has never happened.
    pub fn fail_over(&mut self, lineage: Arc<Lineage>, left: Lsn) {
        self.lineage = Some(lineage);
        while let Some(part) = self.parts.pop_back_if(|part| part.transaction.place() > left) {
            self.bytes -= part.bytes;
        }
        for (_, position) in &mut self.marks {
            *position = (*position).min(left);
        }
        for from in self.carried.values_mut() {
            *from = (*from).min(left);
        }
        self.left = self.left.min(left);
        self.floor = self.floor.min(Position::behind(left));
    }

    /// The changes of these tables come from here on.
    pub fn carry(&mut self, tables: &BTreeSet<TableName>, from: Lsn) {
        self.carried.retain(|table, _| tables.contains(table));
        for table in tables {
            self.carried.entry(table.clone()).or_insert(from);
        }
    }

    /// From here on the name means another table.
    pub fn replaced(&mut self, table: &TableName, at: Lsn) {
        if let Some(since) = self.carried.get_mut(table) {
            *since = at;
        }
    }

    /// Keeps changes of a transaction that have been delivered, as everything that was committed up to `before` has.
    pub fn push(
        &mut self,
        transaction: &Arc<Transaction>,
        mut changes: Vec<Change>,
        before: Lsn,
        at: Instant,
    ) {
        let Some(last) = changes.last() else { return };
        if self.bounds.age.is_zero() {
            self.floor = Position::of(transaction, last);
            self.remember(transaction.xid);
            return;
        }
        changes.shrink_to_fit();
        let bytes = changes.iter().map(weight).sum();
        let preceded = self.total();
        self.bytes += bytes;
        self.parts.push_back(Part {
            transaction: Arc::clone(transaction),
            before,
            preceded,
            changes,
            bytes,
            at,
        });
    }

    /// The transaction that came last is void, or comes again from its begin.
    pub fn abandon(&mut self, transaction: &Transaction) {
        while let Some(part) = self
            .parts
            .pop_back_if(|part| part.transaction.commit_lsn == transaction.commit_lsn)
        {
            self.bytes -= part.bytes;
        }
    }

    /// Something may be missing from what was committed up to here: nobody goes on from before.
    pub fn interrupt(&mut self, position: Lsn) {
        for part in std::mem::take(&mut self.parts) {
            self.remember(part.transaction.xid);
        }
        self.bytes = 0;
        self.marks.clear();
        self.left = self.left.max(position);
        self.floor = self.floor.max(Position::behind(position));
    }

    /// Lets go of what is too old or too much, with everything committed up to `position` delivered, and of what keeps Postgres
    /// from dropping more than `wal` bytes of WAL. Returns up to where the slot may be confirmed: not beyond where the stream was
    /// a window ago, so that after a restart, too, whoever was away for less can go on.
    pub fn settle(&mut self, now: Instant, position: Lsn, wal: u64) -> Lsn {
        self.note(now, position);
        while let Some(first) = self.parts.front() {
            let old = now.saturating_duration_since(first.at) >= self.bounds.age;
            let far = position.0.saturating_sub(first.before.0) > wal;
            if !old && !far && self.bytes <= self.bounds.bytes {
                break;
            }
            self.drop_first();
        }
        let needed = self.parts.front().map_or(position, |first| first.before);
        let far = position.0.saturating_sub(self.left.0) > wal;
        let past = if far || self.bounds.age.is_zero() {
            needed
        } else {
            self.a_window_ago(now)
        };
        self.left = self.left.max(past.min(needed));
        self.left
    }

    /// Notes where the stream is now, a few times in a window.
    fn note(&mut self, now: Instant, position: Lsn) {
        let due = |last: &(Instant, Lsn)| now.saturating_duration_since(last.0) >= self.bounds.age / MARKS;
        if self.marks.back().is_none_or(due) {
            self.marks.push_back((now, position));
        }
    }

    /// Where the stream was then, or before.
    fn a_window_ago(&mut self, now: Instant) -> Lsn {
        let old = |(at, _): &(Instant, Lsn)| now.saturating_duration_since(*at) >= self.bounds.age;
        while self.marks.get(1).is_some_and(old) {
            self.marks.pop_front();
        }
        let first = self.marks.front().filter(|mark| old(mark));
        first.map_or(self.left, |(_, position)| *position)
    }

    fn drop_first(&mut self) {
        let Some(part) = self.parts.pop_front() else {
            return;
        };
        self.bytes -= part.bytes;
        self.floor = part.end();
        self.remember(part.transaction.xid);
    }

    /// Some of a transaction is not here any more.
    fn remember(&mut self, xid: u32) {
        if self.gone.back() != Some(&xid) {
            self.gone.push_back(xid);
        }
        if self.gone.len() > REMEMBERED {
            self.gone.pop_front();
        }
    }

    /// From where somebody can go on who wants to from there, in this history, with everything committed up to `position`
    /// delivered and these tables followed.
    ///
    /// # Errors
    /// What would be missing.
    pub fn reaches<'t>(
        &self,
        since: &Since,
        position: Lsn,
        tables: impl IntoIterator<Item = &'t TableName>,
    ) -> Result<Since, Gap> {
        let here = self.here(since)?;
        let at = here.cursor.position;
        if at.commit > position {
            return Err(Gap::Ahead);
        }
        let seen = since.seen.as_ref().filter(|_| !since.passed);
        if at < self.floor || seen.is_some_and(|seen| self.missed(seen)) {
            return Err(Gap::TooOld);
        }
        for table in tables {
            if self.carried.get(table).is_none_or(|from| *from > at.commit) {
                return Err(Gap::Table(table.clone()));
            }
        }
        Ok(here)
    }

    /// The same place in this history.
    fn here(&self, since: &Since) -> Result<Since, Gap> {
        let lineage = self.lineage.as_ref().ok_or(Gap::Epoch)?;
        let cursor = lineage.here(since.cursor).map_err(|elsewhere| match elsewhere {
            Elsewhere::Unrelated => Gap::Epoch,
            Elsewhere::Undone => Gap::Undone,
        })?;
        // A snapshot sees further than its place, and transactions that are gone have left their numbers to others.
        if since.seen.is_some() && since.cursor.epoch != cursor.epoch {
            return Err(Gap::Undone);
        }
        Ok(Since {
            cursor,
            ..since.clone()
        })
    }

    /// A snapshot does not see a transaction that has left.
    fn missed(&self, seen: &Seen) -> bool {
        self.gone.iter().any(|xid| !seen.sees(*xid))
    }

    /// Whoever stands here or behind can go on.
    pub fn floor(&self) -> Position {
        self.floor
    }

    /// The next changes behind a place, all of one transaction.
    pub fn next(&self, behind: Position) -> Option<(&Arc<Transaction>, &[Change])> {
        let (part, known) = self.find(behind)?;
        Some((&part.transaction, part.changes.get(known..)?))
    }

    /// How many changes there are behind a place.
    pub fn behind(&self, place: Position) -> usize {
        let found = self.find(place);
        found.map_or(0, |(part, known)| self.total() - part.preceded - known)
    }

    /// The part that has the next change behind a place, and how many are in front of it there.
    fn find(&self, behind: Position) -> Option<(&Part, usize)> {
        let first = self.parts.partition_point(|part| part.end() <= behind);
        let part = self.parts.get(first)?;
        let of = |change: &Change| Position::of(&part.transaction, change);
        let known = part.changes.partition_point(|change| of(change) <= behind);
        Some((part, known))
    }

    /// [`Part::preceded`] of the next one.
    fn total(&self) -> usize {
        let last = self.parts.back();
        last.map_or(0, |part| part.preceded + part.changes.len())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes held.
    pub fn changes(&self) -> usize {
        self.parts.iter().map(|part| part.changes.len()).sum()
    }

    /// When the oldest came.
    pub fn oldest(&self) -> Option<Instant> {
        self.parts.front().map(|part| part.at)
    }
}

fn weight(change: &Change) -> usize {
    let row = |row: &Row| row.text_bytes() + row.layout().columns.len() * PER_VALUE;
    let rows = change.new.iter().chain(&change.old);
    PER_CHANGE + rows.map(row).sum::<usize>()
}
