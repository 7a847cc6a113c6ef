//! Many who come back at once, over a window full of changes, while rows go on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rowcast::dev::PrivateCluster;
use rowcast::postgres::Connection;

use super::super::scale::millis;
use super::super::server::{Server, cpu_seconds};
use super::super::writer::{self, Pen};
use super::log::{Account, Goal, Log, What};
use super::reader::{Ask, Kind, PATIENCE, Reader, all_known, all_live, lock, tell_resync, until};
use super::{cells, last_row, policy, quantile, rows_behind, scaled};

const CLIENTS: usize = 1_000;
/// Those who see every row: each is a delivery to each.
const ALL_SEE: usize = 100;
/// Those who were there all the time.
const STAYERS: usize = 10;
/// Rows that each user has in the window: those of all users together fill it with ten thousand.
const EACH: usize = 10;
/// Rows a second while they come back.
const RATE: u32 = 200;

/// Who comes back, and how.
struct Shape {
    name: &'static str,
    clients: usize,
    kind: Kind,
    /// Every client sees every row; otherwise one does.
    all: bool,
    /// Whether anything was missed.
    away: bool,
}

const SHAPES: [Shape; 4] = [
    Shape {
        name: "new ones, for comparison: nothing was missed",
        clients: CLIENTS,
        kind: Kind::Plain,
        all: false,
        away: false,
    },
    Shape {
        name: "with a session id, each row seen by one",
        clients: CLIENTS,
        kind: Kind::Session,
        all: false,
        away: true,
    },
    Shape {
        name: "with a cursor, each row seen by one",
        clients: CLIENTS,
        kind: Kind::Since,
        all: false,
        away: true,
    },
    Shape {
        name: "with a cursor, all see all",
        clients: ALL_SEE,
        kind: Kind::Since,
        all: true,
        away: true,
    },
];

pub async fn table(cluster: &PrivateCluster, database: &Connection) {
    println!(
        "\nclients that come back at once over {} changes, with connecting and joining, while {RATE} rows/s go on; until all: from \
         the first connection to the last row that was missed (or until rows are live, where none was); cpu: of the server until \
         then; delay: of the live rows to {STAYERS} who were there all the time, ms\n",
        EACH * (scaled(CLIENTS) + STAYERS)
    );
    println!(
        "| who | clients | until all, ms | a client's own, p50 | p99 | deliveries/s | cpu per client, ms | cpu per delivery, us | delay p50 | p99 | due | delivered | repeated, told | repeated, untold | missed | out of order | resyncs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for shape in &SHAPES {
        let rule = match shape.all {
            true => "(select auth.uid()) is not null",
            false => "user_id = auth.uid()",
        };
        policy(database, rule).await;
        let server = Server::start(cluster).await;
        let line = measure(database, &server, shape).await;
        println!("| {} | {} | {line} |", shape.name, scaled(shape.clients));
        server.retire(database).await;
    }
}

/// Everybody, and what they are to have.
struct Returning {
    asks: Vec<Ask>,
    logs: Vec<Arc<Mutex<Log>>>,
    /// The last row before they went.
    left: i64,
    /// The last row that they missed.
    missed: i64,
}

async fn measure(database: &Connection, server: &Server, shape: &Shape) -> String {
    let clients = scaled(shape.clients);
    let stayers = all_live((0..STAYERS).map(|n| Ask::new(server, Kind::Plain, n))).await;
    let returning = away(database, server, shape, clients, &stayers).await;
    let pen = Pen::new(database).await;
    let (stop, mut committed) = (AtomicBool::new(false), Vec::new());
    let (cpu, started) = (cpu_seconds(server.id()), Instant::now());
    let readers: Vec<Reader> = returning
        .asks
        .iter()
        .zip(&returning.logs)
        .map(|(ask, log)| Reader::with(Arc::clone(log), ask.clone()))
        .collect();
    let flow = async {
        let mut pace = tokio::time::interval(Duration::from_secs(1) / RATE);
        let mut row = 0;
        while !stop.load(Ordering::Relaxed) {
            pace.tick().await;
            // In turns for those who stayed and those who come back.
            let user = match row % 2 {
                0 => row / 2 % STAYERS,
                _ => STAYERS + row * 7919 % clients,
            };
            committed.push(pen.write(Some(user), None).await);
            row += 1;
        }
    };
    let catch_up = async {
        until(PATIENCE, || {
            readers.iter().all(|reader| caught_up(reader).is_some())
        })
        .await;
        let used = cpu_seconds(server.id()) - cpu;
        // Somewhat longer, so that there are live rows also where all is over at once.
        let least = Duration::from_secs(1).saturating_sub(started.elapsed());
        tokio::time::sleep(least).await;
        stop.store(true, Ordering::Relaxed);
        used
    };
    let ((), cpu) = tokio::join!(flow, catch_up);
    let mut own: Vec<f64> = readers
        .iter()
        .filter_map(|reader| Some(millis(started, caught_up(reader)?)))
        .collect();
    let replayed: usize = readers
        .iter()
        .map(|reader| {
            let behind = |what| matches!(what, What::Row(id) if id <= returning.missed);
            reader.log().arrivals.iter().filter(|a| behind(a.what)).count()
        })
        .sum();
    let account = settle(database, &returning, &readers, shape).await;
    tell_resync(returning.logs.iter().map(AsRef::as_ref));
    let mut delays = delays(&committed, &stayers);
    let all = quantile(&mut own, 1.0);
    let per = |count: usize, unit: f64| match count {
        0 => String::new(),
        count => format!("{:.2}", cpu / count as f64 * unit),
    };
    let rate = match replayed {
        0 => String::new(),
        replayed => format!("{:.0}", replayed as f64 / all * 1e3),
    };
    format!(
        "{all:.0} | {:.0} | {:.0} | {rate} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {}",
        quantile(&mut own, 0.5),
        quantile(&mut own, 0.99),
        per(readers.len(), 1e3),
        per(replayed, 1e6),
        cells(&mut delays),
        account.due,
        account.delivered,
        account.repeated,
        account.untold,
        account.missed,
        account.disorder,
        account.resyncs,
    )
}

