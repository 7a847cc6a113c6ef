//! Every text and close code that tells a client of trouble or of a change of state.
//!
//! Clients and their users match on these, so they are spelled here and nowhere else; `docs/ERRORS.md` explains each,
//! and a test holds the two together.

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

/// Why a push other than a join was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The topic is not joined, or no topic of ours.
    #[error("unmatched topic")]
    UnmatchedTopic,
    /// A broadcast that wanted to be acknowledged.
    #[error("NotImplemented: this server does not relay broadcasts yet")]
    Broadcast,
    /// `track` or `untrack`.
    #[error("NotImplemented: this server does not keep presence yet")]
    Presence,
}

impl PushError {
    /// The `response` of the error reply, `{"reason":"<text>"}`.
    pub fn response(&self) -> String {
        object("reason", &self.to_string())
    }
}

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
    /// The user's token is no longer good; the channel closes.
    #[error("{0}")]
    Token(TokenError),
    /// The connection is about to close because the server stops.
    #[error("Server requested disconnect")]
    Disconnect,
}

impl Notice {
    /// The `extension` it is sent under.
    pub fn extension(&self) -> &'static str {
        match self {
            Self::Token(_) | Self::Disconnect => "system",
            _ => "postgres_changes",
        }
    }

    /// The `status`. The state of the stream is no error: realtime-py would leave and rejoin, which helps nobody.
    pub fn status(&self) -> Status {
        match self {
            Self::SubscriptionFailed(_) | Self::Token(_) => Status::Error,
            _ => Status::Ok,
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
