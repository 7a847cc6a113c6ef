//! The subscriptions on one table.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use slab::Slab;

use super::lookup::Lookup;
use super::paths::{Path, paths};
use super::{Filter, Member, Scope, SlotId};
use crate::expression::{Collation, ColumnTypes, Expr, Node, RowView, Ty, column_types};
use crate::policy::{Class, ClassKey, RelationId, Relations, Rule};
use crate::postgres::catalog::Table;
use crate::predicate::{self, Condition, Outcome};

/// The subscriptions on one table.
#[derive(Debug)]
pub struct TableIndex {
    /// The types of its columns, for [`RowView::new`].
    pub types: ColumnTypes,
    classes: HashMap<ClassKey, Filters>,
    slots: Slab<Slot>,
    lookups: HashMap<String, Lookup>,
    /// Those that no lookup leads to.
    scanned: BTreeSet<SlotId>,
    /// How many members want transitions.
    transitions: usize,
    /// Those whose ways depend on what a relation holds.
    concerned: HashMap<RelationId, BTreeSet<SlotId>>,
}

#[derive(Debug)]
struct Filters {
    class: Arc<Class>,
    slots: HashMap<Arc<Filter>, SlotId>,
}

/// Those whom the same class and the same filter decide for.
#[derive(Debug)]
pub struct Slot {
    /// What policies say of them.
    pub class: Arc<Class>,
    /// Who they are.
    pub members: Vec<Member>,
    filter: Arc<Filter>,
    conditions: Vec<Expr>,
    key: ClassKey,
    ways: Ways,
}

#[derive(Debug)]
enum Ways {
    Paths(Vec<Path>),
    Scan,
}

impl Slot {
    /// The conditions of the filter that only Postgres can tell; `None` if one fails already.
    pub fn filter(&self, row: &RowView<'_>) -> Option<Vec<&Condition>> {
        let mut left = Vec::new();
        for (condition, expr) in self.filter.iter().zip(&self.conditions) {
            match predicate::judge(expr, row) {
                Outcome::Pass => {}
                Outcome::Fail => return None,
                Outcome::Ask => left.push(condition),
            }
        }
        Some(left)
    }
}

impl TableIndex {
    pub(super) fn new(table: &Table, scope: &Scope<'_>) -> Self {
        Self {
            types: column_types(table, &scope.catalog.types),
            classes: HashMap::new(),
            slots: Slab::new(),
            lookups: HashMap::new(),
            scanned: BTreeSet::new(),
            transitions: 0,
            concerned: HashMap::new(),
        }
    }

    pub(super) fn add(
        &mut self,
        (table, rule): (&Table, &Arc<Rule>),
        claims: &Arc<crate::auth::Claims>,
        filter: &Arc<Filter>,
        member: Member,
        scope: &mut Scope<'_>,
    ) -> SlotId {
        self.transitions += usize::from(member.transitions);
        let (key, bound) = ClassKey::of(rule, claims);
        let filters = self.classes.entry(key.clone()).or_insert_with(|| Filters {
            class: Arc::new(Class::new(rule, &bound, claims, scope.relations)),
            slots: HashMap::new(),
        });
        if let Some(slot) = filters.slots.get(filter) {
            let slot = *slot;
            if let Some(existing) = self.slots.get_mut(slot) {
                existing.members.push(member);
            }
            return slot;
        }
        let (types, collation) = (&scope.catalog.types, scope.catalog.collation);
        let slot = self.slots.insert(Slot {
            class: Arc::clone(&filters.class),
            members: vec![member],
            filter: Arc::clone(filter),
            conditions: filter
                .iter()
                .map(|condition| condition.expr(table, types, collation))
                .collect(),
            key,
            ways: Ways::Scan,
        });
        filters.slots.insert(Arc::clone(filter), slot);
        for relation in filters.class.relations.iter().flatten() {
            self.concerned.entry(*relation).or_default().insert(slot);
        }
        self.scanned.insert(slot);
        self.settle(slot, scope.relations);
        slot
    }

    pub(super) fn remove(&mut self, id: SlotId, subscriber: super::SubscriberId, relations: &mut Relations) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let gone = slot
            .members
            .extract_if(.., |member| member.subscriber == subscriber);
        self.transitions -= gone.filter(|member| member.transitions).count();
        if !slot.members.is_empty() {
            return;
        }
        self.unlink(id);
        self.scanned.remove(&id);
        let Some(slot) = self.slots.try_remove(id) else {
            return;
        };
        for relation in slot.class.relations.iter().flatten() {
            if let Some(slots) = self.concerned.get_mut(relation) {
                slots.remove(&id);
                if slots.is_empty() {
                    self.concerned.remove(relation);
                }
            }
        }
        if let Some(filters) = self.classes.get_mut(&slot.key) {
            filters.slots.remove(&slot.filter);
            if filters.slots.is_empty() {
                slot.class.release(relations);
                self.classes.remove(&slot.key);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Finds new ways to those that what these relations hold matters to.
    pub(super) fn reread(&mut self, changed: &[RelationId], relations: &Relations) {
        let mut slots: Vec<SlotId> = changed
            .iter()
            .filter_map(|relation| self.concerned.get(relation))
            .flatten()
            .copied()
            .collect();
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            self.settle(slot, relations);
        }
    }

    /// Puts a slot where rows find it.
    fn settle(&mut self, id: SlotId, relations: &Relations) {
        self.unlink(id);
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let predicate = conjunction(slot);
        let class = Arc::clone(&slot.class);
        let held = |index: usize| class.relation(index, relations);
        slot.ways = match paths(&predicate, &held) {
            None => Ways::Scan,
            Some(paths) => {
                for path in &paths {
                    let by = path.by();
                    self.lookups
                        .entry(by.name.clone())
                        .or_insert_with(|| Lookup::new(by.clone()))
                        .insert(path, id);
                }
                Ways::Paths(paths)
            }
        };
        match slot.ways {
            Ways::Scan => self.scanned.insert(id),
            Ways::Paths(_) => self.scanned.remove(&id),
        };
    }

    fn unlink(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let Ways::Paths(paths) = std::mem::replace(&mut slot.ways, Ways::Scan) else {
            return;
        };
        for path in &paths {
            let name = &path.by().name;
            if let Some(lookup) = self.lookups.get_mut(name) {
                lookup.remove(path, id);
                if lookup.is_empty() {
                    self.lookups.remove(name);
                }
            }
        }
    }

    /// Every slot that one of these rows could pass, and some that it does not.
    pub fn candidates(&self, rows: &[&RowView<'_>]) -> impl Iterator<Item = &Slot> {
        let mut found: Vec<SlotId> = self.scanned.iter().copied().collect();
        for (lookup, row) in self
            .lookups
            .values()
            .flat_map(|lookup| rows.iter().map(move |row| (lookup, row)))
        {
            lookup.find(row, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|id| self.slots.get(id))
    }

    /// Somebody wants to be told of rows that come into or go out of what a binding shows.
    pub fn wants_transitions(&self) -> bool {
        self.transitions > 0
    }

    /// All of them.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|(_, slot)| slot)
    }
}

/// Policies and filter as one.
fn conjunction(slot: &Slot) -> Expr {
    let mut all = slot.conditions.clone();
    match &slot.class.residual.node {
        Node::And(conjuncts) => all.extend(conjuncts.iter().cloned()),
        _ => all.push(slot.class.residual.clone()),
    }
    Expr {
        node: Node::And(all),
        ty: Ty::Bool,
        collation: Collation::Default,
    }
}
