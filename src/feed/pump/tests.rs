mod broadcasts;
mod carried;
mod distances;
mod failover;
mod resume;
mod transactions;

use super::*;
use crate::change::{Layout, LayoutColumn, RowBuilder};
use crate::expression::RowView;
use crate::feed::shaper::Pacer;
use crate::feed::{Style, UnjudgedDeletes};
use crate::hub::{Bounds, Lane, Outbox};
use crate::policy::Judge;
use crate::postgres::testing::Cluster;
use crate::postgres::{Connection, InstallOptions, PoolOptions, Session, install};
use crate::protocol::{Binding, EventFilter, Select, Shaping, Switch, Version};

/// A pump on a database with the published table `t(a, b, id)`, and a connection that changes it.
async fn pump() -> (Pump, Connection) {
    let (name, mut db) = Cluster::shared().database().await;
    let options = InstallOptions {
        create_roles: false,
        ..InstallOptions::default()
    };
    install(&mut db, &options).await.expect("the functions");
    db.batch_execute(
        "create table t (a int, b int, id int primary key); create publication p for table t;
         do $$ begin create role pump_reader; create role pump_other;
               exception when duplicate_object or unique_violation then null; end $$;
         grant select on t to pump_reader, pump_other",
    )
    .await
    .expect("a table");
    let options = PoolOptions {
        size: 2,
        wait: Duration::from_secs(10),
        session: Session::new("test"),
    };
    let pool = Pool::new(&Cluster::shared().settings(&name), &options).expect("a pool");
    let settings = Settings {
        publication: "p".to_owned(),
        catalog_refresh: Duration::from_secs(3600),
        policies_required: false,
        in_memory: true,
        snapshot: crate::feed::SnapshotSettings::default(),
        logical_broadcasts: true,
        channel_recheck: Duration::ZERO,
        window: crate::history::Bounds {
            age: Duration::from_secs(60),
            bytes: 1 << 20,
        },
        max_record_bytes: 1 << 20,
        max_broadcast_bytes: 1000,
        max_in_values: 100,
        unjudged_deletes: UnjudgedDeletes::Key,
    };
    let metrics = Metrics::new();
    let judging = crate::policy::Settings {
        timeout: Duration::from_secs(2),
        quarantine: Duration::from_secs(1),
        parallel: 1,
        batch: 100,
        relation_rows: 100,
        relation_rows_total: 1000,
    };
    let keeper = Keeper::start(pool.clone(), &settings, Vec::new(), Arc::clone(&metrics)).await;
    let engine = Engine::new(
        Judge::new(pool.clone(), judging, Arc::clone(&metrics)),
        Arc::clone(&metrics),
    );
    let pacer = Pacer::start(Arc::clone(&metrics), &Shutdown::new());
    let pump = Pump::new(Parts {
        settings,
        keeper: Arc::new(keeper.expect("a catalog")),
        engine,
        rooms: Rooms::start(
            crate::room::Keeps {
                age: Duration::from_secs(60),
                bytes: 1 << 20,
            },
            Arc::clone(&metrics),
            &Shutdown::new(),
        ),
        sampling: None,
        pool,
        pools: Vec::new(),
        metrics,
        events: mpsc::channel(1).1,
        commands: mpsc::unbounded_channel().1,
        tables: watch::Sender::default(),
        handed_over: watch::Sender::default(),
        wal_budget: watch::channel(u64::MAX).1,
        said: Lsn(0),
        stream: watch::Sender::new(StreamState::Starting.into()),
        signals: Signals::default(),
        marks: Marks::default(),
        pacer,
    });
    (pump, db)
}

fn claims(role: &str) -> Arc<Claims> {
    Arc::new(Claims {
        role: role.into(),
        sub: None,
        exp: 0,
        scope: None,
        json: "{}".into(),
    })
}

