//! Connections that drop at random while rows and broadcasts flow: who has what in the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast::dev::PrivateCluster;
use rowcast::postgres::Connection;
use serde_json::json;

use super::super::scale::millis;
use super::super::server::{Server, user};
use super::super::wire;
use super::super::writer::Pen;
use super::log::{Account, Log, What};
use super::reader::{Ask, Kind, PATIENCE, TOPIC, all_known, lock, tell_resync, until};
use super::{cells, last_row, policy, rows_behind, scaled};

const CLIENTS: usize = 1_000;
/// How long connections drop and rows flow.
const TIME: Duration = Duration::from_secs(5);
/// Rows a second, of which every so many is for all; broadcasts to all a second.
const RATE: u32 = 200;
const FOR_ALL: usize = 20;
const WORDS: u32 = 10;
/// How often a client drops at most, and for how long it is away then, in milliseconds.
const DROPS: usize = 3;
const AWAY: std::ops::Range<u64> = 50..300;

/// Of what is drawn, where `ROWCAST_SEED` names no other.
const SEED: u64 = 5;

type Committed = HashMap<What, Instant>;

pub async fn table(cluster: &PrivateCluster, database: &Connection) {
    let seed = std::env::var("ROWCAST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(SEED);
    println!(
        "\n{} clients with session ids whose connections drop 0 to {DROPS} times in {} s, for {AWAY:?} ms, while {RATE} rows/s (each for one of \
         them, every {FOR_ALL}th for all) and {WORDS} broadcasts/s to all flow; told: it came with its cursor; delay: ms from commit or \
         sending to the client (seed {seed})\n",
        scaled(CLIENTS),
        TIME.as_secs()
    );
    println!(
        "| what | drops | sent | due | delivered | repeated, told | repeated, untold | missed | out of order | resyncs | live: p50 | p99 | after a reconnect: p50 | p99 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    policy(database, "user_id is null or user_id = auth.uid()").await;
    let server = Server::start(cluster).await;
    for line in measure(database, &server, seed).await {
        println!("| {line} |");
    }
    server.retire(database).await;
}

async fn measure(database: &Connection, server: &Server, seed: u64) -> [String; 2] {
    let clients = scaled(CLIENTS);
    let logs: Vec<Arc<Mutex<Log>>> = (0..clients).map(|_| Arc::default()).collect();
    let (begin, begun) = tokio::sync::watch::channel(None);
    let mut random = StdRng::seed_from_u64(seed);
    let (mut drops, mut tasks) = (0, tokio::task::JoinSet::new());
    for (n, log) in logs.iter().enumerate() {
        let plan = plan(&mut random);
        drops += plan.len();
        let ask = Ask::new(server, Kind::Session, n);
        tasks.spawn(wander(ask, Arc::clone(log), plan, begun.clone()));
    }
    let live = |log: &Arc<Mutex<Log>>| lock(log).live.is_some();
    assert!(
        until(PATIENCE, || logs.iter().all(live)).await,
        "all are live in time"
    );
    let before = last_row(database).await;
    all_known(server, clients).await;
    begin.send_replace(Some(tokio::time::Instant::now()));
    let (rows, words) = tokio::join!(rows(database, clients), words(server));
    let written = rows_behind(database, before).await;
    let none = Vec::new();
    let for_all = written.get(&None).unwrap_or(&none);
    let due_rows: Vec<Vec<What>> = (0..clients)
        .map(|n| {
            let own = written.get(&Some(n)).unwrap_or(&none);
            own.iter().chain(for_all).copied().map(What::Row).collect()
        })
        .collect();
    let due_words: Vec<What> = words.keys().copied().collect();
    let deadline = Instant::now() + PATIENCE;
    let (of_rows, of_words) = loop {
        let (mut of_rows, mut of_words) = (Account::default(), Account::default());
        for (log, due) in logs.iter().zip(&due_rows) {
            let log = lock(log);
            of_rows.add(&log.account(due.iter().copied()));
            of_words.add(&log.account(due_words.iter().copied()));
        }
        if of_rows.missed + of_words.missed == 0 || Instant::now() > deadline {
            break (of_rows, of_words);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    tell_resync(logs.iter().map(AsRef::as_ref));
    [
        line("rows", drops, &rows, &of_rows, &logs),
        line("broadcasts", drops, &words, &of_words, &logs),
    ]
}

/// When a client drops, from the beginning on, and how long it is away then.
fn plan(random: &mut StdRng) -> Vec<(Duration, Duration)> {
    let drops = random.random_range(0..=DROPS);
    let last = u64::try_from(TIME.as_millis()).expect("short");
    let mut plan: Vec<_> = (0..drops)
        .map(|_| {
            let away = Duration::from_millis(random.random_range(AWAY));
            (Duration::from_millis(random.random_range(0..last)), away)
        })
        .collect();
    plan.sort_unstable();
    plan
}

/// A client that comes and goes.
async fn wander(
    ask: Ask,
    log: Arc<Mutex<Log>>,
    plan: Vec<(Duration, Duration)>,
    mut begun: tokio::sync::watch::Receiver<Option<tokio::time::Instant>>,
) {
    for (at, away) in plan {
        let over = async {
            match begun.wait_for(Option::is_some).await.map(|begin| *begin) {
                Ok(Some(begin)) => tokio::time::sleep_until(begin + at).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ask.visit(&log) => {}
            () = over => {}
        }
        tokio::time::sleep(away).await;
    }
    ask.visit(&log).await;
}

/// Writes rows for so long; when each was committed.
async fn rows(database: &Connection, clients: usize) -> Committed {
    let pen = Pen::new(database).await;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / RATE);
    let mut committed = HashMap::new();
    let started = Instant::now();
    let mut row = 0;
    while started.elapsed() < TIME {
        pace.tick().await;
        let owner = (row % FOR_ALL != 0).then_some(row * 7919 % clients);
        let (id, at) = pen.write(owner, None).await;
        committed.insert(What::Row(id), at);
        row += 1;
    }
    committed
}

/// Says words for so long; when each was sent.
async fn words(server: &Server) -> Committed {
    let token = user(0);
    let socket = wire::open(server, &token).await;
    let config = wire::config(false, None, &json!([]));
    wire::join(&socket, TOPIC, &token, &config).await;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / WORDS);
    let mut sent = HashMap::new();
    let started = Instant::now();
    let mut number = 0;
    while started.elapsed() < TIME {
        pace.tick().await;
        let payload = json!({"type": "broadcast", "event": "word", "payload": {"number": number}});
        sent.insert(What::Word(number), Instant::now());
        wire::say(&socket, TOPIC, "broadcast", &payload).await;
        number += 1;
    }
    sent
}

fn line(name: &str, drops: usize, sent: &Committed, account: &Account, logs: &[Arc<Mutex<Log>>]) -> String {
    // A client with a session id is told cursors of what is replayed to it, and of nothing else.
    let (mut live, mut late) = (Vec::new(), Vec::new());
    for log in logs {
        for arrival in lock(log).first() {
            if let Some(at) = sent.get(&arrival.what) {
                let delays = if arrival.told { &mut late } else { &mut live };
                delays.push(millis(*at, arrival.at));
            }
        }
    }
    format!(
        "{name} | {drops} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {}",
        sent.len(),
        account.due,
        account.delivered,
        account.repeated,
        account.untold,
        account.missed,
        account.disorder,
        account.resyncs,
        cells(&mut live),
        cells(&mut late),
    )
}
