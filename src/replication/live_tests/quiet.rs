//! A database where nothing happens beside one where much does: the slot moves on and lets Postgres drop WAL.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::cluster::Cluster;
use super::follower::{Follower, settings};
use crate::change::{Event, StreamState, StreamStatus};
use crate::postgres::{ConnectSettings, Pool, PoolOptions, Session};
use crate::replication::watcher::HEARTBEAT;
use crate::replication::{SlotHealth, WalStatus, WatchSettings, Watched, watch};
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// Writes into another database, and lets Postgres look at what that means for slots.
async fn write_elsewhere(cluster: &Cluster) {
    let config = format!(
        "host=127.0.0.1 port={} user=postgres dbname=busy",
        cluster.settings().port
    );
    let (busy, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    for sql in [
        "create table if not exists t (id int, filler text)",
        "insert into t select n, repeat('x', 1000) from generate_series(1, 2000) n",
        "checkpoint",
    ] {
        busy.batch_execute(sql).await.unwrap();
    }
}

/// Postgres' own keepalives do it: no message of ours is needed, and none is written.
#[tokio::test]
async fn a_quiet_database_holds_nothing_back_for_a_busy_one() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    client.batch_execute("create database busy").await.unwrap();
    let mut follower = Follower::start(settings(&cluster), &[]);
    follower.until_live().await;
    for _ in 0..3 {
        let wal = "select pg_current_wal_lsn()::text";
        let wal: String = client.query_one(wal, &[]).await.unwrap().get(0);
        let moved = format!(
            "select confirmed_flush_lsn > '{wal}' and restart_lsn > '{wal}' from pg_replication_slots"
        );
        // Where the slot may restart moves with the snapshots that checkpoints write, and once one of them is confirmed.
        while !client.query_one(&moved, &[]).await.unwrap().get::<_, bool>(0) {
            write_elsewhere(&cluster).await;
            follower.ping.notify_one();
            follower.until(|event| matches!(event, Event::Position(_))).await;
        }
    }
    follower.stop().await;
}

/// It tells a position by itself, in its place.
#[tokio::test]
async fn a_heartbeat_moves_the_stream() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    let mut follower = Follower::start(settings(&cluster), &[]);
    follower.until_live().await;
    let emit = format!("select pg_logical_emit_message(false, '{HEARTBEAT}', '')::text");
    let lsn: String = client.query_one(&emit, &[]).await.unwrap().get(0);
    let lsn = lsn.parse().unwrap();
    let events = follower
        .until(|event| matches!(event, Event::Position(position) if *position >= lsn))
        .await;
    assert!(
        !events.iter().any(|event| matches!(event, Event::Message { .. })),
        "{events:?}"
    );
    follower.stop().await;
}

struct Watching {
    health: watch::Receiver<Option<SlotHealth>>,
    budget: watch::Receiver<u64>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    _stream: watch::Sender<StreamStatus>,
}

impl Watching {
    fn start(connect: ConnectSettings, heartbeat: Duration) -> Self {
        let (health, seen) = watch::channel(None);
        let (wal_budget, budget) = watch::channel(0);
        let (stream, states) = watch::channel(StreamState::Live.into());
        let (metrics, shutdown) = (Metrics::new(), Shutdown::new());
        let settings = WatchSettings {
            slot: "rowcast".to_owned(),
            interval: Duration::from_millis(20),
            wal_budget: 1 << 30,
            heartbeat,
        };
        let pool = PoolOptions {
            size: 1,
            wait: Duration::from_secs(10),
            session: Session::new("rowcast test"),
        };
        let pool = Pool::new(&connect, &pool).unwrap();
        let watched = Watched { health, wal_budget };
        shutdown.spawn(
            "slot",
            watch(
                settings,
                pool,
                states,
                watched,
                Arc::clone(&metrics),
                shutdown.clone(),
            ),
        );
        Self {
            health: seen,
            budget,
            metrics,
            shutdown,
            _stream: stream,
        }
    }

