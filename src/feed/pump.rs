//! The loop: events in, frames out, in commit order; commands and catalog changes between them.
//!
//! Sole owner of the roster, so nothing here is locked. A position is handed over as delivered only when everything before
//! it is in the outboxes, and as confirmable only when it has left the replay window.

mod broadcasts;
mod carried;
mod commands;
mod delivery;
mod events;
mod failover;
mod held;
mod resume;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::future::{poll_fn, ready};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::postgres::Pool;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior};

use self::held::{Again, Held};
pub(super) use self::resume::Recipients;
use self::resume::{Comer, Resuming};
use super::authority::Marks;
use super::courtesy::Courtesy;
use super::keeper::{Keeper, Snapshot};
use super::place::Place;
use super::prefetch::Prefetched;
use super::roster::{Bound, Entry, Roster};
use super::shadow::{Dispute, Sampling};
use super::shaper::Pacer;
use super::{NewerClaims, Settings, SubscribeError, Subscriber};
use crate::auth::Claims;
use crate::change::{Event, HandedOver, Lsn, Since, StreamState, StreamStatus, TableName, Transaction};
use crate::history::History;
use crate::hub::{Frame, HeldFrame};
use crate::messages::Writers;
use crate::policy::{Clock, Engine, RelationReader};
use crate::replication::Signals;
use crate::room::Rooms;
use crate::shutdown::Shutdown;
use crate::subscription::SubscriberId;
use crate::telemetry::Metrics;

/// What sessions ask of the pump.
#[derive(Debug)]
pub(super) enum Command {
    Add(Box<Add>),
    Replace {
        id: SubscriberId,
        claims: Arc<Claims>,
        on_live: Vec<Frame>,
        answer: Answer,
    },
    /// As [`Command::Replace`], of somebody who is not live yet, and with nothing to say: that moment will.
    Newer {
        id: SubscriberId,
        newer: NewerClaims,
    },
    Remove(SubscriberId),
    /// Take over the keeper's snapshot now.
    Adopt(oneshot::Sender<()>),
    /// Say what has changed, once the stream has passed a position.
    Dispute(Dispute),
}

/// A subscription whose bindings have been checked.
#[derive(Debug)]
pub(super) struct Add {
    pub(super) subscriber: Subscriber,
    pub(super) claims: Arc<Claims>,
    pub(super) newer: Option<NewerClaims>,
    pub(super) bindings: Vec<Bound>,
    /// The snapshot that the bindings were checked against.
    pub(super) snapshot: Arc<Snapshot>,
    /// What its policies look into.
    pub(super) prefetched: Vec<Prefetched>,
    /// Live once the stream has passed this.
    pub(super) target: Lsn,
    /// From where it goes on.
    pub(super) since: Option<Since>,
    pub(super) comes: Comes,
    pub(super) reply: Option<HeldFrame>,
    pub(super) on_live: Vec<Frame>,
    pub(super) answer: Answer,
}

/// How somebody comes to go on from a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comes {
    /// It was away: it is told whether it has missed anything, and is live in any case.
    Back,
    /// The same, but where something would be missing it is not subscribed: rows will be read for it.
    BackOrForRows,
    /// It has just had a snapshot. Nobody has to be told that nothing is missing; otherwise as the one before.
    FromSnapshot,
}

type Answer = oneshot::Sender<Result<(), SubscribeError>>;
type TableSet = Arc<BTreeSet<TableName>>;

/// What a pump is made of.
pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) keeper: Arc<Keeper>,
    pub(super) engine: Engine,
    pub(super) rooms: Rooms,
    pub(super) sampling: Option<Sampling>,
    pub(super) pool: Pool,
    /// All that are asked for what changes raise.
    pub(super) pools: Vec<Pool>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: mpsc::Receiver<Vec<Event>>,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) tables: watch::Sender<TableSet>,
    pub(super) handed_over: watch::Sender<HandedOver>,
    pub(super) stream: watch::Sender<StreamStatus>,
    pub(super) wal_budget: watch::Receiver<u64>,
    /// Broadcasts that were committed up to here may have been said before this server was.
    pub(super) said: Lsn,
    pub(super) signals: Signals,
    /// Told of all that the pump's own relations are told of.
    pub(super) marks: Marks,
    /// Calls those who hold back what they gather.
    pub(super) pacer: Pacer,
}

pub(super) struct Pump {
    parts: Parts,
    snapshot: Arc<Snapshot>,
    roster: Roster,
    waiting: Vec<Waiting>,
    /// No target of theirs is before this: a server that has the window still to read looks at it, and not at thousands of them,
    /// for every transaction.
    earliest: Lsn,
    disputes: Vec<Dispute>,
    position: Lsn,
    history: History,
    resuming: Resuming,
    place: Place,
    /// The transaction whose changes are coming.
    transaction: Option<Arc<Transaction>>,
    /// Its changes so far.
    held: Held,
    /// The transaction that comes again.
    again: Option<Again>,
    reader: RelationReader,
    /// The tables whose changes the stream carries; `None` until it has said so, and while it is being told otherwise.
    streaming: Option<TableSet>,
    /// What the stream is being told: until it carries this very set, what comes is discarded.
    asked: Option<TableSet>,
    /// What committed before this may not have come of tables that are new in the stream.
    streamed_from: Lsn,
    /// [`crate::change::Streamed::by_identity`].
    by_identity: bool,
    /// A table was made anew under the name of one that is streamed, since that was asked for.
    made_anew: bool,
    courtesy: Courtesy,
    writers: Writers,
    /// Told of every part of a batch that has been judged and delivered.
    headway: Arc<Notify>,
}

