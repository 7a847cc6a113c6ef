//! What members have been told, and what there is to tell them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::policy::Rights;
use crate::subscription::SubscriberId;

/// One member's rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Notice {
    /// As judged last.
    granted: Rights,
    /// As it knows them.
    told: Rights,
}

/// Where one member is told. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Arc<watch::Sender<Notice>>);

impl Line {
    pub(super) fn granted(&self) -> Rights {
        self.0.borrow().granted
    }

    /// Which of `wanted` it has at this moment: it knows them from here on. Called by whoever hands them out, or a change
    /// behind an answer that is still on its way could be told before it.
    pub(super) fn answer(&self, wanted: Rights) -> Rights {
        let mut has = Rights::NONE;
        self.0.send_if_modified(|notice| {
            has = notice.granted & wanted;
            notice.told = (notice.told - wanted) | has;
            false
        });
        has
    }

    /// Says what it has now.
    pub(super) fn tell(&self, granted: Rights) {
        self.0.send_modify(|notice| notice.granted = granted);
    }

    /// Waits until there is something to tell, and tells it.
    pub(super) async fn changed(&self) -> Rights {
        let mut notices = self.0.subscribe();
        loop {
            let Notice { granted, told } = *notices.borrow_and_update();
            if granted != told {
                // Nobody has to be woken by that.
                self.0.send_if_modified(|notice| {
                    notice.told = granted;
                    false
                });
                return granted;
            }
            if notices.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// The lines of all members. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Arc<Mutex<HashMap<SubscriberId, Line>>>);

impl Lines {
    pub(super) fn get(&self, id: SubscriberId) -> Option<Line> {
        self.lines().get(&id).cloned()
    }

    pub(super) fn open(&self, id: SubscriberId) -> Line {
        self.lines().entry(id).or_default().clone()
    }

    pub(super) fn close(&self, id: SubscriberId) {
        self.lines().remove(&id);
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<SubscriberId, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_change_between_two_calls_is_not_lost() {
        let line = Line::default();
        line.tell(Rights::READ);
        assert_eq!(line.answer(Rights::READ), Rights::READ);
        assert_eq!(line.changed().now_or_never(), None);
        line.tell(Rights::READ_BROADCAST);
        assert_eq!(line.changed().now_or_never(), Some(Rights::READ_BROADCAST));
        assert_eq!(line.changed().now_or_never(), None);
        // There and back again before anybody looked is no change.
        line.tell(Rights::NONE);
        line.tell(Rights::READ_BROADCAST);
        assert_eq!(line.changed().now_or_never(), None);
    }

    #[test]
    fn an_answer_tells_of_what_was_asked_for_and_of_nothing_else() {
        let line = Line::default();
        let both = Rights::READ | Rights::WRITE_BROADCAST;
        line.tell(both);
        assert_eq!(line.answer(both), both);
        // Other claims, under which nothing may be sent.
        line.tell(Rights::READ_BROADCAST);
        assert_eq!(line.answer(Rights::READ), Rights::READ_BROADCAST);
        assert_eq!(line.changed().now_or_never(), Some(Rights::READ_BROADCAST));
        assert_eq!(line.changed().now_or_never(), None);
    }

    #[test]
    fn an_answer_on_its_way_does_not_undo_what_is_told_before_it_arrives() {
        let line = Line::default();
        line.tell(Rights::READ);
        // That would be the answer, and then:
        line.tell(Rights::NONE);
        assert_eq!(line.answer(Rights::READ), Rights::NONE);
        assert_eq!(line.changed().now_or_never(), None);
    }
}
