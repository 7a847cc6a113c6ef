//! Those who come back: they get what they missed from the replay window, and are live once they have caught up.
//!
//! They are served in passes over the window, many in one pass, by the code that serves live changes but with an index of
//! their own: what a pass costs follows its changes and what it delivers, not how many others are subscribed. Between its
//! steps live changes go on. Whoever's outbox fills up goes on in a later pass, when it has been read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Answer, Comes, Pump, push, respond};
use crate::change::{Change, Cursor, Epoch, HandedOver, Lineage, Lsn, Position, Since, Transaction};
use crate::feed::SubscribeError;
use crate::feed::notice;
use crate::feed::roster::{Entry, Roster};
use crate::history::Gap;
use crate::hub::Frame;
use crate::protocol::Version;
use crate::protocol::errors::Notice;
use crate::subscription::{Index, SubscriberId};

/// The longest that live changes wait for a step, if a portion of changes takes no longer.
const STEP: Duration = Duration::from_millis(2);

/// Changes that are taken at once: as many as take about a step. One costs the more the more of those in the pass it is for.
const PORTION: std::ops::RangeInclusive<usize> = 8..=512;

/// Somebody who comes back.
#[derive(Debug)]
pub(super) struct Comer {
    pub(super) since: Since,
    /// What comes up to here has been seen to.
    pub(super) reached: Position,
    /// Why it does not get everything, if it does not.
    pub(super) gap: Option<Gap>,
    comes: Comes,
    on_live: Vec<Frame>,
    answer: Answer,
}

impl Comer {
    pub(super) fn new((since, comes): (Since, Comes), on_live: Vec<Frame>, answer: Answer) -> Self {
        let reached = match since.passed {
            true => since.cursor.position,
            // It may be missing what was committed before.
            false => Position::default(),
        };
        Self {
            since,
            reached,
            gap: None,
            comes,
            on_live,
            answer,
        }
    }

    fn wants(&self, position: Position, xid: u32) -> bool {
        self.gap.is_none() && position > self.reached && self.since.wants(position, xid)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Resuming {
    /// Those who wait for the next pass.
    pub(super) waiting: HashMap<SubscriberId, Comer>,
    /// Those whom this pass is for.
    pub(super) pass: HashMap<SubscriberId, Comer>,
    /// What the pass has seen to.
    pub(super) reached: Position,
    /// [`Roster::put_out`], when those of the pass were looked at.
    put_out: u64,
    /// [`PORTION`], by what the last one took.
    portion: usize,
}

impl Resuming {
    pub(super) fn add(&mut self, id: SubscriberId, comer: Comer) {
        self.waiting.insert(id, comer);
    }

    pub(super) fn remove(&mut self, id: SubscriberId) -> Option<Comer> {
        self.pass.remove(&id).or_else(|| self.waiting.remove(&id))
    }

    /// All of them.
    pub(super) fn comers(&self) -> impl Iterator<Item = SubscriberId> {
        self.pass.keys().chain(self.waiting.keys()).copied()
    }

    pub(super) fn get_mut(&mut self, id: SubscriberId) -> Option<&mut Comer> {
        self.pass.get_mut(&id).or_else(|| self.waiting.get_mut(&id))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.pass.is_empty()
    }

    /// How many of these changes to take at once.
    fn some<'c>(&self, changes: &'c [Change]) -> &'c [Change] {
        let most = self.portion.clamp(*PORTION.start(), *PORTION.end());
        changes.get(..most).unwrap_or(changes)
    }

    /// So long took so many changes.
    fn took(&mut self, time: Duration, changes: usize) {
        if time > STEP {
            self.portion = changes / 2;
        } else if time < STEP / 4 {
            self.portion = self.portion.max(changes.saturating_mul(2));
        }
        self.portion = self.portion.clamp(*PORTION.start(), *PORTION.end());
    }

    /// Those whom this pass is for no longer, for the next one.
    fn put_off(&mut self, id: SubscriberId) {
        if let Some(mut comer) = self.pass.remove(&id) {
            comer.reached = comer.reached.max(self.reached);
            self.waiting.insert(id, comer);
        }
    }
}

fn has_room(roster: &Roster, id: SubscriberId) -> bool {
    let outbox = |entry: &Entry| !entry.subscriber.outbox.outbox().is_pressed();
    roster.get(id).is_none_or(outbox)
}

/// Who may get changes: those who are live, or those who catch up.
pub(in crate::feed) struct Recipients<'a> {
    roster: &'a Roster,
    /// Of the positions.
    pub(in crate::feed) epoch: Epoch,
    pass: Option<&'a HashMap<SubscriberId, Comer>>,
}

impl<'a> Recipients<'a> {
    /// Those who are live.
    pub(super) fn live(roster: &'a Roster, epoch: Epoch) -> Self {
        Self {
            roster,
            epoch,
            pass: None,
        }
    }

