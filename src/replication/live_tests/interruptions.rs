use super::cluster::{Cluster, WIDE};
use super::follower::{Follower, id, pgoutput, settings};
use crate::change::{Event, StreamState};
use crate::replication::Settings;

/// Ends the walsender that streams now.
const KILL: &str =
    "select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null";

#[tokio::test]
async fn a_walsender_killed_amid_a_large_transaction_is_continued() {
    a_walsender_killed_amid_a_large_transaction_is_continued_with(settings).await;
}

#[tokio::test]
async fn a_walsender_killed_amid_a_large_transaction_is_continued_of_pgoutput() {
    a_walsender_killed_amid_a_large_transaction_is_continued_with(pgoutput).await;
}

async fn a_walsender_killed_amid_a_large_transaction_is_continued_with(settings: fn(&Cluster) -> Settings) {
    let (cluster, client) = Cluster::with("", WIDE).await;
    let mut follower = Follower::start(settings(&cluster), &["t"]);
    follower.until_live().await;
    for insert in [
        "insert into t select n, repeat('x', 100) from generate_series(1, 100000) n",
        "insert into t values (100001)",
    ] {
        client.batch_execute(insert).await.unwrap();
    }
    let (mut ids, mut begins, mut commits, mut kills) = (Vec::new(), 0, 0, 0);
    while ids.last() != Some(&100_001) {
        match follower.next().await {
            Event::Change(change) => {
                ids.push(id(change.new.as_ref().unwrap()));
                if matches!(ids.len(), 10_000 | 30_000 | 31_000 | 80_000) {
                    client.batch_execute(KILL).await.unwrap();
                    kills += 1;
                }
            }
            Event::Begin(_) => begins += 1,
            Event::Commit(_) => commits += 1,
            Event::Position(_)
            | Event::Message { .. }
            | Event::Tables(_)
            | Event::Epoch { .. }
            | Event::FailedOver(_) => {}
            Event::Stream(StreamState::Interrupted(why)) => assert!(
                why.contains("57P01") || why.contains("in use") || why.contains("ended"),
                "{why}"
            ),
            Event::Stream(StreamState::Live) => {}
            Event::Stream(state) => panic!("{state:?}"),
        }
    }
    assert_eq!(kills, 4);
    assert_eq!(ids, (1..=100_001).collect::<Vec<_>>());
    assert_eq!((begins, commits), (2, 1), "the last commit is still to come");
    assert!(follower.metrics.changes_repeated.get() > 0);
    assert!(follower.metrics.replication_interruptions.get() > 0);
    follower.stop().await;
}

async fn restarted(mode: &str, settings: fn(&Cluster) -> Settings) {
    let (cluster, client) = Cluster::with_table("").await;
    let mut follower = Follower::start(settings(&cluster), &["t"]);
    follower.until_live().await;
    client
        .batch_execute("insert into t select generate_series(1, 5000)")
        .await
        .unwrap();
    let mut ids = follower.ids(2000).await;
    let restart = tokio::task::spawn_blocking({
        let mode = mode.to_owned();
        move || {
            cluster.down(&mode);
            cluster.up();
            cluster
        }
    });
    // A fast stop waits until the walsender has sent everything and we have confirmed it, another one for nothing.
    let (mut interrupted, mut again) = (false, false);
    while ids.last() != Some(&5000) || !again {
        match follower.next().await {
            Event::Change(change) => ids.push(id(change.new.as_ref().unwrap())),
            Event::Stream(StreamState::Interrupted(why)) => interrupted = !why.is_empty(),
            Event::Stream(StreamState::Live) => again = interrupted,
            _ => {}
        }
    }
    let cluster = restart.await.unwrap();
    let client = cluster.client().await;
    client
        .batch_execute("insert into t select generate_series(5001, 6000)")
        .await
        .unwrap();
    ids.extend(follower.ids(6000).await);
    assert_eq!(ids, (1..=6000).collect::<Vec<_>>());
    follower.stop().await;
}

#[tokio::test]
async fn postgres_restarts() {
    restarted("fast", settings).await;
}

#[tokio::test]
async fn postgres_crashes() {
    restarted("immediate", settings).await;
}

#[tokio::test]
async fn postgres_crashes_under_pgoutput() {
    restarted("immediate", pgoutput).await;
}

/// A new process, after a kill -9 of the old one, reads from the last confirmed position.
#[tokio::test]
async fn another_process_takes_up_what_was_not_confirmed() {
    another_process_takes_up_what_was_not_confirmed_with(settings).await;
}

#[tokio::test]
async fn another_process_takes_up_what_was_not_confirmed_of_pgoutput() {
    another_process_takes_up_what_was_not_confirmed_with(pgoutput).await;
}

async fn another_process_takes_up_what_was_not_confirmed_with(settings: fn(&Cluster) -> Settings) {
    let (cluster, client) = Cluster::with_table("").await;
    let mut follower = Follower::start(settings(&cluster), &["t"]);
    follower.until_live().await;
    follower.confirms = false;
    client.batch_execute("insert into t values (1)").await.unwrap();
    follower.ids(1).await;
    client.batch_execute("insert into t values (2)").await.unwrap();
    follower.ids(2).await;
    follower.stop().await;
    client.batch_execute("insert into t values (3)").await.unwrap();
    let mut follower = Follower::start(settings(&cluster), &["t"]);
    assert_eq!(follower.ids(3).await, [1, 2, 3]);
    follower.stop().await;
}

/// What was handed over is not sent to the next process.
#[tokio::test]
async fn what_was_confirmed_stays_confirmed() {
    let (cluster, client) = Cluster::with_table("").await;
    let mut follower = Follower::start(settings(&cluster), &["t"]);
    follower.until_live().await;
    client.batch_execute("insert into t values (1)").await.unwrap();
    follower.until(|event| matches!(event, Event::Commit(_))).await;
    follower.stop().await;
    client.batch_execute("insert into t values (2)").await.unwrap();
    let mut follower = Follower::start(settings(&cluster), &["t"]);
    assert_eq!(follower.ids(2).await, [2]);
    follower.stop().await;
}
