//! From changes to what is in outboxes: assessed together, judged in one call where only Postgres can say, then delivered.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::broadcasts::Broadcasts;
use super::{Pump, Recipients};
use crate::change::{Change, Transaction};
use crate::feed::assess::Assessor;
use crate::feed::convert::{Converted, Wanted};
use crate::feed::deliver::deliver;
use crate::feed::payload::Payload;
use crate::feed::truncate::Truncated;
use crate::hub::Lane;
use crate::messages::is_logical;
use crate::subscription::SubscriberId;

/// Questions that are put together before they are asked: bounds memory when a large transaction meets many classes.
const MAX_QUESTIONS: usize = 1024;

/// What came of some changes.
pub(super) struct Done {
    /// How many of them were taken; at least one.
    pub(super) taken: usize,
    /// Of each of them, whether it concerns a table that can be subscribed to.
    pub(super) concerns: Vec<bool>,
    /// Who got some of them and does not read as fast as they come.
    pub(super) pressed: HashMap<SubscriberId, Lane>,
    /// Likewise, in the rooms where something was said.
    pub(super) rooms: Vec<Lane>,
}

impl Pump {
    /// Takes as many changes as raise a bounded number of questions and broadcasts.
    pub(super) async fn assess_and_deliver(
        &self,
        changes: &[Change],
        transaction: &Transaction,
        recipients: &Recipients<'_>,
    ) -> Done {
        let mut assessor = Assessor {
            snapshot: &self.snapshot,
            roster: &self.roster,
            index: recipients.index(),
            settings: &self.parts.settings,
            now: now(),
            sampler: self
                .parts
                .sampling
                .as_ref()
                .map(|sampling| sampling.sampler(&self.snapshot, self.roster.relations.clock())),
            questions: Vec::new(),
            known: Vec::new(),
            works: Vec::new(),
            concerns: Vec::new(),
            truncated: Truncated::default(),
        };
        let mut broadcasts = Broadcasts::of(transaction);
        let mut taken = 0;
        for change in changes {
            let is_message = || self.snapshot.messages.contains(&change.table) || is_logical(&change.table);
            if !recipients.repeat() && is_message() {
                broadcasts.note(assessor.works.len(), change);
            }
            assessor.add(change, transaction);
            taken += 1;
            if assessor.questions.len() >= MAX_QUESTIONS || broadcasts.is_full() {
                break;
            }
        }
        let Assessor {
            questions,
            known,
            works,
            concerns,
            ..
        } = assessor;
        self.parts.engine.count(&known);
        broadcasts.say(0, self);
        if works.is_empty() {
            return Done {
                taken,
                concerns,
                pressed: HashMap::new(),
                rooms: broadcasts.pressed(self),
            };
        }
        let types = &self.snapshot.catalog.types;
        let verdicts = self.parts.engine.decide(&questions, types).await;
        let mut wanted = Wanted::default();
        for work in &works {
            for row in [&work.change.new, &work.change.old].into_iter().flatten() {
                wanted.note(work.table, types, row);
            }
        }
        let converted: Converted = wanted.ask(&self.parts.pool, types).await;
        let (mut sent, mut pressed) = (0, HashMap::new());
        for (delivered, work) in works.iter().enumerate() {
            broadcasts.say(delivered, self);
            sent += deliver(work, &verdicts, recipients, &mut pressed, || {
                let limit = self.parts.settings.max_record_bytes;
                Payload::render(
                    work.change,
                    work.table,
                    types,
                    work.transaction.commit_micros,
                    limit,
                    &converted,
                )
            });
        }
        broadcasts.say(works.len(), self);
        self.parts.metrics.deliveries.inc_by(sent);
        Done {
            taken,
            concerns,
            pressed,
            rooms: broadcasts.pressed(self),
        }
    }
}

/// Microseconds since 2000-01-01 UTC.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH
}

/// 2000-01-01 in microseconds since 1970-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
