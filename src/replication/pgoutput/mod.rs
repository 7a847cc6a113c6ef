//! pgoutput, protocol version 1 in text format: one message of the plugin in, one [`Message`](super::Message) out. Pure.
//!
//! What comes out is what comes out of wal2json for the same WAL, positions included: a cursor means the same whichever of
//! them decodes. The protocol differs in what it leaves to us (manual, "Logical Replication Message Formats"):
//!
//! - Columns are described once per connection and after each change of the table (Relation), rows carry values only.
//! - The key of an old row comes as a whole row in which everything else is null; of an UPDATE that leaves the key as it
//!   was nothing comes, and the key is taken from the new row.
//! - An unchanged TOAST value is marked in its place ([`crate::change::Value::Unchanged`]) where wal2json leaves the column
//!   out; from a whole old row it is filled in both.
//! - The end of the commit record is known at the commit only.
//! - The position of a change is that of the message around it (XLogData).
//!
//! Other than with wal2json: `NaN` and the infinities of floats and numerics come as they are; stored generated columns do
//! not come before PostgreSQL 18; what is published decides the server, see `publication`.

mod bytes;
mod decoder;
mod options;
mod relation;
#[cfg(test)]
mod tests;
mod tuple;

pub use decoder::{DecodeError, Decoder};
pub use options::start_options;
