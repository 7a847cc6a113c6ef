//! The loop: events in, frames out, in commit order; commands and catalog changes between them.
//!
//! Sole owner of the roster, so nothing here is locked. The position is handed over (and so confirmed to the slot)
//! only when everything before it is in the outboxes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::postgres::Pool;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::assess::Assessor;
use super::convert::{Converted, Wanted};
use super::deliver::deliver;
use super::keeper::{CatalogError, Keeper, Snapshot};
use super::payload::Payload;
use super::roster::{Bound, Entry, Roster};
use super::{Settings, SubscribeError, Subscriber};
use crate::auth::Claims;
use crate::change::{Change, Event, Lsn, StreamState, TableName, Transaction};
use crate::hub::{Frame, HeldFrame};
use crate::policy::Engine;
use crate::protocol::{self, Status, SystemMessage};
use crate::shutdown::Shutdown;
use crate::subscription::SubscriberId;
use crate::telemetry::Metrics;
use crate::topic;

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
    Remove(SubscriberId),
}

/// A subscription whose bindings have been checked.
#[derive(Debug)]
pub(super) struct Add {
    pub(super) subscriber: Subscriber,
    pub(super) claims: Arc<Claims>,
    pub(super) bindings: Vec<Bound>,
    /// The snapshot that the bindings were checked against.
    pub(super) snapshot: Arc<Snapshot>,
    /// Live once the stream has passed this.
    pub(super) target: Lsn,
    pub(super) reply: Option<HeldFrame>,
    pub(super) on_live: Vec<Frame>,
    pub(super) answer: Answer,
}

type Answer = oneshot::Sender<Result<(), SubscribeError>>;
type TableSet = Arc<BTreeSet<TableName>>;

/// What a pump is made of.
pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) keeper: Arc<Keeper>,
    pub(super) engine: Engine,
    pub(super) pool: Pool,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: mpsc::Receiver<Vec<Event>>,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) tables: watch::Sender<TableSet>,
    pub(super) handed_over: watch::Sender<Lsn>,
    pub(super) stream: watch::Sender<StreamState>,
    pub(super) ping: Arc<Notify>,
}

pub(super) struct Pump {
    parts: Parts,
    snapshot: Arc<Snapshot>,
    roster: Roster,
    waiting: Vec<Waiting>,
    position: Lsn,
    /// The transaction whose changes are coming.
    transaction: Option<Arc<Transaction>>,
    /// The tables whose changes the stream carries; `None` until it has said so, and while it is being told otherwise.
    streaming: Option<TableSet>,
}

/// A subscription that the stream has not caught up with.
struct Waiting {
    id: SubscriberId,
    target: Lsn,
    reply: Option<HeldFrame>,
    on_live: Vec<Frame>,
    answer: Answer,
}

/// The prefix of the logical messages that say the catalog has changed (sql/rowcast/).
const MESSAGE_PREFIX: &str = "rowcast";

/// How often the stream is asked for its position while somebody waits for it.
const PING_INTERVAL: Duration = Duration::from_millis(20);

/// Questions that are put together before they are asked: bounds memory when a large transaction meets many classes.
const MAX_QUESTIONS: usize = 4096;

/// Pause before the catalog is read again after that failed.
const RETRY: Duration = Duration::from_millis(500);

impl Pump {
    pub(super) fn new(parts: Parts) -> Self {
        let snapshot = parts.keeper.snapshot();
        Self {
            parts,
            snapshot,
            roster: Roster::default(),
            waiting: Vec::new(),
            position: Lsn::default(),
            transaction: None,
            streaming: None,
        }
    }

