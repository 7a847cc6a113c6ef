//! The loop: questions in, answers out, and everybody told whose rights are not what they were.
//!
//! Sole owner of groups, members and relations, so nothing here is locked. Each step reads what is out of date, judges in
//! memory what has been read, and has Postgres asked about the rest beside the loop.

mod questions;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use super::groups::{GroupId, Groups, Scene, Step};
use super::lines::Lines;
use super::members::{Members, Seats};
use super::round::{self, Round};
use super::{Order, Parts};
use crate::change::StreamStatus;
use crate::feed::keeper::Snapshot;
use crate::policy::{RelationReader, Relations};
use questions::{Forgotten, Pending};

/// Questions taken up in one step.
const AT_ONCE: usize = 512;

/// Rights that Postgres is asked about in one call, and such calls at a time: the pump needs connections, too.
const PER_ROUND: usize = 512;
const ROUNDS: usize = 2;

/// What is judged again by time alone is spread over so many parts of the interval.
const PARTS: u32 = 32;

/// Longest time that relations are waited for at once; a database that is away would be waited for without end.
const READING: Duration = Duration::from_secs(3);

/// Pause before a database that was away is asked again.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Task {
    parts: Parts,
    snapshot: Arc<Snapshot>,
    relations: Relations,
    reader: RelationReader,
    groups: Groups,
    members: Members,
    /// Questions without an answer, in the order they came.
    pending: Vec<Pending>,
    rounds: FuturesUnordered<BoxFuture<'static, Round>>,
    step: Step,
    /// Changes come down the stream and are marked.
    flowing: bool,
    /// The database did not answer: not asked again before.
    away: Option<Instant>,
    /// Those about which it could not be asked.
    unasked: HashSet<GroupId>,
    /// The part of all groups that is judged again next.
    part: u64,
    /// There is more to do at once.
    again: bool,
    /// Who was forgotten last: a question of theirs that was overtaken makes nobody a member.
    forgotten: Forgotten,
}

impl Task {
    pub(super) fn new(parts: Parts, lines: Lines) -> Self {
        let snapshot = parts.keeper.snapshot();
        let mut relations = parts.engine.relations();
        relations.watch(snapshot.watched.oids().clone());
        Self {
            snapshot,
            relations,
            reader: parts.engine.relation_reader(),
            groups: Groups::new(Arc::clone(&parts.metrics)),
            members: Members::new(lines, Arc::clone(&parts.metrics)),
            pending: Vec::new(),
            rounds: FuturesUnordered::new(),
            step: 0,
            flowing: false,
            away: None,
            unasked: HashSet::new(),
            part: 0,
            again: false,
            forgotten: Forgotten::default(),
            parts,
        }
    }

