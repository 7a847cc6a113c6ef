//! Refusals of a join.

use super::object;
use crate::auth::TokenError;

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
    /// Joins come faster than allowed; the connection closes with [`Close::JoinRate`](super::Close::JoinRate).
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