    pub(super) async fn run(mut self, shutdown: &Shutdown) {
        let mut changes = self.parts.keeper.changes();
        let mut refresh = tokio::time::interval(self.parts.settings.catalog_refresh);
        let mut ping = tokio::time::interval(PING_INTERVAL);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(command) = self.parts.commands.recv() => self.command(command).await,
                Some(batch) = self.parts.events.recv() => self.batch(&batch, shutdown).await,
                Ok(()) = changes.changed() => self.adopt().await,
                _ = refresh.tick() => self.refresh_in_background(shutdown),
                _ = ping.tick(), if !self.waiting.is_empty() => self.parts.ping.notify_one(),
            }
            self.settle();
        }
    }

    /// The poll beside the messages: for databases where the event trigger could not be installed, and for what no
    /// event trigger sees (roles and their memberships).
    fn refresh_in_background(&self, shutdown: &Shutdown) {
        let keeper = Arc::clone(&self.parts.keeper);
        let stopping = shutdown.clone();
        shutdown.spawn("catalog", async move {
            tokio::select! {
                result = keeper.refresh() => {
                    if let Err(error) = result {
                        tracing::warn!(%error, "catalog not read; the last one stays in force");
                    }
                }
                () = stopping.cancelled() => {}
            }
        });
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Add(add) => self.add(*add).await,
            Command::Replace {
                id,
                claims,
                on_live,
                answer,
            } => self.replace(id, claims, on_live, answer).await,
            Command::Remove(id) => {
                self.roster.remove(id);
                self.waiting.retain(|waiting| waiting.id != id);
            }
        }
        self.count();
    }

    async fn add(&mut self, add: Add) {
        if add.snapshot.generation != self.snapshot.generation {
            self.adopt().await;
        }
        self.meet(&add.claims).await;
        let id = add.subscriber.id;
        let settled = self.roster.add(
            (add.subscriber, add.claims, add.bindings),
            &add.snapshot,
            &self.snapshot,
            &self.parts.keeper,
        );
        match settled.await {
            Ok(()) => {
                let Add {
                    target,
                    reply,
                    on_live,
                    answer,
                    ..
                } = add;
                self.waiting.push(Waiting {
                    id,
                    target,
                    reply,
                    on_live,
                    answer,
                });
            }
            Err(reason) => respond(add.answer, Err(SubscribeError::Refused(reason))),
        }
    }

    async fn replace(&mut self, id: SubscriberId, claims: Arc<Claims>, on_live: Vec<Frame>, answer: Answer) {
        self.meet(&claims).await;
        if let Err(reason) = self.roster.reclaim(id, claims, &self.snapshot) {
            self.waiting.retain(|waiting| waiting.id != id);
            return respond(answer, Err(SubscribeError::Refused(reason)));
        }
        match self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            // Not live yet: that moment will speak for both.
            Some(_) => {}
            None => {
                if let Some(entry) = self.roster.get(id) {
                    push(entry, on_live);
                }
            }
        }
        respond(answer, Ok(()));
    }

    /// Takes over the keeper's snapshot if a role is new here: whoever sends a command has made the keeper know it.
    async fn meet(&mut self, claims: &Claims) {
        if !self.snapshot.roles.contains_key(&claims.role) {
            self.adopt().await;
        }
    }

    /// Takes over the keeper's snapshot and settles every subscription against it.
    async fn adopt(&mut self) {
        let latest = self.parts.keeper.snapshot();
        if latest.generation != self.snapshot.generation {
            let refused = self
                .roster
                .resettle(&self.snapshot, &latest, &self.parts.keeper)
                .await;
            for (entry, reason) in refused {
                tracing::info!(reason, "subscription ended by a change of the catalog");
                self.waiting.retain(|waiting| waiting.id != entry.subscriber.id);
                let subscriber = &entry.subscriber;
                let message = SystemMessage {
                    extension: "postgres_changes",
                    status: Status::Error,
                    message: &reason,
                    channel: topic::sub_topic(&subscriber.topic),
                };
                let text = protocol::system_fan_out(subscriber.version, &subscriber.topic, message);
                push(&entry, vec![Frame::Text(text.into())]);
            }
            self.count();
        }
        self.snapshot = latest;
    }

    /// Handles a batch in order, cut where the catalog changed in between.
    async fn batch(&mut self, batch: &[Event], shutdown: &Shutdown) {
        let mut changes: Vec<(&Change, Arc<Transaction>)> = Vec::new();
        for event in batch {
            if self.discards(event) {
                continue;
            }
            match event {
                Event::Begin(transaction) => {
                    self.transaction = Some(Arc::clone(transaction));
                }
                Event::Change(change) => {
                    if let Some(transaction) = &self.transaction {
                        changes.push((change, Arc::clone(transaction)));
                    }
                }
                Event::Message { prefix, .. } => {
                    if prefix == MESSAGE_PREFIX {
                        self.flush(std::mem::take(&mut changes)).await;
                        self.reread(shutdown).await;
                    }
                }
                Event::Commit(transaction) => {
                    self.flush(std::mem::take(&mut changes)).await;
                    self.committed(transaction);
                }
                Event::Position(lsn) => self.hand_over(*lsn),
                Event::Tables(tables) => {
                    self.transaction = None;
                    self.streaming = Some(Arc::clone(tables));
                }
                Event::Stream(state) => self.stream_changed(state),
            }
            self.settle();
        }
        self.flush(changes).await;
    }

    /// While the stream is being told of other tables, what still comes of the old ones will come again.
    fn discards(&self, event: &Event) -> bool {
        self.streaming.is_none() && !matches!(event, Event::Tables(_) | Event::Stream(_))
    }

    fn committed(&mut self, transaction: &Transaction) {
        self.transaction = None;
        self.hand_over(transaction.end_lsn);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let commit = Duration::from_micros(u64::try_from(transaction.commit_micros).unwrap_or(0));
        self.parts
            .metrics
            .commit_to_outbox
            .observe(now.saturating_sub(commit).as_secs_f64());
    }

    fn hand_over(&mut self, lsn: Lsn) {
        if lsn > self.position {
            self.position = lsn;
            self.parts.handed_over.send_replace(lsn);
            self.parts
                .metrics
                .confirmed_lsn
                .set(i64::try_from(lsn.0).unwrap_or(i64::MAX));
        }
    }

    fn stream_changed(&mut self, state: &StreamState) {
        self.parts
            .metrics
            .replication_live
            .set(i64::from(*state == StreamState::Live));
        match state {
            StreamState::Reset(why) => {
                tracing::error!(why, "changes may have been missed");
                // Another timeline or slot counts from elsewhere.
                self.position = Lsn::default();
                self.transaction = None;
            }
            StreamState::Live => tracing::info!("replication is live"),
            // The stream has logged why.
            StreamState::Interrupted(_) | StreamState::Starting => {}
        }
        // A watch keeps only the last state, and streaming goes on right after a reset: who has not looked yet would
        // never learn of it. Both mean that changes flow, so the reset stays.
        self.parts.stream.send_if_modified(|published| {
            let stays = *state == StreamState::Live && matches!(published, StreamState::Reset(_));
            if !stays {
                *published = state.clone();
            }
            !stays
        });
    }

    /// The catalog changed at this very place in the stream: what follows is judged by what is true from here on. Not
    /// judging at all is the only alternative, so this insists.
    async fn reread(&mut self, shutdown: &Shutdown) {
        let mut said = false;
        while let Err(error) = self.read_catalog().await {
            if !std::mem::replace(&mut said, true) {
                tracing::error!(%error, "the catalog changed but could not be read; changes wait");
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = shutdown.cancelled() => return,
            }
        }
        self.adopt().await;
    }

    async fn read_catalog(&self) -> Result<(), CatalogError> {
        match &self.transaction {
            Some(transaction) => self.parts.keeper.refresh_after(transaction).await,
            None => self.parts.keeper.refresh().await,
        }
    }

    /// Asks for another set of tables, between transactions: everything handed over so far is then exactly what the
    /// stream need not send again.
    fn rewire(&mut self) {
        let wanted = self.snapshot.table_names();
        if self
            .streaming
            .as_ref()
            .is_some_and(|streaming| *streaming != wanted)
        {
            tracing::info!(tables = wanted.len(), "the set of published tables changed");
            self.streaming = None;
            self.parts.tables.send_replace(wanted);
        }
    }

    /// After every step: those the stream has caught up with are live. Only between transactions: whoever went live
    /// within one would get its second half.
    fn settle(&mut self) {
        if self.transaction.is_some() {
            return;
        }
        self.rewire();
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
        let (ready, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| self.position >= waiting.target && streamed(waiting.id));
        self.waiting = waiting;
        for Waiting {
            id,
            reply,
            on_live,
            answer,
            ..
        } in ready
        {
            self.roster.set_live(id);
            if let Some(entry) = self.roster.get(id) {
                if let Some(reply) = reply {
                    reply.send(entry.subscriber.outbox.outbox());
                }
                push(entry, on_live);
            }
            respond(answer, Ok(()));
        }
    }

    async fn flush(&mut self, changes: Vec<(&Change, Arc<Transaction>)>) {
        let mut rest = changes.as_slice();
        while !rest.is_empty() {
            let taken = self.assess_and_deliver(rest).await;
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    /// Takes as many changes as raise a bounded number of questions; returns how many (at least one).
    async fn assess_and_deliver(&self, changes: &[(&Change, Arc<Transaction>)]) -> usize {
        let mut assessor = Assessor {
            snapshot: &self.snapshot,
            roster: &self.roster,
            settings: &self.parts.settings,
            questions: Vec::new(),
            works: Vec::new(),
        };
        let mut taken = 0;
        for (change, transaction) in changes {
            assessor.add(change, transaction);
            taken += 1;
            if assessor.questions.len() >= MAX_QUESTIONS {
                break;
            }
        }
        let Assessor { questions, works, .. } = assessor;
        if works.is_empty() {
            return taken;
        }
        let types = &self.snapshot.catalog.types;
        let verdicts = self.parts.engine.decide(&questions, types).await;
        let mut wanted = Wanted::default();
        for work in &works {
            for row in [&work.change.new, &work.change.old].into_iter().flatten() {
                wanted.note(work.table, types, row);
            }
        }
        let converted: Converted = wanted.ask(&self.parts.pool, types).await;
        let mut sent = 0;
        for work in &works {
            sent += deliver(work, &verdicts, &self.roster, || {
                let limit = self.parts.settings.max_record_bytes;
                Payload::render(
                    work.change,
                    work.table,
                    types,
                    work.transaction.commit_micros,
                    limit,
                    &converted,
                )
            });
        }
        self.parts.metrics.deliveries.inc_by(sent);
        taken
    }

    fn count(&self) {
        self.parts
            .metrics
            .subscriptions
            .set(i64::try_from(self.roster.bindings()).unwrap_or(i64::MAX));
    }
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

#[cfg(test)]
mod tests;
