//! How far the feed is, for those who have to know it without asking the pump.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::change::{Cursor, Epoch, Lsn, Position};

/// Behind everything that is in outboxes. Cheap to clone; written by the pump alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Place(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    epoch: AtomicU64,
    /// 0 for nothing yet.
    commit: AtomicU64,
}

impl Place {
    /// Another history begins.
    pub(super) fn begin(&self, epoch: Epoch, start: Lsn) {
        // Whoever reads in between finds none.
        self.0.commit.store(0, Ordering::SeqCst);
        self.0.epoch.store(epoch.0, Ordering::SeqCst);
        self.0.commit.store(start.0, Ordering::SeqCst);
    }

    /// Everything committed up to here is in outboxes.
    pub(super) fn reach(&self, commit: Lsn) {
        self.0.commit.store(commit.0, Ordering::Release);
    }

    pub(super) fn get(&self) -> Option<Cursor> {
        loop {
            let epoch = self.0.epoch.load(Ordering::SeqCst);
            let commit = self.0.commit.load(Ordering::SeqCst);
            // A position of one history under the name of another could be one that is behind what happened there.
            if self.0.epoch.load(Ordering::SeqCst) == epoch {
                return (commit != 0).then(|| Cursor {
                    epoch: Epoch(epoch),
                    position: Position::behind(Lsn(commit)),
                });
            }
        }
    }
}
