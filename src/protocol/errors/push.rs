//! Refusals of what is pushed into a channel.

use super::object;

/// Why a push other than a join was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The topic is not joined, or no topic of ours.
    #[error("unmatched topic")]
    UnmatchedTopic,
    /// A broadcast that is no object.
    #[error("Broadcast payload must be a map")]
    BroadcastNotAMap,
    /// A `track` whose payload is no object.
    #[error("Presence track payload must be a map")]
    TrackNotAMap,
    /// A private channel that policies do not let this user write to.
    #[error("You do not have permissions to write to this Channel topic: {sub_topic}")]
    Unauthorized {
        /// The topic without `realtime:`.
        sub_topic: String,
    },
    /// More wait for their right to be judged than may.
    #[error("Too many messages per second")]
    TooMany,
    /// The right could not be judged: the database does not answer.
    #[error("Realtime was unable to connect to the project database")]
    Unavailable,
    /// The right could not be judged in time.
    #[error("Query was cancelled, please try again")]
    Canceled,
    /// The right could not be judged because too many others wait for the database.
    #[error("Please increase your connection pool size")]
    Busy,
}

impl PushError {
    /// The `response` of the error reply, `{"reason":"<text>"}`.
    pub fn response(&self) -> String {
        object("reason", &self.to_string())
    }
}

/// Why a broadcast was not kept (and so not relayed either).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersistError {
    /// The channel is public.
    #[error("Messages of public channels cannot be persisted")]
    Public,
    /// Policies do not accept `extension = 'persistence'`.
    #[error("You do not have permissions to persist messages of this Channel")]
    Unauthorized,
    /// `persist` is neither true nor an object with a whole number `ttl`.
    #[error("Persist params are not valid")]
    Params,
    /// It could not be written.
    #[error("Realtime was unable to persist the message")]
    Failed,
}

impl PersistError {
    /// The `response` of the error reply, `{"error":"<text>"}`.
    pub fn response(self) -> String {
        object("error", &self.to_string())
    }
}

/// The `response` of the error reply to a broadcast that is too large: a JSON string.
pub const PAYLOAD_SIZE_EXCEEDED: &str = "\"payload_size_exceeded\"";
