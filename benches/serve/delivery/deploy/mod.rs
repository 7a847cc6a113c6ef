//! A server is replaced while thousands are connected: what each of them has in the end, and for how long nothing came.

mod client;
mod diary;
mod flow;
mod front;
mod report;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use rowcast::dev::PrivateCluster;
use rowcast::postgres::Connection;

use self::client::Client;
use self::diary::Diary;
use self::front::Front;
use super::super::server::{Server, uuid};
use super::reader::{all_known, lock, until};
use super::{last_row, policy, scaled};

const CLIENTS: usize = 5_000;
/// Joins a second that the second server is given by `listen.drain`, where that is set for it.
const JOINS: usize = 170;
/// Clients that connect side by side at the beginning.
const BATCH: usize = 32;

/// Rows go on for so long behind the last one's return.
const AFTER: Duration = Duration::from_secs(3);
/// What has not happened by then does not happen.
const PATIENCE: Duration = Duration::from_secs(90);

/// How the first server ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// With as much time as the clients are given by [`JOINS`].
    Slowly,
    /// As it is set up where nobody has changed anything.
    Stopped,
    Killed,
}

pub async fn table(cluster: &PrivateCluster, database: &Connection) {
    let clients = scaled(CLIENTS);
    println!(
        "\n{clients} clients (half with session ids, a quarter with cursors, a quarter of event streams) move to a standby, within a \
         second where the first server is stopped, {JOINS} a second where it was told to take its time, and all at once where it is killed, while {} commits/s flow: own rows, rows for all, broadcasts \
         to {} rooms; a front sends them to whoever is ready\n",
        flow::RATE,
        client::ROOMS
    );
    let ends = [
        ("SIGTERM", End::Stopped),
        ("SIGTERM, slowly", End::Slowly),
        ("kill -9", End::Killed),
    ];
    for (name, end) in ends {
        let everybody = uuid(flow::EVERYBODY);
        policy(
            database,
            &format!("user_id in ((select auth.uid()), '{everybody}')"),
        )
        .await;
        measure(cluster, database, clients, (name, end)).await;
    }
}

async fn measure(cluster: &PrivateCluster, database: &Connection, clients: usize, (name, end): (&str, End)) {
    let drain = match end {
        End::Slowly => clients.div_ceil(JOINS),
        End::Stopped | End::Killed => 1,
    };
    let (drain, grace) = (drain.to_string(), (drain + 10).to_string());
    // As it is set up where nobody has changed anything.
    let settings = [
        ("ROWCAST_LIMITS_CONNECTIONS", "16384"),
        ("ROWCAST_LIMITS_JOINS_PER_SECOND", "5000"),
        ("ROWCAST_LIMITS_OUTBOX_FRAMES", "16384"),
        ("ROWCAST_LIMITS_OUTBOX_BYTES", "8MiB"),
        // But for heartbeats, which nobody here sends, and for the time that it takes.
        ("ROWCAST_SESSION_IDLE_TIMEOUT", "1h"),
        ("ROWCAST_LISTEN_DRAIN", drain.as_str()),
        ("ROWCAST_LISTEN_SHUTDOWN_GRACE", grace.as_str()),
    ];
    let first = Server::start_with(cluster, &settings).await;
    let second = first.standby(cluster, &settings).await;
    let front = Front::start([first.port(), second.port()]);
    let diaries = all_live(clients, &front).await;
    all_known(&first, clients / 2).await;
    let before = last_row(database).await;
    let stop = AtomicBool::new(false);
    let (said, times) = tokio::join!(flow::run(database, clients, &stop), async {
        let times = replace((&first, &second), &front, &diaries, end).await;
        tokio::time::sleep(AFTER).await;
        stop.store(true, Ordering::Relaxed);
        times
    });
    let due = report::due(database, before, clients, &said).await;
    report::tell(name, &times, &diaries, &due, &said).await;
    drop((front, first));
    second.retire(database).await;
}

async fn all_live(clients: usize, front: &Front) -> Vec<Arc<Mutex<Diary>>> {
    stream::iter(0..clients)
        .map(async |n| {
            let diary: Arc<Mutex<Diary>> = Arc::default();
            let client = Client::new(n, front.clone(), Arc::clone(&diary));
            // It ends with the front.
            tokio::spawn(client.run());
            let live = until(PATIENCE, || lock(&diary).log.live.is_some()).await;
            assert!(live, "rows are live in time");
            diary
        })
        .buffered(BATCH)
        .collect()
        .await
}

/// What was seen of it, beside what clients saw.
struct Times {
    /// From the first server's end to the second's beginning.
    live: Option<Duration>,
    /// To when the last client had rows again.
    all_back: Option<Duration>,
    /// KiB that each server had in memory at most.
    peaks: [u64; 2],
}

/// Ends the first server once all clients have heard something, and returns once all are back.
async fn replace(
    (first, second): (&Server, &Server),
    front: &Front,
    diaries: &[Arc<Mutex<Diary>>],
    end: End,
) -> Times {
    let heard = || diaries.iter().all(|diary| lock(diary).has_places());
    assert!(until(PATIENCE, heard).await, "all have heard something");
    let before = first.peak_kib().unwrap_or_default();
    let started = Instant::now();
    match end {
        End::Slowly | End::Stopped => first.terminate(),
        End::Killed => first.kill(),
    }
    let deadline = started + PATIENCE;
    let (mut all_back, mut peak) = (None, before);
    while all_back.is_none() && Instant::now() < deadline {
        peak = peak.max(first.peak_kib().unwrap_or_default());
        let back = diaries.iter().map(|diary| lock(diary).back());
        all_back = back.collect::<Option<Vec<Instant>>>();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let since = |at: Instant| at.saturating_duration_since(started);
    Times {
        live: front.turned().map(since),
        all_back: all_back.and_then(|back| back.into_iter().max()).map(since),
        peaks: [peak, second.peak_kib().unwrap_or_default()],
    }
}
