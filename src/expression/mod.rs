//! SQL expressions over one row, evaluated here exactly as Postgres evaluates them.
//!
//! Text printed by `pg_get_expr` under an empty `search_path` becomes a typed tree ([`Expr`]); what is not proven to be
//! Postgres' own answer becomes [`Stop::Ask`], when it is compiled or when a value comes by. Pure: no I/O, no clock but
//! the moment that is passed in. Knows neither policies nor subscribers.

#[cfg(test)]
mod against_postgres;
mod arguments;
mod builtin;
pub mod compile;
mod dates;
mod datetime;
mod datum;
mod evaluate;
mod fold;
mod inet;
mod json;
mod jsons;
mod node;
mod patterns;
#[cfg(test)]
mod probe;
mod relation;
mod row;
mod stop;
mod texts;
mod ty;
mod values;

pub use builtin::{Builtin, Call, Collation, Comparable, cast, comparable, function, operator};
pub use datum::{Array, Datum, Interval, Key, Numeric, compare, equal, from_hex};
pub use fold::Phase;
pub use inet::Inet;
pub use json::Json;
pub use jsons::{Set, set};
pub use node::{Comparison, Context, ElementTest, Expr, Is, Node};
pub use relation::Relation;
pub use row::{ColumnTypes, RowView, column_types};
pub use stop::{Evaluated, Stop};
pub use ty::{EnumTy, Ty};
