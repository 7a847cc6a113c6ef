//! Which tables the stream carries: not always those that were asked for, nor from the same moment on.

use std::sync::Arc;

use super::{Pump, push};
use crate::change::Streamed;
use crate::feed::notice;
use crate::history::Gap;
use crate::postgres::catalog::Table;
use crate::protocol::errors::Notice;
use crate::shutdown::Shutdown;
use crate::subscription::SubscriberId;

impl Pump {
    /// The stream carries other tables from here on, or the same in another way. What policies read in them may have changed
    /// where the stream did not carry it yet, and in those that it does not carry at all it changes unheard.
    pub(super) async fn carries(&mut self, streamed: Streamed, shutdown: &Shutdown) {
        let followed = streamed.tables.difference(&streamed.missing).cloned().collect();
        self.history.carry(&followed, self.position);
        let tables = self.snapshot.catalog.tables.values();
        let above = tables
            .filter(|table| is_late(table, &streamed))
            .map(|table| &table.name);
        for name in streamed.late.iter().chain(above) {
            self.history.replaced(name, streamed.from);
        }
        self.streamed_from = streamed.from;
        self.by_identity = streamed.by_identity;
        // What was asked for meanwhile is still to come, and with it all that has been discarded since.
        self.asked.take_if(|asked| Arc::ptr_eq(asked, &streamed.tables));
        if self.asked.is_none() {
            self.streaming = Some(Arc::clone(&streamed.tables));
        }
        if !streamed.late.is_empty() {
            self.roster.relations.invalidate_all(None);
            self.parts.marks.everything();
        }
        if self.parts.keeper.lacks(Arc::clone(&streamed.missing)) {
            self.reread(shutdown).await;
        }
        self.tell_of_gaps(&streamed);
    }

    /// Whoever was subscribed to a table before its changes came is told so: of all tables, or of one that was made anew. Those
    /// who are catching up are told once they have.
    fn tell_of_gaps(&mut self, streamed: &Streamed) {
        if streamed.late.is_empty() {
            return;
        }
        for (id, entry) in self.roster.live() {
            if let Some(gap) = self.late_for(id, streamed) {
                let resync = Notice::Resync(gap.to_string());
                push(entry, vec![notice(&entry.subscriber, &resync, Some(self.here()))]);
            }
        }
        let comers: Vec<_> = self.resuming.comers().collect();
        for id in comers {
            let gap = self.late_for(id, streamed);
            if let Some((comer, gap)) = self.resuming.get_mut(id).zip(gap) {
                comer.gap.get_or_insert(gap);
            }
        }
    }

    /// The first table of a subscriber that came late.
    fn late_for(&self, id: SubscriberId, streamed: &Streamed) -> Option<Gap> {
        let mut tables = self.roster.tables(id).filter_map(|oid| self.snapshot.table(oid));
        let late = tables.find(|table| is_late(table, streamed));
        late.map(|table| Gap::Table(table.name.clone()))
    }
}

/// The table came late, or some of what its rows are stored in.
fn is_late(table: &Table, streamed: &Streamed) -> bool {
    let mut names = table.stored_in.iter().chain([&table.name]);
    names.any(|name| streamed.late.contains(name))
}
