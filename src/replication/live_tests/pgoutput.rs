//! What is particular to pgoutput: its publications, and which plugin is taken.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::cluster::Cluster;
use super::follower::{Follower, id, pgoutput, settings};
use crate::change::{Action, Change, Event, StreamState, Streamed, TableName};
use crate::replication::{PGOUTPUT, WAL2JSON};

pub(super) async fn run(client: &Client, statements: &[&str]) {
    for statement in statements {
        client.batch_execute(statement).await.unwrap();
    }
}

/// The tables of our two publications.
async fn published(client: &Client) -> (Vec<String>, Vec<String>) {
    let sql = "select c.relname::text from pg_publication_rel m join pg_publication p on p.oid = m.prpubid
               join pg_class c on c.oid = m.prrelid where p.pubname = $1 order by 1";
    let mut both = Vec::new();
    for name in ["other_stream", "other_stream_inserts"] {
        let rows = client.query(sql, &[&name]).await.unwrap();
        both.push(rows.iter().map(|row| row.get(0)).collect());
    }
    let inserts = both.pop().unwrap();
    (both.pop().unwrap(), inserts)
}

async fn plugin(client: &Client) -> String {
    let sql = "select plugin::text from pg_replication_slots";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

pub(super) fn names(tables: &[&str]) -> BTreeSet<TableName> {
    tables
        .iter()
        .map(|table| TableName::new("public", table))
        .collect()
}

/// What is said of the tables next.
pub(super) async fn told(follower: &mut Follower) -> Streamed {
    loop {
        if let Event::Tables(streamed) = follower.next().await {
            return streamed;
        }
    }
}

async fn next_of(follower: &mut Follower, table: &str) -> Change {
    loop {
        let change = follower.change().await;
        if &*change.table.table == table {
            return change;
        }
    }
}

#[tokio::test]
async fn the_publications_hold_what_is_wanted() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    run(
        &client,
        &[
            "create table a (id int primary key); create table b (id int primary key); create table bare (id int)",
            "create table ident (id int); alter table ident replica identity full",
            "create table late (id int unique deferrable initially deferred not null)",
        ],
    )
    .await;
    let mut follower = Follower::start(pgoutput(&cluster), &["a", "bare", "ident", "late", "gone"]);
    follower.until_live().await;
    let (all, inserts) = published(&client).await;
    assert_eq!(
        (all.join(" "), inserts.join(" ")),
        ("a ident".into(), "bare late".into())
    );
    follower.set_tables(&["b", "ident"]);
    assert!(told(&mut follower).await.missing.is_empty());
    let (all, inserts) = published(&client).await;
    assert_eq!((all.join(" "), inserts.len()), ("b ident".into(), 0));
    follower.stop().await;
}

/// The application must be able to update what policies read, and what it publishes itself in its own way.
#[tokio::test]
async fn a_table_without_an_identity_does_not_hinder_the_application() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    run(
        &client,
        &["create table t (id int, n int); create table u (id int primary key, n int)"],
    )
    .await;
    let mut follower = Follower::start(pgoutput(&cluster), &["t", "u"]);
    follower.until_live().await;
    run(
        &client,
        &[
            "insert into t values (1, 1)",
            "update t set n = 2",
            "delete from t",
            "insert into t values (2, 1)",
        ],
    )
    .await;
    assert_eq!(follower.ids(2).await, [1, 2]);
    // One that gets an identity is followed whole, one that loses it is let go of.
    run(
        &client,
        &[
            "alter table t add primary key (id)",
            "alter table u drop constraint u_pkey",
        ],
    )
    .await;
    told(&mut follower).await;
    let (all, inserts) = published(&client).await;
    assert_eq!((all.join(" "), inserts.join(" ")), ("t".into(), "u".into()));
    run(
        &client,
        &[
            "insert into u values (3, 3)",
            "update u set n = 4",
            "update t set n = 7 where id = 2",
        ],
    )
    .await;
    let change = next_of(&mut follower, "u").await;
    assert_eq!(
        (change.action, id(change.new.as_ref().unwrap())),
        (Action::Insert, 3)
    );
    let change = next_of(&mut follower, "t").await;
    assert_eq!(
        (change.action, id(change.new.as_ref().unwrap())),
        (Action::Update, 2)
    );
    follower.stop().await;
}

