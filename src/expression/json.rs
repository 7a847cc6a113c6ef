//! `jsonb` values.

mod document;
mod lexer;
mod number;
mod order;
mod parse;
mod print;

use std::sync::Arc;

use super::Numeric;

pub(super) use document::{Kind, Step, at, elements, find, keys, kind, length, unquoted, validate};
pub(super) use lexer::{Escapes, invalid};
#[cfg(test)]
pub(super) use number::digits;
pub(super) use number::{to_f32, to_f64, to_int};
pub(super) use order::{compare, equal, key};
pub(super) use parse::parse;
pub(super) use print::print;

/// How deep values may nest. Postgres goes on until its stack is used up; here it is asked earlier, so that reading,
/// printing and dropping a value never use up ours.
const MAX_DEPTH: usize = 256;

/// Longer texts are left to Postgres, in bytes.
const MAX_LENGTH: usize = 16 << 20;

/// A `jsonb` value.
#[derive(Clone, Debug)]
pub enum Json {
    /// `null`, which is not SQL's NULL.
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number, as `numeric` holds it.
    Number(Numeric),
    /// A string.
    String(Arc<str>),
    /// An array.
    Array(Vec<Arc<Json>>),
    /// An object: each key once, in the order of `jsonb` (by length, then by bytes).
    Object(Vec<(Arc<str>, Arc<Json>)>),
}

impl Json {
    /// The value of a key; `None` also where this is no object.
    pub(super) fn field(&self, key: &str) -> Option<&Arc<Self>> {
        let Self::Object(members) = self else {
            return None;
        };
        let at = members
            .binary_search_by(|(name, _)| order::keys(name, key))
            .ok()?;
        members.get(at).map(|(_, value)| value)
    }
}
