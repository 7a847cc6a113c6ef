//! What has been passed on, so that nothing is lost or repeated over a reconnect. Pure.
//!
//! The server is asked to start at the end of the last transaction that was passed on whole, so only one transaction
//! can come again: the one that was passed on in part. Decoding is deterministic, so skipping as many of its items as
//! were passed on continues it where it broke off; that the last skipped item has the position it had is checked.

use std::sync::Arc;

use crate::change::{Lsn, Transaction};

/// See the module. Lives as long as the stream, over all its connections.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Everything that committed up to here has been passed on.
    passed: Lsn,
    /// Where this epoch began: nothing before may be confirmed, it is from another history.
    floor: Lsn,
    /// The last non-transactional message passed on.
    message: Lsn,
    /// The commit of the last transaction of which something was passed on.
    shown: Option<Lsn>,
    /// The transaction whose begin has been passed on and whose commit has not.
    partial: Option<Partial>,
    /// The transaction that this connection is in.
    current: Option<Current>,
}

#[derive(Debug)]
struct Partial {
    commit: Lsn,
    items: u64,
    last: Lsn,
}

#[derive(Debug)]
struct Current {
    transaction: Arc<Transaction>,
    seen: u64,
    /// Passed on whole before.
    known: bool,
}

/// What to do with a change or a transactional message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// It was passed on before.
    Skip,
    /// Pass it on.
    Pass,
    /// Pass on the begin of this transaction, then the item.
    First(Arc<Transaction>),
}

/// What to do with a commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was passed on before.
    Skip,
    /// The transaction had nothing for us; only the position moves.
    Empty(Lsn),
    /// Pass it on.
    Commit(Arc<Transaction>),
}

/// The stream does not continue what was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Disorder {
    #[error("an item or commit outside its transaction, or a begin inside one")]
    Order,
    #[error("the transaction that committed at {0} came back different")]
    Diverged(Lsn),
}

impl Progress {
    /// Where to ask the server to start.
    pub(super) fn start(&self) -> Lsn {
        self.passed
    }

    /// Whether the connection stands between two transactions.
    pub(super) fn at_boundary(&self) -> bool {
        self.current.is_none() && self.partial.is_none()
    }

    /// A new connection starts.
    pub(super) fn reconnect(&mut self) {
        self.current = None;
    }

    /// A new epoch starts at a slot that stands at `floor`: what was passed on says nothing about what comes.
    pub(super) fn reset(&mut self, floor: Lsn) {
        *self = Self {
            passed: floor,
            floor,
            ..Self::default()
        };
    }

    /// What was passed on goes on in a history that left it at `left`. Returns whether something was passed on that is not part
    /// of it: whose commit record starts there or behind.
    pub(super) fn fail_over(&mut self, left: Lsn) -> bool {
        let undone = self.shown.is_some_and(|commit| commit >= left);
        self.shown = self.shown.filter(|commit| *commit < left);
        self.passed = self.passed.min(left);
        self.floor = self.floor.min(left);
        self.message = self.message.min(left);
        self.partial = self.partial.take().filter(|partial| partial.commit < left);
        undone
    }

    /// Forgets what was passed on behind `handed_over`: it is to come again.
    pub(super) fn rewind(&mut self, handed_over: Lsn) {
        self.passed = handed_over.max(self.floor);
        self.message = self.message.min(self.passed);
        self.forget_partial();
    }

    /// Gives up on the transaction that was passed on in part; it comes again from its begin.
    pub(super) fn forget_partial(&mut self) {
        self.partial = None;
        self.current = None;
    }

    /// Where the transaction ends that this connection is in.
    pub(super) fn transaction(&self) -> Option<Lsn> {
        Some(self.current.as_ref()?.transaction.place())
    }

    /// Goes on behind the transaction that ends here.
    pub(super) fn leave_out(&mut self, end: Lsn) {
        self.passed = self.passed.max(end);
        self.forget_partial();
    }

    /// Whether a position that was handed over may be confirmed to the slot.
    pub(super) fn confirmable(&self, handed_over: Lsn) -> bool {
        handed_over >= self.floor && handed_over <= self.passed
    }

    pub(super) fn begin(&mut self, transaction: Transaction) -> Result<(), Disorder> {
        if self.current.is_some() {
            return Err(Disorder::Order);
        }
        // As Postgres itself decides: by where the commit record starts.
        let known = transaction.commit_lsn < self.passed;
        if let Some(partial) = &self.partial
            && !known
            && partial.commit != transaction.commit_lsn
        {
            return Err(Disorder::Diverged(partial.commit));
        }
        self.current = Some(Current {
            transaction: Arc::new(transaction),
            seen: 0,
            known,
        });
        Ok(())
    }

