//! A client as they are: it comes back whenever its connection is lost, and joins its channel again. By WebSocket, or by what is
//! in `plain`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message as Raw;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::plain;
use crate::oracle::random::Random;

/// A connection on which nothing comes for so long, not even the answer to a heartbeat, is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
const HEARTBEAT: Duration = Duration::from_millis(400);

/// What somebody comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Socket,
    /// Server-sent events, on from their last id.
    Events,
    /// Polls, on from the cursor of the last.
    Polls,
}

/// Who somebody is, and what it joins.
#[derive(Clone, Debug)]
pub struct Path {
    pub address: SocketAddr,
    pub by: By,
    pub token: String,
    /// Without it, it goes on by the cursors of its events.
    pub session: Option<String>,
    pub topic: String,
    /// Of its join.
    pub config: Value,
    /// Of its pauses.
    pub seed: u64,
}

impl Path {
    /// The rows come by themselves.
    pub fn gets_rows(&self) -> bool {
        self.config["postgres_changes"][0]["snapshot"] == true
    }
}

/// What somebody was told, in order.
#[derive(Clone, Debug)]
pub struct Told {
    /// On which of its connections.
    pub connection: u64,
    pub what: What,
    pub cursor: Option<String>,
}

#[derive(Clone, Debug)]
pub enum What {
    /// The `data` of a row change.
    Row(Value),
    /// A broadcast's payload.
    Said(Value),
    /// What became of what was missed.
    Outcome(String),
    /// Its rows are live.
    Live,
    /// All rows follow: those that it holds do not count any more.
    Begins,
    /// It was told to read everything again, and has: versions by key.
    Read(Rows),
}

/// Versions by key.
pub type Rows = BTreeMap<i64, i64>;

type Reading = dyn Fn() -> Pin<Box<dyn Future<Output = Rows> + Send>> + Send + Sync;

/// Somebody on the way.
pub struct Walker {
    shared: Arc<Shared>,
    running: JoinHandle<()>,
}

pub(super) struct Shared {
    path: Mutex<Path>,
    waits: AtomicBool,
    reading: Mutex<Option<Arc<Reading>>>,
    pub(super) log: Mutex<Log>,
}

impl Shared {
    /// Holds up whoever is not to read anything for now. Whether it did.
    pub(super) async fn hold_up(&self) -> bool {
        let mut waited = false;
        while self.waits.load(Ordering::Relaxed) {
            waited = true;
            sleep(Duration::from_millis(20)).await;
        }
        waited
    }
}

/// All that somebody knows.
#[derive(Debug, Default)]
pub struct Log {
    pub told: Vec<Told>,
    pub connections: u64,
    /// Pings answered since its rows were live on this connection, with a message and its answer behind each.
    pub answered: u64,
    /// Errors in answer to its joins.
    pub refused: Vec<Value>,
    pub(super) last: Option<String>,
}

impl Walker {
    pub fn start(path: Path) -> Self {
        let shared = Arc::new(Shared {
            path: Mutex::new(path),
            waits: AtomicBool::new(false),
            reading: Mutex::default(),
            log: Mutex::default(),
        });
        let running = tokio::spawn(walk(Arc::clone(&shared)));
        Self { shared, running }
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.shared.log.lock().expect("the log")
    }

    /// Whether it reads nothing for now.
    pub fn wait(&self, waits: bool) {
        self.shared.waits.store(waits, Ordering::Relaxed);
    }

    /// How it reads everything again when it is told to.
    pub fn read_again_by(
        &self,
        reading: impl Fn() -> Pin<Box<dyn Future<Output = Rows> + Send>> + Send + Sync + 'static,
    ) {
        *self.shared.reading.lock().expect("the way to read") = Some(Arc::new(reading));
    }

    /// Rows are live on its connection and, if it has a session, the server knows how far it is.
    pub fn is_known(&self) -> bool {
        self.log().answered >= 3
    }
}

