//! What is known of one relation.

use crate::expression::{Relation, Stop};

/// The last reading, and whether it still holds.
#[derive(Debug)]
pub(super) enum Contents {
    /// Never read.
    Unread,
    /// As Postgres has it.
    Fresh(Result<Relation, Stop>),
    /// As Postgres had it.
    Outdated(Result<Relation, Stop>),
}

impl Contents {
    pub(super) fn get(&self) -> Result<&Relation, Stop> {
        match self {
            Self::Fresh(read) => read.as_ref().map_err(Stop::clone),
            // Neither says anything that a change could make wrong.
            Self::Outdated(Err(stop @ (Stop::Ask(_) | Stop::Unavailable(_)))) => Err(stop.clone()),
            Self::Unread => Err(Stop::ask("a subquery has not been read yet")),
            Self::Outdated(_) => Err(Stop::ask("a subquery has not been read again yet")),
        }
    }

    /// Rows held.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Fresh(Ok(relation)) | Self::Outdated(Ok(relation)) => relation.rows().len(),
            _ => 0,
        }
    }

    /// No longer right; whether it was until now.
    pub(super) fn outdate(&mut self) -> bool {
        match std::mem::replace(self, Self::Unread) {
            Self::Fresh(read) => {
                *self = Self::Outdated(read);
                true
            }
            other => {
                *self = other;
                false
            }
        }
    }

    /// Puts another reading in its place; whether that may say something else.
    pub(super) fn replace(&mut self, read: Result<Relation, Stop>) -> bool {
        match (std::mem::replace(self, Self::Unread), &read) {
            (Self::Fresh(old) | Self::Outdated(old), new) => {
                let changed = !same(&old, new);
                *self = Self::Fresh(read);
                changed
            }
            (Self::Unread, _) => {
                *self = Self::Fresh(read);
                true
            }
        }
    }
}

/// Surely the same. Rows with NULLs are not compared.
fn same(old: &Result<Relation, Stop>, new: &Result<Relation, Stop>) -> bool {
    match (old, new) {
        (Ok(old), Ok(new)) => {
            !old.has_null()
                && !new.has_null()
                && old.rows().len() == new.rows().len()
                && old.keys().count() == new.keys().count()
                && new.keys().all(|key| old.contains(key))
        }
        (Err(old), Err(new)) => old == new,
        _ => false,
    }
}
