//! TRUNCATE: told to those who asked for it and may read some column. It shows no row, so neither filters nor policies
//! decide; who sees no row of the table whatever it holds is not told either.

use std::sync::Arc;

use super::assess::{Assessor, Group, Show, published};
use crate::change::{Action, Change, Lsn, TableName, Transaction};
use crate::postgres::catalog::Table;
use crate::subscription::{Member, Slot};

/// The tables that one TRUNCATE has emptied so far: of a partitioned table all partitions follow it, at the same position.
#[derive(Debug, Default)]
pub(super) struct Truncated<'a> {
    lsn: Lsn,
    names: Vec<&'a TableName>,
}

impl<'a> Truncated<'a> {
    fn note(&mut self, change: &'a Change) {
        if self.lsn != change.lsn {
            self.lsn = change.lsn;
            self.names.clear();
        }
        self.names.push(&change.table);
    }

    fn holds(&self, table: &Table) -> bool {
        self.names.contains(&&table.name)
    }
}

impl<'a> Assessor<'a> {
    /// Adds that a table was emptied, for its own subscribers and for those of the tables that it is a part of.
    pub(super) fn truncate(
        &mut self,
        change: &'a Change,
        transaction: &'a Transaction,
        tables: &'a [Arc<Table>],
    ) {
        let above = tables.iter().filter(|table| table.name != change.table);
        let with_all = above.into_iter().any(|table| self.truncated.holds(table));
        for table in tables {
            if !published(table, Action::Truncate) || (with_all && table.name != change.table) {
                continue;
            }
            let Some(subscriptions) = self.index.table(table.oid) else {
                continue;
            };
            let groups: Vec<Group<'a>> = subscriptions
                .slots()
                .filter_map(|slot| told(slot, table))
                .collect();
            self.work(change, transaction, table, groups);
        }
        self.truncated.note(change);
    }
}

fn told<'a>(slot: &'a Slot, table: &Table) -> Option<Group<'a>> {
    let told = |member: &&Member| member.wants(Action::Truncate) && member.columns.contains(&true);
    let members: Vec<&Member> = slot.members.iter().filter(told).collect();
    let mut restrictions = slot.class.rule.access.restrictions(table);
    let sees_nothing = members.is_empty() || restrictions.any(|by| by.denies_all());
    (!sees_nothing).then_some(Group {
        members,
        show: Show::Truncated,
    })
}
