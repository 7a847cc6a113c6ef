//! The loop that never ends: connects, streams, reconnects, and says what is going on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::failure::Failure;
use super::feedback::Feedback;
use super::guard::Guard;
use super::intake::Intake;
use super::slot::{self, Known, Slot, SlotSettings};
use super::tables::{News, Tables};
use super::unprintable::Unprintable;
use super::walsender::Walsender;
use super::{pgoutput, wal2json};
use crate::change::{Event, FailedOver, HandedOver, Lineage, Lsn, StreamState, TableName};
use crate::postgres::ConnectSettings;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// A connection that streamed for this long was a good one: the next failure is met with the shortest wait again.
const STABLE: Duration = Duration::from_secs(10);
/// Looking for the slot takes milliseconds; longer means that it is being made and waits for running transactions.
const SLOW_SLOT: Duration = Duration::from_secs(5);
/// Longest time for ending the copy politely. A server in the middle of a large transaction does not hear us.
const END_COPY: Duration = Duration::from_secs(5);

/// Why whoever is there has to load its rows after a failover.
const UNDONE: &str =
    "the database failed over, and transactions that were shown are gone with the server before";

/// What the stream is told at the start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the database is.
    pub connect: ConnectSettings,
    /// Which slot to read from.
    pub slot: SlotSettings,
    /// How the connection shows in `pg_stat_replication`.
    pub application_name: String,
    /// A server that is silent for this long, although it was asked for an answer after half of it, is given up on.
    pub peer_timeout: Duration,
    /// Logical messages with the prefix `rowcast.broadcast` are passed on as well.
    pub logical_broadcasts: bool,
}

/// What the stream may be asked to do.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Makes the server answer at once, so that a position follows.
    pub ping: Arc<Notify>,
    /// Ends the connection, which is then made again.
    pub let_go: Arc<Notify>,
}

/// Streams until shutdown, or until nobody receives events any more.
///
/// Passes on every committed change of `tables` and every logical message with the prefix `rowcast` (pgoutput: with a
/// prefix that begins so), in commit order, in batches of at most some 512 events or 256 KiB. When the channel is full,
/// reading stops and the server is kept informed. [`Event::Tables`] comes first, and again for every new set of tables:
/// from the moment when the receiver has asked for one until it comes, it discards what still comes of the old set, and hands
/// nothing over. Apart from that, within one call nothing is lost or repeated over reconnects, unless [`StreamState::Reset`] says so; after a reset a transaction that had begun is void, and
/// its [`Event::Commit`] will not come.
///
/// `handed_over` must carry positions taken from events: the end of the last transaction that the receiver is done
/// with, or a later [`Event::Position`]. Only what is confirmable by them is confirmed to the slot.
pub async fn run(
    settings: Settings,
    tables: watch::Receiver<Arc<BTreeSet<TableName>>>,
    events: mpsc::Sender<Vec<Event>>,
    handed_over: watch::Receiver<HandedOver>,
    signals: Signals,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) {
    let guard = Guard::new(settings.connect.clone(), settings.slot.name.clone());
    let stream = Stream {
        intake: Intake::new(Arc::clone(&metrics)),
        tables: Tables::new(&settings, tables),
        settings,
        events,
        handed_over,
        lineage: Arc::default(),
        new_epoch: false,
        confirmed: Lsn(0),
        signals,
        metrics,
        shutdown,
        known: Known::default(),
        guard,
        standby: None,
        reset: None,
        unprintable: Unprintable::default(),
        told: StreamState::Starting,
        live_since: None,
    };
    stream.run().await;
}

/// Why streaming stopped without a failure.
pub(super) enum Stop {
    Shutdown,
    /// The other end of a channel is gone.
    FeedGone,
    /// Another set of tables is to be streamed.
    Tables,
}

pub(super) struct Stream {
    settings: Settings,
    pub(super) tables: Tables,
    pub(super) events: mpsc::Sender<Vec<Event>>,
    pub(super) handed_over: watch::Receiver<HandedOver>,
    /// What positions of this history and of others mean.
    lineage: Arc<Lineage>,
    /// Nothing of this epoch has been handed over yet: `handed_over` still shows a position of the old one.
    pub(super) new_epoch: bool,
    confirmed: Lsn,
    pub(super) signals: Signals,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: Shutdown,
    pub(super) intake: Intake,
    known: Known,
    guard: Guard,
    /// Another server has the slot.
    standby: Option<Standby>,
    /// Why the next stream does not continue the last one.
    reset: Option<String>,
    pub(super) unprintable: Unprintable,
    told: StreamState,
    pub(super) live_since: Option<Instant>,
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// What was passed on before says nothing about it.
    Anew,
    /// Where the connection before ended.
    Continues,
    /// There, or where the history of the connection before was left, if that is before it.
    FailsOver(Lsn),
}

