//! Subscribers that note when each row reached whom.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use super::server::{Server, Socket, join, user};

/// Connections that are opened side by side.
const BATCH: usize = 32;

/// What has arrived since it was last taken.
#[derive(Default)]
pub struct Arrivals {
    /// When each row arrived last.
    pub last: HashMap<i64, Instant>,
    /// Deliveries of all rows to all subscribers.
    pub deliveries: usize,
}

/// Connected, subscribed clients.
pub struct Audience {
    arrivals: Arc<Mutex<Arrivals>>,
    listening: Vec<JoinHandle<()>>,
}

impl Audience {
    pub fn new() -> Self {
        Self {
            arrivals: Arc::default(),
            listening: Vec::new(),
        }
    }

    /// Adds subscribers, each a user of their own, until there are `count`.
    pub async fn grow(&mut self, server: &Server, count: usize) {
        while self.listening.len() < count {
            let from = self.listening.len();
            let some = from..(from + BATCH).min(count);
            let sockets = futures_util::future::join_all(some.map(|n| subscribed(server, n))).await;
            for socket in sockets {
                let arrivals = Arc::clone(&self.arrivals);
                self.listening.push(tokio::spawn(listen(socket, arrivals)));
            }
        }
    }

    /// Waits until so many deliveries have been made, or for this long; what has arrived then.
    pub async fn arrived(&self, deliveries: usize, limit: Duration) -> Arrivals {
        let deadline = Instant::now() + limit;
        loop {
            {
                let mut arrivals = self.arrivals.lock().expect("no panic while it is held");
                if arrivals.deliveries >= deliveries || Instant::now() > deadline {
                    return std::mem::take(&mut *arrivals);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        self.listening.iter().for_each(JoinHandle::abort);
    }
}

async fn subscribed(server: &Server, n: usize) -> Socket {
    let mut socket = server.connect(&user(n)).await;
    join(
        &mut socket,
        json!([{"event": "INSERT", "schema": "public", "table": "docs"}]),
    )
    .await;
    socket
}

async fn listen(mut socket: Socket, arrivals: Arc<Mutex<Arrivals>>) {
    while let Some(Ok(Message::Text(text))) = socket.next().await {
        let now = Instant::now();
        if let Some(id) = id(&text) {
            let mut arrivals = arrivals.lock().expect("no panic while it is held");
            arrivals.last.insert(id, now);
            arrivals.deliveries += 1;
        }
    }
}

/// The row's id, found without parsing all of the frame: the clients share the machine with the server.
fn id(frame: &str) -> Option<i64> {
    let record = frame.split_once("\"record\":{")?.1;
    let value = record.split_once("\"id\":")?.1;
    let digits = value.find(|c: char| !c.is_ascii_digit())?;
    value[..digits].parse().ok()
}
