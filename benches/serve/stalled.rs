//! Ten thousand clients stop reading while rows flow: what that costs, and what becomes of those that read.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use rowcast::dev::PrivateCluster;
use rowcast::postgres::Connection;
use serde_json::json;
use tokio::net::TcpStream;

use super::audience::Audience;
use super::server::{Server, connections, user};
use super::wire;

const STALLED: usize = 10_000;
const HEALTHY: usize = 20;

/// Rows of this size, at this pace, until the last of them has been closed, or so many have not done it.
const ROW_BYTES: usize = 8_000;
const PACE: Duration = Duration::from_millis(500);
const MOST_ROWS: usize = 200;

/// Connections that are opened side by side.
const BATCH: usize = 32;

/// What has not arrived by then is missing.
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn table(cluster: &PrivateCluster, database: &Connection) {
    let stalled = STALLED.min(connections().saturating_sub(HEALTHY));
    // As it is set up where nobody has changed anything.
    let settings = [
        ("ROWCAST_LIMITS_OUTBOX_FRAMES", "16384"),
        ("ROWCAST_LIMITS_OUTBOX_BYTES", "8MiB"),
        ("ROWCAST_LIMITS_OUTBOXES_BYTES", "1GiB"),
        // But for heartbeats, which nobody here sends.
        ("ROWCAST_SESSION_IDLE_TIMEOUT", "1h"),
    ];
    let server = Server::start_with(cluster, &settings).await;
    let policy = "drop policy seen on docs; create policy seen on docs using (true)";
    database.batch_execute(policy).await.expect("a policy");
    let sockets: Vec<TcpStream> = stream::iter(0..stalled)
        .map(async |n| {
            let token = user(n % 500);
            let socket = wire::open_narrow(&server, &token).await;
            let changes = json!([{"event": "INSERT", "schema": "public", "table": "docs"}]);
            let config = wire::config(false, None, &changes);
            // A topic of its own: no other socket shares its bytes.
            wire::join(&socket, &format!("realtime:stalled-{n}"), &token, &config).await;
            socket
        })
        .buffer_unordered(BATCH)
        .collect()
        .await;
    let mut audience = Audience::new();
    audience.grow(&server, HEALTHY).await;
    let before = server.resident_kib();
    let insert = format!("insert into docs (note) values (repeat('x', {ROW_BYTES})) returning id");
    let (mut resident, mut waiting, mut delays, mut missing) = (before, 0.0_f64, Vec::new(), 0);
    let mut pace = tokio::time::interval(PACE);
    let mut rows = 0;
    while rows < MOST_ROWS && server.metric("rowcast_connections_closed_total").await < stalled as f64 {
        pace.tick().await;
        rows += 1;
        let id: i32 = database.query_one(&insert, &[]).await.expect("a row").get(0);
        let committed = Instant::now();
        let arrivals = audience.arrived(HEALTHY, PATIENCE).await;
        missing += HEALTHY - arrivals.deliveries.min(HEALTHY);
        let last = arrivals.last.get(&i64::from(id));
        delays.extend(last.map(|last| last.saturating_duration_since(committed)));
        resident = resident.max(server.resident_kib());
        waiting = waiting.max(server.metric("rowcast_outbox_bytes").await);
    }
    let closed = server.metric("rowcast_outbox_overflows_total").await;
    delays.sort_unstable();
    let last = delays.last().copied().unwrap_or_default().as_millis();
    let median = delays
        .get(delays.len() / 2)
        .copied()
        .unwrap_or_default()
        .as_millis();
    println!("\n{stalled} sockets that are not read, {HEALTHY} that are; rows of {ROW_BYTES} bytes to all");
    println!(
        "\n| rows | closed with 1013 | waiting at most, MiB | resident before, MiB | at most, MiB | missing for those who read | delay of the last of them, ms: p50 | most |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    println!(
        "| {rows} | {closed} | {:.0} | {} | {} | {missing} | {median} | {last} |",
        waiting / f64::from(1 << 20),
        before / 1024,
        resident / 1024,
    );
    drop((sockets, audience));
    server.retire(database).await;
}