/// A subscription that the stream has not caught up with.
struct Waiting {
    id: SubscriberId,
    target: Lsn,
    since: Option<Since>,
    comes: Comes,
    reply: Option<HeldFrame>,
    on_live: Vec<Frame>,
    answer: Answer,
}

/// What calls the pump beside events and commands.
struct Calls {
    /// Another catalog is there.
    catalog: watch::Receiver<Arc<Snapshot>>,
    /// The stream is to say where it is.
    ping: Interval,
    /// The window is to let go of what is too old.
    retain: Interval,
}

impl Calls {
    fn new(parts: &Parts) -> Self {
        let every = |period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        Self {
            catalog: parts.keeper.changes(),
            ping: every(PING_INTERVAL),
            retain: every(RETAIN),
        }
    }
}

/// How often what is too old leaves the replay window of a quiet database, and how often it is measured.
const RETAIN: Duration = Duration::from_secs(1);

/// Behind everything.
const NONE_WAITS: Lsn = Lsn(u64::MAX);

/// How often the stream is asked for its position while somebody waits for it.
const PING_INTERVAL: Duration = Duration::from_millis(20);

/// A batch without headway for this long waits for the database. Longer than the calls of the judge between two signs
/// of headway may take, with asking one by one after a timeout.
const HELD_UP: Duration = Duration::from_secs(10);

impl Pump {
    pub(super) fn new(parts: Parts) -> Self {
        let snapshot = parts.keeper.snapshot();
        let mut relations = parts.engine.relations();
        relations.watch(snapshot.watched.oids().clone());
        Self {
            reader: parts.engine.relation_reader(),
            history: History::new(parts.settings.window),
            resuming: Resuming::default(),
            place: Place::default(),
            roster: Roster::new(relations, parts.pacer.clone()),
            parts,
            snapshot,
            waiting: Vec::new(),
            earliest: NONE_WAITS,
            disputes: Vec::new(),
            position: Lsn::default(),
            transaction: None,
            held: Held::default(),
            again: None,
            streaming: None,
            asked: None,
            streamed_from: Lsn::default(),
            by_identity: false,
            made_anew: false,
            courtesy: Courtesy::new(),
            writers: Writers::default(),
            headway: Arc::default(),
        }
    }

    /// Reads what policies look into.
    pub(super) fn reader(&self) -> RelationReader {
        self.reader.clone()
    }

    /// Whose broadcasts have been said.
    pub(super) fn writers(&self) -> Writers {
        self.writers.clone()
    }

    /// How far the pump is.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Tells when something was read.
    pub(super) fn clock(&self) -> Clock {
        self.roster.relations.clock()
    }

    pub(super) async fn run(mut self, shutdown: &Shutdown) {
        let mut calls = Calls::new(&self.parts);
        self.read_now_and_then(shutdown);
        while self.turn(&mut calls, shutdown).await {}
    }

    /// Does what is to be done next, and before it what is new: that waits for one turn of anything else at most, and anything
    /// else for one of it. `false` once it has been asked to stop.
    async fn turn(&mut self, calls: &mut Calls, shutdown: &Shutdown) -> bool {
        if let Ok(batch) = self.parts.events.try_recv() {
            self.attend(batch, shutdown).await;
            self.settle();
            if !self.resuming.is_empty() {
                give_way().await;
            }
        }
        let catches_up = self.can_catch_up();
        tokio::select! {
            () = shutdown.cancelled() => return false,
            Some(command) = self.parts.commands.recv() => self.commands(command).await,
            Some(batch) = self.parts.events.recv() => self.attend(batch, shutdown).await,
            Ok(()) = calls.catalog.changed() => self.adopt().await,
            // Those who resume wait for their outbox to be read, which is looked at as often.
            _ = calls.ping.tick(), if self.is_waited_for() || !self.resuming.is_empty() => if self.is_waited_for() {
                self.parts.signals.ping.notify_one();
            },
            () = ready(()), if catches_up => self.catch_up().await,
            _ = calls.retain.tick() => {
                self.retain();
                self.measure();
            }
        }
        self.settle();
        true
    }

    /// Somebody waits for the stream to reach a position.
    fn is_waited_for(&self) -> bool {
        !(self.waiting.is_empty() && self.disputes.is_empty())
    }

