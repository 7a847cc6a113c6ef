//! On a real Postgres, with the stream of its changes.

mod following;
mod judging;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::auth::Scope;
use crate::feed::Outlets;
use crate::feed::{Feed, Settings, UnjudgedDeletes};
use crate::policy::Judge;
use crate::postgres::testing::Cluster;
use crate::postgres::{Connection, InstallOptions, Pool, PoolOptions, Session, install};
use crate::replication::{self, SlotSettings};
use crate::room::Rooms;

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

/// Each test has a slot.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        Cluster::start(|_| {
            vec![
                "wal_level=logical".into(),
                "max_connections=200".into(),
                "max_replication_slots=50".into(),
                "max_wal_senders=50".into(),
            ]
        })
    })
}

/// A feed on a database of its own.
struct Rig {
    name: String,
    feed: Feed,
    db: Connection,
    metrics: Arc<Metrics>,
    stream: watch::Receiver<StreamStatus>,
    shutdown: Shutdown,
}

/// How a rig differs from others.
struct With {
    recheck: Duration,
    timeout: Duration,
    /// Changes come down the stream.
    streams: bool,
}

impl Default for With {
    fn default() -> Self {
        Self {
            recheck: Duration::ZERO,
            timeout: Duration::from_secs(2),
            streams: true,
        }
    }
}

/// Members of rooms, and two roles of whom only the first may use private channels.
const SCHEMA: &str = "
    do $$ begin create role channel_user; create role channel_stranger;
          exception when duplicate_object or unique_violation then null; end $$;
    grant usage on schema realtime, auth to channel_user, channel_stranger;
    grant select, insert on realtime.messages to channel_user;
    create table members (room text, person uuid, writes bool default true, primary key (room, person));
    grant select on members to channel_user, channel_stranger;
";

/// Whoever is a member of the room may read.
const MEMBERS_READ: &str = "
    create policy r on realtime.messages for select using (exists (
        select from public.members m where m.room = realtime.topic() and m.person = auth.uid()))";

impl Rig {
    async fn new(setup: &str) -> Self {
        Self::with(setup, With::default()).await
    }

    async fn with(setup: &str, with: With) -> Self {
        let (name, mut db) = cluster().database().await;
        let options = InstallOptions {
            create_roles: false,
            ..InstallOptions::default()
        };
        install(&mut db, &options).await.expect("the functions");
        db.batch_execute(SCHEMA).await.expect("the schema");
        db.batch_execute(setup).await.expect("the test's own part");
        let connect = cluster().settings(&name);
        let pool = |size| {
            let options = PoolOptions {
                size,
                wait: Duration::from_secs(10),
                session: Session::new("test"),
            };
            Pool::new(&connect, &options).expect("a pool")
        };
        let judging = crate::policy::Settings {
            timeout: with.timeout,
            quarantine: Duration::from_secs(1),
            parallel: 2,
            batch: 1000,
            relation_rows: 2000,
            relation_rows_total: 10_000,
        };
        let settings = Settings {
            publication: "supabase_realtime".to_owned(),
            catalog_refresh: Duration::from_secs(3600),
            policies_required: false,
            in_memory: true,
            snapshot: crate::feed::SnapshotSettings::default(),
            logical_broadcasts: true,
            channel_recheck: with.recheck,
            window: crate::history::Bounds {
                age: Duration::from_secs(60),
                bytes: 1 << 20,
            },
            max_record_bytes: 1 << 20,
            max_broadcast_bytes: 1 << 20,
            max_in_values: 100,
            unjudged_deletes: UnjudgedDeletes::Key,
        };
        let metrics = Metrics::new();
        let shutdown = Shutdown::new();
        let judge = Judge::new(pool(4), judging, Arc::clone(&metrics));
        let engine = Engine::new(judge, Arc::clone(&metrics));
        let states = watch::Sender::new(crate::change::StreamState::Starting.into());
        let stream = states.subscribe();
        let started = Feed::start(
            settings,
            Vec::new(),
            pool(2),
            engine,
            Outlets {
                rooms: Rooms::start(
                    crate::room::Keeps {
                        age: Duration::from_secs(60),
                        bytes: 1 << 20,
                    },
                    Arc::clone(&metrics),
                    &shutdown,
                ),
                snapshots: pool(1),
                pools: Vec::new(),
                stream: states,
                wal_budget: watch::channel(u64::MAX).1,
            },
            Arc::clone(&metrics),
            &shutdown,
        );
        let (feed, ends) = started.await.expect("a feed");
        let settings = replication::Settings {
            connect,
            slot: SlotSettings {
                name: name.clone(),
                plugins: vec![replication::WAL2JSON.to_owned()],
                recreate_lost: false,
                take_over: true,
                failover: false,
            },
            application_name: "test".to_owned(),
            peer_timeout: Duration::from_secs(60),
            logical_broadcasts: false,
        };
        let following = replication::run(
            settings,
            ends.tables,
            ends.events,
            ends.handed_over,
            ends.signals,
            Arc::clone(&metrics),
            shutdown.clone(),
        );
        let mut rig = Self {
            name,
            feed,
            db,
            metrics,
            stream,
            shutdown,
        };
        if with.streams {
            rig.shutdown.spawn("replication", following);
            rig.stream.wait_for(StreamStatus::flows).await.expect("a stream");
        }
        rig
    }

    async fn execute(&self, sql: &str) {
        self.db.batch_execute(sql).await.expect(sql);
    }

    async fn join(&self, id: SubscriberId, claims: Arc<Claims>, wanted: Rights) -> Rights {
        self.ask(Some(id), claims, wanted).await.expect("rights")
    }

    async fn ask(
        &self,
        id: Option<SubscriberId>,
        claims: Arc<Claims>,
        wanted: Rights,
    ) -> Result<Rights, AuthorityError> {
        self.feed.rights(Seeker { id, claims }, wanted).await
    }

    /// What a member is told next.
    async fn told(&self, id: SubscriberId) -> Rights {
        let told = tokio::time::timeout(Duration::from_secs(30), self.feed.rights_changed(id));
        told.await.expect("to be told within thirty seconds")
    }

    /// Waits until a member has been told of these rights, whatever it is told before.
    async fn told_at_last(&self, id: SubscriberId, rights: Rights) {
        while self.told(id).await != rights {}
    }

    fn judge_calls(&self) -> u64 {
        self.metrics.judge_calls.get()
    }

    /// Stops it and waits for all of its tasks.
    async fn stop(self) {
        self.shutdown.cancel();
        self.shutdown.wait(Duration::from_secs(30)).await.expect("an end");
    }
}

fn id() -> SubscriberId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    SubscriberId(NEXT.fetch_add(1, Ordering::Relaxed))
}

fn claims(role: &str, sub: &str, topic: &str) -> Arc<Claims> {
    let scope = Scope {
        topic: topic.into(),
        headers: "{}".into(),
    };
    Arc::new(Claims {
        role: role.into(),
        sub: Some(sub.into()),
        exp: 0,
        json: format!(r#"{{"sub": "{sub}", "role": "{role}"}}"#).into(),
        scope: Some(Arc::new(scope)),
    })
}

/// Somebody in a room.
fn user(sub: &str, topic: &str) -> Arc<Claims> {
    claims("channel_user", sub, topic)
}
