//! The feed on a real stream: broadcasts from the database, from `realtime.send` to their room.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Feed, Outlets, Settings, SnapshotSettings, UnjudgedDeletes};
use crate::change::{StreamState, StreamStatus};
use crate::hub::{Bounds, Drained, Frame, Outbox};
use crate::policy::{Engine, Judge};
use crate::postgres::testing::Cluster;
use crate::postgres::{Connection, InstallOptions, Pool, PoolOptions, Session, install};
use crate::replication::{self, SlotSettings};
use crate::room::testing::listener;
use crate::room::{Member, RoomName, Rooms};
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// No wait takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running feed on a database of its own, and a member of the private channel `room`.
struct Rig {
    db: Connection,
    outbox: Outbox,
    waiting: std::collections::VecDeque<String>,
    shutdown: Shutdown,
    _member: Member,
    _feed: Feed,
}

fn engine(pool: &Pool, metrics: &Arc<Metrics>) -> Engine {
    let judging = crate::policy::Settings {
        timeout: Duration::from_secs(10),
        quarantine: Duration::from_secs(1),
        parallel: 1,
        batch: 100,
        relation_rows: 100,
        relation_rows_total: 1000,
    };
    let judge = Judge::new(pool.clone(), judging, Arc::clone(metrics));
    Engine::new(judge, Arc::clone(metrics))
}

fn listen(rooms: &Rooms, outbox: &Outbox) -> Member {
    let name = RoomName {
        topic: "realtime:room".into(),
        private: true,
    };
    let entry = listener(outbox);
    let member = rooms.enter(name, entry);
    member.open();
    member
}

impl Rig {
    async fn start() -> Self {
        let (name, mut db) = Cluster::shared().database().await;
        install(&mut db, &InstallOptions::default())
            .await
            .unwrap_or_else(|e| panic!("{}", e.chain()));
        let connect = Cluster::shared().settings(&name);
        let options = PoolOptions {
            size: 2,
            wait: Duration::from_secs(10),
            session: Session::new("test"),
        };
        let pool = Pool::new(&connect, &options).expect("a pool");
        let (metrics, shutdown) = (Metrics::new(), Shutdown::new());
        let rooms = Rooms::start(
            crate::room::Keeps {
                age: Duration::from_secs(60),
                bytes: 1 << 20,
            },
            Arc::clone(&metrics),
            &shutdown,
        );
        let settings = Settings {
            publication: "supabase_realtime".to_owned(),
            catalog_refresh: Duration::from_secs(3600),
            max_record_bytes: 1 << 20,
            max_broadcast_bytes: 1 << 20,
            max_in_values: 100,
            unjudged_deletes: UnjudgedDeletes::Key,
            policies_required: false,
            in_memory: true,
            snapshot: SnapshotSettings::default(),
            logical_broadcasts: true,
            channel_recheck: Duration::ZERO,
            window: crate::history::Bounds {
                age: Duration::from_secs(60),
                bytes: 1 << 20,
            },
        };
        let (stream, mut states) = watch::channel(StreamState::Starting.into());
        let started = Feed::start(
            settings,
            Vec::new(),
            pool.clone(),
            engine(&pool, &metrics),
            Outlets {
                rooms: rooms.clone(),
                snapshots: pool.clone(),
                pools: Vec::new(),
                stream,
                wal_budget: watch::channel(u64::MAX).1,
            },
            Arc::clone(&metrics),
            &shutdown,
        );
        let (feed, ends) = started.await.expect("a feed");
        let settings = replication::Settings {
            connect,
            slot: SlotSettings {
                name,
                plugins: vec![replication::WAL2JSON.to_owned()],
                recreate_lost: false,
                take_over: false,
                failover: false,
            },
            application_name: "rowcast test".to_owned(),
            peer_timeout: Duration::from_secs(60),
            logical_broadcasts: false,
        };
        let outbox = Outbox::new(Bounds {
            frames: 2000,
            bytes: 8 << 20,
        });
        let member = listen(&rooms, &outbox);
        shutdown.spawn(
            "replication",
            replication::run(
                settings,
                ends.tables,
                ends.events,
                ends.handed_over,
                ends.signals,
                metrics,
                shutdown.clone(),
            ),
        );
        let live = states.wait_for(StreamStatus::flows);
        tokio::time::timeout(PATIENCE, live)
            .await
            .expect("a live stream")
            .expect("a feed");
        Self {
            db,
            outbox,
            waiting: std::collections::VecDeque::new(),
            shutdown,
            _member: member,
            _feed: feed,
        }
    }

