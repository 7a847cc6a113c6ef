//! Which tables the stream carries: not always those that were asked for, nor from the same moment on.

use std::sync::Arc;

use super::{Pump, push};
use crate::change::Streamed;
use crate::feed::notice;
use crate::history::Gap;
use crate::protocol::errors::Notice;
use crate::shutdown::Shutdown;

impl Pump {
    /// The stream carries other tables from here on, or the same in another way. What policies read in them may have changed
    /// where the stream did not carry it yet, and in those that it does not carry at all it changes unheard.
    pub(super) async fn carries(&mut self, streamed: Streamed, shutdown: &Shutdown) {
        let followed = streamed.tables.difference(&streamed.missing).cloned().collect();
        self.history.carry(&followed, self.position);
        for table in &*streamed.late {
            self.history.replaced(table, streamed.from);
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

    /// Whoever was subscribed to a table before its changes came is told so: of all tables, or of one that was made anew.
    fn tell_of_gaps(&self, streamed: &Streamed) {
        if streamed.late.is_empty() {
            return;
        }
        for (id, entry) in self.roster.live() {
            let mut tables = self.roster.tables(id).filter_map(|oid| self.snapshot.table(oid));
            let late = tables.find(|table| {
                let stored = table.stored_in.iter();
                stored
                    .chain([&table.name])
                    .any(|name| streamed.late.contains(name))
            });
            if let Some(table) = late {
                let gap = Gap::Table(table.name.clone());
                push(
                    entry,
                    vec![notice(
                        &entry.subscriber,
                        &Notice::Resync(gap.to_string()),
                        Some(self.here()),
                    )],
                );
            }
        }
    }
}
