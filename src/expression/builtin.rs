//! What can be called: operators, functions and casts, by exact argument types as `pg_get_expr` shows them.

use std::fmt;
use std::sync::Arc;

use super::{Datum, Evaluated, Ty, dates, jsons, patterns, texts, values};
use crate::postgres::catalog::{Column, DefaultCollation};

/// How text is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Collation {
    /// The database's default: deterministic, its order unknown here, and ASCII letters have their usual cases.
    Default,
    /// `C`, `POSIX`: bytes.
    C,
    /// Another deterministic one, by its qualified name.
    Named(Arc<str>),
    /// One that calls different bytes equal.
    Nondeterministic,
}

impl Collation {
    /// That of a column.
    pub fn of(column: &Column, default: DefaultCollation) -> Self {
        // Of another encoding nothing is known here.
        if default == DefaultCollation::Foreign {
            return Self::Nondeterministic;
        }
        if column.type_oid == NAME {
            return Self::C;
        }
        match (&column.collation, column.deterministic, default) {
            (_, false, _) => Self::Nondeterministic,
            (Some(name), ..) if matches!(&**name, r#"pg_catalog."C""# | r#"pg_catalog."POSIX""#) => Self::C,
            (Some(name), ..) => Self::Named(Arc::clone(name)),
            (None, _, DefaultCollation::C) => Self::C,
            (None, _, DefaultCollation::Plain) => Self::Default,
            (None, _, DefaultCollation::Turkic | DefaultCollation::Foreign) => Self::Named("default".into()),
        }
    }
}

/// `name` has a collation of its own, C, whatever the database's is.
const NAME: u32 = 19;

/// What an operator, function or cast does.
pub type Call = Arc<dyn Fn(&[Option<Datum>]) -> Evaluated + Send + Sync>;

/// A known operator, function or cast, chosen for its argument types.
#[derive(Clone)]
pub struct Builtin {
    /// What it returns.
    pub returns: Ty,
    /// NULL if any argument is, without being called.
    pub strict: bool,
    /// Postgres evaluates it while planning if its arguments are constants (`provolatile = 'i'`).
    pub immutable: bool,
    /// What it does. Called with as many arguments as it was chosen for.
    pub call: Call,
}

impl fmt::Debug for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builtin")
            .field("returns", &self.returns)
            .finish_non_exhaustive()
    }
}

/// How far values of two types compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparable {
    /// `<`, `<=`, `>`, `>=` are known too, not only `=` and `<>`.
    pub ordered: bool,
    /// Values that are equal have the same [`super::Key`], so that one can be found by the other.
    pub keyed: bool,
}

/// Whether `left = right` is an operator whose answer is known here ([`super::equal`] gives it, [`super::compare`] that of
/// the others).
pub fn comparable(left: &Ty, right: &Ty, collation: &Collation) -> Option<Comparable> {
    values::comparable(left, right, collation)
}

/// An operator of `pg_catalog` other than a comparison. `left` is `None` for a prefix operator.
pub fn operator(symbol: &str, left: Option<&Ty>, right: &Ty, collation: &Collation) -> Option<Builtin> {
    values::operator(symbol, left, right, collation)
        .or_else(|| texts::operator(symbol, left, right, collation))
        .or_else(|| dates::operator(symbol, left, right, collation))
        .or_else(|| jsons::operator(symbol, left, right, collation))
        .or_else(|| patterns::operator(symbol, left, right, collation))
}

/// A function of `pg_catalog`, by its lower-case name.
pub fn function(name: &str, arguments: &[Ty], collation: &Collation) -> Option<Builtin> {
    values::function(name, arguments, collation)
        .or_else(|| texts::function(name, arguments, collation))
        .or_else(|| dates::function(name, arguments, collation))
        .or_else(|| jsons::function(name, arguments, collation))
        .or_else(|| patterns::function(name, arguments, collation))
}

/// The cast that `value::to(modifiers)` is; for example `[5]` of `varchar(5)`, `[10, 2]` of `numeric(10,2)`.
pub fn cast(from: &Ty, to: &Ty, modifiers: &[i32]) -> Option<Builtin> {
    values::cast(from, to, modifiers)
        .or_else(|| dates::cast(from, to, modifiers))
        .or_else(|| jsons::cast(from, to, modifiers))
        .or_else(|| values::by_output(from, to, modifiers))
}
