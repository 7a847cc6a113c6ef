//! What can stand in the way of a private cluster, each with what to do about it.

use std::path::{Path, PathBuf};

/// Why the development server or its cluster did not start.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// No binaries found.
    #[error(
        "no PostgreSQL 14 or newer found (looked in PATH, pg_config --bindir and the usual folders); install it, on \
         Debian or Ubuntu with: apt-get install postgresql postgresql-15-wal2json (your version), on macOS with: brew \
         install postgresql@17"
    )]
    NoPostgres,
    /// The folder that was asked for has none.
    #[error("there are no binaries of PostgreSQL 14 or newer in {bin} (postgres, initdb)")]
    NotPostgres {
        /// The folder.
        bin: PathBuf,
    },
    /// The folder was made by another major version.
    #[error(
        "{dir} was made by PostgreSQL {made_by}, which is not installed any more; install it again, or remove the \
         folder to start empty"
    )]
    OtherVersion {
        /// The cluster's data directory.
        dir: PathBuf,
        /// What its `PG_VERSION` says.
        made_by: String,
    },
    /// The folder was made by another major version than the one asked for.
    #[error("{dir} was made by PostgreSQL {made_by}, not {asked_for}; choose another folder with --data-dir")]
    AskedForOther {
        /// The cluster's data directory.
        dir: PathBuf,
        /// What its `PG_VERSION` says.
        made_by: String,
        /// Major version asked for.
        asked_for: u32,
    },
    /// Postgres refuses to run as root, and there is nobody else to run it as.
    #[error(
        "Postgres does not run as root, and there is neither a user postgres nor nobody; start as another user"
    )]
    NobodyToRunAs,
    /// The user that Postgres runs as cannot get to the folder.
    #[error(
        "user {user}, which Postgres runs as because it does not run as root, cannot reach {dir}; choose a folder \
         outside of {blocked_by} with --data-dir, or start as another user"
    )]
    Unreachable {
        /// That user.
        user: String,
        /// The folder.
        dir: PathBuf,
        /// The parent folder that stops it.
        blocked_by: PathBuf,
    },
    /// Another process holds the folder.
    #[error("already running in {dir}{}; stop that one first, or choose another folder with --data-dir", by(.pid))]
    AlreadyRunning {
        /// The folder.
        dir: PathBuf,
        /// The process that holds it, if it could be read.
        pid: Option<u32>,
    },
    /// The address for clients is taken.
    #[error("cannot listen on {address}: {reason}; choose another port with --port")]
    Listen {
        /// The address.
        address: String,
        /// The system's words.
        reason: String,
    },
    /// The port for the database is taken.
    #[error("port {port} for the database is in use; choose another with --database-port")]
    DatabasePort {
        /// The port.
        port: u16,
    },
    /// A program of Postgres failed.
    #[error("{program} failed: {reason}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The end of what it said, on one line.
        reason: String,
    },
    /// Postgres ended or did not become ready.
    #[error("Postgres did not start: {reason} (whole log in {log})")]
    NotReady {
        /// The end of its log, on one line.
        reason: String,
        /// Its log file.
        log: PathBuf,
    },
    /// A file or folder could not be used.
    #[error("cannot {action} {path}: {reason}")]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// A `--sql` file raised an error.
    #[error("{path}{}: {reason}", line.map_or_else(String::new, |line| format!(", line {line}")))]
    Sql {
        /// The file.
        path: PathBuf,
        /// Line of the error, from 1, where Postgres says it.
        line: Option<usize>,
        /// Postgres's message.
        reason: String,
    },
    /// The roles and objects could not be made, or the database could not be reached.
    #[error("cannot prepare the database: {0}")]
    Prepare(String),
    /// Policy files are wrong; what is wrong with them.
    #[error("{0}")]
    PolicyFiles(String),
    /// The server ended with an error.
    #[error("the server ended: {0}")]
    Server(String),
    /// The settings for the server are wrong.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The ready-made tokens could not be signed.
    #[error(transparent)]
    Keys(#[from] crate::auth::KeyError),
}

fn by(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

impl DevError {
    pub(super) fn file(action: &'static str, path: &Path, error: &std::io::Error) -> Self {
        Self::File {
            action,
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }
}

/// The last lines of what a program said, as one line.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let start = lines.len().saturating_sub(4);
    lines.get(start..).unwrap_or_default().join(" | ")
}
