//! A whole server beside a private Postgres: time from commit to client under row-level security, and memory of idle
//! connections. `cargo bench --bench serve`; prints tables, asserts nothing, ends by itself.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program that prints what it measured"
)]

use std::collections::HashMap;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use rowcast::dev::{Durability, Options, PrivateCluster};
use rowcast::postgres::{Connection, Session, connect};
use rowcast::secret::Secret;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const SECRET: &str = "a-secret-for-benchmarks-of-32-characters";
/// Rows written per measurement, and how many a second.
const ROWS: usize = 600;
const RATE: u32 = 50;
const IDLE: usize = 5_000;

#[tokio::main]
async fn main() {
    raise_file_limit();
    let dir = std::env::temp_dir().join(format!("rowcast-bench-{}", std::process::id()));
    let mut options = Options::new(&dir);
    options.durability = Durability::Safe;
    let cluster = PrivateCluster::start(options).expect("a private Postgres");
    let server = Server::start(&cluster).await;
    let database = connect(&cluster.connect_settings("postgres"), &Session::new("bench"))
        .await
        .expect("database");
    let schema = "create table docs (id int primary key, owner uuid, note text);
                  alter table docs enable row level security; grant select on docs to authenticated;
                  create policy own on docs using (owner = auth.uid());
                  alter publication supabase_realtime add table docs";
    database.batch_execute(schema).await.expect("schema");

    println!(
        "\n{ROWS} rows at {RATE}/s under RLS (owner = auth.uid()), each seen by one subscriber; ms from the"
    );
    println!("writer's commit acknowledgement to the row in the client\n");
    println!("| subscribers | p50 | p99 | max |\n|---|---|---|---|");
    let mut first = 0;
    for subscribers in [1, 100] {
        let mut times = latency(&server, &database, subscribers, first).await;
        first += ROWS;
        times.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!(
            "| {subscribers} | {:.2} | {:.2} | {:.2} |",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }

    println!("\nresident memory of the server at {IDLE} connections\n");
    println!("| each connection | KiB per connection |\n|---|---|");
    for (name, changes) in [
        ("idle, no channel", None),
        ("one channel", Some(json!([]))),
        (
            "one channel with a row subscription",
            Some(json!([{"event": "*", "schema": "public", "table": "docs"}])),
        ),
    ] {
        // A server of its own each time: memory that an earlier round has touched does not count as free.
        let server = Server::start(&cluster).await;
        println!("| {name} | {:.1} |", idle(&server, changes).await);
    }
    drop(server);
    cluster.stop(rowcast::dev::StopMode::Fast);
    drop(cluster);
    let _ = std::fs::remove_dir_all(dir);
}

/// Milliseconds from commit to client for each row.
async fn latency(server: &Server, database: &Connection, subscribers: usize, first: usize) -> Vec<f64> {
    let received: Arc<Mutex<HashMap<i64, Instant>>> = Arc::default();
    let mut tasks = Vec::new();
    for n in 0..subscribers {
        let mut socket = server.connect(&user(n)).await;
        join(
            &mut socket,
            json!([{"event": "INSERT", "schema": "public", "table": "docs"}]),
        )
        .await;
        let received = Arc::clone(&received);
        tasks.push(tokio::spawn(async move {
            while let Some(Ok(Message::Text(text))) = socket.next().await {
                let now = Instant::now();
                let frame: Value = serde_json::from_str(&text).expect("json");
                if let Some(id) = frame[4]["data"]["record"]["id"].as_i64() {
                    received.lock().expect("lock").insert(id, now);
                }
            }
        }));
    }
    let mut committed = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_secs(1) / RATE);
    let insert = database
        .prepare("insert into docs values ($1, $2::text::uuid, 'note')")
        .await
        .expect("insert");
    for row in first..first + ROWS {
        pace.tick().await;
        let id = i32::try_from(row).expect("small");
        database
            .execute(&insert, &[&id, &uuid(row % subscribers)])
            .await
            .expect("a row");
        committed.push((i64::from(id), Instant::now()));
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while received.lock().expect("lock").len() < ROWS && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let received = received.lock().expect("lock");
    assert_eq!(received.len(), ROWS, "every row arrives");
    let millis = |(id, at): &(i64, Instant)| {
        let arrived = received[id];
        let late = arrived.saturating_duration_since(*at).as_secs_f64();
        let early = at.saturating_duration_since(arrived).as_secs_f64();
        (late - early) * 1e3
    };
    committed.iter().map(millis).collect()
}

/// KiB of resident memory per connection.
async fn idle(server: &Server, changes: Option<Value>) -> f64 {
    let before = server.resident_kib();
    let mut sockets = Vec::with_capacity(IDLE);
    for n in 0..IDLE {
        let mut socket = server.connect(&user(n % 500)).await;
        if let Some(changes) = &changes {
            join(&mut socket, changes.clone()).await;
        }
        sockets.push(socket);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = server.resident_kib();
    (after - before) as f64 / IDLE as f64
}

/// Joins and returns once rows are live.
async fn join(socket: &mut Socket, changes: Value) {
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

fn uuid(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

fn user(n: usize) -> String {
    let claims = json!({"role": "authenticated", "sub": uuid(n), "exp": 4_000_000_000_u64});
    rowcast::auth::mint(&Secret::new(SECRET), &claims).expect("a token")
}

/// `rowcast serve` as a process of its own.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    async fn start(cluster: &PrivateCluster) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let child = Command::new(env!("CARGO_BIN_EXE_rowcast"))
            .arg("serve")
            .env("ROWCAST_LISTEN_HOST", "127.0.0.1")
            .env("ROWCAST_LISTEN_PORT", port.to_string())
            .env("ROWCAST_DATABASE_URL", cluster.url("postgres"))
            .env("ROWCAST_REPLICATION_SLOT", format!("bench_{port}"))
            .env("ROWCAST_AUTH_JWT_SECRET", SECRET)
            .env("ROWCAST_LIMITS_JOINS_PER_SECOND", "1000000")
            .env("ROWCAST_LOG_LEVEL", "warn")
            .stdin(Stdio::null())
            .spawn()
            .expect("rowcast serve");
        let mut server = Self { child, port };
        let url = format!("http://127.0.0.1:{port}/healthcheck");
        while !reqwest::get(&url)
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            assert!(matches!(server.child.try_wait(), Ok(None)), "rowcast serve ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    async fn connect(&self, token: &str) -> Socket {
        let url = format!(
            "ws://127.0.0.1:{}/socket/websocket?vsn=2.0.0&apikey={token}",
            self.port
        );
        connect_async(url).await.expect("a connection").0
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("procfs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("VmRSS");
        line.split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .expect("KiB")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every connection is a file twice: here and in the server, which inherits the limit.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
