use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many of the last ones are known. Without a replay nobody looks which of them have ended, and they end within a moment.
const MOST: usize = 256;

/// The last transactions whose broadcasts have been said. The WAL of a commit can be read a moment before its rows can be
/// seen: who joins in between neither hears them nor finds them in the table, unless these are waited for. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Writers(Arc<Mutex<VecDeque<u32>>>);

impl Writers {
    /// A broadcast of this transaction (32 bits, as the WAL carries it) is about to be said.
    pub fn note(&self, xid: u32) {
        let mut last = self.last();
        if last.back() == Some(&xid) {
            return;
        }
        if last.len() >= MOST {
            last.pop_front();
        }
        last.push_back(xid);
    }

    /// Those that may not be seen yet.
    pub(super) fn open(&self) -> Vec<i64> {
        self.last().iter().copied().map(i64::from).collect()
    }

    /// These can be seen.
    pub(super) fn seen(&self, xids: &[i64]) {
        self.last().retain(|xid| !xids.contains(&i64::from(*xid)));
    }

    /// What was said may be gone, and so nothing is waited for.
    pub fn forget(&self) {
        self.last().clear();
    }

    fn last(&self) -> MutexGuard<'_, VecDeque<u32>> {
        // Nothing above leaves it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
