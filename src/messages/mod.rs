//! The table `realtime.messages`: its rows as broadcasts, those sent before, those that clients want kept, and its daily
//! partitions; and logical messages that say the same without a row.
//!
//! Knows the table and Postgres; knows no member and no socket.

mod error;
mod logical;
pub mod partitions;
mod row;
mod store;
#[cfg(test)]
mod tests;
mod writers;

pub use error::MessagesError;
pub use logical::{LOGICAL_PREFIX, Malformed, is_logical, logical};
pub use row::message;
pub use writers::Writers;

use std::sync::Arc;

use uuid::Uuid;

use crate::postgres::Pool;
use crate::protocol::{Broadcast, Content};

/// A row of the stream, as a broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Topic, without `realtime:`.
    pub topic: Arc<str>,
    /// For members of the private channel.
    pub private: bool,
    /// What it says; its `id` is the row's.
    pub broadcast: Broadcast,
}

/// A broadcast that was sent before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The row's.
    pub id: Uuid,
    /// With `replayed` in its metadata.
    pub content: Content,
}

/// What a client wants kept.
#[derive(Clone, Debug)]
pub struct Persist {
    /// Topic, without `realtime:`.
    pub topic: Arc<str>,
    /// What it says.
    pub content: Content,
    /// Seconds that it shall be kept, if not as long as all.
    pub ttl: Option<u64>,
}

/// Reads and writes the table. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Messages {
    pool: Pool,
    replay_bytes: usize,
}

impl Messages {
    /// On these connections, which log in as whoever may read and write the table, and are not read-only. So many bytes are
    /// replayed at once: all of them have to fit into what may wait for a connection.
    pub fn new(pool: Pool, replay_bytes: usize) -> Self {
        Self { pool, replay_bytes }
    }
}
