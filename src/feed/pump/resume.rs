//! Those who come back: they get what they missed from the replay window, and are live once they have caught up.
//!
//! They are served in passes over the window, many in one pass, by the code that serves live changes but with an index of
//! their own: what a pass costs follows its changes and what it delivers, not how many others are subscribed. Between its
//! steps live changes go on. Whoever's outbox fills up goes on in a later pass, when it has been read.
//!
//! Those who have about as far to go are in one pass, and passes take turns: whoever was away for a moment does not wait for
//! those who want the whole window, however many they are and however often they ask.

mod courses;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use self::courses::{Comer, Resuming};
use super::{Answer, Comes, Pump, push, respond};
use crate::change::{Cursor, Epoch, HandedOver, Lineage, Lsn, Position, Since, Transaction};
use crate::feed::SubscribeError;
use crate::feed::distance::Distance;
use crate::feed::notice;
use crate::feed::roster::{Entry, Roster};
use crate::history::Gap;
use crate::protocol::Version;
use crate::protocol::errors::Notice;
use crate::subscription::{Index, SubscriberId};

/// The longest that live changes wait for a step, if a portion of changes takes no longer.
const STEP: Duration = Duration::from_millis(2);

fn has_room(roster: &Roster, id: SubscriberId) -> bool {
    let outbox = |entry: &Entry| !entry.subscriber.outbox.outbox().is_pressed();
    roster.get(id).is_none_or(outbox)
}

/// Who may get changes: those who are live, or those who catch up.
pub(in crate::feed) struct Recipients<'a> {
    roster: &'a Roster,
    /// Of the positions.
    pub(in crate::feed) epoch: Epoch,
    pass: Option<(&'a HashMap<SubscriberId, Comer>, &'a Index)>,
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

    fn pass(roster: &'a Roster, epoch: Epoch, resuming: &'a Resuming, distance: Distance) -> Self {
        Self {
            roster,
            epoch,
            pass: Some((&resuming.courses.at(distance).pass, roster.behind.at(distance))),
        }
    }

    /// What they are looked up in.
    pub(super) fn index(&self) -> &'a Index {
        match self.pass {
            None => &self.roster.index,
            Some((_, behind)) => behind,
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
            Some((pass, _)) => pass
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
        Distance::ALL.into_iter().any(|distance| self.can_go_on(distance))
    }

    fn can_go_on(&self, distance: Distance) -> bool {
        let course = self.resuming.courses.at(distance);
        match course.pass.is_empty() {
            true => course.any_waits(|id| has_room(&self.roster, *id)),
            // At the end of the window, the transaction that is coming is waited for.
            false => self.transaction.is_none() || self.history.next(course.reached).is_some(),
        }
    }

    /// Goes on for some time with the pass whose turn it is, or begins one.
    pub(super) async fn catch_up(&mut self) {
        let mut distance = self.resuming.turn;
        while !self.can_go_on(distance) {
            distance = distance.next();
            if distance == self.resuming.turn {
                return;
            }
        }
        self.resuming.turn = distance.next();
        self.gather(distance);
        let until = Instant::now() + STEP;
        while !self.resuming.courses.at(distance).pass.is_empty() && Instant::now() < until {
            if !self.catch_up_with_next(distance).await {
                self.arrive(distance);
                return;
            }
        }
        // A pass may have nothing to wait for, and tokio hides from a task that never waits that there is something for it.
        tokio::task::consume_budget().await;
    }

    /// Who does not belong to a pass any more waits for another one, and the next one begins when this one is over. Whoever is
    /// ahead of this one is in it.
    pub(super) fn gather(&mut self, distance: Distance) {
        // Thousands may be in a pass, and a step is short.
        let put_out = self.roster.put_out();
        if std::mem::replace(&mut self.resuming.put_out, put_out) != put_out {
            self.sort_out();
        }
        let roster = &self.roster;
        let added = self
            .resuming
            .gather(distance, &self.history, |id| has_room(roster, id));
        for id in added {
            if let Some(comer) = self.resuming.courses.at_mut(distance).pass.get_mut(&id)
                && comer.reached == Position::default()
                && comer.gap.is_none()
            {
                // Since it was let in, the window may have moved on past what its snapshot does not see.
                comer.gap = self.history.reaches(&comer.since, self.position, []).err();
            }
            self.roster.enroll(id, distance, &self.snapshot);
        }
    }

    fn sort_out(&mut self) {
        for distance in Distance::ALL {
            let pass = &self.resuming.courses.at(distance).pass;
            let ids: Vec<_> = pass.keys().copied().collect();
            for id in ids {
                if self.roster.get(id).is_none() {
                    // Others have told it why.
                    self.resuming.courses.at_mut(distance).pass.remove(&id);
                } else if !self.roster.is_enrolled(id) {
                    self.resuming.put_off(id, distance, &self.history);
                }
            }
        }
    }

    /// Delivers some of the next changes of the window. `false` when there are none.
    pub(super) async fn catch_up_with_next(&mut self, distance: Distance) -> bool {
        self.note_gaps(distance);
        if self.roster.relations.stale() {
            let changed = self.roster.relations.refresh(&self.reader, None).await;
            self.roster.reread(&changed);
        }
        let course = self.resuming.courses.at(distance);
        let Some((transaction, changes)) = self.history.next(course.reached) else {
            return false;
        };
        let changes = course.some(changes);
        let recipients = Recipients::pass(&self.roster, self.epoch(), &self.resuming, distance);
        let began = Instant::now();
        let done = self.assess_and_deliver(changes, transaction, &recipients).await;
        let last = changes.get(done.taken.saturating_sub(1));
        let reached = last.map_or(Position::behind(transaction.place()), |change| {
            Position::of(transaction, change)
        });
        let course = self.resuming.courses.at_mut(distance);
        course.reached = reached;
        course.took(began.elapsed(), done.taken);
        self.headway.notify_one();
        for id in done.pressed.into_keys() {
            self.roster.dismiss(id);
            self.resuming.put_off(id, distance, &self.history);
        }
        true
    }

    /// The window may have moved on past somebody.
    fn note_gaps(&mut self, distance: Distance) {
        let floor = self.history.floor();
        let course = self.resuming.courses.at_mut(distance);
        if course.reached >= floor {
            return;
        }
        for comer in course.pass.values_mut() {
            let known = comer.reached.max(comer.since.cursor.position);
            if known.max(course.reached) < floor {
                comer.gap.get_or_insert(Gap::TooOld);
            }
        }
        course.reached = floor;
    }

    /// A pass has reached the end of the window. Only between transactions: whoever went live within one would get its second
    /// half twice, or not at all.
    fn arrive(&mut self, distance: Distance) {
        if self.transaction.is_some() {
            return;
        }
        for (id, comer) in std::mem::take(&mut self.resuming.courses.at_mut(distance).pass) {
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
        for course in self.resuming.courses_mut() {
            course.reached = Position::default();
            // Those who are catching up cannot any more.
            for comer in course.comers_mut().filter(|_| self.history.epoch().is_some()) {
                comer.gap.get_or_insert(Gap::Epoch);
            }
        }
        let epoch = lineage.epoch();
        self.parts.rooms.follow(Arc::clone(&lineage));
        self.history.begin(lineage, start);
        self.position = Lsn::default();
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
