//! Every text and close code that tells a client of trouble or of a change of state.
//!
//! Clients and their users match on these, so they are spelled here and nowhere else; `docs/ERRORS.md` explains each,
//! and a test holds the two together.

mod requests;

pub use requests::{FieldError, Invalid, RequestError, RowsError};

use crate::auth::TokenError;

use super::server::{Status, push_json_string};

/// Why a connection was refused before it became a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Neither `x-api-key` nor `apikey` holds a token.
    #[error("API key is missing")]
    MissingToken,
    /// The token was not accepted.
    #[error("{}", connect_text(.0))]
    Token(TokenError),
    /// As many connections as the server takes are open.
    #[error("Too many connected users")]
    TooManyConnections,
    /// Joins come faster than the server takes them.
    #[error("Too many joins per second")]
    TooManyJoins,
    /// The server is shutting down.
    #[error("Realtime is restarting, please standby")]
    Restarting,
}

impl ConnectError {
    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::MissingToken | Self::Token(_) => 401,
            Self::TooManyConnections | Self::TooManyJoins => 429,
            Self::Restarting => 503,
        }
    }

    /// Code for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingToken => "MissingAPIKey",
            Self::Token(error) => error.code(),
            Self::TooManyConnections => "ConnectionRateLimitReached",
            Self::TooManyJoins => "JoinsRateLimitReached",
            Self::Restarting => "RealtimeRestarting",
        }
    }

    /// The body, `{"error": "<text>"}`.
    pub fn json(&self) -> String {
        object("error", &self.to_string())
    }
}

/// At connect the age of an expired token is not told.
fn connect_text(error: &TokenError) -> String {
    match error {
        TokenError::Expired { .. } => "Token has expired".to_owned(),
        other => other.to_string(),
    }
}

/// Why a join was refused. `Display` is the text without its code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The topic is `realtime:` and nothing else.
    #[error("You must provide a topic name")]
    TopicNameRequired,
    /// The topic is longer than the limit.
    #[error("Topic names can have at most {limit} bytes")]
    TopicNameTooLong {
        /// Bytes allowed.
        limit: usize,
    },
    /// The token was not accepted.
    #[error("{0}")]
    Token(TokenError),
    /// A private channel that policies do not let this user read.
    #[error("You do not have permissions to read from this Channel topic: {sub_topic}")]
    Unauthorized {
        /// The topic without `realtime:`.
        sub_topic: String,
    },
    /// The connection has as many channels as it may.
    #[error("Too many channels")]
    TooManyChannels,
    /// Joins come faster than allowed; the connection closes with [`Close::JoinRate`].
    #[error("Too many joins per second")]
    TooManyJoins,
    /// The payload of the join is larger than the limit.
    #[error("The join payload can have at most {limit} bytes")]
    PayloadTooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// More `postgres_changes` entries than a channel may have.
    #[error("A channel can have at most {limit} postgres_changes entries")]
    TooManyBindings {
        /// Entries allowed.
        limit: usize,
    },
    /// A public channel, where only private ones are allowed.
    #[error("This project only allows private channels")]
    PrivateOnly,
    /// `config.broadcast.replay` on a public channel.
    #[error("Replay is not allowed for public channels")]
    ReplayPublic,
    /// `config.broadcast.replay` without a whole number `since`.
    #[error("Replay params are not valid")]
    ReplayParams,
    /// What was to be replayed could not be read.
    #[error("Realtime was unable to replay messages")]
    ReplayFailed,
    /// The rights on a private channel could not be judged: the database does not answer.
    #[error("Realtime was unable to connect to the project database")]
    Unavailable,
    /// They could not be judged in time.
    #[error("Query was cancelled, please try again")]
    Canceled,
    /// They could not be judged because too many others wait for the database.
    #[error("Please increase your connection pool size")]
    Busy,
    /// The client asked to wait for its row subscription, and it was refused.
    #[error("{0}")]
    Subscription(String),
    /// The client asked to wait for its row subscription, and it was not live in time.
    #[error("Timed out after {ms}ms waiting for the postgres_changes subscription")]
    SubscribeTimeout {
        /// How long was waited, in milliseconds.
        ms: u128,
    },
    /// The server is shutting down.
    #[error("Realtime is restarting, please standby")]
    Restarting,
}

