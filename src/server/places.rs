//! The places of clients, from a server that ends to the one that comes after it, by way of the database.
//!
//! Written as it goes and when a server has been asked to stop: what a client acknowledges later only makes its place older than it
//! is, so that something comes twice, with its cursor. What must not be read any more is written over at once. Read for clients that
//! are not known, in one query for all who ask at once.

mod saving;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_postgres::Row;

use crate::change::StreamStatus;
use crate::postgres::{Pool, SqlError};
use crate::session::{Place, Places, Written};
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;
use crate::transport::{Pending, PlaceKeeper, Unread};
use saving::Writer;

/// Clients that may wait at once; more of them wait to be queued.
const WAITING: usize = 1024;

/// Longest wait for a place to be written.
const PATIENCE: Duration = Duration::from_secs(5);

type Request = (Arc<str>, oneshot::Sender<Result<Option<Written>, Unread>>);
/// A client whose place is to be written now, and who waits for that.
type Urgent = (Arc<str>, oneshot::Sender<()>);

/// Writes and reads places.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    pool: Pool,
    places: Arc<Places>,
    window: Duration,
    metrics: Arc<Metrics>,
    requests: mpsc::Sender<Request>,
    urgent: mpsc::Sender<Urgent>,
    writer: Arc<Writer>,
    /// Since when rows have flowed here.
    live: Arc<OnceLock<Instant>>,
}

/// What it needs.
pub(super) struct Parts {
    pub(super) pool: Pool,
    pub(super) places: Arc<Places>,
    /// For how long they are kept.
    pub(super) window: Duration,
    /// Between two goes of writing some; zero for none.
    pub(super) save_every: Duration,
    pub(super) stream: watch::Receiver<StreamStatus>,
    pub(super) metrics: Arc<Metrics>,
    /// From when on nothing more is written as it goes.
    pub(super) stopping: Shutdown,
}

impl Keeper {
    /// Starts the tasks that read and write.
    pub(super) fn start(parts: Parts, shutdown: &Shutdown) -> Self {
        let (requests, incoming) = mpsc::channel(WAITING);
        let (urgent, pressing) = mpsc::channel(WAITING);
        let Parts {
            pool,
            places,
            window,
            save_every,
            mut stream,
            metrics,
            stopping: ending,
        } = parts;
        let keeper = Self {
            pool,
            places,
            window,
            metrics,
            requests,
            urgent,
            writer: Arc::default(),
            live: Arc::default(),
        };
        let (correcting, stopping) = (keeper.clone(), shutdown.clone());
        shutdown.spawn("places corrected", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = correcting.correct(pressing) => {}
            }
        });
        if !save_every.is_zero() && !window.is_zero() {
            keeper.places.follow();
            let writing = keeper.clone();
            shutdown.spawn("places written", async move {
                writing.save_as_it_goes(save_every, ending).await;
            });
        }
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

    /// What was written longer ago is of no use: a place may be written up to half a window before its client goes, which is kept for
    /// one window then.
    fn kept(&self) -> Duration {
        self.window.saturating_mul(2)
    }

    async fn read(&self, mut incoming: mpsc::Receiver<Request>) {
        let mut asked: Vec<Request> = Vec::new();
        while incoming.recv_many(&mut asked, WAITING).await > 0 {
            let found = self.look_up(&asked).await;
            if let Err(error) = &found {
                tracing::warn!(%error, "places of clients could not be read; they are told to look themselves");
            }
            let mut found = found.map_err(|_| Unread);
            for (id, answer) in asked.drain(..) {
                let place = found.as_mut().map(|found| found.remove(&*id));
                // Whoever went away does not need it.
                let _ = answer.send(place.map_err(|unread| *unread));
            }
        }
    }

    async fn look_up(&self, asked: &[Request]) -> Result<HashMap<String, Written>, String> {
        let client = self.pool.get().await.map_err(|e| e.chain())?;
        let ids: Vec<&str> = asked.iter().map(|(id, _)| &**id).collect();
        let rows = client
            .query(
                "select id, place::text, version from rowcast.places where id = any($1) and saved > now() - make_interval(secs => $2)",
                &[&ids, &self.kept().as_secs_f64()],
            )
            .await
            .map_err(reason("reading places of clients"))?;
        let written = |row: Row| {
            let place = Place::from_json(row.get(1))?;
            let version = row.get(2);
            Some((row.get(0), Written { place, version }))
        };
        Ok(rows.into_iter().filter_map(written).collect())
    }
}

/// For a log.
fn reason(doing: &'static str) -> impl Fn(tokio_postgres::Error) -> String {
    move |error| SqlError::during(doing)(error).chain()
}

impl PlaceKeeper for Keeper {
    fn recall(&self, id: Arc<str>) -> Pending<Result<Option<Written>, Unread>> {
        if !self.follows_another() {
            return Box::pin(std::future::ready(Ok(None)));
        }
        let requests = self.requests.clone();
        Box::pin(async move {
            let (answer, place) = oneshot::channel();
            requests.send((id, answer)).await.map_err(|_| Unread)?;
            place.await.unwrap_or(Err(Unread))
        })
    }

    fn write(&self, id: Arc<str>) -> Pending<()> {
        let (done, written) = oneshot::channel();
        // At once, if there is room: nobody may wait for it.
        let full = match self.urgent.try_send((id, done)) {
            Ok(()) => None,
            Err(TrySendError::Full(urgent)) => Some((self.urgent.clone(), urgent)),
            Err(TrySendError::Closed(_)) => return Box::pin(std::future::ready(())),
        };
        Box::pin(async move {
            let writing = async {
                if let Some((queue, urgent)) = full {
                    queue.send(urgent).await.ok()?;
                }
                written.await.ok()
            };
            // Rows that wait for longer are worth more than what a crash within the next seconds would cost.
            let _ = timeout(PATIENCE, writing).await;
        })
    }
}

/// Of servers that keep no places in the database.
pub(super) struct Nowhere;

impl PlaceKeeper for Nowhere {
    fn recall(&self, _id: Arc<str>) -> Pending<Result<Option<Written>, Unread>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn write(&self, _id: Arc<str>) -> Pending<()> {
        Box::pin(std::future::ready(()))
    }
}
