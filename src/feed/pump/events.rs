//! What comes down the stream: changes to be judged and delivered, and what is said about the stream itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::held::{Again, Held};
use super::{Pump, Recipients, TableSet};
use crate::change::{Change, Event, Lsn, StreamState, Transaction};
use crate::feed::keeper::CatalogError;
use crate::messages::LOGICAL_PREFIX;
use crate::shutdown::Shutdown;

/// The prefix of the logical messages that say the catalog has changed (sql/rowcast/).
const MESSAGE_PREFIX: &str = "rowcast";

/// Pause before the catalog is read again after that failed.
const RETRY: Duration = Duration::from_millis(500);

impl Pump {
    /// Handles a batch in order. A transaction is judged at its commit, and before its end only where the catalog
    /// changed or where it is too large to be held.
    pub(super) async fn batch(&mut self, batch: Vec<Event>, shutdown: &Shutdown) {
        for event in batch {
            if self.discards(&event) {
                continue;
            }
            match event {
                Event::Begin(transaction) => {
                    self.held = Held::begin(&transaction, self.again.take());
                    self.transaction = Some(transaction);
                }
                Event::Change(Change { lsn, .. }) | Event::Message { lsn, .. } if self.held.knows(lsn) => {}
                Event::Change(change) if self.transaction.is_some() => {
                    self.held.push(self.snapshot.completed(change));
                    if self.held.is_full() {
                        self.stream().await;
                    }
                }
                Event::Change(_) => {}
                Event::Message { lsn, prefix, content } if prefix == LOGICAL_PREFIX => {
                    self.logical(&content, lsn);
                    if self.held.is_full() {
                        self.stream().await;
                    }
                }
                Event::Message { lsn, prefix, .. } => {
                    let known = self.transaction.is_some() && self.held.reread;
                    if prefix == MESSAGE_PREFIX && !known {
                        self.stream().await;
                        self.reread(shutdown).await;
                        self.held.reread = true;
                        self.start_over(lsn);
                    }
                }
                Event::Commit(transaction) => {
                    self.flush().await;
                    self.committed(&transaction);
                }
                Event::Position(lsn) => self.hand_over(lsn),
                Event::Tables(streamed) => self.carries(streamed, shutdown).await,
                Event::Stream(state) => self.stream_changed(&state),
                Event::Epoch { lineage, start } => self.begin_epoch(lineage, start),
                Event::FailedOver(over) => self.failed_over(over, shutdown).await,
            }
            self.settle();
        }
        if self.held.streams {
            self.flush().await;
        }
    }

    /// While the stream is being told of other tables, what still comes of the old ones will come again.
    fn discards(&self, event: &Event) -> bool {
        self.streaming.is_none()
            && !matches!(
                event,
                Event::Tables(_) | Event::Stream(_) | Event::Epoch { .. } | Event::FailedOver(_)
            )
    }

