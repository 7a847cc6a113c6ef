use std::time::Duration;

use super::cluster::{Cluster, WIDE};
use super::follower::{Follower, id, pgoutput, settings};
use crate::change::{Action, Event, Lsn, StreamState};
use crate::replication::Settings;

fn shape(events: &[Event]) -> String {
    let mut shape = String::new();
    for event in events {
        match event {
            Event::Begin(_) => shape.push('B'),
            Event::Change(change) => shape.push(match change.action {
                Action::Insert => 'I',
                Action::Update => 'U',
                Action::Delete => 'D',
                Action::Truncate => 'T',
            }),
            Event::Message { content, .. } => shape.push_str(content),
            Event::Commit(_) => shape.push('C'),
            Event::Position(_) | Event::Tables(_) | Event::Epoch { .. } | Event::FailedOver(_) => {}
            Event::Stream(_) => shape.push('S'),
        }
    }
    shape
}

#[tokio::test]
async fn transactions_arrive_whole_and_in_commit_order() {
    transactions_arrive_whole_and_in_commit_order_with(settings).await;
}

#[tokio::test]
async fn transactions_arrive_whole_and_in_commit_order_of_pgoutput() {
    transactions_arrive_whole_and_in_commit_order_with(pgoutput).await;
}

async fn transactions_arrive_whole_and_in_commit_order_with(settings: fn(&Cluster) -> Settings) {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    client
        .batch_execute(
            "create table t (id int primary key); create table u (id int); create table v (id int)",
        )
        .await
        .unwrap();
    let mut follower = Follower::start(settings(&cluster), &["t", "v"]);
    follower.until_live().await;
    let late = cluster.client().await;
    late.batch_execute("begin; insert into t values (1)")
        .await
        .unwrap();
    // Each on its own: statements that are sent together are one transaction.
    for statement in [
        "insert into t values (2)",
        "insert into u values (2)",
        "begin; insert into t values (3); rollback",
        "begin; insert into t values (4); update t set id = 5 where id = 4; savepoint s; insert into t values (6); \
         rollback to s; delete from t where id = 5; commit",
        "truncate u, v",
        "select pg_logical_emit_message(true, 'rowcast', 'm'), pg_logical_emit_message(true, 'other', 'x')",
        "select pg_logical_emit_message(false, 'rowcast', 'n')",
    ] {
        client.batch_execute(statement).await.unwrap();
    }
    late.batch_execute("commit").await.unwrap();
    let last = |event: &Event| matches!(event, Event::Change(change) if change.new.as_ref().is_some_and(|row| id(row) == 1));
    let mut events = follower.until(last).await;
    events.push(follower.next().await);
    assert_eq!(shape(&events), "BICBIUDCBTCBmCnBIC");
    let mut ends = Vec::new();
    for event in &events {
        if let Event::Begin(transaction) | Event::Commit(transaction) = event {
            ends.push(transaction.commit_lsn);
            assert!(transaction.xid > 0);
            assert!(transaction.commit_micros > 1_700_000_000_000_000);
        }
    }
    assert!(ends.is_sorted());
    follower.stop().await;
}

/// An idle or filtered database still moves the slot on.
#[tokio::test]
async fn positions_flow_without_any_table_and_move_the_slot() {
    positions_flow_without_any_table_and_move_the_slot_with(settings).await;
}

#[tokio::test]
async fn positions_flow_without_any_table_and_move_the_slot_of_pgoutput() {
    positions_flow_without_any_table_and_move_the_slot_with(pgoutput).await;
}

async fn positions_flow_without_any_table_and_move_the_slot_with(settings: fn(&Cluster) -> Settings) {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    client.batch_execute("create table t (id int)").await.unwrap();
    let mut follower = Follower::start(settings(&cluster), &[]);
    follower.until_live().await;
    client
        .batch_execute("insert into t select generate_series(1, 1000)")
        .await
        .unwrap();
    let written: String = client
        .query_one("select pg_current_wal_flush_lsn()::text", &[])
        .await
        .unwrap()
        .get(0);
    let written: Lsn = written.parse().unwrap();
    follower.ping.notify_one();
    let events = follower
        .until(|event| matches!(event, Event::Position(position) if *position >= written))
        .await;
    assert_eq!(shape(&events), "", "no table, no change");
    // The slot follows what is echoed.
    let confirmed = "select confirmed_flush_lsn::text from pg_replication_slots";
    loop {
        let position: String = client.query_one(confirmed, &[]).await.unwrap().get(0);
        if position.parse::<Lsn>().unwrap() >= written {
            break;
        }
        follower.ping.notify_one();
        follower.next().await;
    }
    follower.stop().await;
}

/// Pings are answered with a position, again and again.
#[tokio::test]
async fn every_ping_brings_a_position() {
    let cluster = Cluster::start("");
    let mut follower = Follower::start(settings(&cluster), &[]);
    follower.until_live().await;
    for _ in 0..20 {
        follower.ping.notify_one();
        follower.until(|event| matches!(event, Event::Position(_))).await;
    }
    follower.stop().await;
}

