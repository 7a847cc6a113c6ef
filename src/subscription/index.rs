use std::collections::HashMap;
use std::sync::Arc;

use super::{Resolved, SubscriberId};
use crate::auth::Claims;
use crate::change::{Action, Row};
use crate::postgres::catalog::Table;
use crate::predicate::{Condition, Outcome};
use crate::protocol::EventFilter;

/// Conditions that must all hold; empty passes every row.
pub type Filter = Vec<Condition>;

/// From a change to those who could want it: tables, then classes of subscribers that every policy treats alike, then
/// filters, then members. A row is judged once per class and filter, whatever the number of members.
#[derive(Debug, Default)]
pub struct Index {
    tables: HashMap<u32, TableIndex>,
}

/// The subscriptions on one table.
#[derive(Debug, Default)]
pub struct TableIndex {
    classes: HashMap<Arc<Claims>, Class>,
}

/// Subscribers with the same claims.
#[derive(Debug)]
pub struct Class {
    /// The claims they share.
    pub claims: Arc<Claims>,
    filters: HashMap<Arc<Filter>, Vec<Member>>,
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
    /// Which of the table's columns it is sent (by readable columns and `select`), as of the last resolution.
    pub columns: Arc<[bool]>,
}

impl Member {
    /// Whether the member asked for this action.
    pub fn wants(&self, action: Action) -> bool {
        match self.event {
            EventFilter::All => true,
            EventFilter::Insert => action == Action::Insert,
            EventFilter::Update => action == Action::Update,
            EventFilter::Delete => action == Action::Delete,
        }
    }
}

impl Index {
    /// Adds what a subscriber's bindings resolved to.
    pub fn add(&mut self, subscriber: SubscriberId, claims: &Arc<Claims>, resolved: &[Resolved]) {
        for resolved in resolved {
            for target in &resolved.targets {
                let class = self
                    .tables
                    .entry(target.table)
                    .or_default()
                    .classes
                    .entry(Arc::clone(claims))
                    .or_insert_with(|| Class {
                        claims: Arc::clone(claims),
                        filters: HashMap::new(),
                    });
                class
                    .filters
                    .entry(Arc::clone(&target.filter))
                    .or_default()
                    .push(Member {
                        subscriber,
                        binding: resolved.binding,
                        event: resolved.event,
                        columns: Arc::clone(&target.columns),
                    });
            }
        }
    }

    /// Takes out what [`Index::add`] put in with the same arguments.
    pub fn remove(&mut self, subscriber: SubscriberId, claims: &Arc<Claims>, resolved: &[Resolved]) {
        for target in resolved.iter().flat_map(|resolved| &resolved.targets) {
            let Some(table) = self.tables.get_mut(&target.table) else {
                continue;
            };
            if let Some(class) = table.classes.get_mut(claims) {
                if let Some(members) = class.filters.get_mut(&target.filter) {
                    members.retain(|member| member.subscriber != subscriber);
                    if members.is_empty() {
                        class.filters.remove(&target.filter);
                    }
                }
                if class.filters.is_empty() {
                    table.classes.remove(claims);
                }
            }
            if table.classes.is_empty() {
                self.tables.remove(&target.table);
            }
        }
    }

    /// The subscriptions on a table; `None` if there are none.
    pub fn table(&self, oid: u32) -> Option<&TableIndex> {
        self.tables.get(&oid)
    }
}

impl TableIndex {
    /// The classes that subscribe to this table.
    pub fn classes(&self) -> impl Iterator<Item = &Class> {
        self.classes.values()
    }
}

impl Class {
    /// Filters that this row passes or that only Postgres can tell, each with the conditions left to ask and those
    /// members who want the action (at least one).
    pub fn candidates<'a>(
        &'a self,
        table: &'a Table,
        row: &'a Row,
        action: Action,
    ) -> impl Iterator<Item = (Vec<&'a Condition>, Vec<&'a Member>)> {
        self.filters.iter().filter_map(move |(filter, members)| {
            let wanting: Vec<&Member> = members.iter().filter(|member| member.wants(action)).collect();
            if wanting.is_empty() {
                return None;
            }
            Some((residual(filter, table, row)?, wanting))
        })
    }

    /// Every member who wants the action, whatever the filter.
    pub fn members(&self, action: Action) -> impl Iterator<Item = &Member> {
        self.filters
            .values()
            .flatten()
            .filter(move |member| member.wants(action))
    }
}

/// The conditions that are left to ask Postgres about; `None` if one fails already.
fn residual<'a>(filter: &'a Filter, table: &Table, row: &Row) -> Option<Vec<&'a Condition>> {
    let mut left = Vec::new();
    for condition in filter {
        match condition.evaluate(table, row) {
            Outcome::Pass => {}
            Outcome::Fail => return None,
            Outcome::Ask => left.push(condition),
        }
    }
    Some(left)
}
