//! Hundreds of clients of every kind while their server is replaced: each ends with every row that it asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message as Raw;

use super::{not_ready, ready, service};
use crate::support::{Database, Process, eventually, own};

const CLIENTS: usize = 300;
/// Each client follows the rows of one group.
const GROUPS: usize = 10;
const PACE: Duration = Duration::from_millis(10);

const ROWS: &str =
    "create table n (id int primary key, g int); alter publication supabase_realtime add table n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Session,
    Cursor,
    Events,
}

/// Half, a quarter and a quarter.
fn kind_of(number: usize) -> Kind {
    match number % 4 {
        0 | 1 => Kind::Session,
        2 => Kind::Cursor,
        _ => Kind::Events,
    }
}

/// What a client knows.
#[derive(Debug, Default)]
struct Known {
    /// Rows by number, with how often each came, and how often with its cursor.
    rows: BTreeMap<i64, (usize, usize)>,
    /// The last cursor, or id of an event.
    place: String,
    /// What it was told is missing, since its first connection.
    resyncs: Vec<String>,
    visits: usize,
    /// On the connection that is there now.
    live: bool,
}

struct Client {
    number: usize,
    known: Arc<Mutex<Known>>,
    /// Where a load balancer sends it.
    to: watch::Receiver<SocketAddr>,
    http: reqwest::Client,
}

impl Client {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("what it knows")
    }

    fn group(&self) -> usize {
        self.number % GROUPS
    }

    /// Comes back whenever its connection ends.
    async fn run(self) {
        loop {
            let address = *self.to.borrow();
            match kind_of(self.number) {
                Kind::Events => drop(self.listen(address).await),
                _ => drop(self.attend(address).await),
            }
            self.known().live = false;
            tokio::time::sleep(PACE).await;
        }
    }

    async fn attend(&self, address: SocketAddr) -> Option<()> {
        let stream = TcpStream::connect(address).await.ok()?;
        let session = match kind_of(self.number) {
            Kind::Session => format!("&session=crowd-{}", self.number),
            _ => String::new(),
        };
        let url = format!(
            "ws://{address}/realtime/v1/websocket?apikey={}&vsn=2.0.0{session}",
            service()
        );
        let (mut socket, _) = client_async(url, stream).await.ok()?;
        let filter = format!("g=eq.{}", self.group());
        let mut config = json!({"postgres_changes": [
            {"event": "INSERT", "schema": "public", "table": "n", "filter": filter}
        ]});
        if kind_of(self.number) == Kind::Cursor {
            config["since"] = self.known().place.as_str().into();
        }
        self.known().visits += 1;
        let join = json!(["1", "1", "realtime:crowd", "phx_join", {"config": config}]);
        socket.send(Raw::text(join.to_string())).await.ok()?;
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Raw::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).expect("JSON");
                    self.take(&frame[4]);
                }
                // The answer has been queued.
                Raw::Ping(_) => socket.flush().await.ok()?,
                _ => {}
            }
        }
        Some(())
    }

    async fn listen(&self, address: SocketAddr) -> Option<()> {
        let url = format!(
            "http://{address}/sse?table=n&event=INSERT&filter=g=eq.{}",
            self.group()
        );
        let mut request = self.http.get(url).bearer_auth(service());
        let place = self.known().place.clone();
        if !place.is_empty() {
            request = request.header("last-event-id", place);
        }
        let mut response = request.send().await.ok()?.error_for_status().ok()?;
        self.known().visits += 1;
        let mut text = String::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            text.push_str(std::str::from_utf8(&chunk).expect("ASCII"));
            while let Some((event, rest)) = text.split_once("\n\n") {
                for line in event.lines() {
                    if let Some(id) = line.strip_prefix("id: ") {
                        id.clone_into(&mut self.known().place);
                    } else if let Some(data) = line.strip_prefix("data: ") {
                        let data: Value = serde_json::from_str(data).expect("JSON");
                        self.take(&data["payload"]);
                    }
                }
                text = rest.to_owned();
            }
        }
        Some(())
    }

    fn take(&self, payload: &Value) {
        let mut known = self.known();
        let cursor = payload["cursor"].as_str();
        if let (Some(cursor), Kind::Cursor) = (cursor, kind_of(self.number)) {
            cursor.clone_into(&mut known.place);
        }
        if let Some(id) = payload["data"]["record"]["id"].as_i64() {
            let (all, told) = known.rows.entry(id).or_default();
            *all += 1;
            *told += usize::from(cursor.is_some());
        }
        match payload["message"].as_str() {
            Some("Subscribed to PostgreSQL") => known.live = true,
            // Nobody says anything in its room.
            Some(message) if message.contains("the server was replaced") => {}
            Some(message) if message.starts_with("resync:") && known.visits > 1 => {
                known.resyncs.push(message.to_owned());
            }
            _ => {}
        }
    }
}

