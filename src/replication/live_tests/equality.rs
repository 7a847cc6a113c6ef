use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::cluster::Cluster;
use super::follower::{Follower, pgoutput, settings};
use crate::change::{Change, Event, Row, Value};

/// One table for each kind of replica identity, and what is special beside it.
const SCHEMA: &str = r#"
create type mood as enum ('sad', 'ok');
create domain "Däte" as date check (value > '1900-01-01');
create domain amount as numeric(10,2);
create table keyed (id int primary key, n numeric, t text, a int[], m mood, d "Däte", x amount, b bytea, f bool, j jsonb,
                    z timestamptz, big text);
alter table keyed alter big set storage external;
create table whole (id int, t text, big text, u uuid);
alter table whole alter big set storage external;
alter table whole replica identity full;
create table by_index (id int not null, other int, code text not null, filler text);
create unique index by_index_code on by_index (code, id);
alter table by_index replica identity using index by_index_code;
create table nothing (id int primary key, t text);
alter table nothing replica identity nothing;
create table bare (id int, t text);
create table "Ünï, ""q"" T.b" ("we""ird é" int primary key, "sel ect" text, gone int);
alter table "Ünï, ""q"" T.b" drop column gone;
create table parted (id int, region text, v text, primary key (id, region)) partition by list (region);
create table parted_north partition of parted for values in ('n');
create table parted_south (v text, region text not null, id int not null, primary key (id, region));
alter table parted attach partition parted_south for values in ('s');
create table other (id int primary key, t text);
"#;

const TABLES: [&str; 8] = [
    "keyed",
    "whole",
    "by_index",
    "nothing",
    "bare",
    "Ünï, \"q\" T.b",
    "parted_north",
    "parted_south",
];

/// One event on a line, with what is known to differ left out (see `pgoutput`): an unchanged TOAST value is absent in
/// wal2json's rows, and a begin may not know the end of its commit.
fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Begin(t) => format!("begin {} {} {}", t.xid, t.commit_lsn, t.commit_micros),
        Event::Commit(t) => {
            format!(
                "commit {} {} {} {}",
                t.xid, t.commit_lsn, t.end_lsn, t.commit_micros
            )
        }
        Event::Change(change) => change_line(change),
        Event::Message { prefix, content, .. } => format!("message {prefix} {content}"),
        Event::Position(_)
        | Event::Tables(_)
        | Event::Epoch { .. }
        | Event::FailedOver(_)
        | Event::Stream(_) => return None,
    })
}

fn change_line(change: &Change) -> String {
    let row = |row: &Option<Row>| row.as_ref().map(columns).unwrap_or_default();
    let (action, table) = (change.action.as_str(), &change.table);
    let lsn = format!("{}+{}", change.lsn, change.ordinal);
    format!(
        "{action} {lsn} {table} new {:?} old {:?}",
        row(&change.new),
        row(&change.old)
    )
}

fn columns(row: &Row) -> Vec<String> {
    let known = row.iter().filter(|(_, value)| *value != Value::Unchanged);
    known
        .map(|(column, value)| format!("{}:{}={value:?}", column.name, column.type_oid))
        .collect()
}

async fn lines(follower: &mut Follower) -> Vec<String> {
    let end = |event: &Event| matches!(event, Event::Message { content, .. } if content == "the end");
    let events = follower.until(end).await;
    events.iter().filter_map(line).collect()
}

