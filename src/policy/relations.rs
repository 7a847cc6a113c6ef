//! What the subqueries of policies returned, held in memory and kept right: one relation per class of subscribers that
//! share it, read from Postgres, out of date as soon as the stream brings a change that it may depend on, and then read
//! again before the next row is judged by it.
//!
//! Nothing here is answered from what may be out of date: [`Relations::get`] then stops with [`Stop::Ask`].

mod clock;
mod concern;
mod contents;
mod reader;
#[cfg(test)]
mod tests;

pub use clock::{Clock, Moment};
pub use reader::RelationReader;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::relation::{ParamKey, RelationQuery, RelationRequest};
use crate::change::Change;
use crate::expression::{Relation, Stop};
use crate::postgres::catalog::Table;
use crate::telemetry::Metrics;
use clock::Marks;
use concern::Concerns;
use contents::Contents;

/// A relation that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelationId(u64);

/// The bounds of the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Most rows of all relations together.
    pub(super) rows: usize,
    /// How long what could not be read is not tried again.
    pub(super) pause: Duration,
}

/// Every relation that somebody holds. Has one owner, the pump for rows; nothing in here is locked.
#[derive(Debug)]
pub struct Relations {
    bounds: Bounds,
    metrics: Arc<Metrics>,
    held: HashMap<RelationId, Held>,
    shared: HashMap<Shared, RelationId>,
    next: u64,
    concerns: Concerns,
    /// Tables whose changes reach [`Relations::changed`], all of them.
    watched: HashSet<u32>,
    /// To be read.
    stale: BTreeSet<RelationId>,
    /// To be read, but not before.
    paused: BTreeSet<(Instant, RelationId)>,
    /// There was no room for them.
    crowded: HashSet<RelationId>,
    rows: usize,
    /// Counts what was taken in.
    readings: u64,
    marks: Marks,
    /// Its part of the gauges: relations and rows.
    counted: (i64, i64),
}

#[derive(Debug)]
struct Held {
    request: RelationRequest,
    reader: Arc<str>,
    uses: usize,
    contents: Contents,
    paused: Option<Instant>,
    /// Every table that it reads is watched.
    watched: bool,
}

/// What has to be equal for two holders to share a relation. The query counts by identity: the numbers of its
/// parameters mean something only in the program that it is of.
#[derive(Clone, Debug)]
struct Shared {
    query: Arc<RelationQuery>,
    reader: Arc<str>,
    params: Vec<ParamKey>,
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.query, &other.query) && self.reader == other.reader && self.params == other.params
    }
}

impl Eq for Shared {}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.query).hash(state);
        self.reader.hash(state);
        self.params.hash(state);
    }
}

/// Relations read in one go by [`Relations::refresh`].
const AT_ONCE: usize = 512;

impl Relations {
    pub(super) fn new(bounds: Bounds, metrics: Arc<Metrics>) -> Self {
        Self {
            bounds,
            metrics,
            held: HashMap::new(),
            shared: HashMap::new(),
            next: 0,
            concerns: Concerns::default(),
            watched: HashSet::new(),
            stale: BTreeSet::new(),
            paused: BTreeSet::new(),
            crowded: HashSet::new(),
            rows: 0,
            readings: 0,
            marks: Marks::default(),
            counted: (0, 0),
        }
    }

    /// Says whose changes will be passed to [`Relations::changed`]. A relation that reads any other table is never
    /// kept.
    pub fn watch(&mut self, tables: HashSet<u32>) {
        self.watched = tables;
        let ids: Vec<RelationId> = self.held.keys().copied().collect();
        for id in ids {
            let Some(held) = self.held.get_mut(&id) else {
                continue;
            };
            let watched = covered(&held.request.query, &self.watched);
            if watched != held.watched {
                held.watched = watched;
                self.mark(id);
            }
        }
    }

    /// Keeps the relation of this request for `role` until it is released as often as it was held. A new one has to be
    /// read first ([`Relations::offer`], [`Relations::refresh`]).
    ///
    /// Requests share a relation only if they share the query itself (one [`Arc`]) and have equal parameters: whoever
    /// makes queries decides what may be shared.
    pub fn hold(&mut self, request: &RelationRequest, role: &Arc<str>) -> RelationId {
        let reader = reader::reader(request, role);
        let shared = Shared {
            query: Arc::clone(&request.query),
            reader: Arc::clone(reader),
            params: request.params.clone(),
        };
        if let Some(id) = self.shared.get(&shared) {
            if let Some(held) = self.held.get_mut(id) {
                held.uses += 1;
            }
            return *id;
        }
        let id = RelationId(self.next);
        self.next += 1;
        self.shared.insert(shared, id);
        self.concerns.insert(id, request);
        let held = Held {
            request: request.clone(),
            reader: Arc::clone(reader),
            uses: 1,
            contents: Contents::Unread,
            paused: None,
            watched: covered(&request.query, &self.watched),
        };
        self.held.insert(id, held);
        self.mark(id);
        self.count();
        id
    }

