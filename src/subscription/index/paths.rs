//! Ways to a predicate: conditions one of which holds for every row that the predicate is true for, and that rows can be
//! looked up by.

mod finder;

use crate::expression::{Expr, Key};

pub(super) use finder::paths;

/// One way to a predicate.
#[derive(Clone, Debug)]
pub(super) enum Path {
    /// These expressions have these values.
    Equal { by: By, key: Vec<Key> },
    /// This expression has a value in this range.
    Range { by: By, range: std::ops::Range<End> },
    /// This expression is NULL, or is not.
    Null { by: By, null: bool },
}

impl Path {
    /// What rows are looked up by.
    pub(super) fn by(&self) -> &By {
        match self {
            Self::Equal { by, .. } | Self::Range { by, .. } | Self::Null { by, .. } => by,
        }
    }

    /// How many rows are likely to be found by it. A truth value, or that there is no value, is what most rows may have in common.
    fn rank(&self) -> Rank {
        match self {
            Self::Equal { key, .. } if key.iter().all(|key| matches!(key, Key::Bool(_))) => Rank::Half,
            Self::Equal { .. } => Rank::Few,
            Self::Range { range, .. } if is_bounded(range) => Rank::Some,
            Self::Range { .. } => Rank::Most,
            Self::Null { null: true, .. } => Rank::Half,
            Self::Null { null: false, .. } => Rank::Most,
        }
    }
}

/// See [`Path::rank`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Few,
    Some,
    Half,
    Most,
}

/// Of the ways to a predicate, the one that finds most counts, then the one that finds fewest (one that is for few subscribers
/// tells them apart), and then how many there are.
fn cost(paths: &[Path]) -> (Option<Rank>, Option<Rank>, usize) {
    let ranks = || paths.iter().map(Path::rank);
    (ranks().max(), ranks().min(), paths.len())
}

fn is_bounded(range: &std::ops::Range<End>) -> bool {
    range.start != End::Lowest && range.end != End::Highest
}

/// What rows are looked up by: expressions that read nothing but the row.
#[derive(Clone, Debug)]
pub(super) struct By {
    /// Their values.
    pub(super) of: Vec<Expr>,
    /// There is one, an array, and its elements are looked up.
    pub(super) each: bool,
    /// Equal for equal ones.
    pub(super) name: String,
}

/// An end of a range, so that all ranges are half open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// No bound below.
    Lowest,
    /// Just below or just above a value.
    At(u64, Side),
    /// No bound above.
    Highest,
}

impl End {
    /// At the value of a key, if keys of that kind have the order of their values.
    pub(super) fn at(key: &Key, side: Side) -> Option<Self> {
        match key {
            // Shifted so that the negative ones come first.
            Key::Int(value) => Some(Self::At(value.cast_unsigned() ^ (1 << 63), side)),
            Key::Float(bits) => Some(Self::At(*bits, side)),
            _ => None,
        }
    }
}

/// See [`End::At`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Below,
    Above,
}
