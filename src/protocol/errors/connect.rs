//! Refusals of a connection.

use super::object;
use crate::auth::TokenError;

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