#[tokio::test]
async fn a_new_set_of_tables_takes_effect_without_loss_or_repeat() {
    a_new_set_of_tables_takes_effect_without_loss_or_repeat_with(settings).await;
}

#[tokio::test]
async fn a_new_set_of_tables_takes_effect_without_loss_or_repeat_of_pgoutput() {
    a_new_set_of_tables_takes_effect_without_loss_or_repeat_with(pgoutput).await;
}

async fn a_new_set_of_tables_takes_effect_without_loss_or_repeat_with(settings: fn(&Cluster) -> Settings) {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    client
        .batch_execute("create table t (id int primary key); create table u (id int primary key)")
        .await
        .unwrap();
    let mut follower = Follower::start(settings(&cluster), &["t"]);
    follower.until_live().await;
    let writer = {
        let client = cluster.client().await;
        tokio::spawn(async move {
            for id in 1..=3000 {
                let insert = format!("insert into t values ({id}); insert into u values ({id})");
                client.batch_execute(&insert).await.unwrap();
            }
        })
    };
    let mut ids = Vec::new();
    let mut others: Vec<i64> = Vec::new();
    let mut sets = [&["t", "u"][..], &["t"], &["u", "t"]].into_iter();
    while ids.last() != Some(&3000) {
        match follower.next().await {
            Event::Change(change) if &*change.table.table == "t" => {
                ids.push(id(change.new.as_ref().unwrap()))
            }
            Event::Change(change) => others.push(id(change.new.as_ref().unwrap())),
            Event::Stream(StreamState::Interrupted(why)) => panic!("{why}"),
            // Between two transactions, as the feed does: half a transaction would come again.
            Event::Commit(_) if ids.len() % 700 == 0 => {
                if let Some(set) = sets.next() {
                    follower.set_tables(set);
                }
            }
            _ => {}
        }
    }
    assert_eq!(ids, (1..=3000).collect::<Vec<_>>());
    assert!(!others.is_empty() && others.is_sorted_by(|a, b| a < b));
    // An empty set silences both.
    follower.set_tables(&[]);
    follower.ping.notify_one();
    writer.await.unwrap();
    follower.stop().await;
}

/// A slow receiver holds the stream up, in bounded memory, and the server is still answered.
#[tokio::test]
async fn a_million_rows_pass_a_slow_receiver() {
    let (cluster, client) =
        Cluster::with("wal_sender_timeout = 2s\nlogical_decoding_work_mem = 1MB", WIDE).await;
    let mut follower = Follower::start(settings(&cluster), &["t"]);
    follower.until_live().await;
    client
        .batch_execute("insert into t select n, 'some text to carry' from generate_series(1, 1000000) n")
        .await
        .unwrap();
    let mut next = 1;
    while next <= 1_000_000 {
        match follower.next().await {
            Event::Change(change) => {
                assert_eq!(id(change.new.as_ref().unwrap()), next);
                if next == 100_000 {
                    // Twice the server's patience, to which the stream must answer without reading.
                    tokio::time::sleep(Duration::from_secs(4)).await;
                }
                next += 1;
            }
            Event::Stream(state) => panic!("{state:?}"),
            _ => {}
        }
    }
    assert_eq!(follower.metrics.changes.get(), 1_000_000);
    assert_eq!(follower.metrics.changes_repeated.get(), 0);
    follower.stop().await;
}

#[tokio::test]
async fn a_unix_socket_serves_too() {
    let (cluster, client) = Cluster::with_table("").await;
    let mut settings = settings(&cluster);
    settings.connect.host = cluster.socket_dir();
    let mut follower = Follower::start(settings, &["t"]);
    follower.until_live().await;
    client
        .batch_execute("insert into t select generate_series(1, 20000)")
        .await
        .unwrap();
    assert_eq!(follower.ids(20_000).await.len(), 20_000);
    follower.stop().await;
}

/// ANALYZE beside a stream of changes makes wal2json forget keys it adds by itself; identities must stay.
#[tokio::test]
async fn identities_survive_analyze_in_a_loop() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    client
        .batch_execute("create table t (id int primary key, n int, s text); insert into t values (1, 0, 'x')")
        .await
        .unwrap();
    let mut follower = Follower::start(settings(&cluster), &["t"]);
    follower.until_live().await;
    let analyzer = {
        let client = cluster.client().await;
        tokio::spawn(async move { while client.batch_execute("analyze t").await.is_ok() {} })
    };
    let writer = tokio::spawn(async move {
        for n in 1..=2000 {
            client
                .batch_execute(&format!("update t set n = {n}"))
                .await
                .unwrap();
        }
        client
    });
    for n in 1..=2000 {
        let change = follower.change().await;
        let new = change.new.unwrap();
        assert_eq!(new.layout().columns.len(), 3, "update {n}");
        let old = change.old.unwrap_or_else(|| panic!("update {n} has no identity"));
        let names: Vec<_> = old.layout().columns.iter().map(|c| c.name.to_string()).collect();
        assert_eq!(names, ["id"], "update {n}");
    }
    analyzer.abort();
    writer.await.unwrap();
    follower.stop().await;
}
