//! How a change's way to its readers depends on how many subscribers there are.

use std::time::{Duration, Instant};

use rowcast::dev::PrivateCluster;
use rowcast::postgres::Connection;

use super::audience::Audience;
use super::server::{Server, cpu_seconds};
use super::{limit, writer};

/// Rows whose delay is measured, and how many a second.
const PACED: usize = 150;
const RATE: u32 = 50;
/// Deliveries that are measured at full speed, and the rows that make them.
const DELIVERIES: usize = 100_000;
const ROWS: std::ops::RangeInclusive<usize> = 200..=60_000;
/// What has not arrived by then is not waited for, and more subscribers are not tried.
const PATIENCE: Duration = Duration::from_secs(12);

/// A policy, and who passes it.
struct Shape {
    name: &'static str,
    policy: &'static str,
    /// Every subscriber sees every row; otherwise one does.
    all: bool,
    subscribers: &'static [usize],
    /// The rows are for this many of them: what a socket is written, and how often, is then the same however many there
    /// are.
    readers: usize,
}

const SHAPES: [Shape; 4] = [
    Shape {
        name: "user_id = auth.uid()",
        policy: "user_id = auth.uid()",
        all: false,
        subscribers: &[10, 100, 1_000, 10_000],
        readers: usize::MAX,
    },
    Shape {
        name: "the same, rows for 100 of them",
        policy: "user_id = auth.uid()",
        all: false,
        subscribers: &[100, 1_000, 10_000],
        readers: 100,
    },
    Shape {
        name: "team_id in (select … from members …)",
        policy: "team_id in (select m.team_id from members m where m.user_id = auth.uid())",
        all: false,
        subscribers: &[10, 100, 1_000, 10_000],
        readers: usize::MAX,
    },
    Shape {
        name: "all see it",
        policy: "(select auth.uid()) is not null",
        all: true,
        subscribers: &[10, 100, 1_000],
        readers: usize::MAX,
    },
];

pub async fn table(cluster: &PrivateCluster, database: &Connection, most: usize) {
    println!(
        "\ndelay: {PACED} commits at {RATE}/s, ms from the writer's acknowledgement to the (last) client;"
    );
    println!(
        "speed: rows in transactions of ten, written while the server stood still, until the last delivery;"
    );
    println!(
        "limit: pg_recvlogical alone, for the same rows; cpu: of the server, microseconds per change; calls: of the judge and reads of relations per 1,000 changes\n"
    );
    println!(
        "| policy | subscribers | p50 | p99 | changes/s | deliveries/s | of the limit | cpu | judge calls | reads |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for shape in &SHAPES {
        let policy = format!(
            "drop policy seen on docs; create policy seen on docs using ({})",
            shape.policy
        );
        database.batch_execute(&policy).await.expect("a policy");
        let server = Server::start(cluster).await;
        let mut audience = Audience::new();
        for subscribers in shape.subscribers.iter().copied().filter(|n| *n <= most) {
            audience.grow(&server, subscribers).await;
            let (line, complete) = measure(cluster, database, &server, &audience, shape, subscribers).await;
            println!("| {} | {subscribers} | {line} |", shape.name);
            if !complete {
                println!("| {} | more | not tried | | | | | | | |", shape.name);
                break;
            }
        }
        drop(audience);
        server.retire(database).await;
    }
}

/// One line of the table, and whether everything arrived in time.
async fn measure(
    cluster: &PrivateCluster,
    database: &Connection,
    server: &Server,
    audience: &Audience,
    shape: &Shape,
    subscribers: usize,
) -> (String, bool) {
    let each = if shape.all { subscribers } else { 1 };
    let readers = subscribers.min(shape.readers);
    let committed = writer::paced(database, PACED, RATE, readers).await;
    let arrivals = audience.arrived(PACED * each, PATIENCE).await;
    let mut delays: Vec<f64> = committed
        .iter()
        .filter_map(|(id, at)| Some(millis(*at, *arrivals.last.get(id)?)))
        .collect();
    delays.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let place = ((delays.len().max(1) - 1) as f64 * share) as usize;
        delays.get(place).copied().unwrap_or(f64::NAN)
    };
    let delay = format!("{:.2} | {:.2}", at(0.5), at(0.99));
    if arrivals.deliveries < PACED * each {
        let line = format!(
            "{delay} | {} of {} arrived | | | | | ",
            arrivals.deliveries,
            PACED * each
        );
        return (line, false);
    }
    let rows = (DELIVERIES / each).clamp(*ROWS.start(), *ROWS.end());
    let calls = [
        "rowcast_policy_judge_calls_total",
        "rowcast_policy_relation_reads_total",
    ];
    let mut before = Vec::new();
    for name in calls {
        before.push(server.metric(name).await);
    }
    limit::keep(database).await;
    server.halt();
    writer::bulk(database, rows, readers).await;
    let cpu = cpu_seconds(server.id());
    let started = Instant::now();
    server.go_on();
    let arrivals = audience.arrived(rows * each, PATIENCE).await;
    let complete = arrivals.deliveries >= rows * each;
    let end = arrivals.last.values().max().copied().unwrap_or(started);
    let seconds = end.saturating_duration_since(started).as_secs_f64();
    let changes = arrivals.deliveries as f64 / each as f64;
    let mut counts = String::new();
    for (name, before) in calls.iter().zip(before) {
        counts.push_str(&format!(
            " | {:.1}",
            (server.metric(name).await - before) / changes * 1e3
        ));
    }
    let cpu = (cpu_seconds(server.id()) - cpu) / changes * 1e6;
    let limit = limit::drain(cluster, database).await;
    let line = format!(
        "{delay} | {:.0} | {:.0} | {:.2} | {cpu:.1}{counts}",
        changes / seconds,
        arrivals.deliveries as f64 / seconds,
        changes / seconds / (rows as f64 / limit),
    );
    (line, complete)
}

/// From one moment to another, which may be the earlier one: the acknowledgement is on its way, too.
pub fn millis(from: Instant, to: Instant) -> f64 {
    let late = to.saturating_duration_since(from).as_secs_f64();
    let early = from.saturating_duration_since(to).as_secs_f64();
    (late - early) * 1e3
}
