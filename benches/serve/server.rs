//! `rowcast serve` as a process of its own, and sockets into it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rowcast::dev::PrivateCluster;
use rowcast::postgres::Connection;
use rowcast::secret::Secret;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const SECRET: &str = "a-secret-for-benchmarks-of-32-characters";

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    port: u16,
    slot: String,
}

impl Server {
    pub async fn start(cluster: &PrivateCluster) -> Self {
        Self::start_with(cluster, &[]).await
    }

    /// With further settings, as environment variables.
    pub async fn start_with(cluster: &PrivateCluster, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut server = Self::spawn(cluster, port, format!("bench_{port}"), settings);
        server.answers("/healthcheck").await;
        server
    }

    /// One that waits for this one's slot.
    pub async fn standby(&self, cluster: &PrivateCluster, settings: &[(&str, &str)]) -> Self {
        let mut server = Self::spawn(cluster, free_port(), self.slot.clone(), settings);
        server.answers("/livez").await;
        server
    }

    fn spawn(cluster: &PrivateCluster, port: u16, slot: String, settings: &[(&str, &str)]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_rowcast"))
            .arg("serve")
            .env("ROWCAST_LISTEN_HOST", "127.0.0.1")
            .env("ROWCAST_LISTEN_PORT", port.to_string())
            .env("ROWCAST_DATABASE_URL", cluster.url("postgres"))
            .env("ROWCAST_REPLICATION_SLOT", &slot)
            .env("ROWCAST_AUTH_JWT_SECRET", SECRET)
            .env("ROWCAST_LIMITS_CONNECTIONS", connections().to_string())
            .env("ROWCAST_LIMITS_JOINS_PER_SECOND", "0")
            .env("ROWCAST_LIMITS_CONNECTION_MESSAGES_PER_SECOND", "0")
            .env("ROWCAST_LIMITS_CONNECTION_BYTES_PER_SECOND", "0")
            .env("ROWCAST_LIMITS_PRESENCE_PER_SECOND", "0")
            // Ten clients get what is meant for ten thousand.
            .env("ROWCAST_LIMITS_OUTBOX_FRAMES", "1000000")
            .env("ROWCAST_LIMITS_OUTBOX_BYTES", "1000000000")
            .env("ROWCAST_LOG_LEVEL", "warn")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .spawn()
            .expect("rowcast serve");
        Self { child, port, slot }
    }

    /// Waits until it says yes to this question.
    async fn answers(&mut self, path: &str) {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        while !reqwest::get(&url)
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            let running = matches!(self.child.try_wait(), Ok(None));
            assert!(running, "rowcast serve ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn connect(&self, token: &str) -> Socket {
        let url = format!(
            "ws://127.0.0.1:{}/socket/websocket?vsn=2.0.0&apikey={token}",
            self.port
        );
        connect_async(url).await.expect("a connection").0
    }

    /// The sum of a metric over its labels; 0 where there is none.
    pub async fn metric(&self, name: &str) -> f64 {
        let url = format!("http://127.0.0.1:{}/metrics", self.port);
        let answer = reqwest::get(url).await.expect("metrics");
        let text = answer.text().await.expect("text");
        text.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with([' ', '{']))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Ends it, and drops its slot: it would keep the log of what follows.
    pub async fn retire(self, database: &Connection) {
        let drop_slot = format!(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name like '{}%'",
            self.slot
        );
        drop(self);
        // Its connection may still be leaving.
        while database.batch_execute(&drop_slot).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Has it stand still, until [`Server::go_on`]: what is written meanwhile waits for it in the log.
    pub fn halt(&self) {
        signal(&self.child, rustix::process::Signal::STOP);
    }

    pub fn go_on(&self) {
        signal(&self.child, rustix::process::Signal::CONT);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn resident_kib(&self) -> u64 {
        self.memory("VmRSS:").expect("procfs")
    }

    /// The most that it has had in memory, while it runs.
    pub fn peak_kib(&self) -> Option<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        signal(&self.child, rustix::process::Signal::TERM);
    }

    /// Ends it without a word.
    pub fn kill(&self) {
        signal(&self.child, rustix::process::Signal::KILL);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    address.expect("a free port").port()
}

/// Seconds of processor time that a process has used.
pub fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("procfs");
    let fields = stat.rsplit(')').next().unwrap_or_default();
    // utime and stime are the 14th and 15th of all, in ticks of 10 ms.
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Sends a signal to a program that was started here.
fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a process"), signal).expect("a signal");
}

/// Joins and returns once rows are live.
pub async fn join(socket: &mut Socket, changes: Value) {
    let rows = !changes.as_array().is_none_or(Vec::is_empty);
    let frame = json!(["1", "1", "realtime:bench", "phx_join", {"config": {"postgres_changes": changes}}]);
    socket
        .send(Message::text(frame.to_string()))
        .await
        .expect("a join");
    let last = if rows {
        "Subscribed to PostgreSQL"
    } else {
        "phx_reply"
    };
    while let Some(Ok(Message::Text(text))) = socket.next().await {
        if text.contains(last) {
            return;
        }
    }
}

pub fn uuid(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

/// A token of the user with this number.
pub fn user(n: usize) -> String {
    let claims = json!({"role": "authenticated", "sub": uuid(n), "exp": 4_000_000_000_u64});
    rowcast::auth::mint(&Secret::new(SECRET), &claims).expect("a token")
}

/// Files of a server beside its connections.
const OTHER_FILES: usize = 100;

/// As many connections as a server can have here.
pub fn connections() -> usize {
    raise_file_limit().saturating_sub(OTHER_FILES)
}

/// Every connection is a file twice: here and in the server, which inherits the limit. Returns how many there may be.
pub fn raise_file_limit() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    limit
        .current
        .map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}
