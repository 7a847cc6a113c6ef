//! A whole server on a free port, in this process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rowcast::config::Config;
use rowcast::postgres::ConnectSettings;
use rowcast::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Database, LIMIT, eventually, token};

/// A running server. [`Server::stop`] ends it and fails the test if a task does not end.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    tls: bool,
    shutdown: Shutdown,
    running: JoinHandle<Result<(), rowcast::server::ServeError>>,
}

impl Server {
    /// Starts a server that follows `database`, with the tests' secret and no delays before error answers. If it has to
    /// make its slot, this waits until it follows: what is committed before comes to nobody, and making a slot takes as
    /// long as the longest transaction in all of Postgres. One that finds its slot is there at once, as for clients that
    /// come back after a restart.
    pub async fn start(database: &Database) -> Self {
        Self::start_with(database, |_| {}).await
    }

    /// The same with other settings.
    pub async fn start_with(database: &Database, adjust: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(ANYWHERE, database, adjust).await
    }

    /// The same at the address of a server that has ended.
    pub async fn start_at(
        address: SocketAddr,
        database: &Database,
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        let config = adjusted(database, adjust);
        let found = has_slot(&database.settings, &config.replication.slot).await;
        let server = Self::launch_at(address, config).await;
        if !found {
            server.follows().await;
        }
        server
    }

    /// One that may not be able to follow its database yet, or never.
    pub async fn launch(database: &Database, adjust: impl FnOnce(&mut Config)) -> Self {
        Self::launch_at(ANYWHERE, adjusted(database, adjust)).await
    }

    async fn launch_at(address: SocketAddr, config: Config) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let tls = config.listen.tls_certificate.is_some();
        let shutdown = Shutdown::new();
        let running = tokio::spawn(rowcast::server::run(listener, config, shutdown.clone()));
        Self {
            address,
            tls,
            shutdown,
            running,
        }
    }

    async fn follows(&self) {
        let scheme = if self.tls { "https" } else { "http" };
        let ended = || self.running.is_finished();
        follows(&format!("{scheme}://{}", self.address), ended).await;
    }

    /// `http://…`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.expect("no panic").expect("a clean end");
    }

    /// Waits for its end without asking for it.
    pub async fn ended(self) -> Result<(), rowcast::server::ServeError> {
        self.running.await.expect("no panic")
    }

    /// Waits until everything committed so far has been put into the outboxes.
    pub async fn passed(&self, database: &Database) {
        passed(self.address, database).await;
    }

    /// Asks for a WebSocket at a path with its query: status and body of the answer.
    pub async fn handshake(&self, target: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = reqwest::Client::new()
            .get(format!("{}{target}", self.url()))
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        if status == 101 {
            return (status, String::new());
        }
        (status, response.text().await.expect("a body"))
    }

    /// The sum of a metric over its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, metrics) = self.get("/metrics").await;
        let values = metrics.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let labelled = || rest.strip_prefix('{')?.split_once("} ").map(|(_, value)| value);
            let value = rest.strip_prefix(' ').or_else(labelled)?;
            value.parse::<f64>().ok()
        });
        values.sum()
    }

    /// A `GET`: status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path).await
    }

    /// A `POST`: status and body.
    pub async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> (u16, String) {
        let mut request = reqwest::Client::new().post(format!("{}{path}", self.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body).send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.text().await.expect("a body"))
    }
}

const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Whether a server would find this slot.
pub async fn has_slot(database: &ConnectSettings, slot: &str) -> bool {
    let session = rowcast::postgres::Session::new("rowcast_test");
    let connection = rowcast::postgres::connect(database, &session)
        .await
        .expect("the test database answers");
    let known = "select from pg_replication_slots where slot_name = $1";
    let found = connection.query_opt(known, &[&slot]).await;
    found.expect("the slots").is_some()
}

/// Waits until the server at this URL follows its database. Fails once it has `ended`.
pub async fn follows(url: &str, ended: impl Fn() -> bool) {
    let http = reqwest::Client::builder().danger_accept_invalid_certs(true);
    let http = http.build().expect("a client");
    eventually("the server follows its database", || async {
        assert!(!ended(), "the server ended at its start");
        let answer = http.get(format!("{url}/readyz")).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
}

/// Waits until `/readyz` says yes.
pub async fn ready(address: SocketAddr) {
    follows(&format!("http://{address}"), || false).await;
}

/// See [`Server::passed`].
pub async fn passed(address: SocketAddr, database: &Database) {
    let target = database
        .text("select (pg_current_wal_flush_lsn() - '0/0')::text")
        .await;
    let target: u64 = target.parse().expect("a position");
    eventually("the server has passed the database's position", || async {
        (metric(address, "rowcast_delivered_lsn_bytes").await? >= target).then_some(())
    })
    .await;
}

/// A metric without labels.
pub async fn metric(address: SocketAddr, name: &str) -> Option<u64> {
    let (_, metrics) = get(address, "/metrics").await;
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(value)
}

/// A `GET`: status and body.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let response = reqwest::get(format!("http://{address}{path}"))
        .await
        .expect("an answer");
    let status = response.status().as_u16();
    (status, response.text().await.expect("a body"))
}

fn adjusted(database: &Database, adjust: impl FnOnce(&mut Config)) -> Config {
    let mut config = config(&database.settings, &database.name);
    adjust(&mut config);
    config
}

/// Settings for a database, as the tests want them.
pub fn config(database: &ConnectSettings, slot: &str) -> Config {
    // All tests can be run with either output plugin.
    let plugin = std::env::var("ROWCAST_REPLICATION_PLUGIN").unwrap_or_else(|_| "auto".to_owned());
    let pairs = [
        ("auth.jwt_secret", token::SECRET),
        ("replication.plugin", plugin.as_str()),
    ];
    let mut config = Config::from_pairs(&pairs).expect("settings");
    config.database.host.clone_from(&database.host);
    config.database.port = database.port;
    config.database.user.clone_from(&database.user);
    config.database.password = database.password.clone();
    config.database.name.clone_from(&database.database);
    config.database.sslmode = rowcast::config::SslMode::Disable;
    config.replication.slot = format!("rowcast_{slot}");
    // Clients that wait for a row say nothing.
    config.session.idle_timeout = LIMIT * 10;
    // On a busy machine, seconds without the processor are no slow policy, and minutes of a test are no long absence.
    config.policy.timeout = Duration::from_secs(20);
    config.snapshot.timeout = LIMIT * 10;
    config.resume.window = LIMIT * 10;
    config.session.connect_error_backoff = Duration::ZERO;
    config.session.channel_error_backoff = Duration::ZERO;
    config
}