fn statement() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec![
        "''",
        "null",
        "'é 😀 \"q\" \\ x'",
        "E'a\\nb\\t\\u0001'",
        "'{}'",
        "'null'",
    ]);
    let id = 1..6_i32;
    prop_oneof![
        3 => (id.clone(), text.clone()).prop_map(|(id, t)| format!(
            "insert into keyed values ({id}, {id}.50, {t}, '{{1,NULL,3}}', 'ok', '2020-01-01', 1.1, '\\x00ff', {}, \
             '{{\"a\": [1, \"ü\"]}}', '2026-11-22 05:56:01.123456+05', repeat('y', {id} * 1500)) on conflict do nothing", id % 2 == 0)),
        2 => (id.clone(), text.clone()).prop_map(|(id, t)| format!("update keyed set t = {t} where id = {id}")),
        1 => id.clone().prop_map(|id| format!("update keyed set id = id + 10, d = null where id = {id}")),
        1 => id.clone().prop_map(|id| format!("update keyed set big = null where id = {id}")),
        1 => id.clone().prop_map(|id| format!("delete from keyed where id % 10 = {id}")),
        2 => (id.clone(), text.clone()).prop_map(|(id, t)| format!(
            "insert into whole values ({id}, {t}, repeat('z', 4000), '6b1fb5c7-4d9b-4f2b-8b6a-000000000001'), ({id}, null, null, null)")),
        2 => (id.clone(), text.clone()).prop_map(|(id, t)| format!("update whole set t = {t} where id = {id}")),
        1 => id.clone().prop_map(|id| format!("delete from whole where id = {id}")),
        2 => (id.clone(), text.clone()).prop_map(|(id, t)| format!(
            "insert into by_index values ({id}, {id}, 'c' || {id}, {t}) on conflict do nothing")),
        1 => id.clone().prop_map(|id| format!("update by_index set other = other + 1 where id = {id}")),
        1 => id.clone().prop_map(|id| format!("update by_index set code = code || 'x' where id = {id}")),
        1 => id.clone().prop_map(|id| format!("delete from by_index where id = {id}")),
        1 => (id.clone(), text.clone()).prop_map(|(id, t)| format!("insert into nothing values ({id}, {t}) on conflict do nothing")),
        1 => (id.clone(), text.clone()).prop_map(|(id, t)| format!("update nothing set t = {t} where id = {id}")),
        1 => id.clone().prop_map(|id| format!("delete from nothing where id = {id}")),
        1 => (id.clone(), text.clone()).prop_map(|(id, t)| format!("insert into bare values ({id}, {t})")),
        1 => (id.clone(), text.clone()).prop_map(|(id, t)| format!("update bare set t = {t} where id = {id}")),
        1 => (id.clone(), text.clone()).prop_map(|(id, t)| format!(
            "insert into \"Ünï, \"\"q\"\" T.b\" values ({id}, {t}) on conflict do nothing")),
        1 => id.clone().prop_map(|id| format!("delete from \"Ünï, \"\"q\"\" T.b\" where \"we\"\"ird é\" = {id}")),
        2 => (id.clone(), text.clone()).prop_map(|(id, t)| format!(
            "insert into parted values ({id}, 'n', {t}), ({id}, 's', {t}) on conflict do nothing")),
        1 => id.clone().prop_map(|id| format!("update parted set region = 'n', id = id + 100 where id = {id} and region = 's'")),
        1 => (id.clone(), text).prop_map(|(id, t)| format!("insert into other values ({id}, {t}) on conflict do nothing")),
        1 => Just("truncate whole, other, bare".to_owned()),
        1 => Just("truncate parted".to_owned()),
        1 => id.clone().prop_map(|id| format!("select pg_logical_emit_message(true, 'rowcast', 'say {id}')")),
        1 => id.clone().prop_map(|id| format!("select pg_logical_emit_message(false, 'rowcast', 'now {id}')")),
        1 => id.clone().prop_map(|id| format!("select pg_logical_emit_message(true, 'unheard', 'say {id}')")),
        1 => id.prop_map(|id| format!("insert into keyed (id, t) select n, 'many' from generate_series({id} * 1000, {id} * 1000 + 50) n \
                                        on conflict do nothing")),
        1 => Just("alter table keyed add column if not exists late int default 3".to_owned()),
        1 => Just("alter table keyed drop column if exists late".to_owned()),
        1 => Just("alter table bare alter id type bigint".to_owned()),
        1 => Just("analyze keyed, by_index".to_owned()),
    ]
}

/// A transaction, perhaps with parts that are undone.
fn transaction() -> impl Strategy<Value = String> {
    let part = prop::collection::vec(statement(), 1..5).prop_map(|parts| parts.join("; "));
    let nested = (part, 0..4_u8).prop_map(|(part, kind)| match kind {
        0 => format!("savepoint s; {part}; rollback to s"),
        1 => format!("savepoint s; {part}; release s"),
        _ => part,
    });
    (prop::collection::vec(nested, 1..4), 0..6_u8).prop_map(|(parts, kind)| {
        let parts = parts.join("; ");
        let end = if kind == 0 { "rollback" } else { "commit" };
        format!("begin; {parts}; {end}")
    })
}

