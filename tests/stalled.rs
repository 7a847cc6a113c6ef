//! A thousand clients stop reading while rows flow: what is held for all of them together is bounded, and nobody else pays.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::support::{Client, Database, Process, Version, eventually, server, token};

const STALLED: usize = 1_000;

/// More than are needed to fill what the kernel takes for a socket that is not read, and a share.
const MOST_ROWS: usize = 150;

const ROW_BYTES: usize = 16 * 1024;

fn rows() -> Value {
    json!([{"event": "*", "schema": "public", "table": "n"}])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_stalled_sockets_cost_a_bounded_amount() {
    let db = Database::new().await;
    db.execute(
        "create table n (id int primary key, body text); alter publication supabase_realtime add table n",
    )
    .await;
    let settings = [
        ("ROWCAST_LIMITS_OUTBOXES_BYTES", "16MiB"),
        ("ROWCAST_LIMITS_JOINS_PER_SECOND", "0"),
    ];
    let process = Process::serve(&db.settings, &format!("rowcast_{}", db.name), &settings).await;
    let address = process.address;
    let metric = async |name: &str| server::metric(address, name).await.unwrap_or_default();
    let service = token::token("service_role", json!({}));
    // Each has a topic, and so bytes, of its own.
    let stalled: Vec<Client> = stream::iter(0..STALLED)
        .map(async |n| {
            let mut client = Client::connect_narrow_to(address, Version::V2, &service).await;
            client.subscribe(&format!("stalled-{n}"), rows()).await;
            client
        })
        .buffer_unordered(32)
        .collect()
        .await;
    let mut healthy = Vec::new();
    for n in 0..3 {
        let url = format!("http://{address}");
        let client = Client::try_connect_to(&url, Version::V2, &service).await;
        let mut client = client.expect("a connection");
        client.subscribe(&format!("healthy-{n}"), rows()).await;
        healthy.push(client);
    }
    let before = process.resident_kib();
    let (mut written, mut most_kib, mut most_bytes) = (0, before, 0);
    while metric("rowcast_outbox_overflows_total").await < STALLED as u64 {
        written += 1;
        assert!(written <= MOST_ROWS, "their outboxes hold {most_bytes} bytes");
        db.execute(&format!(
            "insert into n values ({written}, repeat('x', {ROW_BYTES}))"
        ))
        .await;
        for client in &mut healthy {
            assert_eq!(client.data().await["record"]["id"], written);
        }
        most_kib = most_kib.max(process.resident_kib());
        most_bytes = most_bytes.max(metric("rowcast_outbox_bytes").await);
    }
    let grown = (most_kib - before) / 1024;
    println!("{written} rows: {grown} MiB resident and {most_bytes} bytes waiting at most");
    // The least share of each, one frame above it, and what the process takes for itself.
    assert!(grown < 384, "{grown} MiB");
    assert!(most_bytes < 128 << 20, "{most_bytes} bytes");
    drop(stalled);
    eventually("nothing waits any more", || async {
        (metric("rowcast_connections").await == 3 && metric("rowcast_outbox_bytes").await == 0).then_some(())
    })
    .await;
    process.terminate();
    let ended = tokio::time::timeout(Duration::from_secs(30), process.ended()).await;
    assert!(ended.expect("an end").0.success());
}
