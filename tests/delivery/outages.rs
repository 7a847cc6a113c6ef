//! Servers and databases that die, stand still, lose their slot or their disk in the middle of a transaction.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use rowcast::dev::StopMode;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::service;
use super::walker::{By, Path, Walker, What};
use crate::support::{Client, Database, OwnCluster, Process, Proxy, Server, Version, eventually, own, token};

const ROWS: &str =
    "create table n (id int primary key, t int); alter publication supabase_realtime add table n";

/// Somebody who goes on by the cursors of its events.
fn walker(address: SocketAddr) -> Walker {
    Walker::start(Path {
        by: By::Socket,
        address,
        token: service(),
        session: None,
        topic: "n".to_owned(),
        config: json!({"postgres_changes": [{"event": "INSERT", "schema": "public", "table": "n"}]}),
        seed: 1,
    })
}

async fn live(walker: &Walker) {
    eventually("its rows are live", || async { walker.is_known().then_some(()) }).await;
}

/// The numbers it was told, in order, with those that came again.
fn numbers(walker: &Walker) -> Vec<i64> {
    let log = walker.log();
    let number = |told: &super::walker::Told| match &told.what {
        What::Row(data) => data["record"]["id"].as_i64(),
        _ => None,
    };
    log.told.iter().filter_map(number).collect()
}

fn outcomes(walker: &Walker) -> Vec<String> {
    let log = walker.log();
    let outcome = |told: &super::walker::Told| match &told.what {
        What::Outcome(text) => Some(text.clone()),
        _ => None,
    };
    log.told.iter().filter_map(outcome).collect()
}

/// Waits until it has all of 1 to `last`, and nothing else; each for the first time in order.
async fn complete(walker: &Walker, last: i64) {
    eventually("it has everything", || async {
        let got: BTreeSet<i64> = numbers(walker).into_iter().collect();
        got.iter().copied().eq(1..=last).then_some(())
    })
    .await;
    let mut highest = 0;
    for number in numbers(walker) {
        assert!(number <= highest + 1, "{number} behind {highest}");
        highest = highest.max(number);
    }
    let outcomes = outcomes(walker);
    assert!(
        outcomes
            .iter()
            .all(|text| text == "live" || text.starts_with("resumed")),
        "{outcomes:?}"
    );
}

