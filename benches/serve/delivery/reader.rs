//! Clients that read, and go away when they are told to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::super::server::{Server, user};
use super::super::wire::{self, Inbox};
use super::log::Log;
use super::stream as events;

/// Connections that are opened side by side where it does not matter.
const BATCH: usize = 32;

/// What has not happened by then does not happen.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// All are asked about their places within a second or so.
const KNOWN: Duration = Duration::from_secs(4);

pub const TOPIC: &str = "realtime:bench";

/// By what a client reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A WebSocket that nobody knows again.
    Plain,
    /// One with a session id.
    Session,
    /// One that is told cursors.
    Since,
    /// Server-sent events.
    Events,
}

/// What a client asks for.
#[derive(Clone)]
pub struct Ask {
    port: u16,
    kind: Kind,
    token: String,
    session: String,
    /// PostgREST's way to say it.
    pub filter: Option<String>,
    /// Where it goes on.
    pub since: Option<String>,
}

impl Ask {
    /// Of the user with this number, for new rows of the table.
    pub fn new(server: &Server, kind: Kind, number: usize) -> Self {
        Self {
            port: server.port(),
            kind,
            token: user(number),
            session: format!("session-{number}"),
            filter: None,
            since: None,
        }
    }

    fn config(&self) -> Value {
        let mut item = json!({"event": "INSERT", "schema": "public", "table": "docs"});
        if let Some(filter) = &self.filter {
            item["filter"] = filter.as_str().into();
        }
        let mut config = wire::config(false, None, &json!([item]));
        if self.kind == Kind::Since {
            config["since"] = self.since.as_deref().unwrap_or_default().into();
        }
        config
    }

    /// Connects, joins and reads until the server ends it, or this is dropped, as a lost connection is.
    pub async fn visit(&self, log: &Mutex<Log>) {
        lock(log).begin();
        if self.kind == Kind::Events {
            let query = events::query(&self.token, self.filter.as_deref());
            let stream = events::request(self.port, &query, None).await;
            let take = |event: &str, at| lock(log).take(event, at);
            return events::read(stream.expect("a stream of events"), take).await;
        }
        let mut parameters = format!("apikey={}", self.token);
        if self.kind == Kind::Session {
            parameters.push_str(&format!("&session={}", self.session));
        }
        let socket = wire::open_with(self.port, &parameters).await;
        let join = json!({"config": self.config(), "access_token": self.token});
        wire::say(&socket, TOPIC, "phx_join", &join).await;
        let mut inbox = Inbox::new();
        while inbox.fill(&socket).await {
            let now = Instant::now();
            while let Some((opcode, payload)) = inbox.frame() {
                match opcode {
                    wire::PING => {
                        let pong = wire::of_client(wire::PONG, payload);
                        if wire::write(&socket, &pong).await.is_err() {
                            return;
                        }
                    }
                    wire::CLOSE => return,
                    _ => lock(log).take(std::str::from_utf8(payload).unwrap_or_default(), now),
                }
            }
        }
    }
}

/// A client that is there until it is dropped.
pub struct Reader {
    pub log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

impl Reader {
    pub fn start(ask: Ask) -> Self {
        Self::with(Arc::default(), ask)
    }

    /// One who has been there before.
    pub fn with(log: Arc<Mutex<Log>>, ask: Ask) -> Self {
        let to = Arc::clone(&log);
        let task = tokio::spawn(async move { ask.visit(&to).await });
        Self { log, task }
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn lock<T>(log: &Mutex<T>) -> MutexGuard<'_, T> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts them, some at a time, and returns once all are live.
pub async fn all_live(asks: impl IntoIterator<Item = Ask>) -> Vec<Reader> {
    stream::iter(asks)
        .map(async |ask| {
            let reader = Reader::start(ask);
            let live = until(PATIENCE, || reader.log().live.is_some()).await;
            assert!(live, "rows are live in time");
            reader
        })
        .buffered(BATCH)
        .collect()
        .await
}

/// Waits until the server knows where so many clients are: once for their joins, and once for what came then.
pub async fn all_known(server: &Server, clients: usize) {
    let deadline = Instant::now() + KNOWN;
    while server.metric("rowcast_places_acknowledged_total").await < 2.0 * clients as f64
        && Instant::now() < deadline
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Prints what the first of those was told who were told that something is missing.
pub fn tell_resync<'a>(logs: impl IntoIterator<Item = &'a Mutex<Log>>) {
    if let Some(reason) = logs.into_iter().find_map(|log| lock(log).reason.clone()) {
        println!("(resync: {reason})");
    }
}

/// Waits for it, or for this long; whether it happened.
pub async fn until(limit: Duration, mut happened: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !happened() {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}
