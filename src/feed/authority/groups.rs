//! Members whom the policies treat alike on a topic, and what is known of their rights.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::AuthorityError;
use super::marks::Marks;
use super::probe;
use super::said::Said;
use crate::auth::Claims;
use crate::expression::{ColumnTypes, RowView, column_types};
use crate::feed::keeper::Snapshot;
use crate::policy::{Class, ClassKey, Decision, RelationId, Relations, Rights, Side};
use crate::postgres::catalog::Table;
use crate::subscription::SubscriberId;
use crate::telemetry::Metrics;

/// Counts steps of the task: what was judged in a step, or later, holds for whoever asked in it.
pub(super) type Step = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GroupId(u64);

/// What makes two members equal before the policies of one side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    side: Side,
    class: ClassKey,
    topic: Arc<str>,
}

#[derive(Debug)]
struct Group {
    key: Key,
    class: Arc<Class>,
    table: Arc<Table>,
    types: ColumnTypes,
    uses: usize,
    members: HashSet<SubscriberId>,
    standings: Vec<Standing>,
}

/// What is known of one right.
#[derive(Debug)]
struct Standing {
    right: Rights,
    state: State,
    known: Option<(Said, Step)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing to do.
    Settled,
    /// To be judged.
    Due,
    /// Memory does not know: Postgres is to be asked.
    Queued,
    /// Postgres is being asked, and whether to judge again then.
    Asking { again: bool },
}

/// A question for Postgres.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) group: GroupId,
    pub(super) right: Rights,
    pub(super) class: Arc<Class>,
    pub(super) table: Arc<Table>,
    pub(super) topic: Arc<str>,
}

/// All that are in use.
#[derive(Debug)]
pub(super) struct Groups {
    held: HashMap<GroupId, Group>,
    by_key: HashMap<Key, GroupId>,
    /// Who depends on a relation.
    readers: HashMap<RelationId, HashSet<GroupId>>,
    next: u64,
    due: BTreeSet<GroupId>,
    queued: VecDeque<(GroupId, Rights)>,
    metrics: Arc<Metrics>,
}

/// What joining a group takes.
pub(super) struct Scene<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) relations: &'a mut Relations,
    pub(super) marks: &'a Marks,
}