fn insert(from: i64, to: i64) -> String {
    format!("insert into n select i, 1 from generate_series({from}, {to}) i")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_within_a_large_transaction_leaves_no_gap() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let slot = format!("rowcast_{}", db.name);
    let mut running = Process::serve(&db.settings, &slot, &[]).await;
    let proxy = Proxy::start(running.address).await;
    let walker = walker(proxy.address);
    live(&walker).await;
    let (mut last, mut within) = (0, 0);
    while within < 2 {
        let begun = last;
        last += 30_000;
        assert!(
            last < 300_000,
            "all of it comes before the server dies, again and again"
        );
        db.execute(&insert(begun + 1, last)).await;
        eventually("it is in the middle", || async {
            numbers(&walker).last().is_some_and(|n| *n > begun).then_some(())
        })
        .await;
        running.kill().await;
        within += usize::from(numbers(&walker).last() < Some(&last));
        running = Process::serve(&db.settings, &slot, &[]).await;
        proxy.lead_to(running.address);
        complete(&walker, last).await;
    }
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_dies_within_transactions_leaves_no_gap_and_shows_nothing_of_what_was_not_committed()
{
    let cluster = OwnCluster::start(&[]).await;
    let db = cluster.database().await;
    db.execute(ROWS).await;
    db.execute("grant select on n to service_role").await;
    let server = Server::start(&db).await;
    let walker = walker(server.address);
    live(&walker).await;
    let open = db.connection().await;
    open.batch_execute("begin; insert into n select i, 1 from generate_series(100001, 101000) i")
        .await
        .expect("a transaction");
    cluster.execute(&insert(1, 20_000)).await;
    eventually("it is in the middle", || async {
        (!numbers(&walker).is_empty()).then_some(())
    })
    .await;
    cluster.stop(StopMode::Immediate).await;
    cluster.start_again().await;
    eventually("it takes rows again", || async {
        own::execute(&db.settings, "insert into n values (20001, 1)")
            .await
            .then_some(())
    })
    .await;
    complete(&walker, 20_001).await;
    assert_eq!(
        numbers(&walker).len(),
        20_001,
        "none came twice: its connection has never been lost"
    );
    drop(open);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_is_gone_on_with() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let slot = format!("rowcast_{}", db.name);
    let running = Process::serve(&db.settings, &slot, &[]).await;
    let walker = walker(running.address);
    live(&walker).await;
    db.execute(&insert(1, 5_000)).await;
    eventually("it is in the middle", || async {
        (!numbers(&walker).is_empty()).then_some(())
    })
    .await;
    running.signal(Signal::STOP);
    db.execute(&insert(5_001, 6_000)).await;
    // Its client gives the connection up, and the next ones wait for an answer.
    let connections = walker.log().connections;
    tokio::time::sleep(Duration::from_secs(4)).await;
    running.signal(Signal::CONT);
    complete(&walker, 6_000).await;
    assert!(walker.log().connections > connections);
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_made_anew_is_told_to_those_who_were_away() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let slot = format!("rowcast_{}", db.name);
    let first = Server::start(&db).await;
    let rows = json!([{"event": "INSERT", "schema": "public", "table": "n"}]);
    let config = json!({"postgres_changes": rows, "since": ""});
    let mut client = Client::connect(&first, Version::V2, &service()).await;
    client.enter("n", config.clone()).await;
    client
        .expect("live", |m| m.payload["message"] == "Subscribed to PostgreSQL")
        .await;
    db.execute(&insert(1, 1)).await;
    let since = client.change().await["cursor"].clone();
    first.stop().await;
    eventually("the slot is free", || async {
        own::execute(
            &db.settings,
            &format!("select pg_drop_replication_slot('{slot}')"),
        )
        .await
        .then_some(())
    })
    .await;
    db.execute(&insert(2, 2)).await;
    let second = Server::start(&db).await;
    let mut client = Client::connect(&second, Version::V2, &service()).await;
    client
        .enter("n", json!({"postgres_changes": rows, "since": since}))
        .await;
    let told = client
        .expect("an outcome", |m| m.payload["extension"] == "resume")
        .await;
    assert!(
        told.payload["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("resync")),
        "{told:?}"
    );
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_runs_out_during_a_replay_ends_it_and_the_next_goes_on() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = Server::start_with(&db, |config| {
        config.session.write_timeout = Duration::from_secs(60);
    })
    .await;
    let rows = json!([{"event": "INSERT", "schema": "public", "table": "n"}]);
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client
        .enter("n", json!({"postgres_changes": rows, "since": ""}))
        .await;
    client
        .expect("live", |m| m.payload["message"] == "Subscribed to PostgreSQL")
        .await;
    db.execute(&insert(1, 1)).await;
    let since = client.change().await["cursor"].clone();
    drop(client);
    db.execute("alter table n add x text").await;
    db.execute("insert into n select i, 1, repeat('x', 1000) from generate_series(2, 20000) i")
        .await;
    server.passed(&db).await;
    // It reads nothing, so that the replay waits for it until its token has run out.
    let brief = token::token("service_role", json!({"exp": token::now() + 3}));
    let mut client = Client::connect_narrow(&server, Version::V2, &brief).await;
    let join = client
        .push(
            "n",
            "phx_join",
            json!({"config": {"postgres_changes": rows, "since": since}}),
        )
        .await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    client.reply(&join).await;
    client.expect("its end", |m| m.event == "phx_close").await;
    let came: Vec<Value> = client
        .pending()
        .iter()
        .filter(|m| m.event == "postgres_changes")
        .map(|m| m.payload.clone())
        .collect();
    assert!(came.len() < 19_999, "too late to be a test");
    let since = came.last().map_or(since, |last| last["cursor"].clone());
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client
        .enter("n", json!({"postgres_changes": rows, "since": since}))
        .await;
    let behind = 2 + i64::try_from(came.len()).expect("small");
    for id in behind..=20_000 {
        assert_eq!(client.data().await["record"]["id"], json!(id));
    }
    server.stop().await;
}

/// A small file system, until it is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None` where none may be mounted.
    fn mount(owner: u32) -> Option<Self> {
        let disk = Self(tempfile::tempdir().expect("a folder"));
        let options = format!("size=16m,mode=700,uid={owner}");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(disk.0.path())
            .output();
        mount.is_ok_and(|output| output.status.success()).then_some(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

/// Only where a file system can be mounted, as root may: elsewhere this says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_delays_and_loses_nothing() {
    let cluster = OwnCluster::start(&[]).await;
    let Some(disk) = Disk::mount(cluster.owner()) else {
        eprintln!("no file system can be mounted here");
        return;
    };
    let db = cluster.database().await;
    db.execute(ROWS).await;
    let server = Server::start(&db).await;
    let walker = walker(server.address);
    live(&walker).await;
    db.execute(&format!(
        "create tablespace small location '{}'",
        disk.0.path().display()
    ))
    .await;
    db.execute("alter table n set tablespace small; grant select on n to service_role")
        .await;
    db.execute("create table filler (t text) tablespace small").await;
    db.execute(&insert(1, 100)).await;
    let fill = "insert into filler select repeat(md5(i::text), 60) from generate_series(1, 3000) i";
    while own::execute(&db.settings, fill).await {}
    let mut last = 100;
    // Rows go in until there is no room for another page.
    while own::execute(&db.settings, &insert(last + 1, last + 500)).await {
        last += 500;
    }
    db.execute("drop table filler").await;
    db.execute(&insert(last + 1, last + 10)).await;
    complete(&walker, last + 10).await;
    server.stop().await;
    drop(cluster);
}