    /// Gives up one hold.
    pub fn release(&mut self, id: RelationId) {
        let Some(held) = self.held.get_mut(&id) else {
            return;
        };
        held.uses = held.uses.saturating_sub(1);
        if held.uses > 0 {
            return;
        }
        let Some(held) = self.held.remove(&id) else { return };
        self.concerns.remove(id, &held.request);
        self.rows -= held.contents.rows();
        self.stale.remove(&id);
        self.crowded.remove(&id);
        if let Some(until) = held.paused {
            self.paused.remove(&(until, id));
        }
        self.shared.remove(&Shared {
            query: held.request.query,
            reader: held.reader,
            params: held.request.params,
        });
        // With some room to spare: it is not worth reading what has to go again at once.
        if self.rows < self.bounds.rows / 4 * 3 {
            for crowded in std::mem::take(&mut self.crowded) {
                self.mark(crowded);
            }
        }
        self.count();
    }

    /// The relation, as the stream has it so far.
    ///
    /// # Errors
    /// The subquery raised; Postgres has to be asked, since the relation is not kept or out of date; or it could not be
    /// read in time.
    pub fn get(&self, id: RelationId) -> Result<&Relation, Stop> {
        match self.held.get(&id) {
            Some(held) if held.watched => held.contents.get(),
            Some(_) => Err(Stop::ask(
                "a subquery reads a table whose changes cannot be followed",
            )),
            None => Err(Stop::ask("a subquery that nobody holds")),
        }
    }

    /// A row of this table changed, in the transaction with this id (32 bits): what may depend on that row is out of
    /// date. `table` gives the columns their names; for a partition's row, this is called for the table that policies
    /// name.
    pub fn changed(&mut self, table: &Table, change: &Change, xid: u32) {
        self.marks.change(table.oid, xid);
        for id in self.concerns.of(table, change, self.readings) {
            self.mark(id);
        }
    }

    /// Everything is out of date: rows may have changed that were not passed on. With the transaction that changed
    /// them, if it was one.
    pub fn invalidate_all(&mut self, xid: Option<u32>) {
        self.marks.everything(xid);
        let ids: Vec<RelationId> = self.held.keys().copied().collect();
        for id in ids {
            self.mark(id);
        }
    }

    /// Has one read again.
    pub fn outdate(&mut self, id: RelationId) {
        self.mark(id);
    }

    /// Whether it is to be read.
    pub fn is_stale(&self, id: RelationId) -> bool {
        self.stale.contains(&id)
    }

    /// Readings from now on come after all that was marked, by this moment, in the store that it is of.
    pub fn follow(&mut self, moment: &Moment) {
        self.marks.follow(moment);
    }

    /// The stream does not continue where it was: everything is out of date, and transactions of before may be unknown
    /// to the server that is asked now.
    pub fn reset(&mut self) {
        self.marks.forget_writers();
        self.invalidate_all(None);
    }

    /// Something has to be read before rows are judged.
    pub fn stale(&self) -> bool {
        let due = |(until, _): &(Instant, RelationId)| *until <= Instant::now();
        !self.stale.is_empty() || self.paused.first().is_some_and(due)
    }

    /// So many transactions have changed tables since the last reading that it is time to see which of them have ended,
    /// also where nothing has to be read: [`Relations::refresh`] does.
    pub fn lags(&self) -> bool {
        self.marks.is_long()
    }