    /// The transaction does not go on: what came of it comes again, or is among what was missed.
    pub(super) fn abandon(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            self.history.abandon(&transaction);
        }
        self.held = Held::default();
    }

    /// If the catalog has tables that the stream does not carry, the transaction may go on with rows of them: it is left
    /// here, where the catalog changed, and comes again once the stream carries them.
    fn start_over(&mut self, judged: Lsn) {
        let carried = self.streaming.as_ref();
        let carries_all = carried.is_none_or(|streaming| self.snapshot.streamed.is_subset(streaming));
        if let Some(transaction) = self.transaction.take_if(|_| !carries_all) {
            // What was delivered of it stays in the replay window: only the rest is delivered when it comes again.
            self.held = Held::default();
            self.again = Some(Again::of(&transaction, judged));
        }
    }

    fn committed(&mut self, transaction: &Transaction) {
        self.transaction = None;
        self.held.streams = false;
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
            self.place.reach(lsn);
            let delivered = i64::try_from(lsn.0).unwrap_or(i64::MAX);
            self.parts.metrics.delivered_lsn.set(delivered);
            self.retain();
        }
    }

    fn stream_changed(&mut self, state: &StreamState) {
        match state {
            StreamState::Reset(why) => {
                tracing::error!(why, "changes may have been missed");
                self.abandon();
                // Who was away for it learns of it, too.
                self.history.interrupt(self.position);
                // Another timeline or slot counts from elsewhere.
                self.position = Lsn::default();
                self.again = None;
                self.roster.relations.reset();
                self.parts.marks.reset();
            }
            StreamState::Live => tracing::info!("replication is live"),
            // The stream has logged why.
            StreamState::Interrupted(_) | StreamState::Starting => {}
        }
        self.publish(state);
    }

    /// Shows a state of the stream.
    pub(super) fn publish(&self, state: &StreamState) {
        self.parts
            .stream
            .send_if_modified(|status| status.becomes(state.clone()));
    }

    /// The catalog changed at this very place in the stream: what follows is judged by what is true from here on. Not
    /// judging at all is the only alternative, so this insists.
    pub(super) async fn reread(&mut self, shutdown: &Shutdown) {
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
        // Also where the catalog looks as before: a table may have been rewritten, or a function replaced.
        let xid = self.transaction.as_ref().map(|transaction| transaction.xid);
        self.roster.relations.invalidate_all(xid);
        self.parts.marks.catalog();
    }

    async fn read_catalog(&self) -> Result<(), CatalogError> {
        match &self.transaction {
            Some(transaction) => self.parts.keeper.refresh_after(transaction).await,
            None => self.parts.keeper.refresh().await,
        }
    }

    /// Asks for another set of tables, between transactions: everything handed over so far is then exactly what the
    /// stream need not send again.
    pub(super) fn rewire(&mut self) {
        let wanted = Arc::clone(&self.snapshot.streamed);
        // After every event: most of the time it is the same set.
        let again = self.made_anew && self.by_identity;
        let Some(streaming) = self
            .streaming
            .as_ref()
            .filter(|streaming| again || !Arc::ptr_eq(streaming, &wanted))
        else {
            return;
        };
        if *streaming == wanted && again {
            tracing::info!("a table that is streamed was made anew");
            self.ask(Arc::new(BTreeSet::clone(&wanted)));
        } else if *streaming == wanted {
            self.streaming = Some(wanted);
        } else {
            tracing::info!(tables = wanted.len(), "the set of tables to stream changed");
            self.ask(wanted);
        }
    }

    fn ask(&mut self, tables: TableSet) {
        self.streaming = None;
        self.made_anew = false;
        self.asked = Some(Arc::clone(&tables));
        self.parts.tables.send_replace(tables);
    }

    /// Judges what has come of the transaction, and the rest of it as it comes. What that will do to the tables that
    /// policies read is in the database already, so it is read from there.
    async fn stream(&mut self) {
        if let Some(transaction) = &self.transaction
            && !self.held.streams
        {
            self.held.streams = true;
            self.roster.relations.invalidate_all(Some(transaction.xid));
            self.parts.marks.everything();
        }
        self.flush().await;
    }

    /// Judges and delivers the changes held.
    async fn flush(&mut self) {
        let changes = self.held.take();
        let Some(transaction) = self.transaction.clone() else {
            return;
        };
        if !self.held.streams {
            self.mark(&changes, transaction.xid);
        }
        if changes.iter().any(|change| self.interests(change)) {
            self.refresh(transaction.xid).await;
        } else if self.roster.relations.lags() {
            let changed = self.roster.relations.refresh(&self.reader, None).await;
            self.roster.reread(&changed);
        }
        let mut rest = changes.as_slice();
        let mut concerns = Vec::with_capacity(rest.len());
        while !rest.is_empty() {
            let recipients = Recipients::live(&self.roster, self.epoch());
            let done = self.assess_and_deliver(rest, &transaction, &recipients).await;
            self.headway.notify_one();
            let pressed = done.pressed.into_values().chain(done.rooms);
            self.courtesy.wait(pressed.collect()).await;
            rest = rest.get(done.taken..).unwrap_or_default();
            concerns.extend(done.concerns);
        }
        self.keep(&transaction, changes, concerns);
    }

    /// Keeps those that somebody could come back for, which is those of tables that can be subscribed to.
    fn keep(&mut self, transaction: &Arc<Transaction>, mut changes: Vec<Change>, concerns: Vec<bool>) {
        let mut concerns = concerns.into_iter();
        changes.retain(|_| concerns.next().unwrap_or(true));
        self.history
            .push(transaction, changes, self.position, Instant::now());
    }

    /// What the changes mean for what policies read: all of them, before the first of their rows is judged.
    fn mark(&mut self, changes: &[Change], xid: u32) {
        for change in changes {
            for table in self.snapshot.watched.tables(&change.table) {
                self.roster.relations.changed(table, change, xid);
                self.parts.marks.changed(table, change, xid);
            }
        }
    }

    /// Somebody may be subscribed to this.
    fn interests(&self, change: &Change) -> bool {
        let mut tables = self.snapshot.concerned(&change.table).iter();
        tables.any(|table| self.roster.index.table(table.oid).is_some())
    }

    /// Reads again what is out of date.
    pub(super) async fn refresh(&mut self, xid: u32) {
        while self.roster.relations.stale() {
            let changed = self.roster.relations.refresh(&self.reader, Some(xid)).await;
            self.roster.reread(&changed);
            tracing::debug!(
                relations = changed.len(),
                "subqueries of policies were read again"
            );
            self.headway.notify_one();
        }
    }
}
