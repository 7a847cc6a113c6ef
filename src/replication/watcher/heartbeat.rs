//! When a message has to be written so that the slot moves on. Pure: time is passed in.
//!
//! Postgres tells a stream how far it has read, also in WAL of other databases, so that a quiet database beside busy ones
//! moves on by itself. It does so only when it has read all there is: where others write without a pause, nothing may
//! come for long. A message comes in its place in the WAL.

use std::time::Duration;

use tokio::time::Instant;

/// The prefix of these messages. What is in one means nothing.
pub(in crate::replication) const HEARTBEAT: &str = "rowcast.heartbeat";

/// WAL that an idle server writes by itself (checkpoints, snapshots of what runs) is not worth more of it.
const WORTH: u64 = 64 * 1024;

/// Knows how long the slot has stood still.
#[derive(Debug)]
pub(super) struct Pulse {
    patience: Duration,
    /// Where the slot stood, and since when.
    stands: Option<(u64, Instant)>,
}

impl Pulse {
    /// Zero for never.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            stands: None,
        }
    }

    /// No more.
    pub(super) fn stop(&mut self) {
        self.patience = Duration::ZERO;
    }

    /// Whether a message is due. `slot` is its confirmed position and how much WAL was written behind that; `None` where it is
    /// not ours to move.
    pub(super) fn is_due(&mut self, slot: Option<(u64, u64)>, now: Instant) -> bool {
        let Some((position, behind)) = slot else {
            self.stands = None;
            return false;
        };
        let since = match self.stands {
            Some((before, since)) if before == position && behind >= WORTH => since,
            _ => now,
        };
        let due = !self.patience.is_zero() && now.duration_since(since) >= self.patience;
        self.stands = Some((position, if due { now } else { since }));
        due
    }
}
