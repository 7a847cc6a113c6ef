//! Reads what the policies of a new subscriber look into, before the pump takes it in: the pump then has nothing to wait
//! for. One call serves all who ask at once.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::keeper::Snapshot;
use super::roster::Bound;
use super::together::Together;
use crate::auth::Claims;
use crate::expression::{Relation, Stop};
use crate::policy::{ClassKey, Clock, Moment, RelationReader, RelationRequest};
use crate::shutdown::Shutdown;
use crate::subscription;

/// A relation that was read, for whom, and when.
#[derive(Debug)]
pub(super) struct Prefetched {
    pub(super) request: RelationRequest,
    pub(super) role: Arc<str>,
    pub(super) read: Result<Relation, Stop>,
    pub(super) moment: Moment,
}

type Wanted = (RelationRequest, Arc<str>);

#[derive(Debug)]
struct Request {
    wanted: Vec<Wanted>,
    reply: oneshot::Sender<Vec<Prefetched>>,
}

/// Reads relations for subscribers to be. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Prefetch(Together<Request>);

/// Callers that may wait at once; more of them wait to be queued.
const WAITING: usize = 256;

impl Prefetch {
    pub(super) fn start(reader: RelationReader, clock: Clock, shutdown: &Shutdown) -> Self {
        let serve = move |callers| {
            let (reader, clock) = (reader.clone(), clock.clone());
            async move { serve(&reader, &clock, callers).await }
        };
        Self(Together::start("prefetch", WAITING, shutdown, serve))
    }

    /// Every relation that the policies read for these claims on the tables of these bindings. What could not be read is
    /// left to the pump.
    pub(super) async fn read(
        &self,
        bindings: &[Bound],
        claims: &Arc<Claims>,
        snapshot: &Snapshot,
    ) -> Vec<Prefetched> {
        let wanted = wanted(bindings, claims, snapshot);
        if wanted.is_empty() {
            return Vec::new();
        }
        let (reply, answer) = oneshot::channel();
        if !self.0.ask(Request { wanted, reply }).await {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }
}

fn wanted(bindings: &[Bound], claims: &Arc<Claims>, snapshot: &Snapshot) -> Vec<Wanted> {
    let Some(access) = snapshot.roles.get(&claims.role) else {
        return Vec::new();
    };
    let mut tables: Vec<u32> = bindings
        .iter()
        .filter_map(|bound| {
            subscription::resolve(&bound.binding, &bound.filter, &snapshot.catalog, access).ok()
        })
        .flat_map(|resolved| resolved.targets)
        .map(|target| target.table)
        .collect();
    tables.sort_unstable();
    tables.dedup();
    let rules = tables.into_iter().filter_map(|oid| {
        let table = snapshot.table(oid)?;
        snapshot
            .rules
            .rule(table, &claims.role, access, &snapshot.catalog)
    });
    rules
        .filter(|rule| !rule.program.relations().is_empty())
        .flat_map(|rule| {
            let (_, bound) = ClassKey::of(&rule, claims);
            rule.program.requests(&bound, claims)
        })
        .map(|request| (request, Arc::clone(&claims.role)))
        .collect()
}

async fn serve(reader: &RelationReader, clock: &Clock, callers: Vec<Request>) {
    let moment = clock.now();
    let (wanted, replies): (Vec<_>, Vec<_>) = callers.into_iter().map(|c| (c.wanted, c.reply)).unzip();
    let counts: Vec<usize> = wanted.iter().map(Vec::len).collect();
    let all: Vec<Wanted> = wanted.into_iter().flatten().collect();
    let read = reader.read(&all, &moment).await;
    let mut prefetched = all
        .into_iter()
        .zip(read)
        .map(|((request, role), read)| Prefetched {
            request,
            role,
            read,
            moment: moment.clone(),
        });
    for (count, reply) in counts.into_iter().zip(replies) {
        // A caller that went away does not need the answer.
        let _ = reply.send(prefetched.by_ref().take(count).collect());
    }
}
