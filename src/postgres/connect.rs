//! One SQL connection: session settings, TLS by `sslmode`, timeouts, keepalive.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool_postgres::Connect;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode as ClientSslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{ErrorKind, SqlError, kind_of};
use super::settings::ConnectSettings;
use super::tls::Tls;

/// An idle connection is probed after this long, so that a peer that vanished is noticed within a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered probes before the connection is given up.
const KEEPALIVE_RETRIES: u32 = 3;
/// Sent data that stays unacknowledged this long ends the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// How a SQL session is set up. The settings travel with the login, so they cost no round trip and survive `RESET`.
#[derive(Clone, Debug)]
pub struct Session {
    /// `application_name`, what `pg_stat_activity` shows.
    pub application_name: String,
    /// `statement_timeout`; `None` leaves the role's own.
    pub statement_timeout: Option<Duration>,
    /// `default_transaction_read_only`: a guard, not a right.
    pub read_only: bool,
    /// Further settings by name, as `SET name = value` would take them.
    pub settings: Vec<(String, String)>,
}

impl Session {
    /// A session under this application name, without limits.
    pub fn new(application_name: impl Into<String>) -> Self {
        Self {
            application_name: application_name.into(),
            statement_timeout: None,
            read_only: false,
            settings: Vec::new(),
        }
    }

    /// The `options` of the startup message: what every session of ours needs for text forms to be the ones that
    /// [`crate::change::Value`] promises, then what this one asks for.
    fn options(&self) -> String {
        let timeout = self
            .statement_timeout
            .map(|limit| ("statement_timeout".to_owned(), limit.as_millis().to_string()));
        let read_only = self
            .read_only
            .then(|| ("default_transaction_read_only".to_owned(), "on".to_owned()));
        let fixed = [
            ("DateStyle", "ISO"),
            ("TimeZone", "UTC"),
            ("IntervalStyle", "postgres"),
            ("bytea_output", "hex"),
            ("extra_float_digits", "1"),
            ("standard_conforming_strings", "on"),
            // What has been committed meanwhile is seen by the next statement, and policies are never an error.
            ("default_transaction_isolation", "read committed"),
            ("row_security", "on"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        fixed
            .into_iter()
            .chain(timeout)
            .chain(read_only)
            .chain(self.settings.iter().cloned())
            .map(|(name, value)| format!("-c {}={}", escape_option(&name), escape_option(&value)))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The server splits `options` at white space; a backslash keeps the next character (manual, "libpq", `options`).
fn escape_option(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_whitespace() || c == '\\' {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A SQL connection. Dropping it ends the session and with it the task that drives the socket.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    _driver: JoinHandle<()>,
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// Opens one SQL connection of its own, outside any pool.
///
/// # Errors
/// See [`ErrorKind`]; the whole attempt is bounded by `connect_timeout`.
pub async fn connect(settings: &ConnectSettings, session: &Session) -> Result<Connection, SqlError> {
    let doing = || format!("connecting to {}", settings.address());
    let connector = Connector::new(settings, session)?;
    let attempt = tokio::time::timeout(settings.connect_timeout, connector.open());
    match Box::pin(attempt).await {
        Ok(Ok((client, _driver))) => Ok(Connection { client, _driver }),
        Ok(Err(error)) => Err(SqlError::new(doing(), error)),
        Err(_) => Err(SqlError::of_kind(doing(), ErrorKind::Timeout, None)),
    }
}

/// Everything needed to open connections of one kind again and again.
pub(super) struct Connector {
    config: Config,
    tls: Tls,
}

impl Connector {
    pub(super) fn new(settings: &ConnectSettings, session: &Session) -> Result<Self, SqlError> {
        let tls = Tls::new(settings).map_err(|cause| {
            SqlError::of_kind(
                "setting up tls for postgres",
                ErrorKind::Tls,
                Some(Box::new(cause)),
            )
        })?;
        Ok(Self {
            config: client_config(settings, session),
            tls,
        })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    async fn open(&self) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        match &self.tls {
            Tls::Never => open(&self.config, ClientSslMode::Disable, NoTls).await,
            Tls::Required(tls) => {
                let tls = MakeRustlsConnect::new(tls.as_ref().clone());
                open(&self.config, ClientSslMode::Require, tls).await
            }
            Tls::IfOffered(tls) => {
                let tls = MakeRustlsConnect::new(tls.as_ref().clone());
                match open(&self.config, ClientSslMode::Prefer, tls).await {
                    Err(error) if plain_may_do(&error) => {
                        open(&self.config, ClientSslMode::Disable, NoTls).await
                    }
                    outcome => outcome,
                }
            }
        }
    }
}

/// libpq's `prefer` tries again without TLS when the handshake fails or the server's rules refuse the encrypted
/// connection (28000, a `hostnossl` line); a wrong password stays wrong and is not repeated in the clear.
fn plain_may_do(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => code.code() == "28000",
        None => kind_of(error) == ErrorKind::Tls,
    }
}

impl Connect for Connector {
    fn connect(
        &self,
        _config: &Config,
    ) -> std::pin::Pin<
        Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + '_>,
    > {
        Box::pin(self.open())
    }
}

fn client_config(settings: &ConnectSettings, session: &Session) -> Config {
    let mut config = Config::new();
    if settings.is_unix_socket() {
        config.host_path(&settings.host);
    } else {
        config.host(&settings.host);
    }
    config
        .port(settings.port)
        .user(&settings.user)
        .dbname(&settings.database)
        .application_name(&session.application_name)
        .options(session.options())
        .connect_timeout(settings.connect_timeout)
        .tcp_user_timeout(UNACKNOWLEDGED)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES);
    if !settings.password.is_empty() {
        config.password(settings.password.expose());
    }
    config
}

async fn open<T>(
    config: &Config,
    mode: ClientSslMode,
    tls: T,
) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let mut config = config.clone();
    config.ssl_mode(mode);
    let (client, connection) = config.connect(tls).await?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "sql connection ended");
        }
    });
    Ok((client, driver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_settings_are_escaped() {
        let mut session = Session::new("x");
        session.statement_timeout = Some(Duration::from_millis(1500));
        session.settings.push(("search_path".into(), r"a b\c".into()));
        let options = session.options();
        assert!(options.contains("-c statement_timeout=1500"), "{options}");
        assert!(options.ends_with(r"-c search_path=a\ b\\c"), "{options}");
    }
}
