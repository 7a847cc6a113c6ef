//! Who is subscribed to what: the subscribers, and the index that their bindings are in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::distance::{ByDistance, Distance};
use super::keeper::{Keeper, Snapshot};
use super::prefetch::Prefetched;
use super::shaper::{Pacer, Shapers};
use super::{SubscribeError, Subscriber};
use crate::auth::Claims;
use crate::policy::{RelationId, Relations};
use crate::postgres::catalog::RoleAccess;
use crate::protocol::Binding;
use crate::subscription::{self, Filter, Index, Place, Resolved, Scope, SubscriberId};

/// A binding with its checked filter.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) binding: Binding,
    pub(super) filter: Arc<Filter>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) subscriber: Subscriber,
    pub(super) claims: Arc<Claims>,
    bindings: Vec<Bound>,
    resolved: Vec<Resolved>,
    places: Vec<Place>,
    /// Where it is in the index of those who catch up, while it does.
    behind: Option<(Distance, Vec<Place>)>,
    /// Where those bindings gather that hold back what they get.
    pub(super) shapers: Shapers,
    /// The stream has passed the point of the subscription: changes are delivered.
    pub(super) live: bool,
}

#[derive(Debug)]
pub(super) struct Roster {
    entries: HashMap<SubscriberId, Entry>,
    pub(super) index: Index,
    /// Those who are catching up.
    pub(super) behind: ByDistance<Index>,
    /// What the policies of the subscribers' classes read.
    pub(super) relations: Relations,
    pacer: Pacer,
    bindings: usize,
    /// How many have been put out who were catching up: by new claims, by another catalog, or because they left; or could not
    /// even be let in.
    put_out: u64,
}

impl Roster {
    pub(super) fn new(relations: Relations, pacer: Pacer) -> Self {
        Self {
            entries: HashMap::new(),
            index: Index::default(),
            behind: ByDistance::default(),
            relations,
            pacer,
            bindings: 0,
            put_out: 0,
        }
    }

    /// Adds a subscriber, not live yet. Its filters were checked against the snapshot `checked`.
    pub(super) async fn add(
        &mut self,
        (subscriber, claims, bindings): (Subscriber, Arc<Claims>, Vec<Bound>),
        checked: &Snapshot,
        snapshot: &Snapshot,
        keeper: &Keeper,
    ) -> Result<(), String> {
        let id = subscriber.id;
        self.remove(id);
        let mut entry = Entry {
            resolved: resolve(&bindings, &claims, checked)?,
            shapers: Shapers::new(&subscriber, &bindings, &self.pacer),
            subscriber,
            claims,
            bindings,
            places: Vec::new(),
            behind: None,
            live: false,
        };
        if checked.generation != snapshot.generation {
            let mut rechecks = Rechecks::new(checked, snapshot, keeper);
            rechecks.entry(&mut entry).await?;
            entry.resolved = resolve(&entry.bindings, &entry.claims, snapshot)?;
        }
        self.put(entry, snapshot);
        Ok(())
    }

    /// Puts a subscriber in whose bindings are resolved.
    fn put(&mut self, mut entry: Entry, snapshot: &Snapshot) {
        let id = entry.subscriber.id;
        if let Some(access) = snapshot.roles.get(&entry.claims.role) {
            let mut scope = Scope {
                catalog: &snapshot.catalog,
                tables: &snapshot.by_oid,
                rules: &snapshot.rules,
                relations: &mut self.relations,
            };
            entry.places = self
                .index
                .add(id, (&entry.claims, access), &entry.resolved, &mut scope);
        }
        self.bindings += entry.bindings.len();
        self.entries.insert(id, entry);
    }

    pub(super) fn remove(&mut self, id: SubscriberId) -> Option<Entry> {
        let mut entry = self.entries.remove(&id)?;
        self.bindings -= entry.bindings.len();
        self.index.remove(id, &entry.places, &mut self.relations);
        if let Some((distance, places)) = entry.behind.take() {
            self.put_out += 1;
            let behind = self.behind.at_mut(distance);
            behind.remove(id, &places, &mut self.relations);
        }
        Some(entry)
    }

