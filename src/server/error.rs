use crate::auth::KeyError;
use crate::feed::CatalogError;
use crate::postgres::SqlError;
use crate::shutdown::StillRunning;

/// Why a server did not start, or did not end cleanly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The keys of tokens cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The database cannot be reached or used.
    #[error(transparent)]
    Database(#[from] SqlError),
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The database lacks what Rowcast needs and cannot make.
    #[error(
        "the database lacks objects that rowcast could not create ({0}); run `rowcast check` to see what to grant"
    )]
    MissingObjects(String),
    /// The listening socket failed.
    #[error("connections cannot be accepted")]
    Listener(#[source] std::io::Error),
    /// Some tasks did not end.
    #[error(transparent)]
    Shutdown(StillRunning),
}