    /// Reads some of what is out of date, as it is once all changes so far can be seen, the transaction `after` among
    /// them; returns the relations that are not what they were when they were read last. Call it until nothing is
    /// [`Relations::stale`]. A database that is gone for the moment is waited for.
    pub async fn refresh(&mut self, reader: &RelationReader, after: Option<u32>) -> Vec<RelationId> {
        self.resume();
        let ids: Vec<RelationId> = self.stale.iter().take(AT_ONCE).copied().collect();
        let asked: Vec<(RelationRequest, Arc<str>)> = ids
            .iter()
            .filter_map(|id| self.held.get(id))
            .map(|held| (held.request.clone(), Arc::clone(&held.reader)))
            .collect();
        let writers = self.marks.writers(after);
        let read = reader.insist(&asked, &writers).await;
        if read.seen {
            self.marks.seen(&writers);
        }
        let mut changed = Vec::new();
        for (id, result) in ids.into_iter().zip(read.results) {
            if self.put(id, result) {
                changed.push(id);
            }
        }
        if read.exhausted {
            let late = std::mem::take(&mut self.stale);
            changed.extend(late.into_iter().filter(|id| self.put(*id, Err(reader::late()))));
        }
        self.count();
        changed
    }

    /// Takes a relation that was read elsewhere, as of `moment`, if it is still right; whether that was of use. The
    /// moment must have been taken before the reading began, from this store's [`Relations::clock`].
    pub fn offer(&mut self, id: RelationId, read: Result<Relation, Stop>, moment: &Moment) -> bool {
        let wanted = self.stale.contains(&id)
            && !matches!(read, Err(Stop::Unavailable(_)))
            && self
                .held
                .get(&id)
                .is_some_and(|held| self.marks.holds(moment, held.request.query.reads.iter()));
        if wanted {
            self.put(id, read);
            self.count();
        }
        wanted
    }

    /// What tells those who read elsewhere which transactions their reading has to come after.
    pub fn clock(&self) -> Clock {
        self.marks.clock()
    }

    /// Whether these tables are followed and no change of theirs, nor anything that could be one, has come since a moment.
    pub fn unchanged<'a>(&self, moment: &Moment, tables: impl Iterator<Item = &'a u32> + Clone) -> bool {
        tables.clone().all(|table| self.watched.contains(table)) && self.marks.holds(moment, tables)
    }

    /// Has a relation read again.
    fn mark(&mut self, id: RelationId) {
        let Some(held) = self.held.get_mut(&id) else {
            return;
        };
        if !held.watched {
            self.rows -= held.contents.rows();
            held.contents = Contents::Unread;
            self.stale.remove(&id);
            return;
        }
        if held.contents.outdate() {
            self.metrics.relation_marks.inc();
        }
        match held.paused {
            Some(until) => self.paused.insert((until, id)),
            None => self.stale.insert(id),
        };
    }

    /// Those whose pause is over.
    fn resume(&mut self) {
        let now = Instant::now();
        while let Some((until, id)) = self.paused.first().copied().filter(|(until, _)| *until <= now) {
            self.paused.remove(&(until, id));
            if let Some(held) = self.held.get_mut(&id) {
                held.paused = None;
                self.stale.insert(id);
            }
        }
    }

    /// What reading a relation came to; whether that is something else than before.
    fn put(&mut self, id: RelationId, read: Result<Relation, Stop>) -> bool {
        self.readings += 1;
        self.stale.remove(&id);
        self.crowded.remove(&id);
        let Some(held) = self.held.get_mut(&id) else {
            return false;
        };
        let others = self.rows - held.contents.rows();
        let read = match read {
            Ok(relation) if others + relation.rows().len() > self.bounds.rows => {
                self.crowded.insert(id);
                Err(Stop::ask("there is no room for another subquery's rows"))
            }
            read => read,
        };
        if let Some(until) = held.paused.take() {
            self.paused.remove(&(until, id));
        }
        // Asking is always right, and so is not knowing: what could not be had is not tried again at every change.
        if matches!(read, Err(Stop::Ask(_) | Stop::Unavailable(_))) {
            let until = Instant::now() + self.bounds.pause;
            held.paused = Some(until);
            if matches!(read, Err(Stop::Unavailable(_))) {
                self.paused.insert((until, id));
            }
        }
        let changed = held.contents.replace(read);
        self.rows = others + held.contents.rows();
        changed
    }

    /// There is more than one store.
    fn count(&mut self) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let now = (count(self.held.len()), count(self.rows));
        let before = std::mem::replace(&mut self.counted, now);
        self.metrics.relations.inc_by(now.0 - before.0);
        self.metrics.relation_rows.inc_by(now.1 - before.1);
    }
}

fn covered(query: &RelationQuery, watched: &HashSet<u32>) -> bool {
    let probed = query.probe.iter().map(|probe| &probe.table);
    query
        .reads
        .iter()
        .chain(probed)
        .all(|table| watched.contains(table))
}
