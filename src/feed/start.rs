//! The start: what the feed is made of, and how its parts are put together.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::authority::{self, Authority, Marks};
use super::fence::{self, Fence};
use super::keeper::{CatalogError, Keeper};
use super::prefetch::Prefetch;
use super::pump::{self, Pump};
use super::shadow::Sampling;
use super::shaper::Pacer;
use super::snapshot::{self, Snapshots};
use super::{Feed, Settings};
use crate::change::{Event, HandedOver, StreamStatus, TableName};
use crate::policy::Engine;
use crate::postgres::Pool;
use crate::postgres::catalog::FilePolicy;
use crate::replication::Signals;
use crate::room::Rooms;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// What the feed speaks into beside the outboxes of its subscribers.
#[derive(Debug)]
pub struct Outlets {
    /// Where broadcasts from the database are said.
    pub rooms: Rooms,
    /// Connections for snapshots, as many as are read at once.
    pub snapshots: Pool,
    /// Further pools whose connections are to be made anew when Postgres has failed over.
    pub pools: Vec<Pool>,
    /// Shows the state of the stream.
    pub stream: watch::Sender<StreamStatus>,
    /// Bytes of WAL that the replay window may hold back.
    pub wal_budget: watch::Receiver<u64>,
}

/// The ends that the replication stream holds.
#[derive(Debug)]
pub struct StreamEnds {
    /// Where the stream puts its events.
    pub events: mpsc::Sender<Vec<Event>>,
    /// The tables to stream. A new value asks for [`Event::Tables`] and a restart behind the position handed over.
    pub tables: watch::Receiver<Arc<BTreeSet<TableName>>>,
    /// How far the feed is.
    pub handed_over: watch::Receiver<HandedOver>,
    /// What the stream is asked to do.
    pub signals: Signals,
}

/// Batches of events that may wait for the pump; the stream bounds each batch.
const EVENT_BATCHES: usize = 16;

impl Feed {
    /// Reads the catalog, with these policy files, and starts the pump; returns the handle and what the replication
    /// stream needs.
    ///
    /// # Errors
    /// The catalog could not be read, or Postgres refuses some of the policy files.
    pub async fn start(
        settings: Settings,
        files: Vec<FilePolicy>,
        pool: Pool,
        engine: Engine,
        outlets: Outlets,
        metrics: Arc<Metrics>,
        shutdown: &Shutdown,
    ) -> Result<(Self, StreamEnds), CatalogError> {
        // What was committed before may have been said by a server before this one.
        let said = fence::flushed(&pool).await.map_err(CatalogError::Query)?;
        let keeper = Arc::new(Keeper::start(pool.clone(), &settings, files, Arc::clone(&metrics)).await?);
        let (events, incoming) = mpsc::channel(EVENT_BATCHES);
        let (commands, orders) = mpsc::unbounded_channel();
        let (tables, wanted) = watch::channel(Arc::clone(&keeper.snapshot().streamed));
        let (handed_over, confirmed) = watch::channel(HandedOver::default());
        let ends = StreamEnds {
            events,
            tables: wanted,
            handed_over: confirmed,
            signals: Signals::default(),
        };
        let sampling = engine.shadow().map(|shadow| {
            let checking = (shadow.clone(), Arc::clone(&keeper), commands.clone());
            Sampling::start(checking, &metrics, shutdown)
        });
        let marks = Marks::default();
        let states = outlets.stream.subscribe();
        let mut pools = outlets.pools;
        pools.extend([pool.clone(), outlets.snapshots.clone()]);
        let (recheck, snapshot_settings) = (settings.channel_recheck, settings.snapshot.clone());
        let pump = Pump::new(pump::Parts {
            settings,
            keeper: Arc::clone(&keeper),
            engine: engine.clone(),
            rooms: outlets.rooms,
            sampling,
            pool: pool.clone(),
            pools,
            metrics: Arc::clone(&metrics),
            events: incoming,
            commands: orders,
            tables,
            handed_over,
            stream: outlets.stream,
            wal_budget: outlets.wal_budget,
            said,
            signals: ends.signals.clone(),
            marks: marks.clone(),
            pacer: Pacer::start(Arc::clone(&metrics), shutdown),
        });
        let snapshots = snapshot::Parts {
            settings: snapshot_settings,
            pool: outlets.snapshots,
            catalog_pool: pool.clone(),
            engine: engine.clone(),
            place: pump.place(),
            metrics: Arc::clone(&metrics),
        };
        let authority = authority::Parts {
            keeper: Arc::clone(&keeper),
            engine,
            clock: pump.clock(),
            marks,
            stream: states,
            recheck,
            metrics,
        };
        let feed = Self {
            commands,
            keeper,
            fence: Fence::start(pool, shutdown),
            prefetch: Prefetch::start(pump.reader(), pump.clock(), shutdown),
            authority: Authority::start(authority, shutdown),
            writers: pump.writers(),
            place: pump.place(),
            snapshots: Snapshots::new(snapshots, shutdown),
        };
        run(pump, shutdown);
        Ok((feed, ends))
    }
}

fn run(pump: Pump, shutdown: &Shutdown) {
    let stopping = shutdown.clone();
    shutdown.spawn("feed", async move {
        // Whatever it waits for: what was not handed over comes again.
        tokio::select! {
            () = pump.run(&stopping) => {}
            () = stopping.cancelled() => {}
        }
    });
}
