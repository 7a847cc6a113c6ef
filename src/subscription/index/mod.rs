//! From a change to those who could want it: tables, then the values that policies and filters look for, then classes of
//! subscribers that every policy treats alike, then members.
//!
//! The cost of finding them follows their number: what a predicate compares with is looked up, whatever the number of
//! predicates.

mod lookup;
mod paths;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

pub use table::{Slot, TableIndex};

use super::{Resolved, SubscriberId};
use crate::auth::Claims;
use crate::change::Action;
use crate::policy::{RelationId, Relations, Rules};
use crate::postgres::catalog::{Catalog, RoleAccess, Table};
use crate::predicate::Condition;
use crate::protocol::EventFilter;

/// Conditions that must all hold; empty passes every row.
pub type Filter = Vec<Condition>;

type SlotId = usize;

/// From a change to those who could want it.
#[derive(Debug, Default)]
pub struct Index {
    tables: HashMap<u32, TableIndex>,
}

/// One binding of one subscriber on one table.
#[derive(Clone, Debug)]
pub struct Member {
    /// The channel.
    pub subscriber: SubscriberId,
    /// The id its client knows the binding by.
    pub binding: i64,
    /// Which actions it wants.
    pub event: EventFilter,
    /// It is told when a row comes into or goes out of what it shows.
    pub transitions: bool,
    /// It is told when the table is emptied by TRUNCATE.
    pub truncates: bool,
    /// Which of the table's columns it is sent (by readable columns and `select`), as of the last resolution.
    pub columns: Arc<[bool]>,
}

/// Where [`Index::add`] put a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    table: u32,
    slot: SlotId,
}

/// What subscriptions are settled by.
#[derive(Debug)]
pub struct Scope<'a> {
    /// The catalog.
    pub catalog: &'a Catalog,
    /// Its tables by oid.
    pub tables: &'a HashMap<u32, Arc<Table>>,
    /// The rules made of it.
    pub rules: &'a Rules,
    /// What subqueries returned.
    pub relations: &'a mut Relations,
}

impl Member {
    /// Whether the member asked for this action.
    pub fn wants(&self, action: Action) -> bool {
        if action == Action::Truncate {
            return self.truncates;
        }
        match self.event {
            EventFilter::All => true,
            EventFilter::Truncate => false,
            EventFilter::Insert => action == Action::Insert,
            EventFilter::Update => action == Action::Update,
            EventFilter::Delete => action == Action::Delete,
        }
    }
}

impl Index {
    /// Adds what a subscriber's bindings resolved to.
    pub fn add(
        &mut self,
        subscriber: SubscriberId,
        (claims, access): (&Arc<Claims>, &RoleAccess),
        resolved: &[Resolved],
        scope: &mut Scope<'_>,
    ) -> Vec<Place> {
        let mut places = Vec::new();
        for resolved in resolved {
            for target in &resolved.targets {
                let Some(table) = scope.tables.get(&target.table) else {
                    continue;
                };
                let Some(rule) = scope.rules.rule(table, &claims.role, access, scope.catalog) else {
                    continue;
                };
                let member = Member {
                    subscriber,
                    binding: resolved.binding,
                    event: resolved.event,
                    transitions: resolved.transitions,
                    truncates: resolved.truncates,
                    columns: Arc::clone(&target.columns),
                };
                let slot = self
                    .tables
                    .entry(table.oid)
                    .or_insert_with(|| TableIndex::new(table, scope))
                    .add((table, &rule), claims, &target.filter, member, scope);
                places.push(Place {
                    table: table.oid,
                    slot,
                });
            }
        }
        places
    }

    /// Takes a subscriber out of the places that [`Index::add`] put it in.
    pub fn remove(&mut self, subscriber: SubscriberId, places: &[Place], relations: &mut Relations) {
        for place in places {
            let Some(table) = self.tables.get_mut(&place.table) else {
                continue;
            };
            table.remove(place.slot, subscriber, relations);
            if table.is_empty() {
                self.tables.remove(&place.table);
            }
        }
    }

    /// These relations hold something else now.
    pub fn reread(&mut self, changed: &[RelationId], relations: &Relations) {
        for table in self.tables.values_mut() {
            table.reread(changed, relations);
        }
    }

    /// The subscriptions on a table; `None` if there are none.
    pub fn table(&self, oid: u32) -> Option<&TableIndex> {
        self.tables.get(&oid)
    }
}
