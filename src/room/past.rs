//! What was said lately in a room, for those who come back.
//!
//! Kept while somebody who can come back is there, or was a while ago; what the database said is kept in any case, since it
//! comes again when the server was replaced. Broadcasts have numbers in their room; a server that is replaced counts anew.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::change::{Cursor, Elsewhere, Lineage, Lsn};
use crate::protocol::Broadcast;
use crate::telemetry::Metrics;

/// Most broadcasts, and bytes of them, that one room keeps: no more than an outbox takes at once.
const MOST: usize = 4_096;
const MOST_BYTES: usize = 4 << 20;

/// Bytes that one takes beside its text.
const OVERHEAD: usize = 200;

/// How much of the past rooms keep.
#[derive(Clone, Copy, Debug)]
pub struct Keeps {
    /// Age at which broadcasts are forgotten; zero keeps none.
    pub age: Duration,
    /// Bytes of all rooms together.
    pub bytes: usize,
}

/// Where somebody was in a room. Its text is opaque to clients: `<instance>-<number>`, in hexadecimal, and `@` and a cursor of
/// the stream behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// Of which run of a server.
    pub instance: u64,
    /// The last broadcast that it heard there.
    pub number: u64,
    /// How far it was with what comes from the database, for another run.
    pub stream: Option<Cursor>,
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.instance, self.number)?;
        match &self.stream {
            Some(cursor) => write!(f, "@{cursor}"),
            None => Ok(()),
        }
    }
}

/// The text is no place in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct InvalidPlace;

impl FromStr for Since {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let (place, stream) = match text.split_once('@') {
            Some((place, cursor)) => (place, Some(cursor.parse().map_err(|_| InvalidPlace)?)),
            None => (text, None),
        };
        let (instance, number) = place.split_once('-').ok_or(InvalidPlace)?;
        let hexadecimal = |text: &str| match text.starts_with('+') {
            true => Err(InvalidPlace),
            false => u64::from_str_radix(text, 16).map_err(|_| InvalidPlace),
        };
        Ok(Self {
            instance: hexadecimal(instance)?,
            number: hexadecimal(number)?,
            stream,
        })
    }
}

impl Since {
    /// Whether what the database said with a commit there is news to somebody who was with another run of the server.
    pub(super) fn lacks(&self, commit: Lsn, lineage: &Lineage) -> bool {
        let Some(stream) = self.stream else {
            return false;
        };
        match lineage.here(stream) {
            Ok(here) => commit > here.position.commit,
            Err(Elsewhere::Undone) => lineage.left(stream.epoch).is_none_or(|left| commit > left),
            Err(Elsewhere::Unrelated) => false,
        }
    }
}

/// Why not all that was said can be said again. `Display` is for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missed {
    /// The server was replaced.
    #[error("the server was replaced, and what clients said meanwhile is not known")]
    Instance,
    /// It has been forgotten.
    #[error("what was missed is older than the replay window")]
    TooOld,
}

/// Where a broadcast comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody said it now: this member of the room, if it can come back.
    Client(Option<u64>),
    /// The database: its transaction ends there.
    Stream {
        /// End of the transaction's commit record.
        commit: Lsn,
        /// Another run of a server may have said it.
        again: bool,
    },
}

/// Says how far the feed is: everything that the database said up to there has been said here.
pub(super) type Locate = Box<dyn Fn() -> Option<Cursor> + Send + Sync>;

