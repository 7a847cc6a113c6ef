use crate::postgres::{ErrorKind, SqlError};

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
    /// Postgres does not take this message, whoever sends it: its payload is no value of the column, for example.
    #[error("the message cannot be kept: {0}")]
    Refused(String),
}

impl From<SqlError> for MessagesError {
    fn from(error: SqlError) -> Self {
        match (error.kind(), error.sqlstate()) {
            (ErrorKind::Cancelled, _) => Self::Canceled,
            (kind, _) if kind.is_transient() => Self::Unavailable(error.chain()),
            // Data exceptions, and what the table's constraints refuse.
            (_, Some(code)) if code.starts_with("22") || code.starts_with("23") => {
                Self::Refused(error.chain())
            }
            (_, Some(_)) => Self::Unusable(error.chain()),
            (_, None) => Self::Unavailable(error.chain()),
        }
    }
}

/// What an INSERT into the table came to. A row without a partition has the code of a check that it does not pass, but
/// names none.
pub(super) fn inserting(error: tokio_postgres::Error) -> MessagesError {
    let homeless = error
        .as_db_error()
        .is_some_and(|db| db.code().code() == "23514" && db.constraint().is_none());
    if homeless {
        MessagesError::MissingPartition
    } else {
        SqlError::new("keeping a broadcast", error).into()
    }
}
