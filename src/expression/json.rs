//! `jsonb` values.

use std::sync::Arc;

use super::Numeric;

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
