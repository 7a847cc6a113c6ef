//! What breaks around a server, and what its clients and operators see of it: Postgres restarts, connections are cut,
//! slots are lost, the server itself is killed.

mod channels;
mod crowd;
mod deploys;
mod process;
mod restarts;
mod slots;
mod startup;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rowcast::postgres::ConnectSettings;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::server::ready;
use crate::support::{Client, eventually, own, server, token};

const ROWS: &str = "create table n (id int primary key); alter publication supabase_realtime add table n";

fn service() -> String {
    token::token("service_role", json!({}))
}

fn inserts() -> Value {
    json!([{"event": "INSERT", "schema": "public", "table": "n"}])
}

/// The numbers of the next rows.
async fn numbers(client: &mut Client, count: usize) -> Vec<i64> {
    let mut numbers = Vec::with_capacity(count);
    for _ in 0..count {
        let data = client.data().await;
        assert_eq!(data["errors"], Value::Null, "{data}");
        numbers.push(data["record"]["id"].as_i64().expect("a number"));
    }
    numbers
}

/// Commits 0, 1, 2 and so on into `n`, each in a transaction of its own, tries again where that fails, and never skips
/// one.
pub(crate) struct Writer {
    stopping: Arc<AtomicBool>,
    running: JoinHandle<i64>,
}

impl Writer {
    pub(crate) fn start(settings: &ConnectSettings, first: i64) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let (settings, stop) = (settings.clone(), Arc::clone(&stopping));
        let running = tokio::spawn(async move {
            let mut next = first;
            while !stop.load(Ordering::Relaxed) {
                // The answer to a commit may be lost while the commit is not.
                let insert = format!("insert into n values ({next}) on conflict do nothing");
                if own::execute(&settings, &insert).await {
                    next += 1;
                }
            }
            next
        });
        Self { stopping, running }
    }

    /// Stops it; the number behind the last one committed.
    pub(crate) async fn stop(self) -> i64 {
        self.stopping.store(true, Ordering::Relaxed);
        self.running.await.expect("no panic")
    }
}

/// Waits until `/readyz` says no, with all of these words; the whole reason.
async fn not_ready(address: SocketAddr, words: &[&str]) -> String {
    eventually(&format!("/readyz says {words:?}"), || async {
        let (status, body) = server::get(address, "/readyz").await;
        let found = status == 503 && words.iter().all(|word| body.contains(word));
        found.then_some(body)
    })
    .await
}

/// Waits until a topic has been told this in a system message.
async fn told(client: &mut Client, topic: &str, text: &str) -> Value {
    let topic = format!("realtime:{topic}");
    let fits = |payload: &Value| {
        payload["message"]
            .as_str()
            .is_some_and(|message| message.contains(text))
    };
    let message = client.expect(text, |m| {
        m.event == "system" && m.topic == topic && fits(&m.payload)
    });
    message.await.payload
}