/// `ours`, and a table of somebody else that our role cannot publish, both followed.
pub(super) async fn with_theirs() -> (Cluster, tokio_postgres::Client, Follower) {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    run(
        &client,
        &[
            "create role app login replication; grant create on database postgres to app",
            "create table theirs (id int primary key); create table ours (id int primary key); alter table ours owner to app",
        ],
    )
    .await;
    let mut settings = pgoutput(&cluster);
    settings.connect.user = "app".to_owned();
    let follower = Follower::start(settings, &["ours", "theirs"]);
    (cluster, client, follower)
}

#[tokio::test]
async fn a_table_of_somebody_else_is_left_out_and_said_until_it_may_be_added() {
    let (_cluster, client, mut follower) = with_theirs().await;
    let first = told(&mut follower).await;
    assert_eq!(*first.tables, names(&["ours", "theirs"]));
    assert_eq!(*first.missing, names(&["theirs"]));
    follower.until_live().await;
    run(
        &client,
        &["insert into theirs values (1)", "insert into ours values (2)"],
    )
    .await;
    assert_eq!(follower.ids(2).await, [2]);
    // A superuser adds it; that is found without anything being said.
    run(&client, &["alter publication other_stream add table theirs"]).await;
    let then = told(&mut follower).await;
    assert!(then.missing.is_empty(), "{then:?}");
    run(&client, &["insert into theirs values (3)"]).await;
    assert_eq!(
        next_of(&mut follower, "theirs").await.new.map(|row| id(&row)),
        Some(3)
    );
    // It is not taken out again.
    assert_eq!(published(&client).await.0, ["ours", "theirs"]);
    follower.stop().await;
}

#[tokio::test]
async fn a_role_that_may_not_publish_is_told() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    run(&client, &["create role app login replication"]).await;
    let mut settings = pgoutput(&cluster);
    settings.connect.user = "app".to_owned();
    let mut follower = Follower::start(settings, &[]);
    let why = follower.interruption().await;
    assert!(
        why.contains("CREATE PUBLICATION \"other_stream\"") && why.contains("rowcast check"),
        "{why}"
    );
    run(&client, &["grant create on database postgres to app"]).await;
    follower.until_live().await;
    follower.stop().await;
}

/// A table made anew under its name enters again, and the stream says from where on.
#[tokio::test]
async fn a_table_made_anew_comes_again() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    run(&client, &["create table t (id int primary key)"]).await;
    let mut follower = Follower::start(pgoutput(&cluster), &["t"]);
    let first = told(&mut follower).await;
    follower.until_live().await;
    run(
        &client,
        &[
            "drop table t; create table t (id int primary key, more text)",
            "select pg_logical_emit_message(true, 'rowcast', 'the catalog changed')",
        ],
    )
    .await;
    let then = told(&mut follower).await;
    assert!(then.from > first.from && then.missing.is_empty());
    run(&client, &["insert into t values (5, 'x')"]).await;
    assert_eq!(follower.change().await.new.unwrap().layout().columns.len(), 2);
    follower.stop().await;
}

/// All partitions are there through their root: a new one is published from its first row on, before anybody asks.
#[tokio::test]
async fn a_new_partition_comes_from_its_first_row_on() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    run(
        &client,
        &["create table p (id int primary key) partition by range (id);
           create table p1 partition of p for values from (0) to (10)"],
    )
    .await;
    let mut follower = Follower::start(pgoutput(&cluster), &["p1"]);
    follower.confirms = false;
    follower.until_live().await;
    assert_eq!(published(&client).await.0, ["p"]);
    run(
        &client,
        &["begin; create table p2 partition of p for values from (10) to (20); insert into p values (1), (11); commit"],
    )
    .await;
    assert_eq!(follower.ids(1).await, [1], "not asked for yet");
    follower.set_tables(&["p1", "p2"]);
    assert_eq!(follower.ids(11).await, [1, 11]);
    assert_eq!(published(&client).await.0, ["p"]);
    follower.stop().await;
}