    /// Puts a subscriber among those who are catching up over a distance.
    pub(super) fn enroll(&mut self, id: SubscriberId, distance: Distance, snapshot: &Snapshot) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let Some(access) = snapshot.roles.get(&entry.claims.role) else {
            self.put_out += 1;
            return;
        };
        let mut scope = Scope {
            catalog: &snapshot.catalog,
            tables: &snapshot.by_oid,
            rules: &snapshot.rules,
            relations: &mut self.relations,
        };
        let places =
            self.behind
                .at_mut(distance)
                .add(id, (&entry.claims, access), &entry.resolved, &mut scope);
        entry.behind = Some((distance, places));
    }

    /// Takes a subscriber from among those who are catching up.
    pub(super) fn dismiss(&mut self, id: SubscriberId) {
        let entry = self.entries.get_mut(&id);
        if let Some((distance, places)) = entry.and_then(|entry| entry.behind.take()) {
            let behind = self.behind.at_mut(distance);
            behind.remove(id, &places, &mut self.relations);
        }
    }

    /// Whether it is among those who are catching up: new claims or another catalog put it out.
    pub(super) fn is_enrolled(&self, id: SubscriberId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.behind.is_some())
    }

    /// Takes over what was read for somebody who has just been added.
    pub(super) fn offer(&mut self, prefetched: Vec<Prefetched>) {
        for Prefetched {
            request,
            role,
            read,
            moment,
        } in prefetched
        {
            let id = self.relations.hold(&request, &role);
            if self.relations.offer(id, read, &moment) {
                self.reread(&[id]);
            }
            self.relations.release(id);
        }
    }

    /// These relations hold something else now.
    pub(super) fn reread(&mut self, changed: &[RelationId]) {
        self.index.reread(changed, &self.relations);
        for behind in self.behind.each_mut() {
            behind.reread(changed, &self.relations);
        }
    }

    pub(super) fn get(&self, id: SubscriberId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// Those who are live.
    pub(super) fn live(&self) -> impl Iterator<Item = (SubscriberId, &Entry)> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.live)
            .map(|(id, entry)| (*id, entry))
    }

    pub(super) fn set_live(&mut self, id: SubscriberId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.live = true;
        }
    }

    /// Every table that a subscriber's bindings mean, by oid.
    pub(super) fn tables(&self, id: SubscriberId) -> impl Iterator<Item = u32> {
        let targets = self
            .entries
            .get(&id)
            .map(|entry| entry.resolved.iter().flat_map(|r| &r.targets));
        targets.into_iter().flatten().map(|target| target.table)
    }

    pub(super) fn bindings(&self) -> usize {
        self.bindings
    }

    /// Is another number once somebody who was catching up is not any more, but for those who were dismissed.
    pub(super) fn put_out(&self) -> u64 {
        self.put_out
    }

    /// Moves a subscriber to other claims. On an error it is out.
    pub(super) fn reclaim(
        &mut self,
        id: SubscriberId,
        claims: Arc<Claims>,
        snapshot: &Snapshot,
    ) -> Result<(), String> {
        let Some(mut entry) = self.remove(id) else {
            return Err("not subscribed".to_owned());
        };
        entry.resolved = resolve(&entry.bindings, &claims, snapshot)?;
        // What was gathered was judged by the claims before: it leaves while they hold, and where they are lost, never.
        entry.shapers.flush();
        entry.claims = claims;
        self.put(entry, snapshot);
        Ok(())
    }

    /// Settles everybody against a new snapshot. Those for whom it no longer makes sense are out, with the reason.
    pub(super) async fn resettle(
        &mut self,
        old: &Snapshot,
        new: &Snapshot,
        keeper: &Keeper,
    ) -> Vec<(Entry, String)> {
        let mut refused = Vec::new();
        let mut rechecks = Rechecks::new(old, new, keeper);
        let ids: Vec<SubscriberId> = self.entries.keys().copied().collect();
        // All out before the first goes in again: nothing of the old rules must stay.
        let entries: Vec<Entry> = ids.into_iter().filter_map(|id| self.remove(id)).collect();
        for mut entry in entries {
            let settled = match rechecks.entry(&mut entry).await {
                Ok(()) => resolve(&entry.bindings, &entry.claims, new),
                Err(reason) => Err(reason),
            };
            match settled {
                Ok(resolved) => {
                    // It was gathered as the tables were before.
                    entry.shapers.flush();
                    entry.resolved = resolved;
                    self.put(entry, new);
                }
                Err(reason) => refused.push((entry, reason)),
            }
        }
        refused
    }
}