    fn pass(roster: &'a Roster, epoch: Epoch, resuming: &'a Resuming) -> Self {
        Self {
            roster,
            epoch,
            pass: Some(&resuming.pass),
        }
    }

    /// What they are looked up in.
    pub(super) fn index(&self) -> &'a Index {
        match self.pass {
            None => &self.roster.index,
            Some(_) => &self.roster.behind,
        }
    }

    /// Whether they may have had some of it.
    pub(in crate::feed) fn repeat(&self) -> bool {
        self.pass.is_some()
    }

    /// The subscriber, with what is its own, if a change there is for it.
    pub(in crate::feed) fn get(
        &self,
        id: SubscriberId,
        position: Position,
        transaction: &Transaction,
    ) -> Option<&'a Entry> {
        let entry = self.roster.get(id)?;
        let gets = match self.pass {
            None => entry.live,
            Some(pass) => pass
                .get(&id)
                .is_some_and(|comer| comer.wants(position, transaction.xid)),
        };
        gets.then_some(entry)
    }
}

impl Pump {
    /// From where somebody can go on who wants to from there.
    pub(super) fn reaches(&self, id: SubscriberId, since: &Since) -> Result<Since, Gap> {
        let tables = self.roster.tables(id).filter_map(|oid| self.snapshot.table(oid));
        let tables: Vec<_> = tables.map(|table| &table.name).collect();
        self.history.reaches(since, self.position, tables)
    }

    /// Something can be done for somebody who comes back.
    pub(super) fn can_catch_up(&self) -> bool {
        let Resuming {
            waiting,
            pass,
            reached,
            ..
        } = &self.resuming;
        match pass.is_empty() {
            true => waiting.keys().any(|id| has_room(&self.roster, *id)),
            // At the end of the window, the transaction that is coming is waited for.
            false => self.transaction.is_none() || self.history.next(*reached).is_some(),
        }
    }

    /// Goes on with the pass for some time, or begins one.
    pub(super) async fn catch_up(&mut self) {
        self.gather();
        let until = Instant::now() + STEP;
        while !self.resuming.pass.is_empty() && Instant::now() < until {
            if !self.catch_up_with_next().await {
                self.arrive();
                return;
            }
        }
        // A pass may have nothing to wait for, and tokio hides from a task that never waits that there is something for it.
        tokio::task::consume_budget().await;
    }

    /// Who does not belong to the pass any more waits for the next one, and the next one begins when this one is over.
    pub(super) fn gather(&mut self) {
        // Thousands may be in the pass, and a step is short.
        let put_out = self.roster.put_out();
        if std::mem::replace(&mut self.resuming.put_out, put_out) != put_out {
            self.sort_out();
        }
        if !self.resuming.pass.is_empty() {
            return;
        }
        let roster = &self.roster;
        let ready = self.resuming.waiting.extract_if(|id, _| has_room(roster, *id));
        self.resuming.pass = ready.collect();
        for comer in self.resuming.pass.values_mut() {
            // Since it was let in, the window may have moved on past what its snapshot does not see.
            if comer.reached == Position::default() && comer.gap.is_none() {
                comer.gap = self.history.reaches(&comer.since, self.position, []).err();
            }
        }
        let begin = self.resuming.pass.values().map(|comer| comer.reached);
        self.resuming.reached = begin.min().unwrap_or_default();
        for id in self.resuming.pass.keys() {
            self.roster.enroll(*id, &self.snapshot);
        }
    }

    fn sort_out(&mut self) {
        let ids: Vec<_> = self.resuming.pass.keys().copied().collect();
        for id in ids {
            if self.roster.get(id).is_none() {
                // Others have told it why.
                self.resuming.pass.remove(&id);
            } else if !self.roster.is_enrolled(id) {
                self.resuming.put_off(id);
            }
        }
    }

    /// Delivers some of the next changes of the window. `false` when there are none.
    pub(super) async fn catch_up_with_next(&mut self) -> bool {
        self.note_gaps();
        if self.roster.relations.stale() {
            let changed = self.roster.relations.refresh(&self.reader, None).await;
            self.roster.reread(&changed);
        }
        let Some((transaction, changes)) = self.history.next(self.resuming.reached) else {
            return false;
        };
        let changes = self.resuming.some(changes);
        let recipients = Recipients::pass(&self.roster, self.epoch(), &self.resuming);
        let began = Instant::now();
        let done = self.assess_and_deliver(changes, transaction, &recipients).await;
        let last = changes.get(done.taken.saturating_sub(1));
        self.resuming.reached = last.map_or(Position::behind(transaction.place()), |change| {
            Position::of(transaction, change)
        });
        self.resuming.took(began.elapsed(), done.taken);
        self.headway.notify_one();
        for id in done.pressed.into_keys() {
            self.roster.dismiss(id);
            self.resuming.put_off(id);
        }
        true
    }

