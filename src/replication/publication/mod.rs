//! What pgoutput streams: it carries the tables of publications, and what Rowcast streams is more than what is published
//! for clients (tables that policies read, partitions of `realtime.messages`). So it keeps two publications of its own,
//! named after the slot, with exactly the tables that are wanted.
//!
//! Two, because a table without a replica identity must not publish updates and deletes: Postgres would refuse these to the
//! application. Such tables are in a publication of inserts and truncates.
//!
//! A publication holds for WAL that was written while it held: decoding looks at the catalog of that time. So they are made
//! before the slot, and what a table that is added did before is not carried ([`Kept::position`]).

mod keep;
mod sql;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use crate::change::{Lsn, TableName};
use crate::postgres::{ConnectSettings, Connection, Session, SqlError, connect};

/// Names in Postgres are cut behind this many bytes.
const MAX_NAME: usize = 63;
/// Adding a table waits for whoever alters or vacuums it; the application's own statements wait behind us meanwhile.
const LOCK_TIMEOUT: &str = "2s";
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often is looked whether tables are still as they were when nothing announced a change.
const INTERVAL: Duration = Duration::from_secs(10);
/// Statements of one migration come together.
const TOGETHER: Duration = Duration::from_millis(100);

/// The two names, by slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// Publishes everything.
    pub(super) all: String,
    /// Publishes inserts and truncates.
    pub(super) inserts: String,
}

impl Names {
    pub(super) fn of(slot: &str) -> Self {
        Self {
            all: name(slot, "_stream"),
            inserts: name(slot, "_stream_inserts"),
        }
    }
}

/// The publications that a slot of pgoutput is read through: the one for tables that have a replica identity, and the one for
/// those that have none.
pub fn own_publications(slot: &str) -> [String; 2] {
    let Names { all, inserts } = Names::of(slot);
    [all, inserts]
}

/// A name that stays different from those of other slots where it must be cut.
fn name(slot: &str, suffix: &str) -> String {
    let room = MAX_NAME - suffix.len();
    if slot.len() <= room {
        return format!("{slot}{suffix}");
    }
    // FNV-1a: the same on every server, in every version.
    let hash = slot.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let head: String = slot.chars().take(room - 9).collect();
    format!("{head}_{hash:08x}{suffix}")
}

/// What came of keeping them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// The publications that exist.
    pub(super) names: Vec<String>,
    /// Wanted tables that are in none, and why.
    pub(super) missing: BTreeMap<TableName, String>,
    /// Where the WAL stood then: the changes of tables that were put in come from there on.
    pub(super) position: Lsn,
    /// The one that most tables are in had to be made.
    pub(super) made: bool,
}

impl Kept {
    pub(super) fn missing_names(&self) -> BTreeSet<TableName> {
        self.missing.keys().cloned().collect()
    }
}

/// Our two publications in one database.
#[derive(Clone, Debug)]
pub(super) struct Publications {
    connect: ConnectSettings,
    names: Names,
    late: Late,
}

/// Tables that were put in, or published less than now, until that has been told. They are noted before anything is altered:
/// whoever alters may be ended at any moment, and what it did would look as if it had always been so.
#[derive(Clone, Debug, Default)]
pub(super) struct Late(Arc<Mutex<BTreeSet<TableName>>>);

impl Late {
    fn note(&self, tables: &BTreeSet<TableName>) {
        self.lock().extend(tables.iter().cloned());
    }

    /// They could not be put in.
    fn forget(&self, tables: impl Iterator<Item = TableName>) {
        let mut noted = self.lock();
        tables.for_each(|table| {
            noted.remove(&table);
        });
    }

    /// All of them, to be told.
    pub(super) fn take(&self) -> BTreeSet<TableName> {
        std::mem::take(&mut *self.lock())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<TableName>> {
        // A set is whole whenever the lock is free.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publications {
    pub(super) fn new(connect: &ConnectSettings, slot: &str) -> Self {
        Self {
            connect: connect.clone(),
            names: Names::of(slot),
            late: Late::default(),
        }
    }

    /// What was put in and is still to be told.
    pub(super) fn late(&self) -> &Late {
        &self.late
    }

    async fn connection(&self) -> Result<Connection, SqlError> {
        let mut session = Session::new("rowcast_publication");
        session.statement_timeout = Some(STATEMENT_TIMEOUT);
        session
            .settings
            .push(("lock_timeout".to_owned(), LOCK_TIMEOUT.to_owned()));
        session
            .settings
            .push(("synchronous_commit".to_owned(), "local".to_owned()));
        // Whatever the database or the role would look for names in: nothing there takes the place of what is meant.
        session.settings.push(("search_path".to_owned(), String::new()));
        connect(&self.connect, &session).await
    }

    /// Makes them hold these tables, as far as the role may.
    pub(super) async fn keep(&self, tables: &BTreeSet<TableName>) -> Result<Kept, SqlError> {
        let connection = self.connection().await?;
        keep::keep(&connection, &self.names, tables, &self.late).await
    }

    /// Keeps them from now on, whatever happens to the tables: one that loses its replica identity must leave, and one that
    /// was made anew must enter. Says `again` when that changed what the stream carries, compared with `before`.
    pub(super) async fn watch(
        &self,
        tables: &BTreeSet<TableName>,
        before: &BTreeSet<TableName>,
        ddl: &Notify,
        again: &mpsc::Sender<()>,
    ) {
        let mut connection = None;
        loop {
            tokio::select! {
                () = ddl.notified() => sleep(TOGETHER).await,
                () = sleep(INTERVAL) => {}
            }
            if connection.is_none() {
                connection = self.connection().await.ok();
            }
            let Some(open) = &connection else { continue };
            match keep::keep(open, &self.names, tables, &self.late).await {
                Ok(kept) if !self.late.is_empty() || kept.missing_names() != *before => {
                    // Whoever does not listen any more ends the connection, and this with it.
                    let _ = again.send(()).await;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "publications not looked at");
                    connection = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_slot_and_fit() {
        let names = Names::of("rowcast");
        assert_eq!(names.all, "rowcast_stream");
        assert_eq!(names.inserts, "rowcast_stream_inserts");
        let long = "x".repeat(62);
        let (one, other) = (Names::of(&format!("{long}a")), Names::of(&format!("{long}b")));
        for name in [&one.all, &one.inserts, &other.all, &other.inserts] {
            assert!(name.len() <= MAX_NAME, "{name}");
        }
        assert_ne!(one, other);
    }
}
