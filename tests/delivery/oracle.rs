//! The oracle of delivery: random transactions, rights and faults, and clients that hold what they were told. At the end each
//! holds what its SELECT returns, and none was ever told a version of a row that it may not have read.

mod judge;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use rowcast::postgres::ConnectSettings;
use serde_json::{Value, json};

use self::judge::{are_out_of_reach, judge, read};
use self::world::{SCHEMA, TEAMS, USERS, fate, is_short, transaction, user};
use super::seed;
use super::walker::{By, Path, Told, Walker, What};
use crate::oracle::differential::number;
use crate::oracle::random::Random;
use crate::support::{Database, Process, Proxy, eventually, server, token};

/// Twelve by WebSocket, three by server-sent events, three by polls.
const READERS: usize = 18;

/// One of the clients: who it is, and what it asked for.
struct Reader {
    who: String,
    kinds: Vec<i64>,
    walker: Walker,
}

impl Reader {
    fn start(number: usize, proxy: &Proxy, seed: u64, random: &mut Random) -> Self {
        let who = user(number % USERS);
        let (filter, kinds) = match random.below(3) {
            0 => (Value::Null, vec![0, 1, 2]),
            1 => (json!("kind=eq.1"), vec![1]),
            _ => (json!("kind=in.(0,2)"), vec![0, 2]),
        };
        let mut change =
            json!({"event": "*", "schema": "public", "table": "t", "transitions": true, "truncate": true});
        if !filter.is_null() {
            change["filter"] = filter;
        }
        if random.percent(40) {
            change["snapshot"] = true.into();
        }
        let by = match number {
            0..12 => By::Socket,
            12..15 => By::Events,
            _ => By::Polls,
        };
        let path = Path {
            address: proxy.address,
            by,
            token: token::user(&who),
            session: (by == By::Socket && number.is_multiple_of(3)).then(|| format!("r{number}")),
            topic: format!("t{number}"),
            config: json!({"postgres_changes": [change]}),
            seed: seed ^ number as u64,
        };
        let walker = Walker::start(path);
        Self { who, kinds, walker }
    }

    /// What it holds having been told this, and where it had to read everything again.
    fn holds(&self, told: &[Told]) -> BTreeMap<i64, i64> {
        let mut held = BTreeMap::new();
        for told in told {
            match &told.what {
                What::Row(data) if data["type"] == "DELETE" => {
                    held.remove(&data["old_record"]["id"].as_i64().expect("a key"));
                }
                What::Row(data) if data["type"] == "TRUNCATE" => held.clear(),
                What::Begins => held.clear(),
                What::Row(data) => {
                    let row = &data["record"];
                    let number = |name: &str| row[name].as_i64().expect("a number");
                    // Another key is another row.
                    if let Some(before) = data["old_record"]["id"].as_i64() {
                        held.remove(&before);
                    }
                    held.insert(number("id"), number("ver"));
                }
                What::Read(rows) => held.clone_from(rows),
                _ => {}
            }
        }
        held
    }
}

/// With a window that reaches back far enough, or not.
async fn serve(settings: &ConnectSettings, slot: &str, window: &str) -> Process {
    let settings_of_ours = [
        ("ROWCAST_RESUME_ACKNOWLEDGE", "20ms"),
        ("ROWCAST_SESSION_KEEP_ALIVE", "400ms"),
        ("ROWCAST_RESUME_WINDOW_BYTES", window),
    ];
    Process::serve(settings, slot, &settings_of_ours).await
}

/// `ROWCAST_SEEDS` says how many seeds are tried, one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_ends_with_what_a_select_returns_and_saw_nothing_else() {
    let first = seed(7);
    for seed in first..first + number("ROWCAST_SEEDS").unwrap_or(1) {
        eprintln!("ROWCAST_SEED={seed}");
        eprintln!("{}", Box::pin(tried(seed)).await);
    }
}

/// Tries one; what was tried.
async fn tried(seed: u64) -> String {
    let mut random = Random(seed);
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    for n in 0..USERS {
        db.execute(&format!(
            "insert into members values ({}, '{}')",
            n % TEAMS,
            user(n)
        ))
        .await;
    }
    let slot = format!("rowcast_{}", db.name);
    let window = if is_short(seed) { "8KiB" } else { "64MiB" };
    let mut running = serve(&db.settings, &slot, window).await;
    let proxy = Proxy::start(running.address).await;
    let readers: Vec<Reader> = (0..READERS)
        .map(|n| Reader::start(n, &proxy, seed, &mut random))
        .collect();
    for reader in &readers {
        let (settings, who, kinds) = (db.settings.clone(), reader.who.clone(), reader.kinds.clone());
        let again = move || read(settings.clone(), who.clone(), kinds.clone());
        reader.walker.read_again_by(move || Box::pin(again()));
    }
    eventually("all are known", || async {
        readers
            .iter()
            .all(|reader| reader.walker.is_known())
            .then_some(())
    })
    .await;
    proxy.plan(move |connection| fate(seed, connection));
    proxy.cut_all();
    let (mut kills, mut stops) = (0, 0);
    for step in 0..300 {
        db.execute(&transaction(&mut random)).await;
        // Slowly enough for connections to begin and end meanwhile.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if random.percent(8) {
            let reader = random.one(&readers);
            reader.walker.wait(random.percent(40));
        }
        if step % 60 == 59 {
            // In the middle of what is being sent.
            if random.percent(50) {
                kills += 1;
                running.kill().await;
            } else {
                stops += 1;
                running.terminate();
                running.ended().await;
            }
            for _ in 0..random.below(10) {
                db.execute(&transaction(&mut random)).await;
            }
            running = serve(&db.settings, &slot, window).await;
            proxy.lead_to(running.address);
        }
    }
    readers.iter().for_each(|reader| reader.walker.wait(false));
    proxy.calm();
    // Who lost a membership holds rows that no event took away; who got one lacks those that none brought.
    db.execute("update t set ver = nextval('version')").await;
    server::passed(running.address, &db).await;
    for reader in &readers {
        let settled = async {
            loop {
                let wanted = read(db.settings.clone(), reader.who.clone(), reader.kinds.clone()).await;
                let mut held = reader.holds(&reader.walker.log().told);
                let others = held.extract_if(.., |id, _| !wanted.contains_key(id)).collect();
                if held == wanted && are_out_of_reach(&db, &reader.who, others).await {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(crate::support::LIMIT, settled)
            .await
            .is_err()
        {
            let wanted = read(db.settings.clone(), reader.who.clone(), reader.kinds.clone()).await;
            let log = reader.walker.log();
            panic!(
                "ROWCAST_SEED={seed} {}\nwanted {wanted:?}\nheld   {:?}\n{log:#?}",
                reader.who,
                reader.holds(&log.told)
            );
        }
    }
    let mut counts = (0, 0, 0);
    for reader in &readers {
        let (told, resyncs) = judge(&db, reader, seed).await;
        counts = (
            counts.0 + told,
            counts.1 + resyncs,
            counts.2 + reader.walker.log().connections,
        );
    }
    assert!(counts.0 > 300, "nothing was tried: {counts:?}");
    running.kill().await;
    format!(
        "{} events on {} connections, {} read again, {kills} killed, {stops} stopped",
        counts.0, counts.2, counts.1
    )
}
