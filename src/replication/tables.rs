//! Which tables the stream carries: those that are asked for, and with pgoutput those that could be published.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};

use super::failure::Failure;
use super::publication::{Kept, Publications};
use super::slot::{PGOUTPUT, Slot};
use super::stream::Settings;
use crate::change::{Lsn, Streamed, TableName};

/// A set of tables, shared.
type Set = Arc<BTreeSet<TableName>>;

/// From this version on a publication that is missing is passed over in silence.
const SILENT_SINCE: u32 = 18;

/// What is new of what is streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    None,
    /// The same tables come in another way: the receiver has not asked for that, and takes in all that comes before it hears of it.
    Told,
    /// The receiver has asked for it, by another value of the set: the same tables, too, where one of them was made anew. Until
    /// it hears of it, it takes in nothing.
    Asked,
}

/// See the module.
pub(super) struct Tables {
    wanted: watch::Receiver<Set>,
    /// Somebody may still ask for other tables.
    open: bool,
    /// The set to be streamed next.
    next: Set,
    /// What is streamed now.
    streaming: Option<Streamed>,
    /// Another set, or the same in another way, waits for the end of a transaction.
    pub(super) changed: bool,
    publications: Publications,
    /// What came of publishing `next`, on a connection that needs it.
    kept: Option<Kept>,
    /// Of `next`, what is not published.
    missing: Set,
    /// From where on what was put into the publications comes.
    from: Lsn,
    /// The catalog may have changed.
    pub(super) ddl: Arc<Notify>,
    /// What is published has changed.
    again: (mpsc::Sender<()>, mpsc::Receiver<()>),
}

impl Tables {
    pub(super) fn new(settings: &Settings, wanted: watch::Receiver<Set>) -> Self {
        Self {
            next: Arc::default(),
            wanted,
            open: true,
            streaming: None,
            changed: false,
            publications: Publications::new(&settings.connect, &settings.slot.name),
            kept: None,
            missing: Arc::default(),
            from: Lsn(0),
            ddl: Arc::default(),
            again: mpsc::channel(1),
        }
    }

    /// Takes what is wanted now for the next connection.
    pub(super) fn choose(&mut self) {
        self.next = Arc::clone(&self.wanted.borrow_and_update());
        self.kept = None;
    }

    /// Waits until other tables are wanted than are streamed, or the same come in another way. Cancel-safe.
    pub(super) async fn change(&mut self) {
        let (_, again) = &mut self.again;
        tokio::select! {
            changed = self.wanted.changed(), if self.open => {
                self.open = changed.is_ok();
                let wanted = self.wanted.borrow_and_update();
                let same = |streamed: &Streamed| Arc::ptr_eq(&streamed.tables, &wanted);
                self.changed |= !self.streaming.as_ref().is_some_and(same);
            }
            Some(()) = again.recv() => self.changed = true,
        }
    }

    /// Publishes what was chosen.
    pub(super) async fn publish(&mut self) -> Result<(), Failure> {
        let kept = self.publications.keep(&self.next).await;
        let kept = kept.map_err(|error| Failure::Publication(error.chain()))?;
        if !self.publications.late().is_empty() {
            self.from = kept.position;
        }
        let missing = kept.missing_names();
        if missing != *self.missing {
            for (table, reason) in &kept.missing {
                tracing::warn!(%table, reason, "changes of this table do not come: it could not be added to the publication");
            }
            self.missing = Arc::new(missing);
        }
        self.kept = Some(kept);
        Ok(())
    }

    /// Publishes what was chosen unless that is done, for a slot of pgoutput. Why its changes may not all have come, if that
    /// is so. `version` is the server's major version.
    pub(super) async fn published_for(
        &mut self,
        slot: &Slot,
        version: &str,
    ) -> Result<Option<String>, Failure> {
        if self.kept.is_none() {
            self.publish().await?;
        }
        let made = self.kept.as_ref().is_some_and(|kept| kept.made);
        let silent = version.parse().is_ok_and(|version: u32| version >= SILENT_SINCE);
        let reset = "the publication that changes are read from was dropped; changes may have been missed";
        Ok((made && silent && !slot.new).then(|| reset.to_owned()))
    }

    /// What it means for the receiver to stream what was chosen.
    pub(super) fn news(&self) -> News {
        let Some(before) = &self.streaming else {
            return News::Asked;
        };
        if !Arc::ptr_eq(&before.tables, &self.next) {
            return News::Asked;
        }
        let same = before.missing == self.lacking() && before.by_identity == self.kept.is_some();
        match same && self.publications.late().is_empty() {
            true => News::None,
            false => News::Told,
        }
    }

    /// Streams what was chosen from here on: what to tell of it.
    pub(super) fn take_up(&mut self) -> Streamed {
        let next = Streamed {
            tables: Arc::clone(&self.next),
            missing: self.lacking(),
            late: Arc::new(self.publications.late().take()),
            from: self.from,
            by_identity: self.kept.is_some(),
        };
        self.streaming = Some(next.clone());
        next
    }

    /// Nothing but what was chosen is to be streamed, as far as is known.
    pub(super) fn settle(&mut self) {
        self.changed = false;
        // The watch may have moved on while this set was being published.
        self.wanted.mark_changed();
        // What the connection before said of it is in what was published since.
        let (_, again) = &mut self.again;
        while again.try_recv().is_ok() {}
    }

    fn lacking(&self) -> Set {
        match self.kept {
            Some(_) => Arc::clone(&self.missing),
            None => Arc::default(),
        }
    }

    /// What is streamed now, as it was told.
    pub(super) fn streamed(&self) -> Option<Streamed> {
        self.streaming.clone()
    }

    /// The set that is streamed now.
    pub(super) fn streaming(&self) -> Set {
        self.streaming
            .as_ref()
            .map(|streamed| Arc::clone(&streamed.tables))
            .unwrap_or_default()
    }

    /// The publications to stream from.
    pub(super) fn publications(&self) -> &[String] {
        self.kept.as_ref().map_or(&[], |kept| &kept.names)
    }

    /// Keeps what is published as it is to be for as long as the connection lasts; ends never.
    pub(super) fn keeper(&self, slot: &Slot) -> impl Future<Output = ()> + use<> {
        let publications = (slot.plugin == PGOUTPUT).then(|| self.publications.clone());
        let (tables, missing) = (self.streaming(), Arc::clone(&self.missing));
        let (ddl, again) = (Arc::clone(&self.ddl), self.again.0.clone());
        async move {
            match publications {
                Some(publications) => publications.watch(&tables, &missing, &ddl, &again).await,
                None => std::future::pending().await,
            }
        }
    }
}
