//! What became of a policy, for people.

use crate::expression::{Expr, Node, Stop};

/// Where a policy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `CREATE POLICY` in the database.
    Database,
    /// A policy file.
    File,
}

/// A policy that applies, and how it is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Its name.
    pub name: String,
    /// PERMISSIVE (true) or RESTRICTIVE (false).
    pub permissive: bool,
    /// Where it comes from.
    pub source: Source,
    /// How it is judged.
    pub verdict: Judged,
}

/// How a policy is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// In memory, from the row and the claims alone.
    Compiled,
    /// In memory, from the row, the claims and this many relations.
    Sets(usize),
    /// Postgres is asked, at least for some rows; why.
    Asks(Vec<String>),
}

impl std::fmt::Display for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Compiled => f.write_str("compiled"),
            Self::Sets(1) => f.write_str("compiled with 1 subquery kept in memory"),
            Self::Sets(sets) => write!(f, "compiled with {sets} subqueries kept in memory"),
            Self::Asks(reasons) => write!(f, "asks Postgres: {}", reasons.join("; ")),
        }
    }
}

/// How a compiled policy is judged. A poisoned one is asked as a whole.
pub(super) fn judged(expr: &Expr, poison: Option<&str>) -> Judged {
    let mut reasons: Vec<String> = poison.map(str::to_owned).into_iter().collect();
    let mut relations = Vec::new();
    expr.contains(&mut |part| {
        match &part.node {
            Node::Stop(Stop::Ask(why)) => reasons.push(why.to_string()),
            Node::Stop(other) => reasons.push(format!("{other:?}")),
            Node::In { relation, .. }
            | Node::Exists(relation)
            | Node::Scalar(relation)
            | Node::ArrayOf(relation) => relations.push(*relation),
            _ => {}
        }
        false
    });
    reasons.sort();
    reasons.dedup();
    relations.sort_unstable();
    relations.dedup();
    match (reasons.is_empty(), relations.len()) {
        (false, _) => Judged::Asks(reasons),
        (true, 0) => Judged::Compiled,
        (true, sets) => Judged::Sets(sets),
    }
}
