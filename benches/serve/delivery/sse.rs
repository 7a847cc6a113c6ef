//! Server-sent events beside WebSockets: the same rows to as many of each, and what a stream costs that has nothing to say.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use rowcast::dev::PrivateCluster;
use rowcast::postgres::Connection;

use super::super::scale::millis;
use super::super::server::{Server, connections, cpu_seconds, user};
use super::super::writer::{self, Pen};
use super::log::What;
use super::reader::{Ask, Kind, PATIENCE, Reader, all_live, until};
use super::stream as events;
use super::{cells, policy, quantile, scaled};

/// Subscribers of each kind.
const SUBSCRIBERS: [usize; 2] = [100, 1_000];
/// Deliveries of one round, at full speed; rounds of each kind in turns.
const DELIVERIES: usize = 200_000;
const ROUNDS: usize = 3;
/// Rows whose delay is measured, and how many a second.
const PACED: usize = 60;
const RATE: u32 = 20;

const IDLE: usize = 5_000;
/// Users; each has several connections.
const USERS: usize = 500;
const BATCH: usize = 32;

/// Each kind follows rows of its own team.
const KINDS: [(&str, Kind, i32); 2] = [
    ("WebSocket", Kind::Plain, 1),
    ("server-sent events", Kind::Events, 2),
];

pub async fn table(cluster: &PrivateCluster, database: &Connection) {
    policy(database, "(select auth.uid()) is not null").await;
    let server = Server::start(cluster).await;
    if !events::served(server.port(), &user(0)).await {
        println!("\nthis server has no server-sent events");
        return server.retire(database).await;
    }
    println!(
        "\nrows for all subscribers of one kind, the kinds in turns; speed: rows in transactions of ten that waited in the log, median of \
         {ROUNDS} rounds; cpu: of the server, microseconds per delivery; delay: {PACED} commits at {RATE}/s, ms to each\n"
    );
    println!(
        "| by | subscribers | p50 | p99 | deliveries/s | cpu | arrived |\n|---|---|---|---|---|---|---|"
    );
    server.retire(database).await;
    for subscribers in SUBSCRIBERS.map(scaled) {
        let server = Server::start(cluster).await;
        fan_out(database, &server, subscribers).await;
        server.retire(database).await;
    }
    idle(cluster, database).await;
}

/// Prints a line for each kind.
async fn fan_out(database: &Connection, server: &Server, subscribers: usize) {
    let mut audiences = Vec::new();
    for (_, kind, team) in KINDS {
        let asks = (0..subscribers).map(|n| {
            let mut ask = Ask::new(server, kind, n);
            ask.filter = Some(format!("team_id=eq.{team}"));
            ask
        });
        audiences.push(all_live(asks).await);
    }
    let mut delays = Vec::new();
    for ((.., team), audience) in KINDS.iter().zip(&audiences) {
        delays.push(paced(database, *team, audience).await);
    }
    let rows = (scaled(DELIVERIES) / subscribers).max(10) / 10 * 10;
    let (mut rates, mut costs, mut arrived) = ([vec![], vec![]], [vec![], vec![]], [0, 0]);
    'rounds: for _ in 0..ROUNDS {
        for (which, ((.., team), audience)) in KINDS.iter().zip(&audiences).enumerate() {
            let (came, seconds, cpu) = full_speed(database, server, rows, *team, audience).await;
            rates[which].push(came as f64 / seconds);
            costs[which].push(cpu / came as f64 * 1e6);
            arrived[which] += came;
            // What has not arrived by now would take as long each time.
            if came < rows * subscribers {
                break 'rounds;
            }
        }
    }
    for (which, (name, ..)) in KINDS.iter().enumerate() {
        println!(
            "| {name} | {subscribers} | {} | {:.0} | {:.2} | {} of {} |",
            cells(&mut delays[which]),
            quantile(&mut rates[which], 0.5),
            quantile(&mut costs[which], 0.5),
            arrived[which],
            rows * subscribers * ROUNDS,
        );
    }
}

/// Milliseconds of each delivery of rows that are written one at a time.
async fn paced(database: &Connection, team: i32, audience: &[Reader]) -> Vec<f64> {
    let pen = Pen::new(database).await;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / RATE);
    let (rows, mut committed) = (scaled(PACED), std::collections::HashMap::new());
    for _ in 0..rows {
        pace.tick().await;
        let (id, at) = pen.write(None, Some(team)).await;
        committed.insert(What::Row(id), at);
    }
    until(PATIENCE, || count(audience) >= rows * audience.len()).await;
    let mut delays = Vec::new();
    for reader in audience {
        for arrival in reader.log().arrivals.drain(..) {
            delays.extend(committed.get(&arrival.what).map(|at| millis(*at, arrival.at)));
        }
    }
    delays
}

/// Rows that waited in the log: how many deliveries were made, in how many seconds, and the server's own seconds for them.
async fn full_speed(
    database: &Connection,
    server: &Server,
    rows: usize,
    team: i32,
    audience: &[Reader],
) -> (usize, f64, f64) {
    audience.iter().for_each(|reader| reader.log().arrivals.clear());
    server.halt();
    writer::bulk_of_team(database, rows, team).await;
    let (cpu, started) = (cpu_seconds(server.id()), Instant::now());
    server.go_on();
    until(PATIENCE, || count(audience) >= rows * audience.len()).await;
    let cpu = cpu_seconds(server.id()) - cpu;
    let last = |reader: &Reader| reader.log().arrivals.last().map(|arrival| arrival.at);
    let end = audience.iter().filter_map(last).max().unwrap_or(started);
    let seconds = end.saturating_duration_since(started).as_secs_f64();
    (count(audience), seconds, cpu)
}

fn count(audience: &[Reader]) -> usize {
    audience.iter().map(|reader| reader.log().arrivals.len()).sum()
}

/// Memory of connections that have nothing to say.
async fn idle(cluster: &PrivateCluster, database: &Connection) {
    let most = scaled(IDLE).min(connections());
    println!("\nresident memory of the server at {most} idle readers of one table, HTTP/1.1\n");
    println!("| by | KiB each |\n|---|---|");
    for (name, kind, _) in KINDS {
        let server = Server::start(cluster).await;
        let before = server.resident_kib();
        let readers: Vec<Reader> = stream::iter(0..most)
            .map(async |n| {
                let reader = Reader::start(Ask::new(&server, kind, n % USERS));
                until(PATIENCE, || reader.log().live.is_some()).await;
                reader
            })
            .buffer_unordered(BATCH)
            .collect()
            .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let each = (server.resident_kib() as f64 - before as f64) / most as f64;
        println!("| {name} | {each:.1} |");
        drop(readers);
        server.retire(database).await;
    }
}
