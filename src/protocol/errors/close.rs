//! Close codes.

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
