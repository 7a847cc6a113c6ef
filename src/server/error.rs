use super::certificate::CertificateError;
use crate::auth::KeyError;
use crate::policy_files::Problem;
use crate::postgres::SqlError;
use crate::shutdown::StillRunning;

/// Why a server did not start, or did not end cleanly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The keys of tokens cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The settings for database connections cannot be used.
    #[error(transparent)]
    Database(#[from] SqlError),
    /// The certificate cannot be shown.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Policy files are wrong: all that is wrong with them.
    #[error("policy files cannot be used: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    PolicyFiles(Vec<Problem>),
    /// Some tasks did not end.
    #[error(transparent)]
    Shutdown(StillRunning),
}