impl Groups {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            held: HashMap::new(),
            by_key: HashMap::new(),
            readers: HashMap::new(),
            next: 0,
            due: BTreeSet::new(),
            queued: VecDeque::new(),
            metrics,
        }
    }

    /// The group of these claims on a side, kept until it is left as often as it was joined. `None` if their role may not
    /// do anything there, whatever the policies say.
    pub(super) fn join(
        &mut self,
        side: Side,
        claims: &Arc<Claims>,
        scene: &mut Scene<'_>,
    ) -> Option<GroupId> {
        let Scene {
            snapshot,
            relations,
            marks,
        } = scene;
        let access = snapshot.roles.get(&claims.role)?;
        let (table, rule) = snapshot
            .rules
            .channel(side, &claims.role, access, &snapshot.catalog)?;
        if !probe::privileged(&table, &rule.access) {
            return None;
        }
        let (class, bound) = ClassKey::of(&rule, claims);
        let topic = claims.scope.as_ref().map(|scope| Arc::clone(&scope.topic));
        let key = Key {
            side,
            class,
            topic: topic.unwrap_or_default(),
        };
        let id = match self.by_key.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                // Before anything is read: a change that comes from here on is marked, what came before is waited for.
                for query in rule.program.relations() {
                    marks.count(query.reads.iter().copied());
                    marks.count(query.probe.iter().map(|probe| probe.table));
                }
                let id = GroupId(self.next);
                self.next += 1;
                let class = Class::new(&rule, &bound, claims, relations);
                for relation in class.relations.iter().flatten() {
                    self.readers.entry(*relation).or_default().insert(id);
                }
                let group = Group {
                    key: place.key().clone(),
                    class: Arc::new(class),
                    types: column_types(&table, &snapshot.catalog.types),
                    table,
                    uses: 0,
                    members: HashSet::new(),
                    standings: Vec::new(),
                };
                self.held.insert(id, group);
                *place.insert(id)
            }
        };
        if let Some(group) = self.held.get_mut(&id) {
            group.uses += 1;
        }
        Some(id)
    }

    /// Gives up what was joined once.
    pub(super) fn leave(&mut self, id: GroupId, relations: &mut Relations) {
        let Entry::Occupied(mut held) = self.held.entry(id) else {
            return;
        };
        let group = held.get_mut();
        group.uses = group.uses.saturating_sub(1);
        if group.uses > 0 {
            return;
        }
        let group = held.remove();
        self.by_key.remove(&group.key);
        self.due.remove(&id);
        for relation in group.class.relations.iter().flatten() {
            if let Entry::Occupied(mut readers) = self.readers.entry(*relation) {
                readers.get_mut().remove(&id);
                if readers.get().is_empty() {
                    readers.remove();
                }
            }
        }
        group.class.release(relations);
    }

    /// Nobody is in any group any more.
    pub(super) fn clear(&mut self, relations: &mut Relations) {
        for (_, group) in self.held.drain() {
            group.class.release(relations);
        }
        self.by_key.clear();
        self.readers.clear();
        self.due.clear();
        self.queued.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn enter(&mut self, id: GroupId, member: SubscriberId) {
        if let Some(group) = self.held.get_mut(&id) {
            group.members.insert(member);
        }
    }

    pub(super) fn exit(&mut self, id: GroupId, member: SubscriberId) {
        if let Some(group) = self.held.get_mut(&id) {
            group.members.remove(&member);
        }
    }

    pub(super) fn members(&self, id: GroupId) -> impl Iterator<Item = SubscriberId> {
        let members = self.held.get(&id).map(|group| &group.members);
        members.into_iter().flatten().copied()
    }

    /// What was said last of a right, and when.
    pub(super) fn known(&self, id: GroupId, right: Rights) -> Option<&(Said, Step)> {
        let standings = &self.held.get(&id)?.standings;
        let standing = standings.iter().find(|standing| standing.right == right)?;
        standing.known.as_ref()
    }

    /// The database did not say what a group may do.
    pub(super) fn is_unavailable(&self, id: GroupId) -> bool {
        let standings = self.held.get(&id).map(|group| &group.standings);
        let unavailable = |standing: &Standing| {
            let said = standing.known.as_ref().map(|(said, _)| said);
            matches!(said, Some(Said::Failed(AuthorityError::Unavailable(_))))
        };
        standings.into_iter().flatten().any(unavailable)
    }

    /// Has a right judged, and from now on whenever the others are.
    pub(super) fn want(&mut self, id: GroupId, right: Rights) {
        let Some(group) = self.held.get_mut(&id) else {
            return;
        };
        match group
            .standings
            .iter_mut()
            .find(|standing| standing.right == right)
        {
            Some(standing) => standing.outdate(),
            None => group.standings.push(Standing {
                right,
                state: State::Due,
                known: None,
            }),
        }
        self.due.insert(id);
    }

    /// Has everything that is known of a group judged again.
    pub(super) fn outdate(&mut self, id: GroupId) {
        if let Some(group) = self.held.get_mut(&id) {
            group.standings.iter_mut().for_each(Standing::outdate);
            self.due.insert(id);
        }
    }

    /// The relation holds something else now.
    pub(super) fn reread(&mut self, relation: RelationId) {
        let readers = self.readers.get(&relation);
        let readers: Vec<GroupId> = readers.into_iter().flatten().copied().collect();
        readers.into_iter().for_each(|id| self.outdate(id));
    }

    /// Those in one of so many parts.
    pub(super) fn part(&self, part: u64, of: u64) -> Vec<GroupId> {
        let ids = self.held.keys().copied();
        ids.filter(|id| id.0 % of == part).collect()
    }

    /// Has what a group depends on read again; whether there is anything.
    pub(super) fn look_again(&self, id: GroupId, relations: &mut Relations) -> bool {
        let held = self.relations(id);
        let mut any = false;
        for relation in held {
            relations.outdate(relation);
            any |= relations.is_stale(relation);
        }
        any
    }

    /// Everything that a group depends on is still to be read.
    pub(super) fn is_unread(&self, id: GroupId, relations: &Relations) -> bool {
        self.relations(id).all(|relation| relations.is_stale(relation))
    }

    /// Something that a group depends on is to be read.
    pub(super) fn waits(&self, id: GroupId, relations: &Relations) -> bool {
        self.relations(id).any(|relation| relations.is_stale(relation))
    }

    fn relations(&self, id: GroupId) -> impl Iterator<Item = RelationId> {
        let relations = self.held.get(&id).map(|group| &group.class.relations);
        relations.into_iter().flatten().flatten().copied()
    }

    /// Judges in memory what is due and has been read, at `now` (microseconds since 2000-01-01 UTC). Returns those of which
    /// something is known anew.
    pub(super) fn judge(&mut self, relations: &Relations, now: i64, step: Step) -> Vec<GroupId> {
        let due = self.due.iter().copied();
        let ready: Vec<GroupId> = due.filter(|id| !self.waits(*id, relations)).collect();
        let mut touched = Vec::new();
        for id in ready {
            self.due.remove(&id);
            let Some(group) = self.held.get_mut(&id) else {
                continue;
            };
            let due = group.standings.iter_mut();
            for standing in due.filter(|standing| standing.state == State::Due) {
                let row = probe::row(&group.table, &group.key.topic, standing.right, now);
                let row = RowView::new(&group.table, &group.types, &row);
                match group.class.decide(&group.table, &row, relations, now) {
                    Decision::Known(verdict) => {
                        standing.settle(Said::of(verdict, &group.class), step, &self.metrics);
                        standing.state = State::Settled;
                        touched.push(id);
                    }
                    Decision::Ask => {
                        standing.state = State::Queued;
                        self.queued.push_back((id, standing.right));
                    }
                }
            }
        }
        touched.dedup();
        touched
    }

    /// Questions that Postgres is asked from now on.
    pub(super) fn open(&mut self, most: usize) -> Vec<Open> {
        let mut open = Vec::new();
        while open.len() < most {
            let Some((id, right)) = self.queued.pop_front() else {
                break;
            };
            let Some(group) = self.held.get_mut(&id) else {
                continue;
            };
            let mut standings = group.standings.iter_mut();
            if let Some(standing) = standings.find(|standing| standing.right == right) {
                standing.state = State::Asking { again: false };
                open.push(Open {
                    group: id,
                    right,
                    class: Arc::clone(&group.class),
                    table: Arc::clone(&group.table),
                    topic: Arc::clone(&group.key.topic),
                });
            }
        }
        open
    }

    /// What Postgres says, asked in `step`.
    pub(super) fn answered(&mut self, id: GroupId, right: Rights, said: Said, step: Step) {
        let Some(group) = self.held.get_mut(&id) else {
            return;
        };
        let mut standings = group.standings.iter_mut();
        let Some(standing) = standings.find(|standing| standing.right == right) else {
            return;
        };
        standing.settle(said, step, &self.metrics);
        if standing.state == (State::Asking { again: true }) {
            standing.state = State::Due;
            self.due.insert(id);
        } else {
            standing.state = State::Settled;
        }
    }
}

impl Standing {
    fn outdate(&mut self) {
        self.state = match self.state {
            State::Settled | State::Due => State::Due,
            State::Queued => State::Queued,
            State::Asking { .. } => State::Asking { again: true },
        };
    }

    fn settle(&mut self, said: Said, step: Step, metrics: &Metrics) {
        let outcome = [("outcome", said.label())];
        metrics.channel_verdicts.get_or_create(&outcome).inc();
        if self.known.is_some() {
            metrics.channel_rejudgements.inc();
        }
        self.known = Some((said, step));
    }
}
