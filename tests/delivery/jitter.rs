//! Many clients whose connections drop at random for five seconds while rows and broadcasts flow: each gets everything.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;

use super::walker::{By, Path, Told, Walker, What};
use super::{seed, service};
use crate::oracle::differential::number;
use crate::oracle::random::Random;
use crate::support::proxy::{End, Fate};
use crate::support::{Client, Database, Proxy, Server, Version, eventually};

/// How many there are, unless `ROWCAST_CLIENTS` says so.
const CLIENTS: u64 = 300;

/// What happens to the n-th connection.
fn fate(seed: u64, connection: u64) -> Fate {
    let mut random = Random(seed ^ connection.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut below = |most: usize| u64::try_from(random.below(most)).expect("small");
    let after = Duration::from_millis(100 + below(1_500));
    let end = match below(10) {
        0..4 => End::Reset(after),
        4..7 => End::Cut(after),
        7..9 => End::Truncated(400 + usize::try_from(below(8_000)).expect("small")),
        _ => End::Hole(after),
    };
    let delay = Duration::from_millis(if below(3) == 0 { below(60) } else { 0 });
    let rate = (below(8) == 0).then_some(2_000);
    Fate { end, delay, rate }
}

/// What somebody was told, by kind: rows are even, broadcasts are odd numbers.
fn numbers(told: &[Told]) -> impl Iterator<Item = (u64, &Told)> {
    let number = |told: &Told| match &told.what {
        What::Row(data) => Some(2 * data["record"]["id"].as_u64()?),
        What::Said(payload) => Some(2 * payload["number"].as_u64()? + 1),
        _ => None,
    };
    told.iter().filter_map(move |told| Some((number(told)?, told)))
}

/// How many different ones have come, and how many came again.
struct Count {
    delivered: usize,
    repeated: usize,
}

/// Fails where something came out of order, or again without its cursor.
fn judge(told: &[Told]) -> Result<Count, String> {
    let mut seen = HashMap::new();
    let mut reached = HashMap::new();
    let (mut repeated, mut first) = (0, [0, 0]);
    for (number, told) in numbers(told) {
        let kind = usize::from(number % 2 == 1);
        if let Some(before) = reached.insert((told.connection, kind), number)
            && before >= number
        {
            return Err(format!(
                "{number} behind {before} on connection {}",
                told.connection
            ));
        }
        if seen.insert(number, told.connection).is_none() {
            if number < first[kind] {
                return Err(format!("{number} for the first time behind {}", first[kind]));
            }
            first[kind] = number;
        } else {
            repeated += 1;
            if told.cursor.is_none() {
                return Err(format!("{number} came again without its cursor"));
            }
        }
    }
    Ok(Count {
        delivered: seen.len(),
        repeated,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_whose_connections_drop_at_random_get_everything() {
    let seed = seed(1);
    let clients = number("ROWCAST_CLIENTS").unwrap_or(CLIENTS);
    let db = Database::new().await;
    db.execute("create table n (id int primary key); alter publication supabase_realtime add table n")
        .await;
    let server = Server::start_with(&db, |config| {
        config.resume.acknowledge = Duration::from_millis(50);
        config.limits.joins_per_second = 10_000;
    })
    .await;
    // Whoever joins before it reads is nowhere, should it be cut off at once.
    server.passed(&db).await;
    let proxy = Proxy::start(server.address).await;
    let path = |client: u64| Path {
        by: By::Socket,
        address: proxy.address,
        token: service(),
        session: Some(format!("c{client}")),
        topic: "n".to_owned(),
        config: json!({"postgres_changes": [{"event": "INSERT", "schema": "public", "table": "n"}]}),
        seed: seed ^ client,
    };
    let walkers: Vec<Walker> = (0..clients).map(|client| Walker::start(path(client))).collect();
    eventually("the server knows all of them", || async {
        walkers.iter().all(Walker::is_known).then_some(())
    })
    .await;
    // On a busy machine some have lost patience with their first connections before the server has known them.
    let unknown: Vec<u64> = walkers.iter().map(|walker| walker.log().connections).collect();
    let mut speaker = Client::connect(&server, Version::V2, &service()).await;
    let config = json!({"broadcast": {"ack": true}});
    assert_eq!(speaker.join("n", config).await["status"], "ok");

    proxy.plan(move |connection| fate(seed, connection));
    // Those without a fate so far.
    proxy.cut_all();
    let storm = Duration::from_secs(5);
    let begin = tokio::time::Instant::now();
    let mut sent = 0;
    while begin.elapsed() < storm {
        sent += 1;
        db.execute(&format!("insert into n values ({sent})")).await;
        speaker.say("n", "said", json!({"number": sent})).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    proxy.calm();
    server.passed(&db).await;
    speaker.round_trip().await;

    let wanted = 2 * sent;
    let complete = |walker: &Walker| judge(&walker.log().told).is_ok_and(|count| count.delivered >= wanted);
    let all = tokio::time::timeout(crate::support::LIMIT, async {
        while !walkers.iter().all(complete) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let ended = all.await.is_ok();
    let (mut delivered, mut repeated, mut faults) = (0, 0, Vec::new());
    for (client, walker) in walkers.iter().enumerate() {
        let log = walker.log();
        let resyncs = log.told.iter().filter_map(|told| match &told.what {
            // A connection before the server knew them is told so.
            What::Outcome(text) if text.starts_with("resync") && told.connection > unknown[client] => {
                Some((told.connection, text.clone()))
            }
            _ => None,
        });
        let resyncs: Vec<_> = resyncs.collect();
        match judge(&log.told) {
            Ok(count) => {
                delivered += count.delivered;
                repeated += count.repeated;
                if count.delivered < wanted || !resyncs.is_empty() {
                    let had: std::collections::BTreeSet<u64> = numbers(&log.told).map(|(n, _)| n).collect();
                    let missing: Vec<u64> = (2..=2 * sent as u64 + 1).filter(|n| !had.contains(n)).collect();
                    faults.push(format!(
                        "client {client}: missed {missing:?} on {} connections, {resyncs:?}",
                        log.connections
                    ));
                }
            }
            Err(fault) => faults.push(format!("client {client}: {fault}")),
        }
    }
    let sum = wanted * walkers.len();
    let connections = proxy.taken();
    eprintln!(
        "ROWCAST_SEED={seed}: {} clients, {connections} connections: sent {sum}, delivered {delivered}, repeated {repeated}, missed {}",
        walkers.len(),
        sum - delivered.min(sum)
    );
    assert!(
        ended && faults.is_empty(),
        "ROWCAST_SEED={seed}\n{}",
        faults.join("\n")
    );
    drop(walkers);
    server.stop().await;
}