    /// A change or transactional message at `lsn`.
    pub(super) fn item(&mut self, lsn: Lsn) -> Result<Item, Disorder> {
        let current = self.current.as_mut().ok_or(Disorder::Order)?;
        if current.known {
            return Ok(Item::Skip);
        }
        current.seen += 1;
        let commit = current.transaction.commit_lsn;
        let Some(partial) = &mut self.partial else {
            self.shown = self.shown.max(Some(commit));
            self.partial = Some(Partial {
                commit: current.transaction.commit_lsn,
                items: 1,
                last: lsn,
            });
            return Ok(Item::First(Arc::clone(&current.transaction)));
        };
        if current.seen > partial.items {
            partial.items = current.seen;
            partial.last = lsn;
            return Ok(Item::Pass);
        }
        if current.seen == partial.items && lsn != partial.last {
            return Err(Disorder::Diverged(partial.commit));
        }
        Ok(Item::Skip)
    }

    /// The commit, which knows what the begin may not have known: where it ends.
    pub(super) fn commit(&mut self, transaction: Transaction) -> Result<End, Disorder> {
        let current = self.current.take().ok_or(Disorder::Order)?;
        if current.transaction.commit_lsn != transaction.commit_lsn {
            return Err(Disorder::Order);
        }
        if current.known {
            return Ok(End::Skip);
        }
        if let Some(partial) = &self.partial
            && current.seen < partial.items
        {
            return Err(Disorder::Diverged(partial.commit));
        }
        self.passed = transaction.end_lsn;
        Ok(match self.partial.take() {
            Some(_) if *current.transaction == transaction => End::Commit(current.transaction),
            Some(_) => End::Commit(Arc::new(transaction)),
            None => End::Empty(self.passed),
        })
    }

    /// A non-transactional message; whether to pass it on.
    pub(super) fn message(&mut self, lsn: Lsn) -> bool {
        let new = lsn > self.message;
        self.message = self.message.max(lsn);
        new
    }