/// Has all of them go, if they were there, and writes what they miss.
async fn away(
    database: &Connection,
    server: &Server,
    shape: &Shape,
    clients: usize,
    stayers: &[Reader],
) -> Returning {
    let numbers = STAYERS..STAYERS + clients;
    let mut asks: Vec<Ask> = numbers.clone().map(|n| Ask::new(server, shape.kind, n)).collect();
    let mut logs: Vec<Arc<Mutex<Log>>> = asks.iter().map(|_| Arc::default()).collect();
    if shape.away && shape.kind == Kind::Session {
        logs = were_there(server, &asks).await;
    }
    if shape.away && shape.kind == Kind::Since {
        let since = cursor(database, server).await;
        asks.iter_mut().for_each(|ask| ask.since = Some(since.clone()));
    }
    let left = last_row(database).await;
    if shape.away {
        let users = scaled(CLIENTS) + STAYERS;
        writer::bulk(database, EACH * users, users).await;
    }
    // Behind all of it.
    let (missed, _) = Pen::new(database).await.write(Some(0), None).await;
    let there = || {
        let log = stayers[0].log();
        log.arrivals
            .iter()
            .any(|arrival| arrival.what == What::Row(missed))
    };
    assert!(until(PATIENCE, there).await, "the server has all of it");
    let due = due(&rows_behind(database, left).await, shape, numbers);
    for (log, rows) in logs.iter().zip(due).filter(|_| shape.away) {
        let mut log = lock(log);
        log.goal = Some(Goal {
            rows: left + 1..=missed,
            left: rows.len(),
            reached: None,
        });
    }
    Returning {
        asks,
        logs,
        left,
        missed,
    }
}

/// Has them all connected and known, and gone.
async fn were_there(server: &Server, asks: &[Ask]) -> Vec<Arc<Mutex<Log>>> {
    let readers = all_live(asks.iter().cloned()).await;
    all_known(server, asks.len()).await;
    let logs = readers.iter().map(|reader| Arc::clone(&reader.log)).collect();
    drop(readers);
    let deadline = Instant::now() + PATIENCE;
    while server.metric("rowcast_connections").await > STAYERS as f64 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    logs
}

/// A place that is now.
async fn cursor(database: &Connection, server: &Server) -> String {
    let probe = all_live([Ask::new(server, Kind::Since, 0)]).await;
    Pen::new(database).await.write(Some(0), None).await;
    assert!(
        until(PATIENCE, || probe[0].log().cursor.is_some()).await,
        "a row with its cursor"
    );
    let cursor = probe[0].log().cursor.clone();
    cursor.expect("a cursor")
}

/// What each of them should be told, of these rows.
fn due(
    rows: &HashMap<Option<usize>, Vec<i64>>,
    shape: &Shape,
    numbers: std::ops::Range<usize>,
) -> Vec<Vec<i64>> {
    let all: Vec<i64> = rows.values().flatten().copied().collect();
    let of = |n: usize| match shape.all {
        true => all.clone(),
        false => rows.get(&Some(n)).cloned().unwrap_or_default(),
    };
    numbers.map(of).collect()
}

/// When it had everything that it had missed, or was live where that was nothing.
fn caught_up(reader: &Reader) -> Option<Instant> {
    let log = reader.log();
    match &log.goal {
        Some(goal) => goal.reached,
        None => log.live,
    }
}

/// Waits for what is still under way; what all of them have in the end. Rows of the time when new ones were not live are not due.
async fn settle(database: &Connection, returning: &Returning, readers: &[Reader], shape: &Shape) -> Account {
    if !shape.away {
        return Account::default();
    }
    let rows = rows_behind(database, returning.left).await;
    let due = due(&rows, shape, STAYERS..STAYERS + readers.len());
    let wanted: usize = due.iter().map(Vec::len).sum();
    let came = || {
        readers
            .iter()
            .map(|reader| reader.log().arrivals.len())
            .sum::<usize>()
    };
    until(Duration::from_secs(5), || came() >= wanted).await;
    let mut account = Account::default();
    for (reader, due) in readers.iter().zip(due) {
        account.add(&reader.log().account(due.into_iter().map(What::Row)));
    }
    account
}

/// Milliseconds from commit to those who stayed.
fn delays(committed: &[(i64, Instant)], stayers: &[Reader]) -> Vec<f64> {
    let committed: HashMap<i64, Instant> = committed.iter().copied().collect();
    let mut delays = Vec::new();
    for stayer in stayers {
        for arrival in &stayer.log().arrivals {
            if let What::Row(id) = arrival.what
                && let Some(at) = committed.get(&id)
            {
                delays.push(millis(*at, arrival.at));
            }
        }
    }
    delays
}