/// How a server that waits for the slot takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standby {
    /// As soon as it is free.
    AtOnce,
    /// Only if who had it does not come back: the database was away for everybody.
    GivesWay,
}

impl Stream {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let failure = match self.connection().await {
                Ok(Stop::Shutdown | Stop::FeedGone) => break,
                Ok(Stop::Tables) => continue,
                Err(failure) => failure,
            };
            let waits = matches!(failure, Failure::SlotInUse { .. }) && !self.settings.slot.take_over;
            self.standby = match self.standby {
                None if waits => Some(Standby::AtOnce),
                Some(_) if !waits => Some(Standby::GivesWay),
                standby => standby,
            };
            if self
                .live_since
                .take()
                .is_some_and(|since| since.elapsed() > STABLE)
            {
                backoff.reset();
            }
            if let Failure::PublicationUnknown(reason) = &failure {
                self.known.unreadable = Some(reason.clone());
            }
            self.interrupted(&failure);
            if !self.deliver().await {
                break;
            }
            if waits {
                // Waited for on a connection that is open, with looks that cost little.
                continue;
            }
            let wait = sleep(backoff.wait());
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                () = wait => {}
            }
        }
        self.metrics.replication_live.set(0);
    }

    /// One connection from login to its end.
    async fn connection(&mut self) -> Result<Stop, Failure> {
        let shutdown = self.shutdown.clone();
        if let Some(standby) = self.standby {
            let free = self.guard.until_free(standby == Standby::GivesWay);
            tokio::select! {
                () = shutdown.cancelled() => return Ok(Stop::Shutdown),
                free = free => free?,
            }
        }
        let connecting = Walsender::connect(&self.settings.connect, &self.settings.application_name);
        let mut walsender = tokio::select! {
            () = shutdown.cancelled() => return Ok(Stop::Shutdown),
            walsender = connecting => walsender?,
        };
        let opening = async {
            let mut slot = self.open_slot(&mut walsender).await?;
            if slot.plugin == slot::PGOUTPUT {
                let version = walsender.major_version().to_owned();
                let dropped = self.tables.published_for(&slot, &version).await?;
                slot.reset = slot.reset.or(dropped);
            }
            Ok::<_, Failure>(slot)
        };
        let slot = tokio::select! {
            () = shutdown.cancelled() => return Ok(Stop::Shutdown),
            slot = opening => slot?,
        };
        let start = self.enter(&slot);
        let stop = self.copy(&mut walsender, &slot, start).await?;
        if matches!(stop, Stop::Tables) {
            // Politely, so that the slot is free for the next connection; without success it soon is, too.
            let _ = timeout(END_COPY, walsender.end_copy()).await;
        }
        walsender.close().await;
        Ok(stop)
    }

    /// Finds the slot, or makes it with the first plugin that the server has.
    async fn open_slot(&mut self, walsender: &mut Walsender) -> Result<Slot, Failure> {
        let primary = match slot::primary(walsender).await {
            Ok(started) => self.guard.meet(&started).await,
            Err(failure) => Err(failure),
        };
        // What is owned on a standby, or on the primary of before, keeps nobody from anything.
        primary.inspect_err(|_| self.guard.leave())?;
        // Before the slot is looked at, or made: of several servers that start at once, one goes on.
        if !self.guard.lock().await? && !self.settings.slot.take_over {
            return Err(self.guard.in_use().await?);
        }
        self.known.passed = self.intake.progress.start();
        self.tables.choose();
        let plugins = self.settings.slot.plugins.clone();
        let mut refused = None;
        for plugin in &plugins {
            // What pgoutput reads from must be older than its slot. With a choice, a slot may be there that needs none.
            if plugin == slot::PGOUTPUT && (refused.is_some() || plugins.len() == 1) {
                self.tables.publish().await?;
            }
            match self.open_slot_with(walsender, plugin).await {
                Err(failure @ (Failure::PluginMissing { .. } | Failure::PluginNotAllowed { .. })) => {
                    refused.get_or_insert(failure);
                }
                opened => return opened,
            }
        }
        Err(refused.unwrap_or(Failure::Protocol("no output plugin is set")))
    }

    async fn open_slot_with(&mut self, walsender: &mut Walsender, plugin: &str) -> Result<Slot, Failure> {
        let (settings, known) = (self.settings.slot.clone(), self.known.clone());
        let opening = slot::open(walsender, &settings, plugin, &known);
        tokio::pin!(opening);
        if let Ok(slot) = timeout(SLOW_SLOT, &mut opening).await {
            return slot;
        }
        let name = &settings.name;
        self.tell(StreamState::Interrupted(format!(
            "slot {name} is being made, which waits for every transaction that is running now; end old ones (see pg_stat_activity)"
        )));
        // The receiver being gone shows soon enough.
        let _ = self.deliver().await;
        opening.await
    }

    /// Takes up where the slot and what was passed on agree, or where the slot stands.
    fn enter(&mut self, slot: &Slot) -> Start {
        self.intake.progress.reconnect();
        if let Some(reason) = &slot.reset {
            self.reset = Some(reason.clone());
        }
        if slot.new {
            self.known.unreadable = None;
        }
        if self.known.identity.is_some() && self.reset.is_none() {
            return slot.left.map_or(Start::Continues, Start::FailsOver);
        }
        self.new_epoch(slot.confirmed);
        Start::Anew
    }

    fn new_epoch(&mut self, floor: Lsn) {
        self.intake.progress.reset(floor);
        self.confirmed = Lsn(0);
        self.new_epoch = true;
    }

    /// Streams until the copy is to end.
    async fn copy(&mut self, walsender: &mut Walsender, slot: &Slot, how: Start) -> Result<Stop, Failure> {
        self.intake.progress.reconnect();
        self.rewire();
        let start = match how {
            Start::FailsOver(left) => self.intake.progress.start().min(left),
            Start::Anew | Start::Continues => self.intake.progress.start(),
        };
        let options = self.start_options(slot);
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {start} {options}",
            self.settings.slot.name
        );
        walsender
            .start_copy(&command)
            .await
            .map_err(|failure| self.refused(failure, slot))?;
        self.standby = None;
        self.begin_at(start, slot, how).await?;
        let mut feedback = Feedback::new(
            start,
            self.confirmed,
            slot.sender_timeout_millis,
            self.settings.peer_timeout,
        );
        if !self.new_epoch {
            self.confirm(&mut feedback);
        }
        let keeper = self.tables.keeper(slot);
        let stop = tokio::select! {
            biased;
            stop = self.pump(walsender, &mut feedback) => stop,
            () = keeper => Err(Failure::Protocol("the publications are not kept any more")),
        };
        self.confirmed = feedback.confirmed();
        stop
    }

    /// The stream has started, so that nobody but us moves the slot from here on. Looked at now, it shows where the stream
    /// really begins: Postgres says nothing of it when it begins behind what was asked for, since the slot was moved
    /// after it was looked at last.
    async fn begin_at(&mut self, start: Lsn, slot: &Slot, how: Start) -> Result<(), Failure> {
        let name = self.settings.slot.name.clone();
        let Some(standing) = self.guard.standing().await? else {
            return Err(Failure::SlotGone { slot: name });
        };
        if standing > start && how != Start::Anew {
            self.reset = Some(slot::advanced(&name));
        }
        let start = start.max(standing);
        let lineage = slot.identity.lineage(&self.settings.connect.database);
        if how == Start::Anew || self.reset.is_some() {
            self.new_epoch(start);
            self.lineage = Arc::new(lineage);
            // In front of the new epoch: nobody may be held to be there who has not been told.
            if let Some(reason) = self.reset.take() {
                tracing::error!(%reason, "replication stream does not continue the earlier one");
                self.tell(StreamState::Reset(reason));
            }
            self.intake.begin_epoch(Arc::clone(&self.lineage), start);
            if let Some(streamed) = self.tables.streamed() {
                self.intake.carry(streamed);
            }
        } else if let Start::FailsOver(left) = how {
            self.fail_over(lineage, left);
        }
        // Until the first stream has started, nothing is known that a slot could fail to continue.
        self.known.identity = Some(slot.identity.clone());
        // What committed before has left the slot. Nobody has to wait for the first transaction to learn that.
        self.intake.keepalive(start);
        Ok(())
    }

    /// The database is another server now, which came from the one before and has the slot: the stream goes on.
    fn fail_over(&mut self, mut lineage: Lineage, left: Lsn) {
        let passed = self.intake.progress.start();
        let undone = self.intake.progress.fail_over(left);
        lineage.learn(&self.lineage);
        if !undone {
            lineage.quiet(self.lineage.epoch(), passed);
        }
        self.lineage = Arc::new(lineage);
        self.confirmed = self.confirmed.min(left);
        let undone = undone.then(|| UNDONE.to_owned());
        match &undone {
            Some(_) => {
                tracing::error!(%left, %passed, "postgres failed over without transactions that were delivered")
            }
            None => tracing::warn!(%left, "postgres failed over; the stream goes on and nothing was missed"),
        }
        if let Some(reason) = &undone {
            self.metrics.replication_live.set(0);
            self.told = StreamState::Reset(reason.clone());
        }
        self.intake.fail_over(FailedOver {
            lineage: Arc::clone(&self.lineage),
            left,
            undone,
        });
    }

    /// START_REPLICATION was refused although the slot looked well: somebody was faster, or the plugin has lost trust.
    fn refused(&self, failure: Failure, slot: &Slot) -> Failure {
        match failure {
            Failure::Server(error) if error.code == "55006" => Failure::SlotInUse {
                slot: self.settings.slot.name.clone(),
                by: format!("process {}", error.message.rsplit(' ').next().unwrap_or("?")),
            },
            // A slot that worked before the server learnt to keep a list of plugins, among others.
            failure => slot::not_allowed(failure, &slot.plugin),
        }
    }

    /// Takes up the set of tables that was chosen. If it was asked for, what was passed on but not handed over was read without
    /// it and has been discarded: it comes again. Whoever did not ask takes in what was passed on, so that nothing of it comes
    /// again, and hears of the change behind it, between two transactions.
    fn rewire(&mut self) {
        let news = self.tables.news();
        if news == News::Told && !self.intake.progress.at_boundary() {
            self.tables.changed = true;
            return;
        }
        self.tables.settle();
        match news {
            News::None => {}
            News::Told => {
                let streamed = self.tables.take_up();
                self.intake.carry(streamed);
            }
            News::Asked => {
                let handed_over = *self.handed_over.borrow();
                let delivered = self.here(handed_over, handed_over.delivered);
                let delivered = delivered.filter(|_| !self.new_epoch).unwrap_or_default();
                let streamed = self.tables.take_up();
                self.intake.rewind(delivered, streamed);
            }
        }
    }

    /// What a position that was handed over means in this history. The receiver may not have heard of it yet.
    pub(super) fn here(&self, handed_over: HandedOver, position: Lsn) -> Option<Lsn> {
        match handed_over.epoch {
            Some(epoch) => self.lineage.within(epoch, position),
            None => Some(position),
        }
    }

    /// The options of START_REPLICATION for these tables, and the decoder for what then comes.
    fn start_options(&mut self, slot: &Slot) -> String {
        let tables = self.tables.streaming();
        if slot.plugin == slot::PGOUTPUT {
            let options = pgoutput::start_options(self.tables.publications());
            self.intake.read_pgoutput(tables);
            options
        } else {
            self.intake.read_wal2json();
            wal2json::start_options(&tables, self.settings.logical_broadcasts)
        }
    }

    fn interrupted(&mut self, failure: &Failure) {
        self.metrics.replication_interruptions.inc();
        let left_out = self.leave_out(failure);
        let state = match (failure, left_out) {
            (Failure::Diverged(_), _) => {
                self.intake.progress.forget_partial();
                StreamState::Reset(failure.to_string())
            }
            (_, Some(end)) => StreamState::Reset(format!(
                "the transaction ending at {end} has a row that is too large to be read, and is left out ({failure})"
            )),
            _ => StreamState::Interrupted(failure.to_string()),
        };
        if state == self.told {
            tracing::debug!(reason = %failure, "replication stream still interrupted");
        } else {
            tracing::warn!(reason = %failure, "replication stream interrupted");
            self.tell(state);
        }
        if let Some(end) = left_out {
            self.intake.left_out(end);
        }
    }

    /// Tells a new state, in its place among the events.
    pub(super) fn tell(&mut self, state: StreamState) {
        self.metrics
            .replication_live
            .set(i64::from(state == StreamState::Live));
        self.told = state.clone();
        self.intake.tell(state);
    }

    /// Passes on what is waiting, however long that takes. `false` when nothing more can be passed on.
    async fn deliver(&mut self) -> bool {
        let batch = self.intake.batch.take();
        if batch.is_empty() {
            return true;
        }
        tokio::select! {
            () = self.shutdown.cancelled() => false,
            sent = self.events.send(batch) => sent.is_ok(),
        }
    }
}
