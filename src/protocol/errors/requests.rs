//! Refusals of requests over HTTP.

use serde_json::{Map, Value, json};

use super::object;

/// Why an HTTP request to broadcast was refused. `Display` is the text in the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No token, or one that was not accepted. Which it was goes to the log.
    #[error("Unauthorized")]
    Unauthenticated,
    /// A private topic that policies do not let this user write to.
    #[error("Unauthorized")]
    Denied,
    /// All broadcasts together are beyond the server's rate. Said before anything of the request is looked at.
    #[error("Too many requests")]
    TooManyRequests,
    /// They are beyond it by the time that this one would go out.
    #[error("You have exceeded your rate limit")]
    RateExceeded,
    /// More messages than may go out now.
    #[error("Too many messages to broadcast, please reduce the batch size")]
    BatchTooLarge,
    /// Too many ask the database who may write where.
    #[error("Connection pool exhausted")]
    DatabaseBusy,
    /// The database cannot be asked.
    #[error("Tenant database unavailable")]
    DatabaseUnavailable,
    /// The policies, or the insertion of a message to be kept, took too long.
    #[error("Query canceled")]
    QueryCanceled,
    /// A message to be kept, and no partition for it.
    #[error("Missing messages partition")]
    MissingPartition,
    /// The body is neither JSON nor bytes by its `content-type`.
    #[error("Unsupported Media Type. Use application/json or application/octet-stream")]
    MediaType,
    /// The body is not JSON.
    #[error("The body is not JSON")]
    NotJson,
    /// The path or the query cannot be decoded.
    #[error("The path or the query cannot be read")]
    Address,
    /// The body is larger than the limit.
    #[error("The body can have at most {limit} bytes")]
    BodyTooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// The body did not come to its end, or not in time.
    #[error("The body did not arrive")]
    BodyMissing,
    /// What was sent cannot be broadcast.
    #[error("the request is not valid")]
    Invalid(Invalid),
}

/// Why a request for rows was refused. `Display` is the text in the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// No token, or one that was not accepted. Which it was goes to the log.
    #[error("Unauthorized")]
    Unauthenticated,
    /// The query cannot be decoded.
    #[error("The path or the query cannot be read")]
    Address,
    /// No `table`.
    #[error("A table is required")]
    NoTable,
    /// A parameter that means nothing.
    #[error("Unknown parameter: {0}")]
    Unknown(String),
    /// A parameter that was given twice.
    #[error("Parameter given more than once: {0}")]
    Twice(String),
    /// The parameters are wrong or not allowed; the text is the feed's.
    #[error("{0}")]
    Refused(String),
    /// The rows cannot be read now; the text is the feed's.
    #[error("{0}")]
    Unavailable(String),
}

impl RowsError {
    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Unauthenticated => 401,
            Self::Unavailable(_) => 503,
            _ => 400,
        }
    }

    /// Label for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Unavailable(_) => "database",
            _ => "invalid",
        }
    }

    /// The body: `{"message": "<text>"}`.
    pub fn json(&self) -> String {
        object("message", &self.to_string())
    }
}

/// What is wrong with what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// One field.
    Field(&'static str, FieldError),
    /// Fields of the messages of a batch: one entry for each message, empty for those that are right.
    Messages(Vec<Vec<(&'static str, FieldError)>>),
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// It is missing, null or white space.
    #[error("can't be blank")]
    Blank,
    /// It is of another type.
    #[error("is invalid")]
    Invalid,
    /// A payload above the limit.
    #[error("Payload size exceeds tenant limit")]
    PayloadTooLarge,
    /// A name above the limit.
    #[error("should be at most {limit} byte(s)")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
    },
    /// A list above the limit.
    #[error("should have at most {limit} item(s)")]
    TooMany {
        /// Entries allowed.
        limit: usize,
    },
    /// Messages of public channels are not kept.
    #[error("is only available on private channels")]
    OnlyPrivate,
}

impl RequestError {
    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotJson | Self::Address => 400,
            Self::Unauthenticated => 401,
            Self::Denied => 403,
            Self::BodyMissing => 408,
            Self::BodyTooLarge { .. } => 413,
            Self::MediaType => 415,
            Self::DatabaseUnavailable | Self::QueryCanceled | Self::MissingPartition | Self::Invalid(_) => {
                422
            }
            Self::TooManyRequests | Self::RateExceeded | Self::BatchTooLarge | Self::DatabaseBusy => 429,
        }
    }

    /// Label for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::TooManyRequests | Self::RateExceeded | Self::BatchTooLarge => "rate",
            Self::DatabaseBusy | Self::DatabaseUnavailable | Self::QueryCanceled | Self::MissingPartition => {
                "database"
            }
            Self::MediaType | Self::NotJson | Self::Address | Self::BodyMissing | Self::Invalid(_) => {
                "invalid"
            }
            Self::BodyTooLarge { .. } => "too_large",
        }
    }

    /// The body: `{"message": "<text>"}`, `{"error": "<text>"}` for an unsupported media type, `{"errors": {…}}` for what
    /// cannot be broadcast.
    pub fn json(&self) -> String {
        match self {
            Self::Invalid(invalid) => json!({ "errors": invalid.errors() }).to_string(),
            Self::MediaType => object("error", &self.to_string()),
            _ => object("message", &self.to_string()),
        }
    }
}

impl Invalid {
    fn errors(&self) -> Value {
        match self {
            Self::Field(name, error) => fields(&[(*name, *error)]),
            Self::Messages(messages) => {
                json!({ "messages": messages.iter().map(|message| fields(message)).collect::<Vec<_>>() })
            }
        }
    }
}

fn fields(errors: &[(&'static str, FieldError)]) -> Value {
    let entry = |(name, error): &(&str, FieldError)| ((*name).to_owned(), json!([error.to_string()]));
    Value::Object(errors.iter().map(entry).collect::<Map<_, _>>())
}
