//! TRUNCATE, for those who ask for it.

use serde_json::{Value, json};

use super::{ALICE, service, shorts, subscriber, told};
use crate::support::{Client, Database, Program, Server, Version, token};

const TABLES: &str = "
    create table a (id int primary key, owner uuid);
    create table b (id int primary key references a);
    alter publication supabase_realtime add table a, b;
";

#[tokio::test(flavor = "multi_thread")]
async fn is_told_to_those_who_ask() {
    let db = Database::new().await;
    db.execute(TABLES).await;
    let server = Server::start(&db).await;
    let binding = |event: &str| json!({"event": event, "schema": "public", "table": "a"});
    let mut plain = subscriber(&server, &service(), json!([binding("*"), binding("DELETE")])).await;
    let mut asking = Client::connect(&server, Version::V1, &service()).await;
    let items = json!([
        {"event": "*", "schema": "public", "table": "a", "filter": "id=eq.1", "truncate": true},
        binding("truncate"),
        {"event": "INSERT", "schema": "public", "truncate": true},
    ]);
    let reply = asking.subscribe("room", items.clone()).await;
    let echoed = &reply["response"]["postgres_changes"];
    assert_eq!(echoed[1]["event"], "truncate", "as it was asked for");
    db.execute("insert into a values (1), (2); truncate a, b; insert into a values (3)")
        .await;
    assert_eq!(
        shorts(&mut plain, &db, &server).await,
        [1, 2, 3].map(|id| format!("INSERT a {{\"id\":{id},\"owner\":null}}"))
    );

    let changes: Vec<Value> = {
        server.passed(&db).await;
        asking.round_trip().await;
        let changes = asking.pending().iter().filter(|m| m.event == "postgres_changes");
        changes.map(|m| m.payload.clone()).collect()
    };
    let ids = |payload: &Value| -> Vec<i64> {
        let ids = payload["ids"].as_array().expect("ids");
        let mut ids: Vec<i64> = ids.iter().filter_map(Value::as_i64).collect();
        ids.sort_unstable();
        ids
    };
    let id = |item: usize| echoed[item]["id"].as_i64().expect("an id");
    let mut all = vec![id(0), id(1), id(2)];
    all.sort_unstable();
    let kinds: Vec<(&str, &str)> = changes
        .iter()
        .filter_map(|c| Some((c["data"]["type"].as_str()?, c["data"]["table"].as_str()?)))
        .collect();
    assert_eq!(
        kinds,
        [
            ("INSERT", "a"),
            ("INSERT", "a"),
            ("TRUNCATE", "a"),
            ("TRUNCATE", "b"),
            ("INSERT", "a")
        ]
    );
    assert_eq!(ids(&changes[2]), all);
    assert_eq!(ids(&changes[3]), [id(2)], "by the wildcard");
    let stamp = changes[2]["data"]["commit_timestamp"].clone();
    assert!(stamp.is_string());
    assert_eq!(
        changes[2]["data"],
        json!({"schema": "public", "table": "a", "type": "TRUNCATE", "columns": [], "commit_timestamp": stamp, "errors": null})
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn is_told_to_those_who_may_read_some_column() {
    let db = Database::new().await;
    db.execute(TABLES).await;
    db.execute(
        "grant select (id) on a to authenticated; alter table a enable row level security;
         create policy own on a for select to authenticated using (owner = auth.uid());
         grant select on b to anon; alter table b enable row level security;",
    )
    .await;
    let server = Server::start(&db).await;
    let all = json!([{"event": "*", "schema": "public", "truncate": true}]);
    let mut alice = subscriber(&server, &token::user(ALICE), all.clone()).await;
    let mut anon = subscriber(&server, &token::token("anon", json!({})), all).await;
    db.execute("truncate a, b").await;
    assert_eq!(
        shorts(&mut alice, &db, &server).await,
        ["TRUNCATE a"],
        "of b she may read nothing"
    );
    assert_eq!(
        told(&mut anon, &db, &server).await,
        [Value::Null; 0],
        "a is not granted, and of b no policy shows a row"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn is_told_where_it_is_published() {
    let db = Database::new().await;
    db.execute(TABLES).await;
    let server = Server::start(&db).await;
    let all = json!([{"event": "*", "schema": "public", "truncate": true}]);
    let mut client = subscriber(&server, &service(), all).await;
    db.execute("alter publication supabase_realtime set (publish = 'insert, update, delete')")
        .await;
    db.execute("truncate b; insert into a values (1)").await;
    assert_eq!(
        shorts(&mut client, &db, &server).await,
        [r#"INSERT a {"id":1,"owner":null}"#]
    );
    db.execute("alter publication supabase_realtime set (publish = 'truncate')")
        .await;
    db.execute("insert into a values (2); truncate b").await;
    assert_eq!(shorts(&mut client, &db, &server).await, ["TRUNCATE b"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_neither_true_nor_false_is_refused() {
    let db = Database::new().await;
    db.execute(TABLES).await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    let item = json!({"event": "*", "schema": "public", "table": "a", "truncate": "yes"});
    client.join("room", json!({"postgres_changes": [item]})).await;
    let system = client.system("room").await;
    assert_eq!(system["status"], "error");
    assert_eq!(
        system["message"],
        "Error parsing `truncate` params: expected true or false"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_js_passes_it_on() {
    let db = Database::new().await;
    db.execute(TABLES).await;
    let server = Server::start(&db).await;
    let key = service();
    let bindings = json!([
        {"event": "*", "schema": "public", "table": "a", "truncate": true},
        {"event": "TRUNCATE", "schema": "public", "table": "a"},
        {"event": "*", "schema": "public", "table": "a"},
    ]);
    let variables = [
        ("ROWCAST_URL", server.url()),
        ("ROWCAST_KEY", key),
        ("BINDINGS", bindings.to_string()),
    ];
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut program = Program::node("supabase.mjs", &variables);
    program.next("subscribed").await;
    db.execute("truncate a, b; insert into a values (1)").await;
    let mut told = Vec::new();
    for _ in 0..4 {
        let change = program.next("change").await;
        told.push(format!("{} {}", change["binding"], change["eventType"]));
    }
    told.sort_unstable();
    assert_eq!(
        told,
        [
            r#"0 "INSERT""#,
            r#"0 "TRUNCATE""#,
            r#"1 "TRUNCATE""#,
            r#"2 "INSERT""#
        ]
    );
    server.stop().await;
}
