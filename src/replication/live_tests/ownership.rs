//! Several servers on one slot, and others that move it behind our back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::cluster::Cluster;
use super::follower::{Follower, settings};
use crate::change::{Event, Lsn, StreamState};
use crate::postgres::ConnectSettings;

/// Ends the walsender that streams now.
const CUT: &str =
    "select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null";

async fn pair(cluster: &Cluster, tables: &[&str]) -> (Follower, Follower) {
    let mut first = Follower::start(settings(cluster), tables);
    first.until_live().await;
    let mut second = Follower::start(settings(cluster), tables);
    let why = second.interruption().await;
    assert!(why.starts_with("standby: waits for slot rowcast"), "{why}");
    (first, second)
}

/// A server that connects anew, for other tables or after a cut, keeps its slot.
#[tokio::test]
async fn a_standby_takes_nothing_from_a_server_that_is_well() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    client
        .batch_execute("create table t (id int primary key); create table u (id int primary key)")
        .await
        .unwrap();
    let (mut first, mut second) = pair(&cluster, &["t"]).await;
    for round in 0..30 {
        if round % 3 == 2 {
            // The same interruption is told again only if the stream was live in between.
            while first.metrics.replication_live.get() == 0 {
                first.next().await;
            }
            client.batch_execute(CUT).await.unwrap();
            first.interruption().await;
        } else {
            first.set_tables([["u"], ["t"]][round % 3].as_slice());
            first.until(|event| matches!(event, Event::Tables(_))).await;
        }
        first.ping.notify_one();
        first.until(|event| matches!(event, Event::Position(_))).await;
        assert_eq!(second.metrics.replication_live.get(), 0, "round {round}");
    }
    first.stop().await;
    second.until_live().await;
    second.stop().await;
}

/// Postgres was away for both. The one that streamed has the clients, so the standby gives way for some seconds; whoever it
/// is that goes on then, it is one of them.
#[tokio::test]
async fn after_a_restart_of_postgres_one_of_them_streams() {
    let mut cluster = Cluster::start("");
    let (mut first, mut second) = pair(&cluster, &[]).await;
    for mode in ["immediate", "fast", "immediate", "immediate"] {
        let restart = tokio::task::spawn_blocking(move || {
            cluster.down(mode);
            cluster.up();
            cluster
        });
        first.interruption().await;
        cluster = restart.await.unwrap();
        let live = tokio::select! {
            () = first.until_live() => 1,
            () = second.until_live() => 2,
        };
        if live == 2 {
            // The first came back too late.
            assert_eq!(first.metrics.replication_live.get(), 0);
            second.stop().await;
            first.until_live().await;
            first.stop().await;
            return;
        }
        assert_eq!(second.metrics.replication_live.get(), 0);
    }
    first.stop().await;
    second.until_live().await;
    second.stop().await;
}

/// Without a word of the stream, a standby knows where its slot stands: who waits for that has not to wait for a change.
#[tokio::test]
async fn where_the_stream_begins_is_told_before_anything_else() {
    let (cluster, client) = Cluster::with_table("").await;
    let mut first = Follower::start(settings(&cluster), &["t"]);
    first.until_live().await;
    first.stop().await;
    let confirmed = "select confirmed_flush_lsn::text from pg_replication_slots";
    let confirmed: String = client.query_one(confirmed, &[]).await.unwrap().get(0);
    client.batch_execute("insert into t values (1)").await.unwrap();
    let mut second = Follower::start(settings(&cluster), &["t"]);
    let events = second.until(|event| matches!(event, Event::Begin(_))).await;
    let confirmed: Lsn = confirmed.parse().unwrap();
    let told = |event: &Event| matches!(event, Event::Position(position) if *position == confirmed);
    assert!(events.iter().any(told), "{events:?}");
    second.stop().await;
}

/// Passes everything on, but holds the start of a stream back while it is told to.
struct Gate {
    armed: AtomicBool,
    held: Notify,
    release: Notify,
}

impl Gate {
    async fn open(settings: &mut ConnectSettings) -> Arc<Self> {
        let gate = Arc::new(Self {
            armed: AtomicBool::new(false),
            held: Notify::new(),
            release: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = (settings.host.clone(), settings.port);
        settings.port = listener.local_addr().unwrap().port();
        let shared = Arc::clone(&gate);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server.clone()).await.unwrap();
                tokio::spawn(Arc::clone(&shared).pass(client, server));
            }
        });
        gate
    }

    async fn pass(self: Arc<Self>, client: TcpStream, server: TcpStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let down = async { tokio::io::copy(&mut from_server, &mut to_client).await.is_ok() };
        let up = async {
            let mut buffer = vec![0; 65536];
            while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                let sent = &buffer[..read];
                let starts = sent.windows(17).any(|part| part == b"START_REPLICATION");
                if starts && self.armed.swap(false, Ordering::SeqCst) {
                    self.held.notify_one();
                    self.release.notified().await;
                }
                if to_server.write_all(sent).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            _ = down => {}
            () = up => {}
        }
    }
}

/// Postgres says nothing when a stream begins behind what was asked for.
#[tokio::test]
async fn a_slot_moved_between_the_look_at_it_and_the_start_is_a_reset() {
    let (cluster, client) = Cluster::with_table("").await;
    let mut behind = settings(&cluster);
    let gate = Gate::open(&mut behind.connect).await;
    let mut follower = Follower::start(behind, &["t"]);
    follower.until_live().await;
    client.batch_execute("insert into t values (1)").await.unwrap();
    follower.ids(1).await;

    gate.armed.store(true, Ordering::SeqCst);
    client.batch_execute(CUT).await.unwrap();
    gate.held.notified().await;
    for sql in [
        "insert into t values (2)",
        "select pg_replication_slot_advance('rowcast', pg_current_wal_flush_lsn())",
        "insert into t values (3)",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    gate.release.notify_one();
    let told = |event: &Event| matches!(event, Event::Stream(StreamState::Reset(why)) if why.contains("somebody else"));
    let events = follower.until(told).await;
    assert!(
        !events.iter().any(|event| matches!(event, Event::Change(_))),
        "{events:?}"
    );
    assert_eq!(
        follower.ids(3).await,
        [3],
        "2 is gone, and that was said before 3"
    );
    follower.stop().await;
}