impl JoinError {
    /// The code that stands before the text.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TopicNameRequired => "TopicNameRequired",
            Self::TopicNameTooLong { .. } => "TopicNameTooLong",
            Self::Token(error) => error.code(),
            Self::Unauthorized { .. } => "Unauthorized",
            Self::TooManyChannels => "ChannelRateLimitReached",
            Self::TooManyJoins => "ClientJoinRateLimitReached",
            Self::PayloadTooLarge { .. } => "JoinPayloadTooLarge",
            Self::TooManyBindings { .. } => "PostgresChangesLimitReached",
            Self::PrivateOnly => "PrivateOnly",
            Self::ReplayPublic | Self::ReplayParams | Self::ReplayFailed => "UnableToReplayMessages",
            Self::Unavailable => "UnableToConnectToProject",
            Self::Canceled => "QueryCanceled",
            Self::Busy => "IncreaseConnectionPool",
            Self::Subscription(_) => "RealtimeDisabledForConfiguration",
            Self::SubscribeTimeout { .. } => "PostgresChangesSubscribeTimeout",
            Self::Restarting => "RealtimeRestarting",
        }
    }

    /// The `response` of the error reply, `{"reason":"<code>: <text>"}`.
    pub fn response(&self) -> String {
        object("reason", &format!("{}: {self}", self.code()))
    }
}

/// The HTTP status for a join that was refused with `<code>: <text>`, where it was asked for by a request.
pub fn join_status(reason: &str) -> u16 {
    let (code, _) = reason.split_once(':').unwrap_or((reason, ""));
    match code {
        "TopicNameRequired"
        | "TopicNameTooLong"
        | "JoinPayloadTooLarge"
        | "PostgresChangesLimitReached"
        | "UnableToReplayMessages"
        | "RealtimeDisabledForConfiguration" => 400,
        "MissingAPIKey" | "InvalidJWTToken" | "MalformedJWT" | "JwtSignatureError" | "JwtSignerError" => 401,
        "Unauthorized" | "PrivateOnly" => 403,
        "ChannelRateLimitReached" | "ClientJoinRateLimitReached" => 429,
        // The database, the server, or time.
        _ => 503,
    }
}

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

/// Why the server closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Nothing was heard from the client for the idle timeout.
    Idle,
    /// The connection had channels once and has had none for long.
    NoChannels,
    /// Joins came faster than allowed.
    JoinRate,
    /// A message was larger than the limit.
    TooLarge,
    /// A text message was not UTF-8.
    NotUtf8,
    /// What came is not what RFC 6455 calls a frame.
    NotAFrame,
    /// The server stops.
    Restart,
    /// The outbox was full: the client reads slower than its messages arise.
    SlowConsumer,
}

impl Close {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::NoChannels,
        Self::JoinRate,
        Self::TooLarge,
        Self::NotUtf8,
        Self::NotAFrame,
        Self::Restart,
        Self::SlowConsumer,
    ];

    /// The WebSocket close code (RFC 6455, section 7.4 and the IANA registry).
    pub fn code(self) -> u16 {
        match self {
            Self::Idle | Self::NoChannels => 1000,
            Self::JoinRate => 1001,
            Self::NotAFrame => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
            Self::Restart => 1012,
            Self::SlowConsumer => 1013,
        }
    }

    /// The reason in the close frame.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Idle => "idle timeout",
            Self::NoChannels => "no channels",
            Self::JoinRate => "too many joins per second",
            Self::TooLarge => "message too large",
            Self::NotUtf8 => "text is not UTF-8",
            Self::NotAFrame => "protocol error",
            Self::Restart => "server restart",
            Self::SlowConsumer => "too slow, try again later",
        }
    }

    /// Label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::NoChannels => "no_channels",
            Self::JoinRate => "join_rate",
            Self::TooLarge => "too_large",
            Self::NotUtf8 => "not_utf8",
            Self::NotAFrame => "protocol_error",
            Self::Restart => "restart",
            Self::SlowConsumer => "slow_consumer",
        }
    }
}

fn object(key: &str, text: &str) -> String {
    let mut out = format!("{{\"{key}\":");
    push_json_string(&mut out, text);
    out.push('}');
    out
}

#[cfg(test)]
#[path = "errors_tests.rs"]
mod tests;
