//! What the stream tells of its tables without having been asked: nobody discards anything then, so nothing comes again.

use super::cluster::Cluster;
use super::follower::{Follower, id};
use super::pgoutput::{names, run, told, with_theirs};
use crate::change::Event;

/// [`with_theirs`], followed by somebody who hands nothing over.
async fn followed() -> (Cluster, tokio_postgres::Client, Follower) {
    let (cluster, client, mut follower) = with_theirs().await;
    follower.confirms = false;
    assert_eq!(*told(&mut follower).await.missing, names(&["theirs"]));
    follower.until_live().await;
    (cluster, client, follower)
}

#[tokio::test]
async fn what_was_not_handed_over_yet_does_not_come_again() {
    let (_cluster, client, mut follower) = followed().await;
    run(&client, &["insert into ours values (1)"]).await;
    assert_eq!(follower.ids(1).await, [1]);
    run(
        &client,
        &[
            "alter publication other_stream add table theirs",
            "select pg_logical_emit_message(true, 'rowcast', 'the catalog changed')",
        ],
    )
    .await;
    assert!(told(&mut follower).await.missing.is_empty());
    run(&client, &["insert into theirs values (2)"]).await;
    assert_eq!(follower.ids(2).await, [2]);
    follower.stop().await;
}

/// The connection ends within a transaction, and the next one finds that more is published: that is told behind it.
#[tokio::test]
async fn the_rest_of_a_transaction_comes_first() {
    const ROWS: i64 = 20_000;
    let (_cluster, client, mut follower) = followed().await;
    let insert = format!("insert into ours select generate_series(1, {ROWS})");
    run(&client, &[&insert]).await;
    // What the follower does not take holds the stream up in the middle of it.
    let first = follower.change().await;
    assert_eq!(first.new.map(|row| id(&row)), Some(1));
    run(
        &client,
        &[
            "alter publication other_stream add table theirs",
            "select pg_terminate_backend(active_pid) from pg_replication_slots",
        ],
    )
    .await;
    follower
        .until(|event| matches!(event, Event::Commit(_)))
        .await
        .iter()
        .filter(|event| !matches!(event, Event::Stream(_)))
        .zip(2..)
        .for_each(|(event, expected)| match event {
            Event::Change(change) => assert_eq!(change.new.as_ref().map(id), Some(expected)),
            Event::Commit(_) => assert_eq!(expected, ROWS + 1),
            other => panic!("{other:?} in front of {expected}"),
        });
    assert!(told(&mut follower).await.missing.is_empty());
    run(&client, &["insert into theirs values (1)"]).await;
    assert_eq!(follower.ids(1).await, [1]);
    follower.stop().await;
}
