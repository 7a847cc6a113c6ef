//! What channels are told in `system` events.

use crate::auth::TokenError;
use crate::protocol::server::Status;

/// What a `system` event says. `Display` is the `message`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// The row subscription is live: what is committed from now on arrives.
    #[error("Subscribed to PostgreSQL")]
    Subscribed,
    /// The row subscription was refused or could not be served now; the text is the feed's.
    #[error("{0}")]
    SubscriptionFailed(String),
    /// The replication stream broke and is being retried.
    #[error("Row changes are delayed: the server has lost its connection to the database and is retrying")]
    StreamInterrupted,
    /// The replication stream continues where it broke.
    #[error("Row changes are flowing again, none were missed")]
    StreamLive,
    /// The replication stream continues somewhere else.
    #[error("Row changes may have been missed, load the rows again: {0}")]
    StreamReset(String),
    /// The channel begins here, and the message says from where it would go on (`config.since` was given).
    #[error("live")]
    Live,
    /// The channel goes on from where the client was: what it missed has been sent.
    #[error("resumed: nothing was missed")]
    Resumed,
    /// The channel cannot go on from where the client was.
    #[error("resync: {0}")]
    Resync(String),
    /// The rows of a snapshot follow, the first or, for this reason, once more: no row that came before counts.
    #[error("snapshot: begins{}", .again.as_ref().map_or_else(String::new, |why| format!(" again: {why}")))]
    SnapshotBegins {
        /// Why the one before does not count.
        again: Option<String>,
    },
    /// All rows of a snapshot have been sent; what has changed since follows.
    #[error("snapshot: {rows} rows")]
    Snapshot {
        /// How many.
        rows: u64,
    },
    /// The user's token is no longer good; the channel closes.
    #[error("{0}")]
    Token(TokenError),
    /// The user's token runs out soon.
    #[error("Token expires in {seconds} seconds")]
    TokenExpires {
        /// How soon.
        seconds: i64,
    },
    /// Broadcasts from the database are flowing (`config.broadcast.replication_ready`).
    #[error("Replication connection established")]
    ReplicationReady,
    /// They did not flow in time; the channel closes.
    #[error("Replication connection was not established in time")]
    ReplicationLate,
    /// The user may read nothing of the private channel any more; the channel closes.
    #[error("You do not have permissions to read from this Channel topic: {sub_topic}")]
    Unauthorized {
        /// The topic without `realtime:`.
        sub_topic: String,
    },
    /// The user may read less of the private channel than before; the channel closes.
    #[error("You no longer have permission to read from this Channel topic: {sub_topic}")]
    Revoked {
        /// The topic without `realtime:`.
        sub_topic: String,
    },
    /// New rights could not be judged: the database does not answer; the channel closes.
    #[error("Realtime was unable to connect to the project database")]
    Unavailable,
    /// New rights could not be judged in time; the channel closes.
    #[error("Query was cancelled, please try again")]
    Canceled,
    /// All together send more than the server takes; the channel closes.
    #[error("Too many messages per second")]
    TooManyMessages,
    /// All together change presence more often than the server takes; the channel closes.
    #[error("Too many presence messages per second")]
    TooManyPresences,
    /// The channel changes its presence more often than it may; it closes.
    #[error("Client presence rate limit exceeded")]
    TooManyTracks,
    /// The payload of a `track` is too large; the channel closes.
    #[error("Track message size exceeded")]
    TrackTooLarge,
    /// The connection is about to close because the server stops.
    #[error("Server requested disconnect")]
    Disconnect,
}

impl Notice {
    /// The `extension` it is sent under.
    pub fn extension(&self) -> &'static str {
        match self {
            Self::Subscribed
            | Self::SubscriptionFailed(_)
            | Self::StreamInterrupted
            | Self::StreamLive
            | Self::StreamReset(_) => "postgres_changes",
            Self::Live | Self::Resumed | Self::Resync(_) => "resume",
            Self::SnapshotBegins { .. } | Self::Snapshot { .. } => "snapshot",
            _ => "system",
        }
    }

    /// The `status`. The state of the stream is no error: realtime-py would leave and rejoin, which helps nobody.
    pub fn status(&self) -> Status {
        match self {
            Self::Subscribed
            | Self::StreamInterrupted
            | Self::StreamLive
            | Self::StreamReset(_)
            | Self::Live
            | Self::Resumed
            | Self::Resync(_)
            | Self::SnapshotBegins { .. }
            | Self::Snapshot { .. }
            | Self::TokenExpires { .. }
            | Self::ReplicationReady
            | Self::Disconnect => Status::Ok,
            _ => Status::Error,
        }
    }
}
