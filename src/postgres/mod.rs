//! Everything that speaks SQL to the database outside the replication stream: connections and TLS, the objects of
//! `sql/`, the catalog, and what an SQLSTATE means.
//!
//! No policy is decided here and no change is read here.

pub mod catalog;
mod certificate;
mod connect;
mod error;
mod identifier;
mod install;
pub mod jsonb;
mod pool;
mod settings;
#[cfg(test)]
pub(crate) mod testing;
mod tls;

pub use certificate::tls_server_end_point;
pub use connect::{Connection, Session, connect};
pub use error::{ErrorKind, ServerMessage, SqlError};
pub use identifier::{quote_identifier, quote_table};
pub use install::{ADD_MESSAGES_PARTITION, Entry, InstallOptions, InstallReport, Outcome, install};
pub use pool::{Pool, PoolOptions};
pub use settings::{ConnectSettings, SslMode};
pub use tls::{Tls, TlsError, server_name};

#[cfg(test)]
mod tests;
