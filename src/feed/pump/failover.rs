//! Postgres has failed over: what was delivered goes on in another history, which came from the one before.
//!
//! The replay window stays, and so do those who are subscribed. What was committed behind the place where the one before was
//! left has never happened; if something of that kind was delivered, everybody is told.

use std::sync::Arc;

use super::Pump;
use crate::change::{FailedOver, Lsn, Position, StreamState};
use crate::history::Gap;
use crate::shutdown::Shutdown;

impl Pump {
    /// Positions from here on belong to the new history.
    pub(super) async fn failed_over(&mut self, over: FailedOver, shutdown: &Shutdown) {
        let FailedOver {
            lineage,
            left,
            undone,
        } = over;
        if self
            .transaction
            .as_ref()
            .is_some_and(|coming| coming.place() > left)
        {
            self.abandon();
        }
        self.again = None;
        // In front of the new history: nobody may be held to be there who has not been told.
        if let Some(why) = &undone {
            tracing::error!(why, "changes were delivered that are gone");
            self.writers.forget();
            self.publish(&StreamState::Reset(why.clone()));
        }
        self.comers_fail_over(left, undone.is_some());
        self.positions_fail_over(left);
        self.history.fail_over(Arc::clone(&lineage), left);
        self.parts.rooms.follow(Arc::clone(&lineage));
        // What was read from the server of before may be gone as well.
        self.roster.relations.reset();
        self.parts.marks.reset();
        for pool in &self.parts.pools {
            pool.renew();
        }
        self.place.begin(lineage.epoch(), self.position);
        self.retain();
        self.reread(shutdown).await;
    }

    /// Those who are on their way. Whoever read rows first may have seen what is gone; others only if that was delivered.
    fn comers_fail_over(&mut self, left: Lsn, undone: bool) {
        let end = Position::behind(left);
        for course in self.resuming.courses_mut() {
            course.reached = course.reached.min(end);
            for comer in course.comers_mut() {
                if undone || comer.since.seen.is_some() {
                    comer.gap.get_or_insert(Gap::Undone);
                }
                comer.reached = comer.reached.min(end);
                comer.since.cursor.position = comer.since.cursor.position.min(end);
            }
        }
    }

    /// What is waited for lies in the new history no further than where it begins: all that is committed now is behind that.
    fn positions_fail_over(&mut self, left: Lsn) {
        self.position = self.position.min(left);
        self.streamed_from = self.streamed_from.min(left);
        self.earliest = self.earliest.min(left);
        for waiting in &mut self.waiting {
            waiting.target = waiting.target.min(left);
        }
        for dispute in &mut self.disputes {
            dispute.target = dispute.target.min(left);
        }
    }
}