/// Waits until all of them do.
async fn all(what: &str, crowd: &[Arc<Mutex<Known>>], does: impl Fn(usize, &Known) -> bool) {
    eventually(what, || async {
        let mut crowd = crowd.iter().enumerate();
        let fits = crowd.all(|(n, known)| does(n, &known.lock().expect("what it knows")));
        fits.then_some(())
    })
    .await;
}

/// Replaces the server of a crowd for which rows are written. `forgives` says of which kinds one may miss rows that is told so.
async fn replaced(end: impl AsyncFnOnce(Process), forgives: impl Fn(Kind) -> bool) {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let slot = format!("rowcast_{}", db.name);
    let first = Process::serve(&db.settings, &slot, &[]).await;
    ready(first.address).await;
    let second = Process::serve(&db.settings, &slot, &[]).await;
    not_ready(second.address, &["standby: waits for slot"]).await;
    let (balancer, to) = watch::channel(first.address);
    let (http, mut clients) = (reqwest::Client::new(), JoinSet::new());
    let crowd: Vec<Arc<Mutex<Known>>> = (0..CLIENTS).map(|_| Arc::default()).collect();
    for (number, known) in crowd.iter().enumerate() {
        let (known, to, http) = (Arc::clone(known), to.clone(), http.clone());
        let client = Client {
            number,
            known,
            to,
            http,
        };
        clients.spawn(client.run());
    }
    all("all are live", &crowd, |_, known| known.live).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (settings, stop) = (db.settings.clone(), Arc::clone(&stop));
        async move {
            let (mut pace, mut next) = (tokio::time::interval(PACE), 0);
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                let insert = format!("insert into n values ({next}, {next} % {GROUPS})");
                assert!(own::execute(&settings, &insert).await, "a row");
                next += 1;
            }
            next
        }
    });
    all("all have rows", &crowd, |_, known| known.rows.len() > 2).await;

    end(first).await;
    ready(second.address).await;
    balancer.send_replace(second.address);
    all("all are back", &crowd, |_, known| known.visits > 1 && known.live).await;
    stop.store(true, Ordering::Relaxed);
    let next: i64 = writing.await.expect("no panic");
    let group = |n: usize| i64::try_from(n % GROUPS).expect("small")..next;
    let complete = |n: usize, known: &Known| known.rows.keys().copied().eq(group(n).step_by(GROUPS));
    let excused = |n: usize, known: &Known| forgives(kind_of(n)) && !known.resyncs.is_empty();
    all("nobody misses a row", &crowd, |n, known| {
        complete(n, known) || excused(n, known)
    })
    .await;
    for (n, known) in crowd.iter().enumerate() {
        let known = known.lock().expect("what it knows");
        let kind = kind_of(n);
        assert!(known.resyncs.is_empty() || forgives(kind), "{kind:?} {known:?}");
        for (id, (came, told)) in &known.rows {
            assert!(
                came - 1 <= *told,
                "{kind:?}: {id} came {came} times, {told} times told"
            );
            assert!(
                kind != Kind::Events || *came == 1,
                "a stream repeats nothing: {id}"
            );
        }
    }
    drop(clients);
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_all_kinds_misses_nothing_when_its_server_is_stopped() {
    replaced(
        async |first: Process| {
            first.terminate();
            let (status, log) = first.ended().await;
            assert_eq!(status.code(), Some(0), "{log:#?}");
        },
        |_| false,
    )
    .await;
}

/// Where clients with session ids were went with it: they are told so. Those who keep their place themselves go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_all_kinds_is_told_what_it_misses_when_its_server_is_killed() {
    replaced(
        async |first: Process| first.kill().await,
        |kind| kind == Kind::Session,
    )
    .await;
}
