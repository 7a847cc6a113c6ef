//! `"transitions": true`: a row that comes into or goes out of what a binding shows is told as INSERT or DELETE.

use serde_json::{Value, json};

use crate::support::{Client, Database, Server, Version, token};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

const SCHEMA: &str = "
    create table tasks (id int primary key, owner uuid, state text, note text);
    grant select on tasks to authenticated;
    alter table tasks enable row level security;
    create policy own on tasks using (owner = auth.uid());
    alter publication supabase_realtime add table tasks;
";

async fn subscribed(server: &Server, sub: &str, changes: Value) -> Client {
    let token = token::token("authenticated", json!({"sub": sub}));
    let mut client = Client::connect(server, Version::V2, &token).await;
    client.subscribe("room", changes).await;
    client
}

/// What has come once everything committed has: type, record, old record, transition.
async fn came(client: &mut Client, server: &Server, db: &Database) -> Vec<Value> {
    server.passed(db).await;
    client.round_trip().await;
    let changes = client.pending().iter().filter(|m| m.event == "postgres_changes");
    let came = changes
        .map(|message| {
            let data = &message.payload["data"];
            assert_eq!(data["errors"], Value::Null, "{data}");
            json!([
                data["type"],
                data["record"]["id"],
                data["old_record"],
                data["transition"]
            ])
        })
        .collect();
    client.forget("postgres_changes");
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_enter_and_leave() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    db.execute("alter table tasks replica identity full").await;
    let server = Server::start(&db).await;
    let open = |transitions: bool, event: &str| json!([{"event": event, "schema": "public", "table": "tasks", "filter": "state=eq.open", "transitions": transitions}]);
    let mut alice = subscribed(&server, ALICE, open(true, "*")).await;
    let mut bob = subscribed(&server, BOB, open(true, "*")).await;
    let mut plain = subscribed(&server, ALICE, open(false, "*")).await;
    let mut inserts = subscribed(&server, ALICE, open(true, "INSERT")).await;
    let mut updates = subscribed(&server, ALICE, open(true, "UPDATE")).await;

    db.execute(&format!("insert into tasks values (1, '{ALICE}', 'new', 'x')"))
        .await;
    assert_eq!(came(&mut alice, &server, &db).await, [Value::Null; 0]);
    db.execute("update tasks set state = 'open'").await;
    assert_eq!(
        came(&mut alice, &server, &db).await,
        [json!(["INSERT", 1, null, "enter"])]
    );
    assert_eq!(
        came(&mut inserts, &server, &db).await,
        [json!(["INSERT", 1, null, "enter"])]
    );
    let full = json!({"id": 1, "owner": ALICE, "state": "new", "note": "x"});
    assert_eq!(
        came(&mut plain, &server, &db).await,
        [json!(["UPDATE", 1, full, null])]
    );
    assert_eq!(came(&mut updates, &server, &db).await, [Value::Null; 0]);

    db.execute("update tasks set note = 'y'").await;
    let full = json!({"id": 1, "owner": ALICE, "state": "open", "note": "x"});
    for client in [&mut alice, &mut plain, &mut updates] {
        assert_eq!(
            came(client, &server, &db).await,
            [json!(["UPDATE", 1, full, null])]
        );
    }
    // By the policy: from Alice to Bob, who learns nothing of what it was.
    db.execute(&format!("update tasks set owner = '{BOB}'")).await;
    assert_eq!(
        came(&mut alice, &server, &db).await,
        [json!(["DELETE", null, {"id": 1}, "leave"])]
    );
    assert_eq!(
        came(&mut bob, &server, &db).await,
        [json!(["INSERT", 1, null, "enter"])]
    );
    assert_eq!(came(&mut plain, &server, &db).await, [Value::Null; 0]);
    // By the filter, and for good.
    db.execute("update tasks set state = 'done'; delete from tasks")
        .await;
    assert_eq!(
        came(&mut bob, &server, &db).await,
        [json!(["DELETE", null, {"id": 1}, "leave"])]
    );
    assert_eq!(came(&mut alice, &server, &db).await, [Value::Null; 0]);
    assert_eq!(came(&mut inserts, &server, &db).await, [Value::Null; 0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_row_must_carry_what_decides() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    let server = Server::start(&db).await;
    let token = token::token("authenticated", json!({"sub": ALICE}));
    let mut client = Client::connect(&server, Version::V2, &token).await;
    for (topic, transitions, text) in [
        (
            "a",
            json!(true),
            "transitions need the old value of column owner: ALTER TABLE \"public\".\"tasks\" REPLICA IDENTITY FULL",
        ),
        (
            "b",
            json!("yes"),
            "Error parsing `transitions` params: expected true or false",
        ),
    ] {
        let changes =
            json!([{"event": "*", "schema": "public", "table": "tasks", "transitions": transitions}]);
        client.join(topic, json!({"postgres_changes": changes})).await;
        let system = client.system(topic).await;
        let message = system["message"].as_str().unwrap_or_default();
        assert!(system["status"] == "error" && message.contains(text), "{system}");
    }
    server.stop().await;
}
