//! Tables that are not like others, and transactions that are not.

use serde_json::{Value, json};

use super::{ALICE, service, shorts, subscriber, told};
use crate::support::{Client, Database, OwnCluster, Server, Version, token, version};

fn on(schema: &str, table: &str) -> Value {
    json!([{"event": "*", "schema": schema, "table": table, "truncate": true}])
}

/// Names of 63 bytes, with everything in them that is special to somebody.
const NAMES: [&str; 8] = [
    "a.b",
    "a b,c",
    "it's \"quoted\"",
    "back\\slash\\",
    "*",
    "Grüße, 世界 🦀",
    "ééééééééééééééééééééééééééééééé!",
    "$1 %s {}[]():;@#&|~`\t\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn any_name_is_only_a_name() {
    let db = Database::new().await;
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    for (name, other) in NAMES.iter().zip(NAMES.iter().rev()) {
        assert!(name.len() <= 63);
        let table = format!("{}.{}", quoted(name), quoted(other));
        db.execute(&format!(
            "create schema {}; create table {table} ({} int primary key, plain text);
             alter table {table} enable row level security;
             create policy {} on {table} for select using ({} > 1);
             grant usage on schema {} to authenticated; grant select on {table} to authenticated;
             alter publication supabase_realtime add table {table}",
            quoted(name),
            quoted(name),
            quoted(other),
            quoted(name),
            quoted(name),
        ))
        .await;
    }
    let server = Server::start(&db).await;
    let items: Vec<Value> = NAMES
        .iter()
        .zip(NAMES.iter().rev())
        .map(|(name, other)| json!({"event": "*", "schema": name, "table": other, "truncate": true}))
        .collect();
    let mut client = subscriber(&server, &token::user(ALICE), json!(items)).await;
    for (name, other) in NAMES.iter().zip(NAMES.iter().rev()) {
        let table = format!("{}.{}", quoted(name), quoted(other));
        db.execute(&format!(
            "insert into {table} values (1, 'hidden'), (2, 'x'); update {table} set plain = 'y';
             delete from {table}; truncate {table}"
        ))
        .await;
        let told = told(&mut client, &db, &server).await;
        let kinds: Vec<&Value> = told.iter().map(|data| &data["type"]).collect();
        assert_eq!(kinds, ["INSERT", "UPDATE", "DELETE", "TRUNCATE"], "{name}");
        assert!(
            told.iter()
                .all(|data| data["schema"] == *name && data["table"] == *other),
            "{name}"
        );
        assert_eq!(told[0]["record"], json!({*name: 2, "plain": "x"}));
        assert_eq!(told[1]["record"], json!({*name: 2, "plain": "y"}));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_hundred_columns() {
    let db = Database::new().await;
    let columns: Vec<String> = (1..1600).map(|n| format!("c{n} int2")).collect();
    db.execute(&format!(
        "create table wide (id int primary key, {});
         alter table wide enable row level security; create policy p on wide using (c1599 = 7);
         grant select on wide to authenticated; alter publication supabase_realtime add table wide",
        columns.join(", ")
    ))
    .await;
    let server = Server::start(&db).await;
    let mut client = subscriber(&server, &token::user(ALICE), on("public", "wide")).await;
    db.execute("insert into wide (id, c1599) values (1, 7), (2, 8); update wide set c1 = 1")
        .await;
    let told = told(&mut client, &db, &server).await;
    assert_eq!(told.len(), 2);
    let record = told[1]["record"].as_object().expect("a row");
    assert_eq!(
        (record.len(), &record["c1"], &record["c1599"]),
        (1600, &json!(1), &json!(7))
    );
    assert_eq!(told[0]["columns"].as_array().map(Vec::len), Some(1600));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_columns_and_other_identities() {
    let db = Database::new().await;
    db.execute(
        "create table gen (id int primary key, a int, twice int generated always as (a * 2) stored);
         alter table gen enable row level security; create policy p on gen using (twice > 10);
         create table by_index (id int primary key, name text not null, note text);
         create unique index by_name on by_index (name); alter table by_index replica identity using index by_name;
         create table none (id int primary key, note text); alter table none replica identity nothing;
         grant select on gen, by_index, none to authenticated;
         alter publication supabase_realtime add table gen, by_index, none",
    )
    .await;
    let server = Server::start(&db).await;
    let everything = json!([{"event": "*", "schema": "public"}]);
    let mut client = subscriber(&server, &token::user(ALICE), everything).await;
    db.execute("insert into gen values (1, 2), (2, 8); update gen set a = a + 4")
        .await;
    let shown = shorts(&mut client, &db, &server).await;
    if version::streams_generated() {
        let expected = [
            r#"INSERT gen {"a":8,"id":2,"twice":16}"#,
            r#"UPDATE gen {"a":6,"id":1,"twice":12}"#,
            r#"UPDATE gen {"a":12,"id":2,"twice":24}"#,
        ];
        assert_eq!(shown, expected);
    } else {
        let failed = |kind: &str| format!(r#"{kind} gen {{}} ["Error 500: Policy evaluation failed"]"#);
        assert_eq!(shown, ["INSERT", "INSERT", "UPDATE", "UPDATE"].map(failed));
    }
    db.execute("insert into by_index values (1, 'a', 'n'); update by_index set name = 'b'; update by_index set id = 2; delete from by_index")
        .await;
    let told_by_index = told(&mut client, &db, &server).await;
    let old: Vec<&Value> = told_by_index.iter().map(|data| &data["old_record"]).collect();
    assert_eq!(
        old,
        [
            &Value::Null,
            &json!({"name": "a"}),
            &json!({"name": "b"}),
            &json!({"name": "b"})
        ],
        "what the index has"
    );
    // While updates and deletes are published, Postgres allows none of them here.
    db.execute("insert into none values (1, 'x')").await;
    for refused in ["update none set note = 'y'", "delete from none"] {
        assert!(db.try_execute(refused).await.is_err());
    }
    assert_eq!(
        shorts(&mut client, &db, &server).await,
        [r#"INSERT none {"id":1,"note":"x"}"#]
    );
    // While they are not, they happen and nobody is told, and the stream goes on.
    db.execute(
        "alter publication supabase_realtime set (publish = 'insert'); update none set note = 'y'; delete from none;
         alter publication supabase_realtime set (publish = 'insert, update, delete, truncate');
         insert into none values (2, 'z')",
    )
    .await;
    assert_eq!(
        shorts(&mut client, &db, &server).await,
        [r#"INSERT none {"id":2,"note":"z"}"#]
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_toast_is_named() {
    let db = Database::new().await;
    db.execute(
        "create table big (id int primary key, note text, body text, more text, secret text);
         alter table big alter body set storage external; alter table big alter more set storage external;
         alter table big alter secret set storage external;
         grant select (id, note, body, more) on big to authenticated;
         create table judged (id int primary key, note text, body text); alter table judged alter body set storage external;
         alter table judged enable row level security; create policy p on judged using (id = 1 or body > 'a');
         grant select on judged to authenticated;
         alter publication supabase_realtime add table big, judged;",
    )
    .await;
    let server = Server::start(&db).await;
    let items = json!([{"event": "*", "schema": "public"}]);
    let mut client = subscriber(&server, &token::user(ALICE), items).await;
    db.execute(
        "insert into big select 1, 'n', repeat('x', 10000), repeat('y', 10000), repeat('z', 10000);
         update big set note = 'm'; update big set body = 'short'; update big set note = null, more = null;
         alter table big replica identity full; update big set note = 'full';",
    )
    .await;
    let told_big = told(&mut client, &db, &server).await;
    assert_eq!(told_big[0].get("unchanged"), None, "only then");
    assert_eq!(told_big[1]["record"], json!({"id": 1, "note": "m"}));
    assert_eq!(
        told_big[1]["unchanged"],
        json!(["body", "more"]),
        "not what may not be read"
    );
    assert_eq!(told_big[2]["unchanged"], json!(["more"]));
    assert_eq!(told_big[3].get("unchanged"), None);
    assert_eq!(told_big[4].get("unchanged"), None, "taken from the old row");
    // A policy that reads what is not there fails closed; one that is decided without it does not.
    db.execute(
        "insert into judged select n, 'n', repeat('x', 10000) from generate_series(1, 2) n; update judged set note = 'm'",
    )
    .await;
    let judged = told(&mut client, &db, &server).await;
    let tail = |n: usize| {
        (
            &judged[n]["record"],
            &judged[n]["errors"],
            &judged[n]["unchanged"],
        )
    };
    assert_eq!(judged.len(), 4);
    assert_eq!(
        tail(2),
        (&json!({"id": 1, "note": "m"}), &Value::Null, &json!(["body"]))
    );
    assert_eq!(
        tail(3),
        (
            &json!({}),
            &json!(["Error 500: Policy evaluation failed"]),
            &Value::Null
        )
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_stream_carries_is_refused_with_its_reason() {
    let db = Database::new().await;
    db.execute(
        "create unlogged table quick (id int primary key); create table plain (id int primary key);
         create view seen as select * from plain; create unlogged table hidden (id int primary key);
         revoke all on hidden from public, anon, authenticated, service_role;
         grant select on quick, plain, seen to authenticated;
         drop publication supabase_realtime; create publication supabase_realtime for all tables;",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    for (table, reason) in [
        (
            "quick",
            "public.quick is unlogged: its changes are not in the WAL",
        ),
        ("seen", "public.seen is a view: only tables have changes"),
        ("hidden", "Please check Realtime is enabled"),
        ("nothing", "Please check Realtime is enabled"),
    ] {
        client
            .join(table, json!({"postgres_changes": on("public", table)}))
            .await;
        let system = client.system(table).await;
        assert_eq!(system["status"], "error");
        let message = system["message"].as_str().unwrap_or_default();
        assert!(message.contains(reason), "{message}");
    }
    let mut all = subscriber(
        &server,
        &service(),
        json!([{"event": "*", "schema": "public", "truncate": true}]),
    )
    .await;
    db.execute(
        "insert into quick values (1); truncate quick; create temporary table t (id int primary key);
         insert into t values (1); update t set id = 2; drop table t; insert into plain values (1)",
    )
    .await;
    assert_eq!(shorts(&mut all, &db, &server).await, [r#"INSERT plain {"id":1}"#]);
    // From unlogged to logged in mid-stream.
    db.execute("alter table quick set logged").await;
    if version::pgoutput() {
        let resync = "resync: table public.quick was not followed all the time";
        all.expect(resync, |m| m.payload["message"] == resync).await;
    }
    db.execute("insert into quick values (2)").await;
    assert_eq!(shorts(&mut all, &db, &server).await, [r#"INSERT quick {"id":2}"#]);
    let mut quick = subscriber(&server, &token::user(ALICE), on("public", "quick")).await;
    db.execute("insert into quick values (3)").await;
    assert_eq!(
        shorts(&mut quick, &db, &server).await,
        [r#"INSERT quick {"id":3}"#]
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_transactions_and_subtransactions() {
    let cluster = OwnCluster::start(&[("max_prepared_transactions", "5")]).await;
    let db = cluster.database().await;
    db.execute("create table t (id int primary key); alter publication supabase_realtime add table t; grant select on t to service_role")
        .await;
    let server = Server::start(&db).await;
    let mut client = subscriber(&server, &service(), on("public", "t")).await;
    db.execute("begin; insert into t values (1); prepare transaction 'kept'")
        .await;
    db.execute("begin; insert into t values (2); prepare transaction 'undone'")
        .await;
    db.execute("insert into t values (3)").await;
    let insert = |id: i32| format!("INSERT t {{\"id\":{id}}}");
    assert_eq!(
        shorts(&mut client, &db, &server).await,
        [insert(3)],
        "nothing before its commit"
    );
    db.execute("rollback prepared 'undone'").await;
    db.execute("commit prepared 'kept'").await;
    assert_eq!(shorts(&mut client, &db, &server).await, [insert(1)]);
    db.execute(
        "begin; insert into t values (10); savepoint a; insert into t values (11); savepoint b; insert into t values (12);
         rollback to a; insert into t values (13); savepoint c; truncate t; rollback to c; release a; insert into t values (14);
         do 'begin insert into t values (15); begin insert into t values (16), (15); exception when others then end; end';
         commit",
    )
    .await;
    assert_eq!(
        shorts(&mut client, &db, &server).await,
        [10, 13, 14, 15].map(insert),
        "what was not rolled back"
    );
    server.stop().await;
}
