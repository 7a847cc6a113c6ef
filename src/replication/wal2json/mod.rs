//! wal2json format version 2: one message of the plugin in, one [`Message`](super::Message) out. Pure.
//!
//! Values come out in Postgres' text output form ([`crate::change::Value`]). wal2json prints that form as a JSON
//! string, except for a few built-in types, by the exact type oid (a domain over one of them is printed as text):
//!
//! | type | printed | undone to |
//! |---|---|---|
//! | bool | `true`, `false` | `t`, `f` |
//! | int2, int4, int8, oid, float4, float8, numeric | a JSON number, the digits Postgres printed | the same digits |
//! | bytea | hex without its `\x` | `\x` before it |
//!
//! Known losses of wal2json 2.5, which no decoder can undo: `NaN` and the infinities of float4, float8 and numeric
//! are printed as `null` and come out as SQL NULL; an UPDATE or DELETE on a table without a replica identity is not
//! printed at all (Postgres logs a warning).
//!
//! Type names are not asked for (`include-types` off): oids say more, the messages shrink by a third, and 2.5 prints
//! a type whose schema needs quotes (`"My Schema".mood`) as broken JSON.

mod layouts;
mod message;
mod options;
mod row;
#[cfg(test)]
mod tests;
mod timestamp;

pub use message::{DecodeError, Decoder};
pub use options::{escape, start_options};
