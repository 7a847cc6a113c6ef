//! The places of clients, from a server that ends to the one that comes after it, by way of the database.
//!
//! Written once, when a server has been asked to stop: what a client acknowledges later only makes its place older than it is, so
//! that something comes twice, with its cursor. Read for clients that are not known, in one query for all who ask at once.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::change::StreamStatus;
use crate::postgres::Pool;
use crate::session::{Place, Places};
use crate::shutdown::Shutdown;
use crate::transport::{Pending, PlaceKeeper};

/// Clients that may wait at once; more of them wait to be queued.
const WAITING: usize = 1024;

/// Longest time for writing them.
const SAVE: Duration = Duration::from_secs(5);

/// Rows of one statement.
const ROWS: usize = 1024;

type Request = (Arc<str>, oneshot::Sender<Option<Place>>);

/// Writes and reads places.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    pool: Pool,
    places: Arc<Places>,
    window: Duration,
    requests: mpsc::Sender<Request>,
    /// Since when rows have flowed here.
    live: Arc<OnceLock<Instant>>,
}

impl Keeper {
    /// Starts the task that reads.
    pub(super) fn start(
        pool: Pool,
        places: Arc<Places>,
        window: Duration,
        mut stream: watch::Receiver<StreamStatus>,
        shutdown: &Shutdown,
    ) -> Self {
        let (requests, incoming) = mpsc::channel(WAITING);
        let keeper = Self {
            pool,
            places,
            window,
            requests,
            live: Arc::default(),
        };
        let (reading, stopping) = (keeper.clone(), shutdown.clone());
        shutdown.spawn("places", async move {
            let noting = async {
                if stream.wait_for(StreamStatus::flows).await.is_ok() {
                    reading.live.get_or_init(Instant::now);
                }
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                ((), ()) = async { tokio::join!(noting, reading.read(incoming)) } => {}
            }
        });
        keeper
    }

    /// Another server was there a window ago at most. Whoever is not known later is new.
    fn follows_another(&self) -> bool {
        self.live.get().is_none_or(|live| live.elapsed() < self.window)
    }

    async fn read(&self, mut incoming: mpsc::Receiver<Request>) {
        let mut asked: Vec<Request> = Vec::new();
        while incoming.recv_many(&mut asked, WAITING).await > 0 {
            let found = self.look_up(&asked).await;
            if let Err(error) = &found {
                tracing::warn!(%error, "places of clients could not be read; they are told to look themselves");
            }
            let mut found = found.unwrap_or_default();
            for (id, answer) in asked.drain(..) {
                // Whoever went away does not need it.
                let _ = answer.send(found.remove(&*id));
            }
        }
    }

    async fn look_up(&self, asked: &[Request]) -> Result<HashMap<String, Place>, String> {
        let client = self.pool.get().await.map_err(|e| e.to_string())?;
        let ids: Vec<&str> = asked.iter().map(|(id, _)| &**id).collect();
        let rows = client
            .query(
                "select id, place::text from rowcast.places where id = any($1) and saved > now() - make_interval(secs => $2)",
                &[&ids, &self.window.as_secs_f64()],
            )
            .await
            .map_err(|e| e.to_string())?;
        let place = |text: String| Place::from_json(&text);
        Ok(rows
            .into_iter()
            .filter_map(|row| Some((row.get(0), place(row.get(1))?)))
            .collect())
    }

    /// Writes every place, for the next server.
    pub(super) async fn save(&self) {
        let all = self.places.all();
        if all.is_empty() {
            return;
        }
        let count = all.len();
        match tokio::time::timeout(SAVE, self.write(all)).await {
            Ok(Ok(())) => tracing::info!(count, "places of clients are kept for the next server"),
            Ok(Err(error)) => tracing::warn!(%error, "places of clients could not be kept"),
            Err(_) => tracing::warn!("places of clients could not be kept in time"),
        }
    }

    async fn write(&self, all: Vec<(Arc<str>, Place)>) -> Result<(), String> {
        let client = self.pool.get().await.map_err(|e| e.to_string())?;
        let old = "delete from rowcast.places where saved < now() - make_interval(secs => $1)";
        let window = self.window.as_secs_f64();
        client.execute(old, &[&window]).await.map_err(|e| e.to_string())?;
        for some in all.chunks(ROWS) {
            let (ids, places): (Vec<&str>, Vec<String>) =
                some.iter().map(|(id, place)| (&**id, place.to_json())).unzip();
            client
                .execute(
                    "insert into rowcast.places (id, place)
                     select id, place::json from unnest($1::text[], $2::text[]) given (id, place)
                     on conflict (id) do update set place = excluded.place, saved = now()",
                    &[&ids, &places],
                )
                .await
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

impl PlaceKeeper for Keeper {
    fn recall(&self, id: Arc<str>) -> Pending<Option<Place>> {
        if !self.follows_another() {
            return Box::pin(std::future::ready(None));
        }
        let requests = self.requests.clone();
        Box::pin(async move {
            let (answer, place) = oneshot::channel();
            requests.send((id, answer)).await.ok()?;
            place.await.ok().flatten()
        })
    }
}

/// Of servers that keep no places in the database.
pub(super) struct Nowhere;

impl PlaceKeeper for Nowhere {
    fn recall(&self, _id: Arc<str>) -> Pending<Option<Place>> {
        Box::pin(std::future::ready(None))
    }
}
