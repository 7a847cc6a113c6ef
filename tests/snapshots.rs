//! `snapshot: true`: the rows first, then what changes, without a gap and without a repeat.

mod exact;
mod http;
mod load;
mod readers;
mod rights;
mod sessions;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::token::service;
use crate::support::{Client, Database, Program, Server, Version};

fn binding(table: &str) -> Value {
    json!({"event": "*", "schema": "public", "table": table, "snapshot": true})
}

/// Joins with these `postgres_changes`: the reply, and the `data` of the rows up to the message that says they are all there.
async fn snapshot(client: &mut Client, topic: &str, changes: Value) -> (Value, Vec<Value>) {
    let reply = client.join(topic, json!({"postgres_changes": changes})).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    let begins = client.system(topic).await;
    assert_eq!(begins["message"], "snapshot: begins", "{begins}");
    let end = client.system(topic).await;
    assert_eq!(
        (&end["extension"], &end["status"]),
        (&json!("snapshot"), &json!("ok")),
        "{end}"
    );
    let rows = client.rows_before_now();
    assert_eq!(end["message"], format!("snapshot: {} rows", rows.len()), "{end}");
    let live = client.system(topic).await;
    assert_eq!(live["message"], "Subscribed to PostgreSQL", "{live}");
    (reply, rows)
}

