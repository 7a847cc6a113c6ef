//! From nothing to a running feed, however long the database takes: a container starts before its database, a password
//! is corrected, a right is granted. The server answers meanwhile and says what it waits for.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::policies::{Follower, PolicySet, Reload};
use super::{ServeError, settings};
use crate::change::{StreamState, StreamStatus};
use crate::config::Config;
use crate::feed::{CatalogError, Feed, Outlets, StreamEnds};
use crate::messages::partitions;
use crate::policy::{Engine, Judge, Shadow};
use crate::policy_files::Directory;
use crate::postgres::{self, ConnectSettings, InstallReport, Pool, SqlError};
use crate::replication::{self, Backoff};
use crate::room::Rooms;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// What it takes.
pub(super) struct Startup {
    pub(super) config: Config,
    pub(super) connect: ConnectSettings,
    pub(super) catalog_pool: Pool,
    pub(super) judge_pool: Pool,
    pub(super) snapshot_pool: Pool,
    pub(super) messages_pool: Pool,
    pub(super) policies: PolicySet,
    pub(super) rooms: Rooms,
    pub(super) stream: watch::Sender<StreamStatus>,
    /// How much WAL the replay window may hold back.
    pub(super) wal_budget: watch::Receiver<u64>,
    pub(super) metrics: Arc<Metrics>,
    /// Ends the replication stream.
    pub(super) following: Shutdown,
    pub(super) shutdown: Shutdown,
}

/// Why the feed could not be started this time.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error("{}", .0.chain())]
    Database(#[from] SqlError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(
        "the database lacks objects that rowcast could not create ({0}); run `rowcast check` to see what to grant"
    )]
    MissingObjects(String),
}

impl Startup {
    /// Tries until the feed runs, then starts the replication stream, puts the feed into `arrived` and follows the policy
    /// files. What no waiting mends goes into `failed`.
    pub(super) async fn run(
        self,
        arrived: watch::Sender<Option<Feed>>,
        files: Option<(Directory, Reload)>,
        failed: oneshot::Sender<ServeError>,
    ) {
        let shutdown = self.shutdown.clone();
        let follower = files.map(|(directory, reload)| Follower {
            directory,
            reload,
            metrics: Arc::clone(&self.metrics),
            shutdown: shutdown.clone(),
            current: self.policies.clone(),
        });
        tokio::select! {
            started = self.insist() => match started {
                Ok(feed) => {
                    if let Some(follower) = follower {
                        shutdown.spawn("policy files", follower.run(feed.clone()));
                    }
                    arrived.send_replace(Some(feed));
                    // Those who ask later find it here.
                    shutdown.cancelled().await;
                }
                // Whoever does not listen any more is stopping.
                Err(error) => drop(failed.send(error)),
            },
            () = shutdown.cancelled() => {}
        }
    }

    async fn insist(self) -> Result<Feed, ServeError> {
        let mut backoff = Backoff::new();
        loop {
            match Box::pin(self.attempt()).await {
                Ok((feed, ends)) => {
                    self.stream
                        .send_if_modified(|status| status.becomes(StreamState::Starting));
                    self.follow(ends);
                    self.keep_partitions();
                    return Ok(feed);
                }
                Err(NotYet::Catalog(CatalogError::PolicyFiles(refused))) => {
                    return Err(ServeError::PolicyFiles(self.policies.problems(&refused)));
                }
                Err(reason) => self.tell(reason.to_string()),
            }
            tokio::time::sleep(backoff.wait()).await;
        }
    }

    /// Says it once, not at every attempt.
    fn tell(&self, reason: String) {
        let state = StreamState::Interrupted(reason.clone());
        if self.stream.send_if_modified(|status| status.becomes(state)) {
            tracing::warn!(reason, "waiting for the database");
        }
    }

    async fn attempt(&self) -> Result<(Feed, StreamEnds), NotYet> {
        if self.config.database.install_objects {
            self.install().await?;
        }
        self.look_at_partitions().await?;
        let judge = Judge::new(
            self.judge_pool.clone(),
            settings::judge(&self.config),
            Arc::clone(&self.metrics),
        );
        let mut engine = Engine::new(judge, Arc::clone(&self.metrics));
        if let Some((share, judging)) = settings::shadow(&self.config) {
            let pool = Pool::new(&self.connect, &settings::shadow_pool(&self.config))?;
            // What nobody waits for does not count among the calls that changes wait for.
            engine = engine.shadowed(Shadow::new(share, Judge::new(pool, judging, Metrics::new())));
        }
        let started = Feed::start(
            settings::feed(&self.config),
            self.policies.for_catalog(),
            self.catalog_pool.clone(),
            engine,
            Outlets {
                rooms: self.rooms.clone(),
                snapshots: self.snapshot_pool.clone(),
                pools: vec![self.judge_pool.clone(), self.messages_pool.clone()],
                stream: self.stream.clone(),
                wal_budget: self.wal_budget.clone(),
            },
            Arc::clone(&self.metrics),
            &self.shutdown,
        );
        Ok(started.await?)
    }

    /// Installs the objects of `sql/`, and says what could not be.
    async fn install(&self) -> Result<(), NotYet> {
        let session = settings::installer_session(&self.config);
        let mut connection = postgres::connect(&self.connect, &session).await?;
        let report = postgres::install(&mut connection, &settings::install(&self.config)).await?;
        for entry in &report.entries {
            tracing::debug!(object = %entry.object, outcome = %entry.outcome, "database object");
        }
        let missing: Vec<String> = report.missing_essentials().map(ToString::to_string).collect();
        if !missing.is_empty() {
            return Err(NotYet::MissingObjects(missing.join("; ")));
        }
        self.warn_of_delays(&report);
        Ok(())
    }

    /// Makes the partitions that broadcasts from the database need now, before the catalog is read: what is there then is
    /// streamed from the beginning.
    async fn look_at_partitions(&self) -> Result<(), NotYet> {
        let session = settings::partitions_session(&self.config);
        let retention = self.config.database.messages_retention;
        Ok(partitions::look(&self.connect, &session, retention, &self.metrics).await?)
    }

    /// Keeps them from now on.
    fn keep_partitions(&self) {
        let keeping = partitions::keep(
            self.connect.clone(),
            settings::partitions_session(&self.config),
            self.config.database.messages_retention,
            Arc::clone(&self.metrics),
            self.shutdown.clone(),
        );
        self.shutdown.spawn("partitions", keeping);
    }

    fn warn_of_delays(&self, report: &InstallReport) {
        if !report.announces_catalog_changes() {
            tracing::warn!(
                interval = ?self.config.database.catalog_interval,
                "changes of tables, grants and policies take effect only when the catalog is read again: the event \
                 trigger could not be installed, which needs a superuser"
            );
        }
    }

    /// Starts the replication stream.
    fn follow(&self, ends: StreamEnds) {
        let StreamEnds {
            events,
            tables,
            handed_over,
            signals,
        } = ends;
        let stream = replication::run(
            settings::replication(&self.config, self.connect.clone()),
            tables,
            events,
            handed_over,
            signals,
            Arc::clone(&self.metrics),
            self.following.clone(),
        );
        self.shutdown.spawn("replication", stream);
    }
}
