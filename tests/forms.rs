//! The stream in all its forms: what is no plain row of a plain table.

mod alter;
mod large;
mod logical;
mod partitions;
mod tables;
mod truncate;

use serde_json::Value;

use crate::support::client::told;
use crate::support::token::service;
use crate::support::{Client, Database, Server, Version};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";

async fn subscriber(server: &Server, token: &str, changes: Value) -> Client {
    let mut client = Client::connect(server, Version::V2, token).await;
    client.subscribe("room", changes).await;
    client
}

/// A change in few words: `INSERT parts {"id":1}`.
fn short(data: &Value) -> String {
    let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
    let row = match &data["record"] {
        Value::Null => &data["old_record"],
        record => record,
    };
    let mut short = format!("{} {}", text("type"), text("table"));
    for more in [row, &data["partition"], &data["errors"]] {
        if !more.is_null() {
            short.push_str(&format!(" {more}"));
        }
    }
    short
}

async fn shorts(client: &mut Client, db: &Database, server: &Server) -> Vec<String> {
    told(client, db, server).await.iter().map(short).collect()
}