    /// The window may have moved on past somebody.
    fn note_gaps(&mut self) {
        let floor = self.history.floor();
        if self.resuming.reached >= floor {
            return;
        }
        for comer in self.resuming.pass.values_mut() {
            let known = comer.reached.max(comer.since.cursor.position);
            if known.max(self.resuming.reached) < floor {
                comer.gap.get_or_insert(Gap::TooOld);
            }
        }
        self.resuming.reached = floor;
    }

    /// The pass has reached the end of the window. Only between transactions: whoever went live within one would get its second
    /// half twice, or not at all.
    fn arrive(&mut self) {
        if self.transaction.is_some() {
            return;
        }
        for (id, comer) in std::mem::take(&mut self.resuming.pass) {
            self.roster.dismiss(id);
            let Comer {
                gap,
                comes,
                on_live,
                answer,
                ..
            } = comer;
            if let Some(gap) = gap.as_ref().filter(|_| comes != Comes::Back) {
                self.refuse(id, gap, answer);
                continue;
            }
            self.roster.set_live(id);
            if let Some(entry) = self.roster.get(id) {
                // What it missed is in front of what says so.
                entry.shapers.flush();
                match comes {
                    Comes::FromSnapshot => self.tell_begin(entry),
                    Comes::Back | Comes::BackOrForRows => self.tell_outcome(entry, gap),
                }
                push(entry, on_live);
            }
            respond(answer, Ok(()));
        }
    }

    /// Leaves it to the feed to have rows read for somebody.
    pub(super) fn refuse(&mut self, id: SubscriberId, gap: &Gap, answer: Answer) {
        self.roster.remove(id);
        respond(answer, Err(SubscribeError::Behind(gap.to_string())));
    }

    /// Tells somebody who came back whether it has missed anything.
    pub(super) fn tell_outcome(&self, entry: &Entry, gap: Option<Gap>) {
        let (outcome, said) = match gap {
            None => ("resumed", Notice::Resumed),
            Some(gap) => (label(&gap), Notice::Resync(gap.to_string())),
        };
        let resumes = &self.parts.metrics.resumes;
        resumes.get_or_create(&[("outcome", outcome)]).inc();
        push(entry, vec![notice(&entry.subscriber, &said, Some(self.here()))]);
    }

    /// Behind everything that has been delivered.
    pub(super) fn here(&self) -> Cursor {
        Cursor {
            epoch: self.epoch(),
            position: Position::behind(self.position),
        }
    }

    /// Tells somebody who has just come, and will want to come back, from where.
    pub(super) fn tell_begin(&self, entry: &Entry) {
        // A stream of events has it in the id of each.
        if entry.subscriber.cursors && entry.subscriber.version != Version::Events {
            push(
                entry,
                vec![notice(&entry.subscriber, &Notice::Live, Some(self.here()))],
            );
        }
    }

    /// Lets go of what the replay window need not hold any more, and tells the stream how far everything is.
    pub(super) fn retain(&mut self) {
        let budget = *self.parts.wal_budget.borrow();
        let now = Instant::now();
        let now = HandedOver {
            epoch: self.history.epoch(),
            confirmable: self.history.settle(now, self.position, budget),
            delivered: self.position,
        };
        self.parts
            .handed_over
            .send_if_modified(|before| std::mem::replace(before, now) != now);
    }

    /// What operators see of the window.
    pub(super) fn measure(&self) {
        let metrics = &self.parts.metrics;
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        metrics.window_bytes.set(number(self.history.bytes()));
        metrics.window_changes.set(number(self.history.changes()));
        let age = self
            .history
            .oldest()
            .map_or(0, |oldest| oldest.elapsed().as_secs());
        metrics.window_age.set(i64::try_from(age).unwrap_or(i64::MAX));
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.history.epoch().unwrap_or_default()
    }

    /// Positions belong to another history from here on.
    pub(super) fn begin_epoch(&mut self, lineage: Arc<Lineage>, start: Lsn) {
        // Those who are catching up cannot any more.
        for comer in self
            .resuming
            .pass
            .values_mut()
            .chain(self.resuming.waiting.values_mut())
        {
            if self.history.epoch().is_some() {
                comer.gap.get_or_insert(Gap::Epoch);
            }
        }
        let epoch = lineage.epoch();
        self.parts.rooms.follow(Arc::clone(&lineage));
        self.history.begin(lineage, start);
        self.position = Lsn::default();
        self.resuming.reached = Position::default();
        self.place.begin(epoch, start);
    }
}

/// For metrics.
fn label(gap: &Gap) -> &'static str {
    match gap {
        Gap::Epoch => "epoch",
        Gap::Undone => "undone",
        Gap::TooOld => "too_old",
        Gap::Ahead => "ahead",
        Gap::Table(_) => "table",
    }
}
