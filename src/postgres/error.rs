//! What went wrong between Rowcast and the database, as one type: a kind to act on, a sentence to read.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// A failed conversation with Postgres.
///
/// `Display` is one lowercase sentence: what was being done, what is wrong, what to do. The chain below it carries the
/// server's own words where those cannot quote a row (see [`ServerMessage`]).
#[derive(Debug, thiserror::Error)]
#[error("{doing} failed: {kind}")]
pub struct SqlError {
    doing: Box<str>,
    kind: ErrorKind,
    sqlstate: Option<Box<str>>,
    #[source]
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

/// What kind of trouble it is; retry policies and exit codes are functions of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing answers at the address.
    Unreachable,
    /// No answer within the time allowed.
    Timeout,
    /// An established connection ended.
    ConnectionLost,
    /// The TLS handshake failed, or the server does not offer what is required.
    Tls,
    /// The login was refused.
    Authentication,
    /// The database does not exist.
    DatabaseMissing,
    /// The role may not do this.
    InsufficientPrivilege,
    /// The server has no connection left for this role.
    TooManyConnections,
    /// Every connection of our own pool was busy for the whole waiting time.
    PoolExhausted,
    /// The statement was cancelled or ran into `statement_timeout` or `lock_timeout`.
    Cancelled,
    /// The server is starting, stopping or recovering.
    Restarting,
    /// A write was tried in a read-only session or on a standby.
    ReadOnly,
    /// A table, column, function, schema, type or slot does not exist.
    Undefined,
    /// The object is in use by somebody else (a slot with a reader, a locked row).
    InUse,
    /// The server is not configured for this (`wal_level`, `max_replication_slots`).
    NotConfigured,
    /// A file of the installation is missing (an output plugin that is not installed).
    FileMissing,
    /// Concurrent transactions collided; running it again may help.
    Conflict,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// The kind of an SQLSTATE (manual, "PostgreSQL Error Codes").
    pub fn from_sqlstate(code: &str) -> Self {
        match code {
            "28P01" | "28000" => Self::Authentication,
            "3D000" => Self::DatabaseMissing,
            "42501" => Self::InsufficientPrivilege,
            "53300" => Self::TooManyConnections,
            "57014" | "55P03" | "25P03" | "57P05" => Self::Cancelled,
            "57P01" | "57P02" | "57P03" => Self::Restarting,
            "25006" => Self::ReadOnly,
            "42P01" | "42703" | "42883" | "42704" | "3F000" | "26000" => Self::Undefined,
            "55006" => Self::InUse,
            "55000" | "53400" => Self::NotConfigured,
            "58P01" => Self::FileMissing,
            "40001" | "40P01" => Self::Conflict,
            _ if code.starts_with("08") => Self::ConnectionLost,
            _ => Self::Other,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Unreachable
                | Self::Timeout
                | Self::ConnectionLost
                | Self::TooManyConnections
                | Self::PoolExhausted
                | Self::Cancelled
                | Self::Restarting
                | Self::InUse
                | Self::Conflict
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => {
                "nothing answers at that address; check host and port, and that postgres is running"
            }
            Self::Timeout => {
                "no answer in time; check that the address is right and the server is not overloaded"
            }
            Self::ConnectionLost => "the connection ended; it is tried again when next needed",
            Self::Tls => {
                "tls could not be agreed on; check sslmode, sslrootcert and the server's certificate"
            }
            Self::Authentication => "the login was refused; check user, password and pg_hba.conf",
            Self::DatabaseMissing => "the database does not exist; create it or correct its name",
            Self::InsufficientPrivilege => {
                "the role lacks a right; grant it, or connect as a role that has it"
            }
            Self::TooManyConnections => {
                "the server has no connection left; raise max_connections or lower the pool size"
            }
            Self::PoolExhausted => {
                "all pooled connections stayed busy; raise the pool size or look for slow policies"
            }
            Self::Cancelled => "it was cancelled or took too long; look for locks, or raise the timeout",
            Self::Restarting => "the server is starting or stopping; it is tried again",
            Self::ReadOnly => "the server is read-only; connect to the primary",
            Self::Undefined => "an object does not exist; create it or correct its name",
            Self::InUse => "the object is in use by another session; stop that one first",
            Self::NotConfigured => "the server's settings do not allow it; `rowcast check` lists what to set",
            Self::FileMissing => "a file is missing on the server; install the package that brings it",
            Self::Conflict => "it collided with another transaction; it is tried again",
            Self::Other => "postgres refused it; see the cause",
        })
    }
}