/// What all rooms share.
pub(super) struct Store {
    pub(super) keeps: Keeps,
    pub(super) instance: u64,
    /// Of the places in what comes from the database.
    lineage: RwLock<Arc<Lineage>>,
    position: OnceLock<Locate>,
    bytes: AtomicUsize,
    /// Behind the last broadcast of every room that is no more: those that are made anew go on there, or places in the ones
    /// before would seem to be places in them.
    highest: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Store {
    pub(super) fn new(keeps: Keeps, metrics: Arc<Metrics>) -> Self {
        Self {
            keeps,
            instance: rand::random(),
            lineage: RwLock::default(),
            position: OnceLock::new(),
            bytes: AtomicUsize::new(0),
            highest: AtomicU64::new(0),
            metrics,
        }
    }

    pub(super) fn follow(&self, lineage: Arc<Lineage>) {
        *self.lineage.write().unwrap_or_else(PoisonError::into_inner) = lineage;
    }

    pub(super) fn locate(&self, position: Locate) {
        // Rooms are of one feed.
        let _ = self.position.set(position);
    }

    fn position(&self) -> Option<Cursor> {
        self.position.get().and_then(|position| position())
    }

    fn lineage(&self) -> Arc<Lineage> {
        Arc::clone(&self.lineage.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, bytes: usize) -> usize {
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.show(all);
        all
    }

    fn subtract(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.show(before.saturating_sub(bytes));
    }

    fn show(&self, bytes: usize) {
        self.metrics
            .kept_broadcast_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// The past of one room.
#[derive(Debug)]
pub(super) struct Past {
    store: Arc<Store>,
    /// Of the last broadcast.
    number: u64,
    /// Everything behind this one is kept.
    floor: u64,
    kept: VecDeque<Kept>,
    bytes: usize,
    /// Members who can come back.
    returning: usize,
    /// Until then somebody who has left can.
    until: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    at: Instant,
    origin: Origin,
    broadcast: Broadcast,
    /// How far the feed was then.
    stream: Option<Cursor>,
    bytes: usize,
}

impl Past {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let number = store.highest.load(Ordering::SeqCst);
        Self {
            store,
            number,
            floor: number,
            kept: VecDeque::new(),
            bytes: 0,
            returning: 0,
            until: None,
        }
    }

    /// What places in what comes from the database mean.
    pub(super) fn lineage(&self) -> Arc<Lineage> {
        self.store.lineage()
    }

    /// The last broadcast of all.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Behind the last broadcast of all. To be asked while nothing is said.
    pub(super) fn place(&self) -> Since {
        Since {
            instance: self.store.instance,
            number: self.number,
            // What the database said up to there has a number already.
            stream: self.store.position(),
        }
    }

    /// Something is kept.
    pub(super) fn is_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    pub(super) fn instance(&self) -> u64 {
        self.store.instance
    }

    /// Somebody is there who can come back.
    pub(super) fn enter(&mut self) {
        self.returning += 1;
    }

    /// It has left.
    pub(super) fn leave(&mut self, now: Instant) {
        self.returning -= 1;
        self.until = Some(now + self.store.keeps.age);
    }

    /// Numbers a broadcast, and keeps it if somebody could come back for it.
    pub(super) fn note(&mut self, broadcast: &Broadcast, origin: Origin, now: Instant) -> u64 {
        self.number += 1;
        let wanted = self.returning > 0
            || self.until.is_some_and(|until| until > now)
            || matches!(origin, Origin::Stream { .. });
        if !wanted || self.store.keeps.age.is_zero() {
            self.forget_all();
            return self.number;
        }
        let bytes = OVERHEAD + broadcast.content.len();
        self.kept.push_back(Kept {
            number: self.number,
            at: now,
            origin,
            broadcast: broadcast.clone(),
            stream: self.store.position(),
            bytes,
        });
        self.bytes += bytes;
        let mut all = self.store.add(bytes);
        while !self.kept.is_empty()
            && (self.kept.len() > MOST || self.bytes > MOST_BYTES || all > self.store.keeps.bytes)
        {
            all -= self.forget_first();
        }
        self.number
    }

    /// What came behind a place, each with its own place, but for what `who` said itself; and why that is not all.
    pub(super) fn behind(
        &self,
        since: &Since,
        who: Option<u64>,
    ) -> (impl Iterator<Item = (Since, &Broadcast)>, Option<Missed>) {
        let here = since.instance == self.store.instance;
        let missed = if !here {
            Some(Missed::Instance)
        } else if since.number < self.floor || since.number > self.number {
            Some(Missed::TooOld)
        } else {
            None
        };
        let own = move |kept: &Kept| who.is_some() && kept.origin == Origin::Client(who);
        let (since, lineage) = (*since, self.store.lineage());
        let wanted = move |kept: &&Kept| match (here, kept.origin) {
            (true, _) => kept.number > since.number && !own(kept),
            (false, Origin::Stream { commit, .. }) => since.lacks(commit, &lineage),
            (false, Origin::Client(_)) => false,
        };
        let kept = self.kept.iter().filter(wanted);
        let place = |kept: &Kept| Since {
            instance: self.store.instance,
            number: kept.number,
            stream: kept.stream,
        };
        (kept.map(move |kept| (place(kept), &kept.broadcast)), missed)
    }

    /// Forgets what is too old. When to look again; `None` if there is nothing to look for.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let age = self.store.keeps.age;
        while self.kept.front().is_some_and(|first| first.at + age <= now) {
            self.forget_first();
        }
        self.until = self.until.filter(|until| *until > now);
        let first = self.kept.front().map(|first| first.at + age);
        first.into_iter().chain(self.until).min()
    }

    /// Ends where nothing is kept and nobody is expected; whether it has.
    pub(super) fn close(&mut self) -> bool {
        let over = self.kept.is_empty() && self.until.is_none() && self.returning == 0;
        if over {
            self.store.highest.fetch_max(self.number + 1, Ordering::SeqCst);
        }
        over
    }

    fn forget_first(&mut self) -> usize {
        let Some(first) = self.kept.pop_front() else {
            return 0;
        };
        self.floor = first.number;
        self.bytes -= first.bytes;
        self.store.subtract(first.bytes);
        first.bytes
    }

    fn forget_all(&mut self) {
        while !self.kept.is_empty() {
            self.forget_first();
        }
        self.floor = self.number;
    }
}

impl Drop for Past {
    fn drop(&mut self) {
        self.store.subtract(self.bytes);
    }
}
