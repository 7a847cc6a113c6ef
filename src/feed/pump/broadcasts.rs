//! Rows of `realtime.messages` on their way to their rooms, between the row changes of their transaction.

use std::collections::HashSet;

use super::Pump;
use crate::change::{Change, Lsn, Transaction};
use crate::hub::Lane;
use crate::messages::{Malformed, Message, logical, message};
use crate::room::{Origin, RoomName};
use crate::topic;

/// Broadcasts that are said in one go, and bytes of their rows: then those who read are waited for.
const MOST: usize = 256;
const MOST_BYTES: usize = 1024 * 1024;

impl Pump {
    /// Takes a logical message for a broadcast of the transaction that is coming, in its place among the changes.
    pub(super) fn logical(&mut self, content: &str, lsn: Lsn) {
        let settings = &self.parts.settings;
        if !settings.logical_broadcasts {
            return;
        }
        let read = match &self.transaction {
            Some(transaction) => logical(content, lsn, transaction, settings.max_broadcast_bytes),
            None => Err(Malformed::Loose),
        };
        match read {
            Ok(change) => self.held.push(change),
            Err(why) => {
                self.parts.metrics.logical_malformed.inc();
                tracing::warn!(%why, %lsn, "a logical message is not sent as a broadcast");
            }
        }
    }
}

/// The broadcasts among some changes of a transaction, each with the number of changes for subscribers that go before it.
#[derive(Debug)]
pub(super) struct Broadcasts<'a> {
    xid: u32,
    commit: Lsn,
    rows: Vec<(usize, &'a Change)>,
    bytes: usize,
    said: usize,
    rooms: HashSet<RoomName>,
}

impl<'a> Broadcasts<'a> {
    /// None yet, of this transaction.
    pub(super) fn of(transaction: &Transaction) -> Self {
        Self {
            xid: transaction.xid,
            commit: transaction.place(),
            rows: Vec::new(),
            bytes: 0,
            said: 0,
            rooms: HashSet::new(),
        }
    }

    /// Notes a row of the table, behind this many changes for subscribers.
    pub(super) fn note(&mut self, behind: usize, change: &'a Change) {
        self.bytes += change.wire_bytes;
        self.rows.push((behind, change));
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= MOST || self.bytes >= MOST_BYTES
    }

    /// Says those whose turn it is, once this many changes for subscribers have been delivered.
    pub(super) fn say(&mut self, delivered: usize, pump: &Pump) {
        while let Some((_, change)) = self
            .rows
            .get(self.said)
            .filter(|(behind, _)| *behind <= delivered)
        {
            self.said += 1;
            let limit = pump.parts.settings.max_broadcast_bytes;
            let Some(Message {
                topic,
                private,
                broadcast,
            }) = message(change, limit)
            else {
                continue;
            };
            pump.parts.metrics.database_broadcasts.inc();
            let room = RoomName {
                topic: format!("{}{topic}", topic::PREFIX).into(),
                private,
            };
            pump.writers.note(self.xid);
            let origin = Origin::Stream {
                commit: self.commit,
                again: self.commit <= pump.parts.said,
            };
            pump.parts.rooms.publish(&room, &broadcast, origin);
            self.rooms.insert(room);
        }
    }

    /// Lanes to outboxes that are filling up, of those who heard them.
    pub(super) fn pressed(&self, pump: &Pump) -> Vec<Lane> {
        let rooms = self.rooms.iter();
        rooms.flat_map(|room| pump.parts.rooms.pressed(room)).collect()
    }
}
