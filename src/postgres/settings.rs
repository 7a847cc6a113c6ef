use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// Where the database is and how to reach it. One value serves SQL and replication connections.
#[derive(Clone, Debug)]
pub struct ConnectSettings {
    /// Host name, IP address, or the directory of a Unix socket (starts with `/`).
    pub host: String,
    /// TCP port (also names the socket file in a Unix socket directory).
    pub port: u16,
    /// Role to log in as.
    pub user: String,
    /// Its password; empty for none.
    pub password: Secret,
    /// Database to follow.
    pub database: String,
    /// How TLS is used, with libpq's meaning (manual, "SSL Support").
    pub ssl_mode: SslMode,
    /// PEM file of trusted certificate authorities; the system's store when unset.
    pub ssl_root_cert: Option<PathBuf>,
    /// Longest time for one attempt to connect and log in.
    pub connect_timeout: Duration,
}

/// libpq's `sslmode` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS if the server offers it, its certificate unchecked.
    Prefer,
    /// TLS or nothing. As in libpq the certificate is unchecked, unless a root certificate is given: then `verify-ca`.
    Require,
    /// TLS, certificate signed by a trusted authority.
    VerifyCa,
    /// TLS, certificate signed by a trusted authority and issued for this host.
    VerifyFull,
}

impl ConnectSettings {
    /// The host is the directory of a Unix socket.
    pub fn is_unix_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// Where this leads, for messages: `host:port/database`, without the login.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}/{}", self.host, self.port, self.database)
        } else {
            format!("{}:{}/{}", self.host, self.port, self.database)
        }
    }
}
