//! Clients that were away get what they missed: by a cursor that they tell, or by their session id.

mod cursors;
mod libraries;
mod rooms;
mod sessions;
mod users;

use serde_json::{Value, json};

use crate::support::token::service;
use crate::support::{Client, Server, Version};

const ROWS: &str = "create table n (id int primary key); alter publication supabase_realtime add table n";

fn inserts() -> Value {
    json!([{"event": "INSERT", "schema": "public", "table": "n"}])
}

/// A connection with this session id.
async fn connect(server: &Server, session: &str) -> Client {
    let token = format!("{}&session={session}", service());
    Client::connect(server, Version::V2, &token).await
}

/// Joins topic `n` for inserts, with further configuration, and waits until it is live.
async fn join(client: &mut Client, more: Value) {
    let mut config = json!({"postgres_changes": inserts()});
    for (key, value) in more.as_object().expect("an object") {
        config[key] = value.clone();
    }
    let reply = client.join("n", config).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    client
        .expect("live", |m| m.payload["message"] == "Subscribed to PostgreSQL")
        .await;
}

/// What its rows said of the past.
fn outcome(client: &Client) -> Option<String> {
    let messages = client.pending().iter();
    let mut said = messages.filter(|m| m.payload["extension"] == "resume" && m.payload["message"] != "live");
    said.next()
        .map(|m| m.payload["message"].as_str().expect("a text").to_owned())
}

/// The next rows, each with whether it came with its cursor.
async fn rows(client: &mut Client, count: usize) -> Vec<(i64, bool)> {
    let mut rows = Vec::new();
    for _ in 0..count {
        let change = client.change().await;
        let id = change["data"]["record"]["id"].as_i64().expect("a number");
        rows.push((id, change["cursor"].is_string()));
    }
    rows
}

const RESUMED: &str = "resumed: nothing was missed";