fn resolve(bindings: &[Bound], claims: &Claims, snapshot: &Snapshot) -> Result<Vec<Resolved>, String> {
    let access = snapshot
        .roles
        .get(&claims.role)
        .ok_or_else(|| role_gone(claims))?;
    bindings
        .iter()
        .map(|bound| subscription::resolve(&bound.binding, &bound.filter, &snapshot.catalog, access))
        .collect::<Result<_, _>>()
        .map_err(|refusal| refusal.to_string())
}

/// Has Postgres check filters again whose table is not what it was: a column may have moved or changed its type. What
/// many ask alike is checked once.
struct Rechecks<'a> {
    old: &'a Snapshot,
    new: &'a Snapshot,
    keeper: &'a Keeper,
    same_types: bool,
    same_tables: HashMap<u32, bool>,
    checked: HashMap<Asked, Result<Arc<Filter>, String>>,
}

/// All that the check of a filter depends on: role, schema, table and text, and what an error text shows.
type Asked = (Arc<str>, Option<String>, Option<String>, Option<String>, String);

impl<'a> Rechecks<'a> {
    fn new(old: &'a Snapshot, new: &'a Snapshot, keeper: &'a Keeper) -> Self {
        Self {
            old,
            new,
            keeper,
            same_types: old.catalog.types == new.catalog.types,
            same_tables: HashMap::new(),
            checked: HashMap::new(),
        }
    }

    async fn entry(&mut self, entry: &mut Entry) -> Result<(), String> {
        let role = &entry.claims.role;
        let access = self.new.roles.get(role).ok_or_else(|| role_gone(&entry.claims))?;
        for (bound, resolved) in entry.bindings.iter_mut().zip(&entry.resolved) {
            if bound.filter.is_empty() || resolved.targets.iter().all(|target| self.same(target.table)) {
                continue;
            }
            let binding = &bound.binding;
            let asked = (
                Arc::clone(role),
                binding.schema.clone(),
                binding.table.clone(),
                binding.filter.clone(),
                binding.source.clone(),
            );
            let checked = match self.checked.get(&asked) {
                Some(checked) => checked.clone(),
                None => {
                    let checked = self.insist(binding, access).await;
                    self.checked.insert(asked, checked.clone());
                    checked
                }
            };
            bound.filter = checked?;
        }
        Ok(())
    }

    fn same(&mut self, table: u32) -> bool {
        let (old, new) = (self.old, self.new);
        self.same_types
            && *self
                .same_tables
                .entry(table)
                .or_insert_with(|| old.table(table) == new.table(table))
    }

    /// A database that does not answer is no reason to end a subscription: its changes wait.
    async fn insist(&self, binding: &Binding, access: &RoleAccess) -> Result<Arc<Filter>, String> {
        loop {
            match self.keeper.filter(binding, self.new, access).await {
                Err(SubscribeError::Unavailable(error)) => {
                    tracing::error!(%error, "a filter could not be checked again; changes wait");
                    tokio::time::sleep(RETRY).await;
                }
                outcome => return outcome.map_err(|error| error.to_string()),
            }
        }
    }
}

/// Pause before a filter is checked again after that failed.
const RETRY: Duration = Duration::from_millis(500);

fn role_gone(claims: &Claims) -> String {
    format!("role \"{}\" does not exist", claims.role)
}