/// The same WAL through both plugins is the same, position for position.
#[tokio::test]
async fn both_plugins_say_the_same() {
    let cluster = Cluster::start("logical_decoding_work_mem = 64kB");
    let client = cluster.client().await;
    client.batch_execute(SCHEMA).await.unwrap();
    let mut one = Follower::start(settings(&cluster), &TABLES);
    one.until_live().await;
    let mut other = Follower::start(pgoutput(&cluster), &TABLES);
    other.until_live().await;
    let plugins = client
        .query("select plugin::text from pg_replication_slots order by 1", &[])
        .await
        .unwrap();
    let plugins: BTreeSet<String> = plugins.iter().map(|row| row.get(0)).collect();
    assert_eq!(plugins.into_iter().collect::<Vec<_>>(), ["pgoutput", "wal2json"]);

    let seed = std::env::var("ROWCAST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand_seed);
    println!("replay with ROWCAST_SEED={seed}");
    let config = Config {
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let start = "select pg_logical_emit_message(true, 'rowcast', 'the end')";
    client.batch_execute(start).await.unwrap();
    lines(&mut one).await;
    lines(&mut other).await;
    for _ in 0..150 {
        let sql = transaction().new_tree(&mut runner).unwrap().current();
        // Each on its own: statements that are sent together are one transaction.
        for statement in sql.split("; ") {
            // What one statement refuses undoes its transaction for both.
            let _ = client.batch_execute(statement).await;
        }
    }
    client
        .batch_execute("copy (select 1) to '/dev/null'; insert into other values (99, '')")
        .await
        .unwrap();
    copy_in(&client).await;
    client.batch_execute(start).await.unwrap();
    let (one_said, other_said) = (lines(&mut one).await, lines(&mut other).await);
    for (one, other) in one_said.iter().zip(&other_said) {
        assert_eq!(one, other, "wal2json, then pgoutput");
    }
    assert_eq!(one_said.len(), other_said.len());
    for what in [
        "INSERT",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
        "message",
        "public.parted_south",
        "T.b",
    ] {
        assert!(
            one_said.iter().any(|line| line.contains(what)),
            "{what} did not come"
        );
    }
    assert!(one_said.len() > 500, "{}", one_said.len());
    one.stop().await;
    other.stop().await;
}

/// What cannot be helped.
#[tokio::test]
async fn known_differences() {
    let cluster = Cluster::start("");
    let client = cluster.client().await;
    let schema = "create table g (id int primary key, twice int generated always as (id * 2) stored, f float8, n numeric)";
    client.batch_execute(schema).await.unwrap();
    let mut one = Follower::start(settings(&cluster), &["g"]);
    one.until_live().await;
    let mut other = Follower::start(pgoutput(&cluster), &["g"]);
    other.until_live().await;
    let insert = "insert into g (id, f, n) values (1, 'NaN', '-Infinity')";
    client.batch_execute(insert).await.unwrap();
    let version = client.query_one("show server_version_num", &[]).await.unwrap();
    let generated = version.get::<_, String>(0).parse::<u32>().unwrap() >= 180_000;
    let row = one.change().await.new.unwrap();
    let values = ["twice", "f", "n"].map(|column| row.get(column));
    assert_eq!(
        values,
        [Some(Value::Text("2")), Some(Value::Null), Some(Value::Null)]
    );
    let row = other.change().await.new.unwrap();
    let values = ["twice", "f", "n"].map(|column| row.get(column));
    let twice = generated.then_some(Value::Text("2"));
    assert_eq!(
        values,
        [twice, Some(Value::Text("NaN")), Some(Value::Text("-Infinity"))]
    );
    one.stop().await;
    other.stop().await;
}

/// Rows that share a position.
async fn copy_in(client: &tokio_postgres::Client) {
    let sink = client.copy_in("copy by_index from stdin").await.unwrap();
    let mut sink = std::pin::pin!(sink);
    let rows: String = (100..200)
        .map(|n| format!("{n}\t{n}\tcopied {n}\tü\\n\n"))
        .collect();
    futures_util::SinkExt::send(&mut sink, bytes::Bytes::from(rows))
        .await
        .unwrap();
    sink.finish().await.unwrap();
}

fn rand_seed() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    u64::from(now.subsec_nanos()) ^ now.as_secs()
}
