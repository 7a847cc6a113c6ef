//! Memory of connections that have nothing to say.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use rowcast::dev::PrivateCluster;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::server::{Server, connections, user};
use super::wire;

/// How long the server has to give memory back.
const GIVEN_BACK: Duration = Duration::from_secs(25);

/// As many as are measured where a process may have so many files.
const WANTED: usize = 20_000;

/// Connections that are opened side by side.
const BATCH: usize = 32;

/// Users; each has several connections.
const USERS: usize = 500;

pub async fn table(cluster: &PrivateCluster, files: usize) {
    let count = WANTED.min(connections());
    println!("\nresident memory of the server at {count} connections");
    if count < WANTED {
        println!("(not {WANTED}: a process may have {files} files here, and no more)");
    }
    println!("\n| each connection | KiB per connection | left 25 s after all have gone |\n|---|---|---|");
    for (name, changes) in [
        ("idle, no channel", None),
        ("one channel", Some(json!([]))),
        (
            "one channel with a row subscription",
            Some(json!([{"event": "*", "schema": "public", "table": "docs"}])),
        ),
    ] {
        // A server of its own each time: memory that an earlier round has touched does not count as free.
        let server = Server::start(cluster).await;
        let (each, left) = idle(&server, changes, count).await;
        println!("| {name} | {each:.1} | {left:.1} |");
    }
}

/// KiB of resident memory per connection, while they are there and afterwards.
async fn idle(server: &Server, changes: Option<Value>, count: usize) -> (f64, f64) {
    let before = server.resident_kib();
    let sockets: Vec<TcpStream> = stream::iter(0..count)
        .map(async |n| {
            let token = user(n % USERS);
            let socket = wire::open(server, &token).await;
            if let Some(changes) = &changes {
                let config = wire::config(false, None, changes);
                wire::join(&socket, "realtime:bench", &token, &config).await;
            }
            socket
        })
        .buffer_unordered(BATCH)
        .collect()
        .await;
    let each = |now: u64| (now as f64 - before as f64) / count as f64;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let there = each(server.resident_kib());
    drop(sockets);
    while server.metric("rowcast_connections").await > 0.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(GIVEN_BACK).await;
    (there, each(server.resident_kib()))
}
