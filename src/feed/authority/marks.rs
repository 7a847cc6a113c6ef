//! What the pump tells the authority of changes: a few pages that are written between two events, and read when there is
//! time. The pump never waits for it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::change::Change;
use crate::policy::Relations;
use crate::postgres::catalog::Table;

/// A change of a table that somebody's rights may depend on.
#[derive(Debug)]
struct Mark {
    table: Arc<Table>,
    change: Change,
    xid: u32,
}

/// What has been marked since it was looked at last.
#[derive(Debug, Default)]
pub(super) struct Marked {
    changes: Vec<Mark>,
    /// Whatever was read may be another now.
    everything: bool,
    /// And whoever was asked may say something else.
    pub(super) catalog: bool,
    /// The stream does not continue where it was.
    reset: bool,
}

#[derive(Debug, Default)]
struct Page {
    /// The tables that count, by oid.
    tables: HashSet<u32>,
    marked: Marked,
}

/// Marks that may wait. More of them mean: everything.
const MOST: usize = 4096;

/// The handle of both. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::feed) struct Marks {
    page: Arc<Mutex<Page>>,
    written: Arc<Notify>,
}

/// The pump writes, each time after it has told its own store: what that store's clock says of writers is what a reading
/// has to come after.
impl Marks {
    /// As [`Relations::changed`].
    pub(in crate::feed) fn changed(&self, table: &Arc<Table>, change: &Change, xid: u32) {
        let mut page = self.page();
        if page.marked.everything || !page.tables.contains(&table.oid) {
            return;
        }
        if page.marked.changes.len() < MOST {
            page.marked.changes.push(Mark {
                table: Arc::clone(table),
                change: change.clone(),
                xid,
            });
        } else {
            page.marked.all();
        }
        drop(page);
        self.written.notify_one();
    }

    /// As [`Relations::invalidate_all`].
    pub(in crate::feed) fn everything(&self) {
        self.page().marked.all();
        self.written.notify_one();
    }

    /// Policies, functions or rights may be other ones.
    pub(in crate::feed) fn catalog(&self) {
        let mut page = self.page();
        page.marked.all();
        page.marked.catalog = true;
        drop(page);
        self.written.notify_one();
    }

    /// As [`Relations::reset`].
    pub(in crate::feed) fn reset(&self) {
        let mut page = self.page();
        page.marked.all();
        page.marked.reset = true;
        drop(page);
        self.written.notify_one();
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The authority reads.
impl Marks {
    /// Changes of these count from now on. What the stream has passed already is known to the pump's clock.
    pub(super) fn count(&self, tables: impl Iterator<Item = u32>) {
        self.page().tables.extend(tables);
    }

    /// No table counts.
    pub(super) fn count_none(&self) {
        self.page().tables.clear();
    }

    /// Waits until something is marked. Nothing is lost where it is dropped.
    pub(super) async fn written(&self) {
        self.written.notified().await;
    }

    /// Takes what is marked.
    pub(super) fn take(&self) -> Marked {
        std::mem::take(&mut self.page().marked)
    }
}

impl Marked {
    fn all(&mut self) {
        self.changes = Vec::new();
        self.everything = true;
    }

    /// Outdates what a store holds.
    pub(super) fn outdate(&self, relations: &mut Relations) {
        if self.reset {
            relations.reset();
        } else if self.everything {
            relations.invalidate_all(None);
        }
        for Mark { table, change, xid } in &self.changes {
            relations.changed(table, change, *xid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Action, Lsn, TableName};
    use crate::postgres::catalog::testing::table as fixture;

    fn table(oid: u32) -> Arc<Table> {
        Arc::new(fixture(oid, "t"))
    }

    fn truncate() -> Change {
        Change {
            lsn: Lsn(1),
            ordinal: 0,
            action: Action::Truncate,
            table: TableName::new("public", "t"),
            new: None,
            old: None,
            wire_bytes: 0,
        }
    }

    #[test]
    fn only_tables_that_count_are_marked_and_too_many_changes_are_everything() {
        let marks = Marks::default();
        marks.count([7].into_iter());
        marks.changed(&table(8), &truncate(), 1);
        marks.changed(&table(7), &truncate(), 1);
        assert_eq!(marks.take().changes.len(), 1);
        for _ in 0..=MOST {
            marks.changed(&table(7), &truncate(), 1);
        }
        let marked = marks.take();
        assert!(marked.changes.is_empty() && marked.everything);
        assert!(!marks.take().everything);
        marks.count_none();
        marks.changed(&table(7), &truncate(), 1);
        assert!(marks.take().changes.is_empty());
    }
}