    /// Ends when nobody can ask any more.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut changes = self.parts.keeper.changes();
        let mut stream = self.parts.stream.clone();
        let mut recheck = ticks(self.parts.recheck / PARTS);
        let mut retry = ticks(RETRY);
        let marks = self.parts.marks.clone();
        let mut taken = Vec::new();
        stream.mark_changed();
        loop {
            tokio::select! {
                received = orders.recv_many(&mut taken, AT_ONCE) => {
                    if received == 0 {
                        return;
                    }
                    self.take(&mut taken);
                }
                () = marks.written() => self.mark(),
                Ok(()) = changes.changed() => self.adopt(),
                Ok(()) = stream.changed() => {
                    let status = stream.borrow_and_update().clone();
                    self.stream_changed(&status);
                }
                Some(round) = self.rounds.next() => self.answered(round),
                () = tick(&mut recheck) => self.recheck(),
                () = tick(&mut retry) => self.retry(),
                () = std::future::ready(()), if self.again || self.reads() => {}
            }
            self.step().await;
        }
    }

    fn take(&mut self, orders: &mut Vec<Order>) {
        self.adopt();
        for order in orders.drain(..) {
            match order {
                Order::Ask(ask) => self.ask(ask),
                Order::Forget(id) => self.forget(id),
            }
        }
    }

    fn scene(&mut self) -> (&mut Groups, Scene<'_>) {
        let scene = Scene {
            snapshot: &self.snapshot,
            relations: &mut self.relations,
            marks: &self.parts.marks,
        };
        (&mut self.groups, scene)
    }

    /// Has what these are judged by read again; whether there is anything.
    fn look_again(&mut self, seats: Seats) -> bool {
        let mut any = false;
        for group in seats.iter() {
            any |= self.groups.look_again(group, &mut self.relations);
        }
        any
    }

    /// What the pump has marked.
    fn mark(&mut self) {
        let marked = self.parts.marks.take();
        marked.outdate(&mut self.relations);
        if marked.catalog {
            self.outdate_all();
        }
    }

    fn outdate_all(&mut self) {
        for group in self.groups.part(0, 1) {
            self.groups.outdate(group);
        }
    }

    /// Takes over the keeper's snapshot.
    fn adopt(&mut self) {
        let latest = self.parts.keeper.snapshot();
        let before = std::mem::replace(&mut self.snapshot, latest);
        if self.snapshot.generation == before.generation {
            if self.snapshot.rights != before.rights {
                self.relations.invalidate_all(None);
                self.outdate_all();
            }
            return;
        }
        self.groups.clear(&mut self.relations);
        self.unasked.clear();
        self.parts.marks.count_none();
        self.relations.watch(self.snapshot.watched.oids().clone());
        let mut scene = Scene {
            snapshot: &self.snapshot,
            relations: &mut self.relations,
            marks: &self.parts.marks,
        };
        self.members.reseat(&mut self.groups, &mut scene);
        for pending in &mut self.pending {
            let claims = &pending.ask.seeker.claims;
            pending.seats = Seats::take(pending.asked, claims, &mut self.groups, &mut scene);
            pending.since = self.step + 1;
        }
    }

    /// While the stream is away nothing is marked; what changed meanwhile comes once it is back, but that may take.
    fn stream_changed(&mut self, status: &StreamStatus) {
        let flows = status.flows();
        if flows && !std::mem::replace(&mut self.flowing, flows) {
            self.relations.invalidate_all(None);
            self.outdate_all();
        }
        self.flowing = flows;
    }

    /// The next part of those that are judged again by time.
    fn recheck(&mut self) {
        let part = self.part % u64::from(PARTS);
        self.part += 1;
        for group in self.groups.part(part, PARTS.into()) {
            if !self.flowing {
                self.groups.look_again(group, &mut self.relations);
            }
            self.groups.outdate(group);
        }
    }

    fn retry(&mut self) {
        for group in std::mem::take(&mut self.unasked) {
            self.groups.outdate(group);
        }
    }

    /// Something is to be read, and may be.
    fn reads(&self) -> bool {
        self.relations.stale() && self.away.is_none_or(|until| until <= Instant::now())
    }

    async fn step(&mut self) {
        self.step += 1;
        self.again = false;
        if self.reads() {
            self.read().await;
        }
        let touched = self.groups.judge(&self.relations, now(), self.step);
        self.told(touched);
        self.launch();
        self.conclude();
        if self.groups.is_empty() {
            self.parts.marks.count_none();
        }
    }

    /// Reads some of what is out of date.
    async fn read(&mut self) {
        // Not before the changes that the pump has passed can be seen, whether or not they were marked here.
        self.relations.follow(&self.parts.clock.now());
        let reading = self.relations.refresh(&self.reader, None);
        match tokio::time::timeout(READING, Box::pin(reading)).await {
            Ok(changed) => {
                if self.away.take().is_some() {
                    tracing::info!("the policies on private channels can be judged again");
                }
                for relation in changed {
                    self.groups.reread(relation);
                }
            }
            Err(_) => {
                if self.away.replace(Instant::now() + RETRY).is_none() {
                    tracing::warn!(
                        "the database does not answer: nobody can join private channels, and members keep their rights"
                    );
                }
                self.give_up();
            }
        }
    }

    fn launch(&mut self) {
        while self.rounds.len() < ROUNDS {
            let open = self.groups.open(PER_ROUND);
            if open.is_empty() {
                return;
            }
            let types = Arc::clone(&self.snapshot.catalog.types);
            let engine = self.parts.engine.clone();
            let asking = round::ask(engine, open, types, (self.step, now()));
            self.rounds.push(Box::pin(asking));
        }
    }

    /// What Postgres says.
    fn answered(&mut self, round: Round) {
        let mut touched = Vec::with_capacity(round.said.len());
        for (group, right, said) in round.said {
            self.groups.answered(group, right, said, round.step);
            touched.push(group);
        }
        touched.dedup();
        self.told(touched);
    }

    /// Something is known anew of these groups.
    fn told(&mut self, groups: Vec<GroupId>) {
        for group in groups {
            if self.groups.is_unavailable(group) {
                self.unasked.insert(group);
            }
            self.members.tell(self.groups.members(group), &self.groups);
        }
    }
}

/// None where the period is zero.
fn ticks(period: Duration) -> Option<Interval> {
    (!period.is_zero()).then(|| {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    })
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Microseconds since 2000-01-01 UTC.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH
}

/// 2000-01-01 in microseconds since 1970-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
