//! From a commit to a client: shapes, order, bindings and tables, in both wire versions.

use serde_json::{Value, json};

use crate::support::token::service;
use crate::support::{Client, Database, Server, Version, eventually, version};

const TODOS: &str = "
    create table todos (id int8 primary key generated always as identity, title text not null, done bool default false);
    alter publication supabase_realtime add table todos;
";

#[tokio::test(flavor = "multi_thread")]
async fn insert_update_and_delete_have_the_known_shape() {
    for version in [Version::V1, Version::V2] {
        let db = Database::new().await;
        db.execute(TODOS).await;
        let server = Server::start(&db).await;
        let mut client = Client::connect(&server, version, &service()).await;
        let binding = json!({"event": "*", "schema": "public", "table": "todos"});
        let reply = client.subscribe("room", json!([binding])).await;
        let echoed = &reply["response"]["postgres_changes"][0];
        let id = echoed["id"].as_i64().expect("an id");
        assert!(
            id != 0 && echoed["event"] == "*" && echoed["table"] == "todos",
            "{reply}"
        );

        db.execute("insert into todos (title) values ('first')").await;
        db.execute("update todos set done = true").await;
        db.execute("delete from todos").await;
        let inserted = client.change().await;
        assert_eq!(inserted["ids"], json!([id]));
        let stamp = inserted["data"]["commit_timestamp"]
            .as_str()
            .expect("a time")
            .to_owned();
        assert!(
            stamp.len() == 24 && stamp.ends_with('Z') && stamp.contains('T'),
            "{stamp}"
        );
        let columns = json!([
            {"name": "id", "type": "int8"}, {"name": "title", "type": "text"}, {"name": "done", "type": "bool"}
        ]);
        let expected = json!({
            "schema": "public", "table": "todos", "type": "INSERT", "commit_timestamp": stamp, "errors": null,
            "columns": columns, "record": {"id": 1, "title": "first", "done": false}
        });
        assert_eq!(inserted["data"], expected);
        let updated = client.data().await;
        assert_eq!(
            updated["record"],
            json!({"id": 1, "title": "first", "done": true})
        );
        assert_eq!(updated["old_record"], json!({"id": 1}));
        let deleted = client.data().await;
        assert_eq!(deleted["old_record"], json!({"id": 1}));
        assert!(deleted.get("record").is_none());
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_wildcards_and_select() {
    let db = Database::new().await;
    db.execute(
        "create schema other; create table other.t (id int primary key, a text, b text);
         create table a_b (id int primary key); create table axb (id int primary key);
         create table \"Odd.\"\"Name, é\" (\"I d\" int primary key, \"Ü\" text);
         alter publication supabase_realtime add table other.t, a_b, axb, \"Odd.\"\"Name, é\"",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client
        .subscribe(
            "many",
            json!([
                {"event": "INSERT", "schema": "public", "table": "a_b"},
                {"event": "insert", "schema": "other", "table": "t", "select": ["b"]},
                {"event": "DELETE", "schema": "other", "table": "*"},
                {"event": "*", "schema": "public", "table": "Odd.\"Name, é"},
            ]),
        )
        .await;
    db.execute("insert into axb values (1); insert into a_b values (2)")
        .await;
    let first = client.data().await;
    assert_eq!(
        (&first["table"], &first["record"]),
        (&json!("a_b"), &json!({"id": 2})),
        "names are names"
    );
    db.execute("insert into other.t values (1, 'x', 'y'); update other.t set a = 'z'; delete from other.t")
        .await;
    let selected = client.data().await;
    assert_eq!(selected["record"], json!({"id": 1, "b": "y"}));
    assert_eq!(client.data().await["type"], "DELETE");
    db.execute("insert into \"Odd.\"\"Name, é\" values (7, 'ü')")
        .await;
    assert_eq!(client.data().await["record"], json!({"I d": 7, "Ü": "ü"}));

    // Everything, told once with all ids.
    let reply = client
        .subscribe(
            "all",
            json!([{"event": "*", "schema": "*"}, {"event": "INSERT", "schema": "public"}, {"schema": "*"}]),
        )
        .await;
    let ids: Vec<i64> = reply["response"]["postgres_changes"]
        .as_array()
        .expect("bindings")
        .iter()
        .map(|b| b["id"].as_i64().expect("id"))
        .collect();
    client.forget("postgres_changes");
    db.execute("insert into axb values (2)").await;
    let change = client.change().await;
    let mut got: Vec<i64> = change["ids"]
        .as_array()
        .expect("ids")
        .iter()
        .filter_map(Value::as_i64)
        .collect();
    let mut want = ids.clone();
    got.sort_unstable();
    want.sort_unstable();
    want.dedup();
    assert_eq!(got, want);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_joins_get_the_change_itself() {
    let db = Database::new().await;
    db.execute(TODOS).await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V1, &service()).await;
    let reference = client
        .push("public:todos:done=eq.false", "phx_join", json!({}))
        .await;
    assert_eq!(client.reply(&reference).await["status"], "ok");
    assert_eq!(
        client.system("public:todos:done=eq.false").await["message"],
        "Subscribed to PostgreSQL"
    );
    db.execute("insert into todos (title, done) values ('x', true), ('y', false)")
        .await;
    let message = client.expect("an INSERT", |m| m.event == "INSERT").await;
    assert_eq!(message.payload["record"]["title"], "y");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_arrive_whole_and_in_commit_order() {
    let db = Database::new().await;
    db.execute(
        "create table n (id int primary key, tx int); alter publication supabase_realtime add table n",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client
        .subscribe("n", json!([{"event": "*", "schema": "public", "table": "n"}]))
        .await;
    let early = db.connection().await;
    early
        .batch_execute("begin; insert into n select g, 1 from generate_series(1, 100) g")
        .await
        .expect("open");
    db.execute("begin; insert into n values (1000, 9); rollback")
        .await;
    db.execute("insert into n select g, 2 from generate_series(101, 200) g")
        .await;
    early
        .batch_execute("savepoint s; insert into n values (999, 1); rollback to s; commit")
        .await
        .expect("commit");
    let mut got = Vec::new();
    for _ in 0..200 {
        got.push(client.data().await["record"]["id"].as_i64().expect("id"));
    }
    let expected: Vec<i64> = (101..=200).chain(1..=100).collect();
    assert_eq!(got, expected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_come_and_go_without_a_restart() {
    let db = Database::new().await;
    db.execute(TODOS).await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client
        .subscribe("all", json!([{"event": "*", "schema": "public"}]))
        .await;
    db.execute("create table later (id int primary key)").await;
    let reply = client
        .join(
            "later",
            json!({"postgres_changes": [{"event": "*", "schema": "public", "table": "later"}]}),
        )
        .await;
    assert_eq!(reply["status"], "ok");
    assert_eq!(client.system("later").await["status"], "error");
    // From the very next commit on.
    db.execute("alter publication supabase_realtime add table later")
        .await;
    if version::pgoutput() {
        // Or from when it is told to be followed.
        let resync = "resync: table public.later was not followed all the time";
        client.expect(resync, |m| m.payload["message"] == resync).await;
    }
    db.execute("insert into later values (1)").await;
    assert_eq!(client.data().await["record"], json!({"id": 1}));
    client
        .subscribe(
            "later2",
            json!([{"event": "*", "schema": "public", "table": "later"}]),
        )
        .await;
    db.execute("insert into later values (2)").await;
    assert_eq!(client.data().await["record"], json!({"id": 2}));
    assert_eq!(client.data().await["record"], json!({"id": 2}));
    db.execute("alter table later add note text default 'n'; insert into later values (3)")
        .await;
    assert_eq!(client.data().await["record"], json!({"id": 3, "note": "n"}));
    client.data().await;
    db.execute("alter publication supabase_realtime drop table later")
        .await;
    let ended = client.system("later2").await;
    assert_eq!(ended["status"], "error", "{ended}");
    db.execute("insert into later values (4); insert into todos (title) values ('still here')")
        .await;
    assert_eq!(client.data().await["table"], "todos");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_primary_key_says_so() {
    let db = Database::new().await;
    db.execute("create table bare (v int); alter publication supabase_realtime add table bare")
        .await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client
        .subscribe(
            "bare",
            json!([{"event": "*", "schema": "public", "table": "bare"}]),
        )
        .await;
    db.execute("insert into bare values (1)").await;
    let data = client.data().await;
    assert_eq!(data["errors"], json!(["Error 400: Bad Request, no primary key"]));
    assert_eq!(
        (&data["record"], &data["commit_timestamp"]),
        (&json!({}), &Value::Null)
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_toast_and_the_size_rule() {
    let db = Database::new().await;
    db.execute(
        "create table big (id int primary key, note text, body text); alter table big alter body set storage external;
         alter publication supabase_realtime add table big",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client
        .subscribe("big", json!([{"event": "*", "schema": "public", "table": "big"}]))
        .await;
    db.execute("insert into big values (1, 'n', repeat('x', 100000))")
        .await;
    assert_eq!(
        client.data().await["record"]["body"].as_str().map(str::len),
        Some(100_000)
    );
    db.execute("update big set note = 'm'").await;
    assert_eq!(
        client.data().await["record"],
        json!({"id": 1, "note": "m"}),
        "an unchanged TOAST value is absent"
    );
    db.execute("alter table big replica identity full").await;
    db.execute("update big set note = 'o'").await;
    let full = client.data().await;
    assert_eq!(
        full["record"]["body"].as_str().map(str::len),
        Some(100_000),
        "taken from the old row"
    );
    db.execute("insert into big values (2, 'kept', repeat('y', 2000000))")
        .await;
    let cut = client.data().await;
    assert_eq!(cut["errors"], json!(["Error 413: Payload Too Large"]));
    assert_eq!(cut["record"], json!({"id": 2, "note": "kept"}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_is_not_delivered_and_nothing_breaks() {
    let db = Database::new().await;
    db.execute(TODOS).await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client
        .subscribe("t", json!([{"event": "*", "schema": "public", "table": "todos"}]))
        .await;
    db.execute("truncate todos; insert into todos (title) values ('after')")
        .await;
    assert_eq!(client.data().await["record"]["title"], "after");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_rows_in_one_transaction_reach_a_filtered_subscriber() {
    let db = Database::new().await;
    db.execute("create table m (id int primary key, v int); alter publication supabase_realtime add table m")
        .await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client
        .subscribe(
            "m",
            json!([{"event": "*", "schema": "public", "table": "m", "filter": "v=eq.0"}]),
        )
        .await;
    db.execute("insert into m select g, g % 100000 from generate_series(1, 1000000) g")
        .await;
    for expected in (1..=10).map(|n| n * 100_000) {
        assert_eq!(client.data().await["record"]["id"], expected);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_does_not_overflow_who_keeps_reading() {
    let db = Database::new().await;
    db.execute(
        "create table l (id int primary key, note text); alter publication supabase_realtime add table l",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client
        .subscribe("l", json!([{"event": "*", "schema": "public", "table": "l"}]))
        .await;
    db.execute("insert into l select g, repeat('x', 200) from generate_series(1, 50000) g")
        .await;
    for expected in 1..=50_000 {
        assert_eq!(client.data().await["record"]["id"], expected);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_survive_an_analyze_loop() {
    let db = Database::new().await;
    db.execute(TODOS).await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client
        .subscribe("t", json!([{"event": "*", "schema": "public", "table": "todos"}]))
        .await;
    let analyzing = db.connection().await;
    let analyze = tokio::spawn(async move {
        loop {
            if analyzing.batch_execute("analyze todos").await.is_err() {
                return;
            }
        }
    });
    for i in 0..1500 {
        db.execute(&format!("insert into todos (title) values ('{i}')"))
            .await;
    }
    for i in 0..1500 {
        let data = client.data().await;
        assert_eq!(
            (&data["errors"], &data["record"]["title"]),
            (&Value::Null, &json!(i.to_string()))
        );
    }
    analyze.abort();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_when_clients_can_be_served() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    eventually("the server is healthy", || async {
        let (status, body) = server.get("/healthcheck").await;
        (status == 200 && body == "ok").then_some(())
    })
    .await;
    assert_eq!(server.get("/livez").await.0, 200);
    assert_eq!(server.get("/readyz").await.0, 200);
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("rowcast_replication_live 1"), "{metrics}");
    server.stop().await;
}
