//! Wall clocks that jump: what is bound to one is tokens, and nothing else waits for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::walker::{By, Path, Walker, What};
use crate::support::{Client, Clock, Database, Process, Proxy, Version, eventually, token};

const TABLE: &str = "
    create table t (id int generated always as identity primary key, v int, kind int);
    grant select on t to authenticated;
    alter publication supabase_realtime add table t;
";

const HOUR: i64 = 3_600;

fn walker(address: SocketAddr, number: usize) -> Walker {
    let by = match number {
        0 | 1 => By::Socket,
        2 => By::Events,
        _ => By::Polls,
    };
    let claims = json!({ "sub": "u", "exp": token::now() + 12 * HOUR });
    Walker::start(Path {
        address,
        by,
        token: token::token("authenticated", claims),
        session: (number == 0).then(|| "one".to_owned()),
        topic: format!("t{number}"),
        config: json!({"postgres_changes": [{"event": "*", "schema": "public", "table": "t"}]}),
        seed: number as u64,
    })
}

/// The ids of the rows that somebody was told, in order.
fn ids(walker: &Walker) -> Vec<i64> {
    let log = walker.log();
    let rows = log.told.iter().filter_map(|told| match &told.what {
        What::Row(data) => data["record"]["id"].as_i64(),
        _ => None,
    });
    rows.collect()
}

/// Waits until everybody has got another row, written after this was called.
async fn rows_flow(db: &Database, walkers: &[Walker]) {
    let written: i64 = db
        .text("select coalesce(max(id), 0)::text from t")
        .await
        .parse()
        .expect("a number");
    eventually("rows flow", || async {
        let later = |walker: &Walker| ids(walker).last().is_some_and(|id| *id > written);
        walkers.iter().all(later).then_some(())
    })
    .await;
}

/// A channel under a token that runs out in half an hour, if the server lets it in.
async fn short(address: SocketAddr) -> Option<Client> {
    let claims = json!({ "sub": "u", "exp": token::now() + HOUR / 2 });
    let token = token::token("authenticated", claims);
    let mut client = Client::try_connect_to(&format!("http://{address}"), Version::V2, &token)
        .await
        .ok()?;
    let rows = json!([{"event": "*", "schema": "public", "table": "t"}]);
    client.subscribe("short", rows).await;
    Some(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ends_tokens_and_nothing_else() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let clock = Clock::new().await;
    let slot = format!("rowcast_{}", db.name);
    let mut settings = clock.variables();
    settings.push(("ROWCAST_RESUME_ACKNOWLEDGE", "20ms"));
    settings.push(("ROWCAST_SESSION_KEEP_ALIVE", "400ms"));
    let process = Process::serve(&db.settings, &slot, &settings).await;
    let walkers: Vec<Walker> = (0..4).map(|n| walker(process.address, n)).collect();
    eventually("all are known", || async {
        walkers.iter().all(Walker::is_known).then_some(())
    })
    .await;
    let writes = Arc::new(AtomicBool::new(true));
    let writing = {
        let (connection, writes) = (db.connection().await, Arc::clone(&writes));
        tokio::spawn(async move {
            while writes.load(Ordering::Relaxed) {
                connection
                    .batch_execute("insert into t (v) values (1)")
                    .await
                    .expect("a row");
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
    };
    rows_flow(&db, &walkers).await;
    for round in 0..3 {
        let mut client = short(process.address).await.expect("a token that holds");
        clock.shift(HOUR);
        let told = loop {
            // Any message has the server look at the clock; by itself it does so every five minutes.
            client.push("short", "nothing", json!({})).await;
            let told = client.system("short").await;
            if told["message"] != "Subscribed to PostgreSQL" {
                break told;
            }
        };
        let message = told["message"].as_str().expect("a text");
        let ago: i64 = message
            .strip_prefix("Token has expired ")
            .and_then(|rest| rest.strip_suffix(" seconds ago")?.parse().ok())
            .unwrap_or_else(|| panic!("{told}"));
        assert!((HOUR / 2..HOUR / 2 + 60).contains(&ago), "{told}");
        assert!(short(process.address).await.is_none(), "it has run out");
        rows_flow(&db, &walkers).await;
        // Back to what it was, and further: what ran out holds again.
        clock.shift(if round == 1 { -HOUR } else { 0 });
        let mut client = short(process.address).await.expect("a token that holds");
        client.data().await;
        rows_flow(&db, &walkers).await;
        clock.shift(0);
    }
    writes.store(false, Ordering::Relaxed);
    writing.await.expect("no panic");
    let last: i64 = db
        .text("select max(id)::text from t")
        .await
        .parse()
        .expect("a number");
    for walker in &walkers {
        eventually("all rows are there", || async {
            (ids(walker).last() == Some(&last)).then_some(())
        })
        .await;
        let ids = ids(walker);
        let from = ids[0];
        assert_eq!(ids, (from..=last).collect::<Vec<_>>(), "each once, and in order");
        assert_eq!(walker.log().connections, 1, "{:#?}", walker.log());
    }
    eprintln!("{last} rows, {:?} of CPU time in ticks", process.cpu_ticks());
    drop(walkers);
    process.terminate();
    let (status, log) = process.ended().await;
    assert!(status.success(), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("panic")), "{log:#?}");
    assert!(log.len() < 100, "{log:#?}");
}

/// Places are kept by the database's clock: those of the servers may differ by what they like.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_at_a_server_whose_clock_is_another() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let (ahead, behind) = (Clock::new().await, Clock::new().await);
    ahead.shift(HOUR);
    behind.shift(-HOUR);
    let slot = format!("rowcast_{}", db.name);
    let serve = async |clock: &Clock| {
        let mut settings = clock.variables();
        settings.push(("ROWCAST_RESUME_ACKNOWLEDGE", "20ms"));
        Process::serve(&db.settings, &slot, &settings).await
    };
    let first = serve(&ahead).await;
    let proxy = Proxy::start(first.address).await;
    let walker = walker(proxy.address, 0);
    eventually("it is known", || async { walker.is_known().then_some(()) }).await;
    db.execute("insert into t (v) select 1 from generate_series(1, 100)")
        .await;
    eventually("it has them", || async {
        (ids(&walker).len() == 100).then_some(())
    })
    .await;
    first.terminate();
    let (status, log) = first.ended().await;
    assert!(status.success(), "{log:#?}");
    db.execute("insert into t (v) select 1 from generate_series(1, 100)")
        .await;
    let second = serve(&behind).await;
    proxy.lead_to(second.address);
    eventually("it has all", || async {
        let ids: BTreeSet<i64> = ids(&walker).into_iter().collect();
        (ids == (1..=200).collect()).then_some(())
    })
    .await;
    eventually("it went on", || async {
        let log = walker.log();
        let outcome = log.told.iter().rev().find_map(|told| match &told.what {
            What::Outcome(text) => Some(text.as_str()),
            _ => None,
        });
        (outcome == Some("resumed: nothing was missed")).then_some(())
    })
    .await;
    second.kill().await;
}
