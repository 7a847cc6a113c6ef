//! Attempts to see what one may not, to lose what one should get, and to spoil it for others.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Database, Server, Version, token};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

/// A table `d(id, owner, name)` under row-level security, without a policy yet.
const TABLE: &str = "
    create table d (id int primary key, owner uuid, name text);
    grant select on d to authenticated, anon;
    alter table d enable row level security;
    alter publication supabase_realtime add table d;
";

fn all() -> Value {
    json!([{"event": "*", "schema": "public", "table": "d"}])
}

fn filtered(filter: &str) -> Value {
    json!([{"event": "*", "schema": "public", "table": "d", "filter": filter}])
}

async fn subscriber(server: &Server, token: &str, changes: Value) -> Client {
    let mut client = Client::connect(server, Version::V2, token).await;
    client.subscribe("d", changes).await;
    client
}

/// Every row change that was sent for what has been committed so far.
async fn told(client: &mut Client, db: &Database, server: &Server) -> Vec<Value> {
    server.passed(db).await;
    client.round_trip().await;
    let told = client
        .pending()
        .iter()
        .filter(|m| m.event == "postgres_changes")
        .map(|m| m.payload["data"].clone())
        .collect();
    client.forget("postgres_changes");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permissive_policy_without_using_shows_nothing() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute("create policy writers on d for all with check (true); create policy odd on d as restrictive for all with check (true)").await;
    let server = Server::start(&db).await;
    let mut alice = subscriber(&server, &token::user(ALICE), all()).await;
    db.execute("insert into d values (1); update d set name = 'x'; delete from d")
        .await;
    assert_eq!(told(&mut alice, &db, &server).await, [Value::Null; 0]);
    // A restrictive one without USING restricts nothing.
    db.execute("create policy readers on d for select using (true); insert into d values (2)")
        .await;
    assert_eq!(told(&mut alice, &db, &server).await.len(), 1);
    server.stop().await;
}