/// The server's own words, without the parts that may quote stored values: `DETAIL` never, the message only for
/// classes of error that speak of names, rights and states.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} (SQLSTATE {sqlstate})")]
pub struct ServerMessage {
    sqlstate: Box<str>,
    text: Box<str>,
}

impl ServerMessage {
    /// Keeps what may be shown of an error response's code and message.
    pub fn new(sqlstate: &str, message: &str) -> Self {
        const SPEAK_OF_NAMES: [&str; 14] = [
            "08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX",
        ];
        let shown = SPEAK_OF_NAMES.iter().any(|class| sqlstate.starts_with(class));
        Self {
            sqlstate: sqlstate.into(),
            text: if shown {
                message.into()
            } else {
                "message withheld, it may quote a row".into()
            },
        }
    }
}

impl SqlError {
    /// An error of the SQL client, met while `doing` (a gerund phrase: "reading the catalog").
    pub fn new(doing: impl Into<Box<str>>, error: tokio_postgres::Error) -> Self {
        let kind = kind_of(&error);
        match error.as_db_error() {
            Some(db) => Self::from_response(doing, db.code().code(), db.message()),
            None => Self {
                doing: doing.into(),
                kind,
                sqlstate: None,
                cause: Some(Box::new(error)),
            },
        }
    }

    /// An error response of the server, as SQLSTATE and message.
    pub fn from_response(doing: impl Into<Box<str>>, sqlstate: &str, message: &str) -> Self {
        Self {
            doing: doing.into(),
            kind: ErrorKind::from_sqlstate(sqlstate),
            sqlstate: Some(sqlstate.into()),
            cause: Some(Box::new(ServerMessage::new(sqlstate, message))),
        }
    }

    /// A failure that did not come as an error of the SQL client.
    pub fn of_kind(
        doing: impl Into<Box<str>>,
        kind: ErrorKind,
        cause: Option<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            doing: doing.into(),
            kind,
            sqlstate: None,
            cause,
        }
    }

    /// For `map_err`: what was being done when a client error came.
    pub fn during(doing: &'static str) -> impl Fn(tokio_postgres::Error) -> Self {
        move |error| Self::new(doing, error)
    }

    /// What to act on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The server's code, if the server answered.
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// This error and everything below it in one line, for a log or a terminal.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

/// The kind of a client error. The client keeps its own kinds private, so those that have no typed cause are told by
/// their fixed text.
pub(super) fn kind_of(error: &tokio_postgres::Error) -> ErrorKind {
    if let Some(code) = error.code() {
        return ErrorKind::from_sqlstate(code.code());
    }
    let text = error.to_string();
    if error.is_closed() {
        return ErrorKind::ConnectionLost;
    }
    if text.starts_with("error performing TLS") {
        return ErrorKind::Tls;
    }
    if text.starts_with("authentication error") || text.starts_with("invalid configuration") {
        return ErrorKind::Authentication;
    }
    let timed_out = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut);
    match text.as_str() {
        _ if timed_out => ErrorKind::Timeout,
        "timeout waiting for server" => ErrorKind::Timeout,
        "error connecting to server" => ErrorKind::Unreachable,
        "error communicating with the server" => ErrorKind::ConnectionLost,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sqlstate_decides_the_kind() {
        for (code, kind) in [
            ("28P01", ErrorKind::Authentication),
            ("3D000", ErrorKind::DatabaseMissing),
            ("42501", ErrorKind::InsufficientPrivilege),
            ("53300", ErrorKind::TooManyConnections),
            ("57014", ErrorKind::Cancelled),
            ("25006", ErrorKind::ReadOnly),
            ("42883", ErrorKind::Undefined),
            ("55006", ErrorKind::InUse),
            ("08006", ErrorKind::ConnectionLost),
            ("22P02", ErrorKind::Other),
            ("", ErrorKind::Other),
        ] {
            assert_eq!(ErrorKind::from_sqlstate(code), kind, "{code}");
        }
    }

    #[test]
    fn a_message_that_may_quote_a_row_is_withheld() {
        let error = SqlError::from_response(
            "judging",
            "22P02",
            "invalid input syntax for type integer: \"secret\"",
        );
        assert!(!format!("{error:?} {}", error.chain()).contains("secret"));
        let error = SqlError::from_response("judging", "42501", "permission denied for table members");
        assert!(error.chain().contains("permission denied for table members"));
        assert!(
            error
                .chain()
                .starts_with("judging failed: the role lacks a right")
        );
    }
}