/// What the slot holds cannot be decoded without the publication as it was then.
#[tokio::test]
async fn a_dropped_publication_is_told() {
    for recreate in [false, true] {
        let cluster = Cluster::start("");
        let client = cluster.client().await;
        run(&client, &["create table t (id int primary key)"]).await;
        let mut settings = pgoutput(&cluster);
        settings.slot.recreate_lost = recreate;
        let mut follower = Follower::start(settings, &["t"]);
        follower.until_live().await;
        run(
            &client,
            &["drop publication other_stream", "insert into t values (1)"],
        )
        .await;
        while !follower
            .interruption()
            .await
            .contains("publication \"other_stream\" does not exist")
        {}
        if recreate {
            follower
                .until(|event| matches!(event, Event::Stream(StreamState::Reset(why)) if why.contains("other_stream")))
                .await;
            follower.until_live().await;
            run(&client, &["insert into t values (2)"]).await;
            assert_eq!(follower.ids(2).await, [2]);
        } else {
            let why = follower.interruption().await;
            assert!(
                why.contains("is lost") && why.contains("pg_drop_replication_slot('other')"),
                "{why}"
            );
        }
        follower.stop().await;
    }
}

#[tokio::test]
async fn the_first_plugin_that_the_server_has_is_taken_and_an_existing_slot_keeps_its_own() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    run(&client, &["create table t (id int primary key)"]).await;
    let with = |plugins: &[&str]| {
        let mut settings = settings(&cluster);
        settings.slot.plugins = plugins.iter().map(|plugin| (*plugin).to_owned()).collect();
        settings
    };
    for (new, chosen) in [
        (&["no_such_plugin", PGOUTPUT][..], PGOUTPUT),
        (&[WAL2JSON, PGOUTPUT][..], WAL2JSON),
    ] {
        let either = [&[WAL2JSON, PGOUTPUT][..], &[PGOUTPUT, WAL2JSON]];
        for plugins in [new].into_iter().chain(either) {
            let mut follower = Follower::start(with(plugins), &["t"]);
            follower.until_live().await;
            assert_eq!(plugin(&client).await, chosen, "{plugins:?}");
            run(&client, &["truncate t", "insert into t values (1)"]).await;
            let inserted = follower
                .until(|event| matches!(event, Event::Change(c) if c.new.is_some()))
                .await;
            assert!(!inserted.is_empty());
            follower.stop().await;
        }
        let other = if chosen == PGOUTPUT { WAL2JSON } else { PGOUTPUT };
        let mut follower = Follower::start(with(&[other]), &["t"]);
        let why = follower.interruption().await;
        assert!(
            why.contains(&format!(
                "output plugin {chosen}, which replication.plugin does not allow"
            )),
            "{why}"
        );
        follower.stop().await;
        run(
            &client,
            &["select pg_drop_replication_slot(slot_name) from pg_replication_slots"],
        )
        .await;
    }
    let mut follower = Follower::start(with(&["no_such_plugin", "nor_this"]), &["t"]);
    let why = follower.interruption().await;
    assert!(why.contains("no_such_plugin is not installed"), "{why}");
    follower.stop().await;
}

/// Servers that keep a list of plugins may leave wal2json out of it.
#[tokio::test]
async fn a_plugin_that_is_not_allowed_is_done_without() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    let trust = "alter system set output_plugin_libraries = pgoutput";
    if client.batch_execute(trust).await.is_err() {
        return;
    }
    cluster.down("fast");
    cluster.up();
    let client = cluster.client().await;
    let mut settings = settings(&cluster);
    settings.slot.plugins = vec![WAL2JSON.to_owned(), PGOUTPUT.to_owned()];
    let mut follower = Follower::start(settings, &[]);
    follower.until_live().await;
    assert_eq!(plugin(&client).await, PGOUTPUT);
    follower.stop().await;
}
