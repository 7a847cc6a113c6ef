//! What sessions ask for, and what a new catalog means for what they have asked for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Add, Answer, Command, Pump, Waiting, push, respond};
use crate::auth::Claims;
use crate::feed::keeper::Snapshot;
use crate::feed::{NewerClaims, SubscribeError};
use crate::hub::Frame;
use crate::protocol::{self, Status, SystemMessage};
use crate::subscription::SubscriberId;
use crate::topic;

/// So long commands are taken together. Those who come back ask and leave by the hundred, and whoever asks would have to wait for
/// a step of those who catch up for each of them.
const TOGETHER: Duration = Duration::from_millis(2);

impl Pump {
    /// A command, and some of those behind it.
    pub(super) async fn commands(&mut self, first: Command) {
        let until = Instant::now() + TOGETHER;
        self.command(first).await;
        while Instant::now() < until && self.parts.events.is_empty() {
            let Ok(command) = self.parts.commands.try_recv() else {
                return;
            };
            self.command(command).await;
        }
    }

    pub(super) async fn command(&mut self, command: Command) {
        match command {
            Command::Add(add) => self.add(*add).await,
            Command::Replace {
                id,
                claims,
                on_live,
                answer,
            } => self.replace(id, claims, on_live, answer).await,
            Command::Newer { id, newer } => self.newer(id, &newer).await,
            Command::Remove(id) => {
                self.roster.remove(id);
                self.waiting.retain(|waiting| waiting.id != id);
                self.resuming.remove(id);
            }
            Command::Adopt(answer) => {
                self.adopt().await;
                let _ = answer.send(());
            }
            Command::Dispute(dispute) => self.disputes.push(dispute),
        }
        self.count();
    }

    async fn add(&mut self, add: Add) {
        if add.snapshot.generation != self.snapshot.generation {
            self.adopt().await;
        }
        self.meet(&add.claims).await;
        let id = add.subscriber.id;
        let settled = self.roster.add(
            (add.subscriber, add.claims, add.bindings),
            &add.snapshot,
            &self.snapshot,
            &self.parts.keeper,
        );
        match settled.await {
            Ok(()) => {
                self.roster.offer(add.prefetched);
                let Add {
                    newer,
                    target,
                    since,
                    comes,
                    reply,
                    on_live,
                    answer,
                    ..
                } = add;
                self.earliest = self.earliest.min(target);
                self.waiting.push(Waiting {
                    id,
                    target,
                    since,
                    comes,
                    reply,
                    on_live,
                    answer,
                });
                if let Some(newer) = newer {
                    self.newer(id, &newer).await;
                }
            }
            Err(reason) => respond(add.answer, Err(SubscribeError::Refused(reason))),
        }
    }

    async fn replace(&mut self, id: SubscriberId, claims: Arc<Claims>, on_live: Vec<Frame>, answer: Answer) {
        self.meet(&claims).await;
        if let Err(reason) = self.roster.reclaim(id, claims, &self.snapshot) {
            self.waiting.retain(|waiting| waiting.id != id);
            self.resuming.remove(id);
            return respond(answer, Err(SubscribeError::Refused(reason)));
        }
        // Where it is not live yet, that moment will speak for both.
        if let Some(entry) = self.roster.get(id).filter(|entry| entry.live) {
            push(entry, on_live);
        }
        respond(answer, Ok(()));
    }

    /// What comes next of a replay is judged by the newest claims, if any have come. Where they do not go with the subscription, or
    /// their role is not known here, it ends without an answer, and is asked for anew with them.
    async fn newer(&mut self, id: SubscriberId, newer: &NewerClaims) {
        let Some(claims) = newer.get() else {
            return;
        };
        if self.roster.get(id).is_none_or(|entry| entry.live) {
            return;
        }
        self.meet(&claims).await;
        if let Err(reason) = self.roster.reclaim(id, claims, &self.snapshot) {
            tracing::debug!(reason, "claims do not go with a subscription that catches up");
            self.waiting.retain(|waiting| waiting.id != id);
            self.resuming.remove(id);
        }
    }

    /// Takes over the keeper's snapshot if a role is new here: whoever sends a command has made the keeper know it.
    async fn meet(&mut self, claims: &Claims) {
        if !self.snapshot.roles.contains_key(&claims.role) {
            self.adopt().await;
        }
    }

    /// Takes over the keeper's snapshot and settles every subscription against it.
    pub(super) async fn adopt(&mut self) {
        let latest = self.parts.keeper.snapshot();
        if latest.generation != self.snapshot.generation {
            let relations = &mut self.roster.relations;
            relations.watch(latest.watched.oids().clone());
            // Their policies may be other ones, and so what they return.
            relations.invalidate_all(None);
            self.parts.marks.catalog();
            let refused = self
                .roster
                .resettle(&self.snapshot, &latest, &self.parts.keeper)
                .await;
            for (entry, reason) in refused {
                tracing::info!(reason, "subscription ended by a change of the catalog");
                self.waiting.retain(|waiting| waiting.id != entry.subscriber.id);
                let subscriber = &entry.subscriber;
                let message = SystemMessage {
                    extension: "postgres_changes",
                    status: Status::Error,
                    message: &reason,
                    channel: topic::sub_topic(&subscriber.topic),
                    cursor: None,
                    room: None,
                };
                let text = protocol::system_fan_out(subscriber.version, &subscriber.topic, message);
                push(&entry, vec![Frame::Text(text.into())]);
                self.resuming.remove(subscriber.id);
            }
            self.count();
        } else if latest.rights != self.snapshot.rights {
            self.roster.relations.invalidate_all(None);
            self.parts.marks.catalog();
        }
        self.note_replaced(&latest);
        self.snapshot = latest;
    }

    /// Tables that have another one's name: what was kept of that one is not theirs.
    fn note_replaced(&mut self, latest: &Snapshot) {
        for (name, table) in &latest.catalog.tables {
            let before = self.snapshot.catalog.tables.get(name);
            if before.is_some_and(|before| before.oid != table.oid) {
                self.history.replaced(name, self.position);
                self.made_anew = true;
            }
        }
        for name in latest.watched.names() {
            let oids = |snapshot: &Snapshot| {
                let tables = snapshot.watched.tables(name).iter();
                tables.map(|table| table.oid).collect::<BTreeSet<u32>>()
            };
            let (before, after) = (oids(&self.snapshot), oids(latest));
            self.made_anew |= !before.is_empty() && before != after;
        }
    }
}
