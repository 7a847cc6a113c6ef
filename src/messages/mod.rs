//! The table `realtime.messages`: its rows as broadcasts, those sent before, those that clients want kept, and its daily
//! partitions.
//!
//! Knows the table and Postgres; knows no member and no socket.

use std::sync::Arc;

use uuid::Uuid;

use crate::change::Change;
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

/// The table could not be read or written. `Display` is for the log and carries no content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessagesError {
    /// The database does not answer.
    #[error("the database could not be asked: {0}")]
    Unavailable(String),
    /// It took too long.
    #[error("the database took too long")]
    Canceled,
    /// The table is missing, or is not what it should be.
    #[error("realtime.messages cannot be used: {0}")]
    Unusable(String),
    /// There is no partition for now.
    #[error("realtime.messages has no partition for today")]
    MissingPartition,
}

/// What a row that was inserted says; `None` for what is no broadcast (and why goes to the log).
pub fn message(_change: &Change) -> Option<Message> {
    None
}

/// Reads and writes the table. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Messages {
    _pool: Pool,
}

impl Messages {
    /// On these connections, which log in as whoever may read and write the table.
    pub fn new(pool: Pool) -> Self {
        Self { _pool: pool }
    }

    /// The newest `limit` broadcasts of a private topic since `since_ms` (milliseconds since the Unix epoch), oldest
    /// first, in the order in which they were inserted.
    ///
    /// # Errors
    /// See [`MessagesError`].
    pub async fn replay(
        &self,
        _topic: &str,
        _since_ms: i64,
        _limit: u32,
    ) -> Result<Vec<Stored>, MessagesError> {
        Ok(Vec::new())
    }

    /// Keeps a broadcast; the stream will not send it. Returns the row's id.
    ///
    /// # Errors
    /// See [`MessagesError`].
    pub async fn persist(&self, _message: &Persist) -> Result<Uuid, MessagesError> {
        Err(MessagesError::Unusable("not built".to_owned()))
    }
}
