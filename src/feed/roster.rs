//! Who is subscribed to what: the subscribers, and the index that their bindings are in.

use std::collections::HashMap;
use std::sync::Arc;

use super::Subscriber;
use super::keeper::{Keeper, Snapshot};
use crate::auth::Claims;
use crate::protocol::Binding;
use crate::subscription::{self, Filter, Index, Resolved, SubscriberId};

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
    /// The stream has passed the point of the subscription: changes are delivered.
    pub(super) live: bool,
}

#[derive(Debug, Default)]
pub(super) struct Roster {
    entries: HashMap<SubscriberId, Entry>,
    pub(super) index: Index,
}

impl Roster {
    /// Adds a subscriber, not live yet.
    pub(super) fn add(
        &mut self,
        subscriber: Subscriber,
        claims: Arc<Claims>,
        bindings: Vec<Bound>,
        snapshot: &Snapshot,
    ) -> Result<(), String> {
        let resolved = resolve(&bindings, &claims, snapshot)?;
        let id = subscriber.id;
        self.remove(id);
        self.index.add(id, &claims, &resolved);
        self.entries.insert(
            id,
            Entry {
                subscriber,
                claims,
                bindings,
                resolved,
                live: false,
            },
        );
        Ok(())
    }

    pub(super) fn remove(&mut self, id: SubscriberId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.index.remove(id, &entry.claims, &entry.resolved);
        Some(entry)
    }

    pub(super) fn get(&self, id: SubscriberId) -> Option<&Entry> {
        self.entries.get(&id)
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
        self.entries.values().map(|entry| entry.bindings.len()).sum()
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
        entry.claims = claims;
        self.index.add(id, &entry.claims, &entry.resolved);
        self.entries.insert(id, entry);
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
        let ids: Vec<SubscriberId> = self.entries.keys().copied().collect();
        for id in ids {
            let Some(mut entry) = self.remove(id) else {
                continue;
            };
            let settled = match recheck(&mut entry, old, new, keeper).await {
                Ok(()) => resolve(&entry.bindings, &entry.claims, new),
                Err(reason) => Err(reason),
            };
            match settled {
                Ok(resolved) => {
                    entry.resolved = resolved;
                    self.index.add(id, &entry.claims, &entry.resolved);
                    self.entries.insert(id, entry);
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

/// Has Postgres check the filters again whose table is not what it was: a column may have moved or changed its type.
async fn recheck(entry: &mut Entry, old: &Snapshot, new: &Snapshot, keeper: &Keeper) -> Result<(), String> {
    let access = new
        .roles
        .get(&entry.claims.role)
        .ok_or_else(|| role_gone(&entry.claims))?;
    for (bound, resolved) in entry.bindings.iter_mut().zip(&entry.resolved) {
        let same = resolved.targets.iter().all(|target| {
            old.table(target.table) == new.table(target.table) && old.catalog.types == new.catalog.types
        });
        if bound.filter.is_empty() || same {
            continue;
        }
        bound.filter = keeper
            .filter(&bound.binding, new, access)
            .await
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn role_gone(claims: &Claims) -> String {
    format!("role \"{}\" does not exist", claims.role)
}