    /// The server has sent everything before `wal_end`. The position to pass on, if it can be told now.
    pub(super) fn keepalive(&mut self, wal_end: Lsn) -> Option<Lsn> {
        if !self.at_boundary() {
            return None;
        }
        self.passed = self.passed.max(wal_end);
        Some(self.passed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn transaction(end: u64) -> Transaction {
        Transaction {
            xid: 1,
            commit_lsn: Lsn(end - 1),
            end_lsn: Lsn(end),
            commit_micros: 0,
        }
    }

    #[test]
    fn an_empty_transaction_only_moves_the_position() {
        let mut progress = Progress::default();
        progress.begin(transaction(10)).unwrap();
        assert_eq!(progress.commit(transaction(10)), Ok(End::Empty(Lsn(10))));
        assert_eq!(progress.start(), Lsn(10));
        assert_eq!(progress.keepalive(Lsn(5)), Some(Lsn(10)), "never backwards");
        assert_eq!(progress.keepalive(Lsn(15)), Some(Lsn(15)));
    }

    #[test]
    fn a_keepalive_within_a_transaction_moves_nothing() {
        let mut progress = Progress::default();
        progress.begin(transaction(10)).unwrap();
        assert_eq!(progress.keepalive(Lsn(20)), None);
        progress.item(Lsn(4)).unwrap();
        progress.reconnect();
        assert_eq!(progress.keepalive(Lsn(20)), None, "its rest is still to come");
        assert_eq!(progress.start(), Lsn(0));
    }

    #[test]
    fn a_transaction_that_comes_back_different_is_told() {
        let mut progress = Progress::default();
        progress.begin(transaction(10)).unwrap();
        progress.item(Lsn(4)).unwrap();
        progress.item(Lsn(5)).unwrap();
        progress.reconnect();
        assert_eq!(progress.begin(transaction(11)), Err(Disorder::Diverged(Lsn(9))));
        progress.reconnect();
        progress.begin(transaction(10)).unwrap();
        assert_eq!(progress.item(Lsn(4)), Ok(Item::Skip));
        assert_eq!(progress.item(Lsn(6)), Err(Disorder::Diverged(Lsn(9))));
        progress.reconnect();
        progress.begin(transaction(10)).unwrap();
        assert_eq!(progress.commit(transaction(10)), Err(Disorder::Diverged(Lsn(9))));
    }

    #[test]
    fn what_is_out_of_order_is_told() {
        let mut progress = Progress::default();
        assert_eq!(progress.item(Lsn(1)), Err(Disorder::Order));
        assert_eq!(progress.commit(transaction(1)), Err(Disorder::Order));
        progress.begin(transaction(10)).unwrap();
        assert_eq!(progress.begin(transaction(11)), Err(Disorder::Order));
        assert_eq!(progress.commit(transaction(11)), Err(Disorder::Order));
    }

    #[test]
    fn only_what_was_passed_on_in_this_epoch_is_confirmed() {
        let mut progress = Progress::default();
        progress.keepalive(Lsn(100));
        assert!(progress.confirmable(Lsn(100)));
        assert!(!progress.confirmable(Lsn(101)));
        progress.reset(Lsn(30));
        assert!(!progress.confirmable(Lsn(100)), "a position of the old history");
        progress.keepalive(Lsn(50));
        assert!(!progress.confirmable(Lsn(20)));
        assert!(progress.confirmable(Lsn(40)));
    }

    /// Passes a transaction on whose commit record starts at `commit`, and which ends 10 behind it.
    fn pass(progress: &mut Progress, commit: u64) {
        let transaction = Transaction {
            commit_lsn: Lsn(commit),
            end_lsn: Lsn(commit + 10),
            ..transaction(1)
        };
        progress.begin(transaction.clone()).unwrap();
        progress.item(Lsn(commit - 1)).unwrap();
        progress.commit(transaction).unwrap();
    }

    #[test]
    fn a_commit_that_starts_where_the_history_was_left_is_undone() {
        for (left, undone) in [(110, false), (101, false), (100, true), (90, true)] {
            let mut progress = Progress::default();
            pass(&mut progress, 100);
            progress.keepalive(Lsn(200));
            assert_eq!(progress.fail_over(Lsn(left)), undone, "{left}");
            assert_eq!(progress.start(), Lsn(left));
            assert!(!progress.fail_over(Lsn(left)), "told once");
            // What the new history has there comes, whatever the old one had.
            progress.begin(transaction(left + 5)).unwrap();
            assert!(matches!(progress.item(Lsn(left + 1)), Ok(Item::First(_))));
        }
    }

    #[test]
    fn a_transaction_that_was_passed_on_in_part_goes_on_in_the_history_that_has_it() {
        let mut progress = Progress::default();
        progress.begin(transaction(101)).unwrap();
        progress.item(Lsn(4)).unwrap();
        let mut without = Progress::default();
        without.begin(transaction(101)).unwrap();
        without.item(Lsn(4)).unwrap();
        assert!(!progress.fail_over(Lsn(101)));
        progress.reconnect();
        progress.begin(transaction(101)).unwrap();
        assert_eq!(progress.item(Lsn(4)), Ok(Item::Skip));
        assert!(without.fail_over(Lsn(100)));
        without.reconnect();
        without.begin(transaction(130)).unwrap();
        assert!(matches!(without.item(Lsn(104)), Ok(Item::First(_))));
    }

    #[test]
    fn what_was_not_handed_over_comes_again_after_a_rewind() {
        let mut progress = Progress::default();
        progress.reset(Lsn(3));
        for end in [10, 20] {
            progress.begin(transaction(end)).unwrap();
            progress.item(Lsn(end - 1)).unwrap();
            progress.commit(transaction(end)).unwrap();
        }
        progress.rewind(Lsn(10));
        assert_eq!(progress.start(), Lsn(10));
        progress.begin(transaction(20)).unwrap();
        assert!(matches!(progress.item(Lsn(19)), Ok(Item::First(_))));
        progress.rewind(Lsn(0));
        assert_eq!(progress.start(), Lsn(3), "never behind the slot");
    }

    /// Sends transactions (number of items each), cutting the connection after `cuts` messages each time, and returns
    /// what was passed on.
    fn passed_on(transactions: &[u64], cuts: &[usize]) -> Vec<String> {
        let mut progress = Progress::default();
        let mut out = Vec::new();
        let mut cuts = cuts.iter().copied();
        loop {
            progress.reconnect();
            let mut left = cuts.next();
            if stream(&mut progress, transactions, &mut left, &mut out) {
                return out;
            }
        }
    }

    fn stream(
        progress: &mut Progress,
        transactions: &[u64],
        left: &mut Option<usize>,
        out: &mut Vec<String>,
    ) -> bool {
        let mut cut = || match left {
            Some(0) => true,
            Some(n) => {
                *n -= 1;
                false
            }
            None => false,
        };
        let start = progress.start();
        for (index, items) in transactions.iter().enumerate() {
            let end = (index as u64 + 1) * 1000;
            if Lsn(end) <= start {
                continue;
            }
            if cut() {
                return false;
            }
            progress.begin(transaction(end)).unwrap();
            for item in 0..*items {
                if cut() {
                    return false;
                }
                // Pairs of items share a position, as the rows of a COPY do.
                match progress.item(Lsn(end - 999 + item / 2)).unwrap() {
                    Item::Skip => {}
                    Item::Pass => out.push(format!("{end}:{item}")),
                    Item::First(_) => out.extend([format!("begin {end}"), format!("{end}:{item}")]),
                }
            }
            if cut() {
                return false;
            }
            match progress.commit(transaction(end)).unwrap() {
                End::Commit(_) => out.push(format!("commit {end}")),
                End::Skip | End::Empty(_) => {}
            }
        }
        true
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            transactions in proptest::collection::vec(0_u64..8, 1..6),
            cuts in proptest::collection::vec(0_usize..20, 0..8),
        ) {
            prop_assert_eq!(passed_on(&transactions, &cuts), passed_on(&transactions, &[]));
        }
    }
}