impl Drop for Walker {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn walk(shared: Arc<Shared>) {
    let mut random = Random(shared.path.lock().expect("the path").seed);
    loop {
        let path = shared.path.lock().expect("the path").clone();
        match path.by {
            By::Socket => {
                if let Ok(Some(socket)) = timeout(PATIENCE, connect(&path)).await {
                    let number = begin(&shared);
                    attend(&shared, socket, &path, number).await;
                }
            }
            By::Events => plain::stream(&shared, &path).await,
            By::Polls => plain::poll(&shared, &path).await,
        }
        let pause = 10 + u64::try_from(random.below(100)).expect("small");
        sleep(Duration::from_millis(pause)).await;
    }
}

/// Another connection: its number.
pub(super) fn begin(shared: &Shared) -> u64 {
    let mut log = shared.log.lock().expect("the log");
    log.connections += 1;
    log.answered = 0;
    log.connections
}

type Socket = WebSocketStream<TcpStream>;

async fn connect(path: &Path) -> Option<Socket> {
    let stream = TcpStream::connect(path.address).await.ok()?;
    let session = path.session.as_ref().map(|id| format!("&session={id}"));
    let url = format!(
        "ws://{}/realtime/v1/websocket?apikey={}&vsn=2.0.0{}",
        path.address,
        path.token,
        session.unwrap_or_default()
    );
    Some(client_async(url, stream).await.ok()?.0)
}

/// Serves a connection until it is lost.
async fn attend(shared: &Shared, mut socket: Socket, path: &Path, number: u64) {
    let mut config = path.config.clone();
    if path.session.is_none() {
        let last = shared.log.lock().expect("the log").last.clone();
        config["since"] = json!(last.unwrap_or_default());
    }
    let topic = format!("realtime:{}", path.topic);
    let join = json!(["1", "1", topic, "phx_join", {"config": config}]);
    if socket.send(Raw::text(join.to_string())).await.is_err() {
        return;
    }
    let (mut heard, mut beat) = (Instant::now(), Instant::now() + HEARTBEAT);
    let (mut pinged, mut live) = (false, false);
    loop {
        if shared.hold_up().await {
            heard = Instant::now();
        }
        let due = beat.min(heard + PATIENCE);
        match timeout_at(due, socket.next()).await {
            Ok(Some(Ok(message))) => {
                heard = Instant::now();
                match &message {
                    Raw::Text(text) => {
                        let frame: Value = serde_json::from_str(text).expect("JSON from the server");
                        if frame[2] == "phoenix" {
                            let mut log = shared.log.lock().expect("the log");
                            let known = path.session.is_none() || std::mem::take(&mut pinged);
                            log.answered += u64::from(live && known);
                        } else if !note(shared, frame, number, &mut live) {
                            return;
                        }
                        let blank = path.session.is_none() && config["since"] == "" && !path.gets_rows();
                        read_again(shared, number, blank).await;
                    }
                    Raw::Ping(_) => pinged = live,
                    _ => {}
                }
            }
            Ok(_) => return,
            Err(_) if heard.elapsed() >= PATIENCE => return,
            Err(_) => {
                beat = Instant::now() + HEARTBEAT;
                let heartbeat = json!([null, "h", "phoenix", "heartbeat", {}]);
                // Sending says the answers to pings, too.
                let sent = timeout(PATIENCE, socket.send(Raw::text(heartbeat.to_string()))).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }
}

/// Reads everything again if it has just gone live without all that it missed, or if nothing had told it a place to go on
/// from.
pub(super) async fn read_again(shared: &Shared, connection: u64, blank: bool) {
    let gets_rows = shared.path.lock().expect("the path").gets_rows();
    // Of those who get them, only who has got them too often and too late.
    let known = |text: &str| gets_rows && !text.contains("older than the replay window");
    let resync =
        |told: &Told| matches!(&told.what, What::Outcome(text) if text.starts_with("resync") && !known(text));
    let due = {
        let log = shared.log.lock().expect("the log");
        let here = || {
            log.told
                .iter()
                .rev()
                .take_while(|told| told.connection == connection)
        };
        matches!(log.told.last(), Some(Told { what: What::Live, .. })) && (blank || here().any(resync))
    };
    let reading = shared.reading.lock().expect("the way to read").clone();
    if let Some(reading) = reading.filter(|_| due) {
        let rows = reading().await;
        let told = Told {
            connection,
            what: What::Read(rows),
            cursor: None,
        };
        shared.log.lock().expect("the log").told.push(told);
    }
}

/// Writes down what came. False when the channel is over.
pub(super) fn note(shared: &Shared, mut frame: Value, connection: u64, live: &mut bool) -> bool {
    let mut log = shared.log.lock().expect("the log");
    let event = frame[3].as_str().expect("an event").to_owned();
    let mut payload = frame[4].take();
    let cursor = |value: &Value| value.as_str().map(str::to_owned);
    let (what, cursor) = match &*event {
        "postgres_changes" => {
            let cursor = cursor(&payload["cursor"]);
            if cursor.is_some() {
                log.last.clone_from(&cursor);
            }
            (What::Row(payload["data"].take()), cursor)
        }
        "broadcast" => {
            let cursor = cursor(&payload["meta"]["cursor"]);
            (What::Said(payload["payload"].take()), cursor)
        }
        "system" => {
            let text = payload["message"].as_str().unwrap_or_default().to_owned();
            match payload["extension"].as_str() {
                Some("resume") => (What::Outcome(text), None),
                Some("snapshot") if text.starts_with("snapshot: begins") => (What::Begins, None),
                _ if text == "Subscribed to PostgreSQL" => {
                    *live = true;
                    (What::Live, None)
                }
                _ => return true,
            }
        }
        "phx_reply" if payload["status"] == "error" => {
            log.refused.push(payload);
            return false;
        }
        "phx_reply" => {
            // Without rows there is nothing else to wait for.
            *live |= payload["response"]["postgres_changes"]
                .as_array()
                .is_none_or(Vec::is_empty);
            return true;
        }
        "phx_close" | "phx_error" => return false,
        _ => return true,
    };
    log.told.push(Told {
        connection,
        what,
        cursor,
    });
    true
}
