//! The loop: questions in, answers out, and everybody told whose rights are not what they were.
//!
//! Sole owner of groups, members and relations, so nothing here is locked. Each step reads what is out of date, judges in
//! memory what has been read, and has Postgres asked about the rest beside the loop.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use super::groups::{GroupId, Groups, Scene, Step};
use super::lines::Lines;
use super::members::{Judged, Known, Members, Seats};
use super::round::{self, Round};
use super::{Answer, Ask, AuthorityError, Order, Parts};
use crate::change::StreamState;
use crate::feed::keeper::Snapshot;
use crate::policy::{RelationReader, Relations, Rights};
use crate::subscription::SubscriberId;

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

/// The last ids of which nobody will be told. They are not used again.
#[derive(Debug, Default)]
struct Forgotten {
    ids: HashSet<SubscriberId>,
    order: VecDeque<SubscriberId>,
}

/// So many leave in the time that a question may take, unless everybody leaves at once.
const FORGOTTEN: usize = 16_384;

impl Forgotten {
    fn insert(&mut self, id: SubscriberId) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > FORGOTTEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// A question without an answer.
struct Pending {
    ask: Ask,
    /// What is judged for it: what it wants, and what has been asked for the member before.
    asked: Rights,
    seats: Seats,
    /// Only what was said in this step or later counts.
    since: Step,
    /// All that memory judges it by is read after it came.
    definite: bool,
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
                    let state = stream.borrow_and_update().clone();
                    self.stream_changed(&state);
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

    fn forget(&mut self, id: SubscriberId) {
        self.forgotten.insert(id);
        // Their answers make nobody a member.
        for pending in &mut self.pending {
            pending.ask.seeker.id.take_if(|seeker| *seeker == id);
        }
        self.members.dismiss(id, &mut self.groups, &mut self.relations);
    }

    fn ask(&mut self, mut ask: Ask) {
        if ask.answer.is_closed() {
            return;
        }
        if ask.seeker.id.is_some_and(|id| self.forgotten.ids.contains(&id)) {
            ask.seeker.id = None;
        }
        let before = ask.seeker.id.map_or(Rights::NONE, |id| self.members.asked(id));
        let asked = ask.wanted | before;
        let (groups, mut scene) = self.scene();
        let seats = Seats::take(asked, &ask.seeker.claims, groups, &mut scene);
        if !self.flowing {
            self.look_again(seats);
        }
        let unread = |group| self.groups.is_unread(group, &self.relations);
        self.pending.push(Pending {
            ask,
            asked,
            seats,
            // That of the step which follows.
            since: self.step + 1,
            definite: seats.iter().all(unread),
        });
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
    fn stream_changed(&mut self, state: &StreamState) {
        let flows = matches!(state, StreamState::Live | StreamState::Reset(_));
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

    /// Answers those who wait for what cannot be read.
    fn give_up(&mut self) {
        let error = || AuthorityError::Unavailable("no answer".to_owned());
        for pending in std::mem::take(&mut self.pending) {
            let waits = |group| self.groups.waits(group, &self.relations);
            if pending.seats.iter().any(waits) {
                self.answer(pending, Err(error()));
            } else {
                self.pending.push(pending);
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

    /// Answers whom an answer is there for. Those of one member in the order they came.
    fn conclude(&mut self) {
        let mut before: HashSet<SubscriberId> = HashSet::new();
        for mut pending in std::mem::take(&mut self.pending) {
            let id = pending.ask.seeker.id;
            let first = id.is_none_or(|id| !before.contains(&id));
            match self.settled(&mut pending) {
                _ if pending.ask.answer.is_closed() => self.abandon(&pending),
                Some(result) if first => self.answer(pending, result),
                _ => {
                    before.extend(id);
                    self.pending.push(pending);
                }
            }
        }
    }

    /// What a question comes to, if that is known: those that are granted of all that was asked.
    fn settled(&mut self, pending: &mut Pending) -> Option<Result<Rights, AuthorityError>> {
        // Somebody with the same id may have asked for more meanwhile.
        let asked = pending.asked
            | pending
                .ask
                .seeker
                .id
                .map_or(Rights::NONE, |id| self.members.asked(id));
        if asked != pending.asked {
            pending.asked = asked;
            let left = pending.seats;
            let (groups, mut scene) = self.scene();
            pending.seats = Seats::take(asked, &pending.ask.seeker.claims, groups, &mut scene);
            left.leave(&mut self.groups, &mut self.relations);
            self.again = true;
            return None;
        }
        match pending.seats.known(asked, pending.since, &self.groups) {
            Known::Waiting => None,
            Known::Failed(error) => Some(Err(error)),
            Known::All(granted) => {
                // What it takes may have been committed a moment ago, and not have come down the stream yet: before a no,
                // it is read again.
                let refused = !(pending.ask.wanted - granted).is_empty();
                if refused
                    && !std::mem::replace(&mut pending.definite, true)
                    && self.look_again(pending.seats)
                {
                    pending.seats.want(asked, &mut self.groups);
                    pending.since = self.step + 1;
                    self.again = true;
                    return None;
                }
                Some(Ok(granted))
            }
        }
    }

    fn answer(&mut self, pending: Pending, result: Result<Rights, AuthorityError>) {
        let granted = match result {
            Ok(granted) => granted,
            Err(error) => {
                self.abandon(&pending);
                // Whoever asked may have gone away.
                let _ = pending.ask.answer.send(Err(error));
                return;
            }
        };
        let Ask {
            seeker,
            wanted,
            answer,
            ..
        } = pending.ask;
        let (groups, relations) = (&mut self.groups, &mut self.relations);
        let known = seeker.id.is_some_and(|id| self.members.contains(id));
        match seeker.id {
            None => pending.seats.leave(groups, relations),
            Some(id) => {
                let judged = Judged {
                    claims: seeker.claims,
                    asked: pending.asked,
                    seats: pending.seats,
                    granted,
                };
                self.members.admit(id, judged, (groups, relations));
            }
        }
        let answered = answer.send(Ok(Answer {
            rights: granted & wanted,
            generation: self.snapshot.generation,
        }));
        if let (Err(_), Some(id), false) = (answered, seeker.id, known) {
            self.members.dismiss(id, &mut self.groups, &mut self.relations);
        }
    }

    fn abandon(&mut self, pending: &Pending) {
        pending.seats.leave(&mut self.groups, &mut self.relations);
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