/// The next `system` message that does not say that a snapshot begins.
async fn end(client: &mut Client, topic: &str) -> Value {
    loop {
        let told = client.system(topic).await;
        if told["message"] != "snapshot: begins" {
            return told;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_first_and_changes_follow() {
    for version in [Version::V1, Version::V2] {
        let db = Database::new().await;
        db.execute(
            "create table todos (id int primary key, title text, done bool not null default false);
             alter publication supabase_realtime add table todos;
             insert into todos select n, 'title ' || n from generate_series(1, 5) as n",
        )
        .await;
        let server = Server::start(&db).await;
        let mut client = Client::connect(&server, version, &service()).await;
        let (reply, rows) = snapshot(&mut client, "room", json!([binding("todos")])).await;
        let cursor = reply["response"]["snapshot"]["cursor"]
            .as_str()
            .expect("a cursor");
        assert!(cursor.contains('~'), "{reply}");
        assert_eq!(rows.len(), 5);
        let mut ids: Vec<_> = rows.iter().map(|row| row["record"]["id"].as_i64()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (1..=5).map(Some).collect::<Vec<_>>());
        let stamp = &rows[0]["commit_timestamp"];
        let columns = json!([
            {"name": "id", "type": "int4"}, {"name": "title", "type": "text"}, {"name": "done", "type": "bool"}
        ]);
        let expected = json!({
            "schema": "public", "table": "todos", "type": "INSERT", "commit_timestamp": stamp, "errors": null,
            "snapshot": true, "columns": columns, "record": {"id": 1, "title": "title 1", "done": false}
        });
        assert!(rows.contains(&expected), "{rows:#?}");
        assert!(stamp.as_str().is_some_and(|stamp| stamp.len() == 24), "{stamp}");

        db.execute("update todos set done = true where id = 2; insert into todos values (6)")
            .await;
        let updated = client.data().await;
        assert_eq!(
            (&updated["type"], &updated["record"]["id"]),
            (&json!("UPDATE"), &json!(2))
        );
        let inserted = client.data().await;
        assert_eq!(
            (&inserted["type"], &inserted["record"]["id"]),
            (&json!("INSERT"), &json!(6))
        );
        assert!(inserted.get("snapshot").is_none());
        server.stop().await;
    }
}

/// The rows of a channel by key, as a client keeps them; fails on what cannot be: a row that comes twice, a change of a row that
/// is not there.
#[derive(Debug, Default)]
struct Copy(BTreeMap<i64, Value>);

impl Copy {
    fn apply(&mut self, data: &Value) {
        let key = |row: &Value| row["id"].as_i64().expect("a key");
        match data["type"].as_str() {
            Some("INSERT") => {
                let before = self.0.insert(key(&data["record"]), data["record"].clone());
                assert_eq!(before, None, "a row came twice: {data}");
            }
            Some("UPDATE") => {
                let before = self.0.insert(key(&data["record"]), data["record"].clone());
                assert!(before.is_some(), "an update of a row that did not come: {data}");
            }
            Some("DELETE") => {
                let before = self.0.remove(&key(&data["old_record"]));
                assert!(before.is_some(), "a row went that did not come: {data}");
            }
            _ => panic!("{data}"),
        }
    }
}

/// The rows that a query of `id` and other columns returns, as clients see them.
async fn selected(db: &Database, query: &str) -> BTreeMap<i64, Value> {
    let rows = format!("select coalesce(json_object_agg(id, to_json(r)), '{{}}')::text from ({query}) as r");
    let rows: BTreeMap<String, Value> = serde_json::from_str(&db.text(&rows).await).expect("JSON");
    rows.into_iter()
        .map(|(id, row)| (id.parse().expect("a key"), row))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused() {
    let db = Database::new().await;
    db.execute(
        "create table t (id int primary key, a text); create table keyless (a int);
         alter publication supabase_realtime add table t, keyless; insert into t select generate_series(1, 20)",
    )
    .await;
    let server = Server::start_with(&db, |config| config.snapshot.rows = 10).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    let table = |more: Value| {
        let mut binding = binding("t");
        binding
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        binding
    };
    for (binding, part) in [
        (
            table(json!({"snapshot": "yes"})),
            "Error parsing `snapshot` params: expected true or false",
        ),
        (table(json!({"snapshot": 1})), "Error parsing `snapshot` params"),
        (
            table(json!({"table": "*"})),
            "Snapshots are not supported for wildcard subscriptions",
        ),
        (
            json!({"schema": "public", "snapshot": true}),
            "Snapshots are not supported for wildcard subscriptions",
        ),
        (
            table(json!({"event": "UPDATE"})),
            "a snapshot consists of INSERT events",
        ),
        (
            binding("keyless"),
            "a snapshot of table public.keyless needs a primary key",
        ),
        (
            table(json!({"filter": "a=regex.b"})),
            "Error parsing `filter` params",
        ),
        (binding("t"), "the snapshot has more than 10 rows (snapshot.rows)"),
    ] {
        let config = json!({"postgres_changes": [binding], "postgres_changes_options": {}});
        let reply = client.join("room", config).await;
        assert_eq!(reply["status"], "ok", "{reply}");
        let told = end(&mut client, "room").await;
        let message = told["message"].as_str().expect("a text");
        assert!(
            told["status"] == "error" && message.contains(part),
            "{binding}: {told}"
        );
    }
    client.forget("postgres_changes");
    // Those who do not ask for rows are not concerned.
    for off in [json!(false), Value::Null] {
        client
            .subscribe("room", json!([table(json!({"snapshot": off}))]))
            .await;
        assert!(client.rows_before_now().is_empty());
    }
    let (_, rows) = snapshot(&mut client, "few", json!([table(json!({"filter": "id=lte.10"}))])).await;
    assert_eq!(rows.len(), 10);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_bindings_filters_and_columns() {
    let db = Database::new().await;
    db.execute(
        "create table a (id int primary key, kind text, big text, n numeric);
         create table \"Ü b\" (\"I d\" int primary key, \"select\" text);
         alter publication supabase_realtime add table a, \"Ü b\";
         insert into a select n, case when n % 2 = 0 then 'even' else 'o''dd $1' end, 'x', n / 2.0 from generate_series(1, 6) as n;
         insert into \"Ü b\" values (1, 'it''s'), (2, null)",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    let of = |filter: &str, select: Value| json!({"event": "*", "schema": "public", "table": "a", "filter": filter, "select": select, "snapshot": true});
    let changes = json!([
        of("kind=eq.o'dd $1", json!(["kind"])),
        of("kind=in.(even,\"a,b\",null),n=gte.2", Value::Null),
        of("kind=not.eq.even,id=lt.3", json!(["id"])),
        of("n=is.null", Value::Null),
        {"event": "INSERT", "schema": "public", "table": "Ü b", "snapshot": true},
        {"event": "*", "schema": "public", "table": "a", "filter": "id=eq.1"},
    ]);
    let (reply, _) = snapshot(&mut client, "none yet", json!([of("id=eq.77", Value::Null)])).await;
    assert_eq!(
        reply["response"]["postgres_changes"].as_array().map(Vec::len),
        Some(1)
    );

    let reply = client.join("room", json!({"postgres_changes": changes})).await;
    let ids: Vec<_> = (0..6)
        .map(|i| reply["response"]["postgres_changes"][i]["id"].clone())
        .collect();
    let mut rows: Vec<(usize, Value)> = Vec::new();
    loop {
        let next = client
            .expect("a row or the end", |m| {
                m.event == "postgres_changes" || m.payload["message"] == "snapshot: 8 rows"
            })
            .await;
        if next.event == "system" {
            assert_eq!(next.payload["message"], format!("snapshot: {} rows", rows.len()));
            break;
        }
        let [id] = &next.payload["ids"].as_array().expect("ids")[..] else {
            panic!("{next:?}")
        };
        let place = ids.iter().position(|known| known == id).expect("a known id");
        rows.push((place, next.payload["data"]["record"].clone()));
    }
    rows.sort_by_key(|(place, row)| (*place, row["id"].as_i64(), row["I d"].as_i64()));
    let odd = |id: i64| (0, json!({"id": id, "kind": "o'dd $1"}));
    let even = |id: i64, n: f64| (1, json!({"id": id, "kind": "even", "big": "x", "n": n}));
    let mut expected = vec![
        odd(1),
        odd(3),
        odd(5),
        even(4, 2.0),
        even(6, 3.0),
        (2, json!({"id": 1})),
    ];
    expected.push((4, json!({"I d": 1, "select": "it's"})));
    expected.push((4, json!({"I d": 2, "select": null})));
    let rows = json!(rows)
        .to_string()
        .replace("2.0000000000000000", "2.0")
        .replace("3.0000000000000000", "3.0");
    assert_eq!(
        serde_json::from_str::<Value>(&rows).expect("JSON"),
        json!(expected)
    );
    server.stop().await;
}

/// The bindings that supabase-js is given, and those that the server confirms, differ by an id.
#[tokio::test(flavor = "multi_thread")]
async fn an_unmodified_client_gets_the_rows() {
    let db = Database::new().await;
    db.execute(
        "create table notes (id int primary key, title text); alter publication supabase_realtime add table notes;
         insert into notes values (1, 'one'), (2, 'two')",
    )
    .await;
    let server = Server::start(&db).await;
    let bindings =
        json!([binding("notes"), {"event": "UPDATE", "schema": "public", "table": "notes"}]).to_string();
    let (url, key) = (server.url(), service());
    let variables = [
        ("ROWCAST_URL", url.as_str()),
        ("ROWCAST_KEY", &key),
        ("BINDINGS", &bindings),
    ];
    let mut program = Program::node("supabase.mjs", &variables);
    program
        .expect("status", |line| line["status"] == "SUBSCRIBED")
        .await;
    for _ in 0..2 {
        let change = program.next("change").await;
        assert_eq!(
            (&change["eventType"], &change["binding"]),
            (&json!("INSERT"), &json!(0)),
            "{change}"
        );
        let (id, title) = (&change["new"]["id"], &change["new"]["title"]);
        assert!(
            [(1, "one"), (2, "two")]
                .iter()
                .any(|(i, t)| id == i && title == t),
            "{change}"
        );
        assert_eq!(change["errors"], Value::Null);
    }
    program
        .expect("system", |line| line["message"] == "snapshot: 2 rows")
        .await;
    program.next("subscribed").await;
    db.execute("update notes set title = 'zwei' where id = 2").await;
    for _ in 0..2 {
        let change = program.next("change").await;
        assert_eq!(
            (&change["eventType"], &change["new"]["title"]),
            (&json!("UPDATE"), &json!("zwei"))
        );
    }
    program.exit().await;
    server.stop().await;
}
