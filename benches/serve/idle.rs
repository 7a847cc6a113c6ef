//! Memory of connections that have nothing to say.

use std::time::Duration;

use rowcast::dev::PrivateCluster;
use serde_json::{Value, json};

use super::server::{Server, join, user};

const IDLE: usize = 5_000;

pub async fn table(cluster: &PrivateCluster) {
    println!("\nresident memory of the server at {IDLE} connections\n");
    println!("| each connection | KiB per connection |\n|---|---|");
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
        println!("| {name} | {:.1} |", idle(&server, changes).await);
    }
}

/// KiB of resident memory per connection.
async fn idle(server: &Server, changes: Option<Value>) -> f64 {
    let before = server.resident_kib();
    let mut sockets = Vec::with_capacity(IDLE);
    for n in 0..IDLE {
        let mut socket = server.connect(&user(n % 500)).await;
        if let Some(changes) = &changes {
            join(&mut socket, changes.clone()).await;
        }
        sockets.push(socket);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = server.resident_kib();
    (after - before) as f64 / IDLE as f64
}