    async fn run(&self, sql: &str) {
        let done = self.db.batch_execute(sql).await;
        done.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// The events of the next broadcasts.
    async fn next(&mut self, count: usize) -> Vec<String> {
        while self.waiting.len() < count {
            let drained = tokio::time::timeout(PATIENCE, self.outbox.drain()).await;
            let Ok(Drained::Frames(frames)) = drained else {
                panic!("{drained:?} behind {:?}", self.waiting);
            };
            for frame in frames {
                let Frame::Text(text) = frame else {
                    panic!("{frame:?}");
                };
                let frame: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                let event = frame["payload"]["event"].as_str().expect("an event");
                self.waiting.push_back(event.to_owned());
            }
        }
        self.waiting.drain(..count).collect()
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.shutdown.wait(PATIENCE).await.expect("all tasks end");
        // The server ends its side of the stream a moment after ours.
        let drop =
            "select count(*) from (select pg_drop_replication_slot(slot_name) from pg_replication_slots
                     where slot_name = current_database() and not active) dropped";
        let dropped = async || -> i64 { self.db.query_one(drop, &[]).await.expect("slots").get(0) };
        while dropped().await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn what_is_committed_is_said_in_order_and_the_rest_never() {
    let mut rig = Rig::start().await;
    rig.run(
        "begin; select realtime.send('{}', 'never', 'room'); rollback;
         begin;
         select realtime.send('{}', '1', 'room');
         savepoint s; select realtime.send('{}', 'never', 'room'); rollback to s;
         select realtime.send('{}', 'elsewhere', 'hall');
         select realtime.send('{}', 'elsewhere', 'room', false);
         select realtime.send('{}', '2', 'room');
         commit;
         insert into realtime.messages (topic, extension, event, private, payload, skip_broadcast)
         values ('room', 'broadcast', 'never', true, '{}', true);
         select realtime.send('{}', n::text, 'room') from generate_series(3, 10000) n",
    )
    .await;
    let expected: Vec<String> = (1..=10_000).map(|n| n.to_string()).collect();
    assert_eq!(rig.next(10_000).await, expected);
    rig.run("select realtime.send('{}', 'last', 'room')").await;
    assert_eq!(rig.next(1).await, ["last"]);
    rig.end().await;
}

/// Every new partition is another set of tables to stream, and so another connection.
#[tokio::test]
async fn partitions_come_and_go_and_nothing_is_lost_or_said_twice() {
    let mut rig = Rig::start().await;
    let mut expected = Vec::new();
    for day in 1..=5 {
        let (now, then) = (2 * day, 2 * day + 1);
        rig.run(&format!("select realtime.send('{{}}', '{now}', 'room')"))
            .await;
        rig.run(&format!(
            "create table realtime.day{day} partition of realtime.messages for values from ('2099-01-{day}') to ('2099-01-{}')",
            day + 1
        ))
        .await;
        rig.run(&format!(
            "insert into realtime.messages (topic, extension, event, private, payload, inserted_at)
             values ('room', 'broadcast', '{then}', true, '{{}}', '2099-01-{day}')"
        ))
        .await;
        expected.extend([now.to_string(), then.to_string()]);
    }
    assert_eq!(rig.next(10).await, expected);
    for day in 1..=5 {
        rig.run(&format!(
            "drop table realtime.day{day}; select realtime.send('{{}}', '{day}', 'room')"
        ))
        .await;
    }
    rig.run("select realtime.send('{}', 'last', 'room')").await;
    assert_eq!(rig.next(6).await, ["1", "2", "3", "4", "5", "last"]);
    assert!(rig.waiting.is_empty());
    rig.end().await;
}
