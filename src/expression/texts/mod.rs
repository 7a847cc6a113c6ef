//! Operators and functions of text and of bytes (manual sections 9.4 and 9.5).
//!
//! The database's encoding is UTF-8, so characters are code points. Positions found by comparing bytes are those that
//! Postgres finds under any deterministic collation.

mod bytes;
mod letters;
mod lists;
mod pieces;
mod search;

use super::arguments::{self, as_text, lenient, strict};
use super::{Array, Builtin, Collation, Datum, Evaluated, Stop, Ty};

/// Results that would be longer are left to Postgres, whose own limit is 1 GB.
const LONGEST: usize = 16 << 20;

/// An operator of `pg_catalog` on text other than a comparison.
pub(super) fn operator(
    symbol: &str,
    left: Option<&Ty>,
    right: &Ty,
    collation: &Collation,
) -> Option<Builtin> {
    match (symbol, left?, right) {
        ("||", Ty::Text, Ty::Text) => Some(strict(Ty::Text, true, |arguments| {
            let (left, right) = (arguments::text(arguments, 0)?, arguments::text(arguments, 1)?);
            short(left.len().saturating_add(right.len()))?;
            as_text([left, right].concat())
        })),
        ("||", Ty::Bytea, Ty::Bytea) => Some(strict(Ty::Bytea, true, |arguments| {
            let (left, right) = (arguments::bytes(arguments, 0)?, arguments::bytes(arguments, 1)?);
            short(left.len().saturating_add(right.len()))?;
            Ok(Some(Datum::Bytea([left, right].concat().into())))
        })),
        ("^@", Ty::Text, Ty::Text) => function("starts_with", &[Ty::Text, Ty::Text], collation),
        _ => None,
    }
}

/// A function of `pg_catalog` on text or bytes, by its lower-case name.
pub(super) fn function(name: &str, types: &[Ty], collation: &Collation) -> Option<Builtin> {
    pieces::function(name, types)
        .or_else(|| letters::function(name, types, collation))
        .or_else(|| search::function(name, types, collation))
        .or_else(|| lists::function(name, types, collation))
        .or_else(|| bytes::function(name, types))
}

/// # Errors
/// [`Stop::Ask`] for a result of more bytes than are worth computing here.
fn short(bytes: usize) -> Result<(), Stop> {
    if bytes > LONGEST {
        return Err(Stop::ask("a very long text"));
    }
    Ok(())
}

/// # Errors
/// [`Stop::Ask`] for so much text and such a set of characters that looking up each in the other takes long.
fn quick(text: &str, set: &str) -> Result<(), Stop> {
    short(text.len().saturating_mul(set.len()))
}