    async fn until(&mut self, what: impl Fn(&SlotHealth) -> bool) -> SlotHealth {
        let seen = self.health.wait_for(|health| health.as_ref().is_some_and(&what));
        let seen = tokio::time::timeout(Duration::from_secs(60), seen).await;
        seen.expect("it is seen in time").unwrap().clone().unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.shutdown.wait(Duration::from_secs(30)).await.unwrap();
    }
}

const FILL: &str = "select pg_logical_emit_message(false, 'fill', repeat('x', 1000000)) from generate_series(1, 10); \
                    select pg_switch_wal()";

#[tokio::test]
async fn the_watcher_tells_how_a_slot_is_lost() {
    let cluster = Cluster::start("max_slot_wal_keep_size = 128MB\nmax_wal_size = 32MB\nmin_wal_size = 32MB");
    let client = cluster.client().await;
    let mut watching = Watching::start(cluster.settings(), Duration::ZERO);
    watching.until(|slot| slot.status == WalStatus::Missing).await;
    let create = "select pg_create_logical_replication_slot('rowcast', 'wal2json')";
    client.batch_execute(create).await.unwrap();
    let slot = watching.until(|slot| slot.status == WalStatus::Reserved).await;
    assert_eq!(slot.keep_size, Some(128 << 20));
    assert_eq!(slot.headroom(), 64 << 20, "half of what is kept");
    assert_eq!(*watching.budget.borrow(), 64 << 20);
    loop {
        client.batch_execute(FILL).await.unwrap();
        let retained = slot.retained + (10 << 20);
        let seen = watching.until(|slot| slot.retained > retained).await;
        if seen.safe.is_some_and(|safe| safe < 64 << 20) {
            assert!(
                seen.headroom() < 64 << 20,
                "what others hold back makes the window smaller"
            );
            break;
        }
    }
    loop {
        client.batch_execute(FILL).await.unwrap();
        client.batch_execute("checkpoint").await.unwrap();
        let lost = "select wal_status = 'lost' from pg_replication_slots";
        if client.query_one(lost, &[]).await.unwrap().get(0) {
            break;
        }
    }
    let slot = watching.until(|slot| slot.status == WalStatus::Lost).await;
    assert_eq!((slot.headroom(), *watching.budget.borrow()), (0, 0));
    let text = watching.metrics.render();
    assert!(
        text.contains("rowcast_slot_wal_status{status=\"lost\"} 1"),
        "{text}"
    );
    assert!(
        text.contains("rowcast_slot_wal_status{status=\"reserved\"} 0"),
        "{text}"
    );
    watching.stop().await;
}

/// Nobody reads here, so that the slot stands still, as it does where Postgres' keepalives do not come.
#[tokio::test]
async fn a_slot_that_stands_still_gets_heartbeats_if_they_may_be_written() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    let create = "select pg_create_logical_replication_slot('rowcast', 'wal2json')";
    client.batch_execute(create).await.unwrap();
    let watching = Watching::start(cluster.settings(), Duration::from_millis(50));
    client.batch_execute(FILL).await.unwrap();
    while watching.metrics.heartbeats.get() < 2 {
        tokio::task::yield_now().await;
    }
    watching.stop().await;
    // What nothing has flushed cannot be read yet.
    client.batch_execute(FILL).await.unwrap();
    let written =
        "select count(*) > 1 from pg_logical_slot_peek_changes('rowcast', null, null, 'format-version', '2',
                   'add-msg-prefixes', 'rowcast.heartbeat') where data like '%rowcast.heartbeat%'";
    assert!(client.query_one(written, &[]).await.unwrap().get::<_, bool>(0));

    let revoke = "revoke execute on function pg_logical_emit_message(boolean, text, text) from public;
                  create role plain login";
    client.batch_execute(revoke).await.unwrap();
    let mut settings = cluster.settings();
    settings.user = "plain".to_owned();
    let mut watching = Watching::start(settings, Duration::from_millis(1));
    for _ in 0..3 {
        let before = watching.until(|_| true).await;
        client.batch_execute(FILL).await.unwrap();
        watching.until(|slot| slot.retained > before.retained).await;
    }
    assert_eq!(watching.metrics.heartbeats.get(), 0, "it goes on looking");
    watching.stop().await;
}