    /// Handles a batch. One that makes no headway waits for the database: then this is said, and the stream lets go of
    /// its connection. A Postgres that shuts down takes no new connections, so that nothing can be judged, and waits
    /// for its walsenders until everything has been confirmed: each would wait for the other.
    async fn attend(&mut self, batch: Vec<Event>, shutdown: &Shutdown) {
        let (stream, let_go) = (self.parts.stream.clone(), Arc::clone(&self.parts.signals.let_go));
        let headway = Arc::clone(&self.headway);
        let work = self.batch(batch, shutdown);
        tokio::pin!(work);
        loop {
            tokio::select! {
                () = &mut work => return,
                () = headway.notified() => {}
                () = tokio::time::sleep(HELD_UP) => break,
            }
        }
        let why = "the database has not answered for some seconds; changes wait until it does";
        tracing::warn!("{why}");
        // The end of the connection and the return of the stream are among the events, behind this batch.
        stream.send_if_modified(|status| status.becomes(StreamState::Interrupted(why.to_owned())));
        let_go.notify_one();
        work.await;
    }

    /// Reads the catalog beside the messages: for databases where the event trigger could not be installed, and for what no
    /// event trigger sees (roles and their memberships). The pause is behind each reading: those that take longer than it
    /// must not queue up, and keep others from theirs.
    fn read_now_and_then(&self, shutdown: &Shutdown) {
        let keeper = Arc::clone(&self.parts.keeper);
        let pause = self.parts.settings.catalog_refresh;
        let reading = async move {
            loop {
                tokio::time::sleep(pause).await;
                if let Err(error) = keeper.refresh().await {
                    tracing::warn!(%error, "catalog not read; the last one stays in force");
                }
            }
        };
        let stopping = shutdown.clone();
        shutdown.spawn("catalog", async move {
            tokio::select! {
                () = reading => {}
                () = stopping.cancelled() => {}
            }
        });
    }

    /// After every step: those the stream has caught up with are live. Only between transactions: whoever went live
    /// within one would get its second half.
    fn settle(&mut self) {
        if self.transaction.is_some() {
            return;
        }
        self.settle_disputes();
        self.rewire();
        if self.position < self.earliest.max(self.streamed_from) {
            return;
        }
        let Some(streaming) = self.streaming.as_ref().filter(|_| !self.waiting.is_empty()) else {
            return;
        };
        let streamed = |id: SubscriberId| {
            self.roster.tables(id).all(|oid| {
                self.snapshot
                    .table(oid)
                    .is_none_or(|table| streaming.contains(&table.name))
            })
        };
        let (arrived, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting)
                .into_iter()
                .partition(|waiting| {
                    self.position >= waiting.target.max(self.streamed_from) && streamed(waiting.id)
                });
        let targets = waiting.iter().map(|waiting| waiting.target);
        self.earliest = targets.min().unwrap_or(NONE_WAITS);
        self.waiting = waiting;
        for Waiting {
            id,
            since,
            comes,
            reply,
            on_live,
            answer,
            ..
        } in arrived
        {
            if let (Some(entry), Some(reply)) = (self.roster.get(id), reply) {
                reply.send(entry.subscriber.outbox.outbox());
            }
            let gap = since.as_ref().map(|since| self.reaches(id, since));
            let gap = match gap {
                Some(Ok(here)) => {
                    let comer = Comer::new((here, comes), on_live, answer);
                    self.resuming.add(id, comer, &self.history);
                    continue;
                }
                Some(Err(gap)) => Some(gap),
                None => None,
            };
            if let Some(gap) = gap.as_ref().filter(|_| comes != Comes::Back) {
                self.refuse(id, gap, answer);
                continue;
            }
            self.roster.set_live(id);
            if let Some(entry) = self.roster.get(id) {
                match gap {
                    Some(gap) => self.tell_outcome(entry, Some(gap)),
                    None => self.tell_begin(entry),
                }
                push(entry, on_live);
            }
            respond(answer, Ok(()));
        }
    }

    /// Answers those who ask what has changed up to a position that the stream has passed.
    fn settle_disputes(&mut self) {
        if self.disputes.is_empty() {
            return;
        }
        let disputes = std::mem::take(&mut self.disputes);
        for dispute in disputes {
            if self.position >= dispute.target {
                dispute.settle(&self.roster.relations);
            } else if !dispute.is_given_up() {
                self.disputes.push(dispute);
            }
        }
    }

    fn count(&self) {
        self.parts
            .metrics
            .subscriptions
            .set(i64::try_from(self.roster.bindings()).unwrap_or(i64::MAX));
    }
}

/// Lets run what has been woken: the last task that somebody wakes runs on the same thread, once this one waits, and on no
/// other. (`yield_now` of tokio waits until nothing at all is left to run.)
async fn give_way() {
    let mut gave = false;
    poll_fn(|cx| match std::mem::replace(&mut gave, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

fn push(entry: &Entry, frames: Vec<Frame>) {
    for frame in frames {
        // A full or closed outbox has told its owner.
        let _ = entry.subscriber.outbox.push(frame);
    }
}

fn respond(answer: Answer, result: Result<(), SubscribeError>) {
    // Whoever asked may have gone away; its unsubscribe follows.
    let _ = answer.send(result);
}