/// A subscription to rows of `t` with `b = 1`, checked against today's catalog.
async fn checked(pump: &Pump) -> (Box<Add>, oneshot::Receiver<Result<(), SubscribeError>>) {
    let keeper = &pump.parts.keeper;
    let claims = claims("pump_reader");
    let snapshot = keeper
        .with_role(&claims.role)
        .await
        .expect("an answer")
        .expect("the role");
    let binding = Binding {
        id: 7,
        event: EventFilter::All,
        schema: Some("public".to_owned()),
        table: Some("t".to_owned()),
        filter: Some("b=eq.1".to_owned()),
        select: Select::All,
        transitions: Switch::Off,
        truncate: Switch::Off,
        shaping: Shaping::Off,
        snapshot: crate::protocol::Snapshot::Off,
        source: String::new(),
    };
    let filter = keeper
        .filter(&binding, &snapshot, &snapshot.roles[&claims.role])
        .await;
    let (answer, answered) = oneshot::channel();
    let add = Add {
        subscriber: Subscriber {
            id: SubscriberId(1),
            topic: "realtime:t".into(),
            version: Version::V2,
            style: Style::Modern,
            cursors: false,
            outbox: Lane::new(&Outbox::new(Bounds {
                frames: 100,
                bytes: 1 << 20,
            })),
        },
        claims,
        newer: None,
        bindings: vec![Bound {
            binding,
            filter: filter.expect("a filter"),
        }],
        snapshot,
        prefetched: Vec::new(),
        target: Lsn(0),
        comes: Comes::Back,
        since: None,
        reply: None,
        on_live: Vec::new(),
        answer,
    };
    (Box::new(add), answered)
}

/// Whether anybody could want a row of `t`.
fn wanted(pump: &Pump, values: &[(&str, &str)]) -> bool {
    let layout = values.iter().map(|(name, _)| LayoutColumn {
        name: (*name).into(),
        type_oid: 23,
    });
    let layout = Arc::new(Layout {
        columns: layout.collect(),
    });
    let mut row = RowBuilder::default();
    for (_, value) in values {
        row.text(value);
    }
    let row = row.finish(layout);
    let table = &pump.snapshot.catalog.tables[&TableName::new("public", "t")];
    let subscriptions = pump.roster.index.table(table.oid).expect("subscriptions");
    let row = RowView::new(table, &subscriptions.types, &row);
    subscriptions
        .candidates(&[&row])
        .any(|slot| slot.filter(&row).is_some())
}

#[tokio::test]
async fn a_filter_means_its_column_whatever_became_of_the_table_meanwhile() {
    let (mut pump, db) = pump().await;
    let (add, _answered) = checked(&pump).await;
    db.batch_execute("alter table t drop column a")
        .await
        .expect("a drop");
    pump.parts.keeper.refresh().await.expect("a catalog");
    pump.adopt().await;
    pump.command(Command::Add(add)).await;
    assert!(wanted(&pump, &[("b", "1"), ("id", "9")]));
    assert!(!wanted(&pump, &[("b", "2"), ("id", "1")]));
    // And where the table changes once the subscription is there.
    db.batch_execute("alter table t add a int; alter table t rename b to c; alter table t rename a to b")
        .await
        .expect("renames");
    pump.parts.keeper.refresh().await.expect("a catalog");
    pump.adopt().await;
    assert!(wanted(&pump, &[("c", "2"), ("id", "9"), ("b", "1")]));
    assert!(!wanted(&pump, &[("c", "1"), ("id", "9"), ("b", "2")]));
}

/// Between the reading of the catalog and that of what roles may see, too: nobody would see anything of the old one.
#[tokio::test]
async fn a_table_made_anew_while_the_catalog_is_read_is_seen() {
    let (pump, db) = pump().await;
    let keeper = &pump.parts.keeper;
    let (_add, _answered) = checked(&pump).await;
    for round in 0..80 {
        let anew = async {
            tokio::time::sleep(Duration::from_micros(250) * round).await;
            db.batch_execute(
                "drop table t; create table t (a int, b int, id int primary key);
                 alter publication p add table t; grant select on t to pump_reader",
            )
            .await
        };
        let (read, anew) = tokio::join!(keeper.refresh(), anew);
        anew.expect("a table");
        read.expect("a catalog");
        let access = Arc::clone(&keeper.snapshot().roles["pump_reader"]);
        assert!(!access.outdated, "round {round}");
    }
}

#[tokio::test]
async fn claims_of_a_new_role_are_taken_up_while_the_catalog_changes() {
    let (mut pump, db) = pump().await;
    let (add, _answered) = checked(&pump).await;
    pump.command(Command::Add(add)).await;
    db.batch_execute("alter table t add d int")
        .await
        .expect("a column");
    pump.parts.keeper.refresh().await.expect("a catalog");
    let claims = claims("pump_other");
    pump.parts
        .keeper
        .with_role(&claims.role)
        .await
        .expect("an answer")
        .expect("the role");
    let (answer, answered) = oneshot::channel();
    pump.command(Command::Replace {
        id: SubscriberId(1),
        claims,
        on_live: Vec::new(),
        answer,
    })
    .await;
    assert_eq!(answered.await, Ok(Ok(())));
}
