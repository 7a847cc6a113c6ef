//! The history that positions belong to, and those that it came from: a standby that is promoted goes on with what its
//! primary wrote, up to a place, under a name of its own (manual, "Timelines").

use super::{Cursor, Epoch, Lsn, Position};

/// A history with its ancestors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    epoch: Epoch,
    ancestors: Vec<Ancestor>,
}

/// A history that was left.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ancestor {
    epoch: Epoch,
    /// Its first byte that is not part of what followed: a record of WAL begins or would begin there.
    left: Lsn,
    /// Nothing was seen between `left` and here that somebody could have been shown.
    quiet: Lsn,
}

/// Why a place means nothing in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// It is of a history that this one does not come from.
    Unrelated,
    /// It is of one that this one comes from, behind where that was left.
    Undone,
}

impl Lineage {
    /// A history without ancestors.
    pub fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            ancestors: Vec::new(),
        }
    }

    /// The same with an ancestor, which was left there.
    #[must_use]
    pub fn from(mut self, epoch: Epoch, left: Lsn) -> Self {
        self.ancestors.push(Ancestor {
            epoch,
            left,
            quiet: left,
        });
        self
    }

    /// The history itself.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where an ancestor was left.
    pub fn left(&self, epoch: Epoch) -> Option<Lsn> {
        self.ancestor(epoch).map(|ancestor| ancestor.left)
    }

    /// Somebody who followed an ancestor up to `passed` was shown nothing by it behind where it was left, so that a place in
    /// between is as good as the one where it was left.
    pub fn quiet(&mut self, epoch: Epoch, passed: Lsn) {
        let found = self.ancestors.iter_mut().find(|ancestor| ancestor.epoch == epoch);
        if let Some(ancestor) = found {
            ancestor.quiet = ancestor.quiet.max(passed);
        }
    }

    /// What is known of an earlier history's ancestors goes for this one.
    pub fn learn(&mut self, earlier: &Self) {
        for known in &earlier.ancestors {
            if self.left(known.epoch) == Some(known.left) {
                self.quiet(known.epoch, known.quiet);
            }
        }
    }

    /// What a place means in this history.
    ///
    /// The place of a transaction lies just behind the start of its commit record ([`super::Transaction::place`]), and an
    /// ancestor was left between two records. So what was committed up to a place is part of this history exactly where
    /// the place is not behind that.
    ///
    /// # Errors
    /// It means nothing here.
    pub fn here(&self, cursor: Cursor) -> Result<Cursor, Elsewhere> {
        if cursor.epoch == self.epoch {
            return Ok(cursor);
        }
        let ancestor = self.ancestor(cursor.epoch).ok_or(Elsewhere::Unrelated)?;
        let position = match cursor.position.commit {
            commit if commit <= ancestor.left => cursor.position,
            commit if commit <= ancestor.quiet => Position::behind(ancestor.left),
            _ => return Err(Elsewhere::Undone),
        };
        Ok(Cursor {
            epoch: self.epoch,
            position,
        })
    }

    /// Everything that was committed up to a place of a history and is part of this one, was committed up to here.
    /// `None` for an unrelated history.
    pub fn within(&self, epoch: Epoch, at: Lsn) -> Option<Lsn> {
        match epoch == self.epoch {
            true => Some(at),
            false => self.left(epoch).map(|left| at.min(left)),
        }
    }

    fn ancestor(&self, epoch: Epoch) -> Option<&Ancestor> {
        self.ancestors.iter().find(|ancestor| ancestor.epoch == epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Transaction;

    const OLD: Epoch = Epoch(1);
    const MIDDLE: Epoch = Epoch(2);
    const NEW: Epoch = Epoch(3);

    fn lineage() -> Lineage {
        Lineage::new(NEW).from(OLD, Lsn(100)).from(MIDDLE, Lsn(200))
    }

    fn at(epoch: Epoch, commit: u64) -> Cursor {
        Cursor {
            epoch,
            position: Position::behind(Lsn(commit)),
        }
    }

    /// Behind a transaction whose commit record starts there.
    fn committed(epoch: Epoch, start: u64) -> Cursor {
        let transaction = Transaction {
            xid: 1,
            commit_lsn: Lsn(start),
            end_lsn: Lsn(start + 48),
            commit_micros: 0,
        };
        at(epoch, transaction.place().0)
    }

    #[test]
    fn what_an_ancestor_left_behind_counts_here() {
        let lineage = lineage();
        assert_eq!(lineage.here(at(NEW, 900)), Ok(at(NEW, 900)));
        assert_eq!(lineage.here(at(OLD, 90)), Ok(at(NEW, 90)));
        assert_eq!(lineage.here(at(MIDDLE, 190)), Ok(at(NEW, 190)));
        assert_eq!(lineage.here(at(OLD, 190)), Err(Elsewhere::Undone));
        assert_eq!(lineage.here(at(Epoch(9), 1)), Err(Elsewhere::Unrelated));
    }

    #[test]
    fn the_record_that_begins_where_it_was_left_is_undone_and_the_one_that_ends_there_is_not() {
        let lineage = lineage();
        assert!(lineage.here(committed(OLD, 99)).is_ok());
        assert_eq!(lineage.here(committed(OLD, 100)), Err(Elsewhere::Undone));
        // The end of the last record, as positions between transactions are.
        assert_eq!(lineage.here(at(OLD, 100)), Ok(at(NEW, 100)));
        // Within the transaction that began there, too.
        let mut within = committed(OLD, 100);
        within.position.change = Lsn(60);
        within.position.ordinal = 0;
        assert_eq!(lineage.here(within), Err(Elsewhere::Undone));
    }

    #[test]
    fn where_nothing_was_shown_behind_it_a_place_there_is_as_good() {
        let mut lineage = lineage();
        lineage.quiet(MIDDLE, Lsn(250));
        assert_eq!(lineage.here(at(MIDDLE, 250)), Ok(at(NEW, 200)));
        assert_eq!(lineage.here(at(MIDDLE, 251)), Err(Elsewhere::Undone));
        assert_eq!(lineage.here(at(OLD, 101)), Err(Elsewhere::Undone));
        let mut next = Lineage::new(Epoch(4)).from(MIDDLE, Lsn(200)).from(NEW, Lsn(300));
        next.learn(&lineage);
        assert_eq!(next.here(at(MIDDLE, 250)), Ok(at(Epoch(4), 200)));
        let mut other = Lineage::new(Epoch(4)).from(MIDDLE, Lsn(150));
        other.learn(&lineage);
        assert_eq!(other.here(at(MIDDLE, 160)), Err(Elsewhere::Undone));
    }

    #[test]
    fn positions_of_an_ancestor_reach_no_further_than_where_it_was_left() {
        let lineage = lineage();
        assert_eq!(lineage.within(NEW, Lsn(900)), Some(Lsn(900)));
        assert_eq!(lineage.within(OLD, Lsn(90)), Some(Lsn(90)));
        assert_eq!(lineage.within(OLD, Lsn(190)), Some(Lsn(100)));
        assert_eq!(lineage.within(Epoch(9), Lsn(1)), None);
    }
}
