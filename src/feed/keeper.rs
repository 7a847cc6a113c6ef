//! Keeps the catalog and what each role may read: one immutable snapshot at a time, replaced as a whole.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::Object;

use crate::postgres::Pool;
use tokio::sync::{Mutex, watch};

use crate::change::{TableName, Transaction};
use crate::postgres::catalog::{self, Catalog, Loaded, Loader, RoleAccess, Table};
use crate::protocol::Binding;
use crate::subscription::{self, Filter, Unchecked};
use crate::telemetry::Metrics;

use super::watched::Watched;
use super::{Settings, SubscribeError};

/// The database's rules as of one reading.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) catalog: Arc<Catalog>,
    /// The roles that have been asked for and exist.
    pub(super) roles: HashMap<Arc<str>, Arc<RoleAccess>>,
    /// Grows with every difference.
    pub(super) generation: u64,
    pub(super) by_oid: Arc<HashMap<u32, Arc<Table>>>,
    /// Tables that policies read.
    pub(super) watched: Arc<Watched>,
}

impl Snapshot {
    pub(super) fn new(catalog: Catalog, roles: HashMap<Arc<str>, Arc<RoleAccess>>, generation: u64) -> Self {
        let by_oid = catalog
            .tables
            .values()
            .map(|table| (table.oid, Arc::clone(table)))
            .collect();
        Self {
            watched: Arc::new(Watched::new(&catalog)),
            catalog: Arc::new(catalog),
            roles,
            generation,
            by_oid: Arc::new(by_oid),
        }
    }

    pub(super) fn table(&self, oid: u32) -> Option<&Arc<Table>> {
        self.by_oid.get(&oid)
    }

    /// The tables to stream: the published ones, and those that policies read.
    pub(super) fn table_names(&self) -> Arc<BTreeSet<TableName>> {
        let published = self.catalog.tables.keys();
        Arc::new(published.chain(self.watched.names()).cloned().collect())
    }
}

/// The catalog could not be read. `Display` says why and carries no secret.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// No connection.
    #[error("no connection to the database: {0}")]
    Connection(String),
    /// The queries failed.
    #[error("the catalog could not be read: {0}")]
    Query(String),
}

#[derive(Debug)]
pub(super) struct Keeper {
    pool: Pool,
    publication: String,
    max_in_values: usize,
    metrics: Arc<Metrics>,
    current: watch::Sender<Arc<Snapshot>>,
    /// Held while reading, so that readings do not overlap.
    reading: Mutex<Reading>,
}

#[derive(Debug)]
struct Reading {
    /// When the last one began.
    began: Instant,
    loader: Loader,
}

/// Least time between two readings that refused subscriptions ask for, so that a loop of them costs little.
const RECHECK: Duration = Duration::from_millis(100);

impl Keeper {
    pub(super) async fn start(
        pool: Pool,
        settings: &Settings,
        metrics: Arc<Metrics>,
    ) -> Result<Self, CatalogError> {
        let keeper = Self {
            pool,
            publication: settings.publication.clone(),
            max_in_values: settings.max_in_values,
            metrics,
            current: watch::Sender::new(Arc::default()),
            reading: Mutex::new(Reading {
                began: Instant::now(),
                loader: Loader::default(),
            }),
        };
        keeper.refresh().await?;
        Ok(keeper)
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow())
    }

    pub(super) fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.current.subscribe()
    }

    pub(super) async fn client(&self) -> Result<Object, CatalogError> {
        self.pool
            .get()
            .await
            .map_err(|e| CatalogError::Connection(e.to_string()))
    }

    /// Has Postgres check a binding's filter for a role.
    pub(super) async fn filter(
        &self,
        binding: &Binding,
        snapshot: &Snapshot,
        access: &RoleAccess,
    ) -> Result<Arc<Filter>, SubscribeError> {
        if binding.filter.is_none() {
            return Ok(Arc::default());
        }
        let client = self
            .client()
            .await
            .map_err(|e| SubscribeError::Unavailable(e.to_string()))?;
        subscription::conditions(binding, &snapshot.catalog, access, &client, self.max_in_values)
            .await
            .map_err(|e| match e {
                Unchecked::Refused(refusal) => SubscribeError::Refused(refusal.to_string()),
                Unchecked::Database(_) => SubscribeError::Unavailable(e.to_string()),
            })
    }

    /// Reads the catalog, and again what every known role may read.
    pub(super) async fn refresh(&self) -> Result<(), CatalogError> {
        let mut reading = self.reading.lock().await;
        self.refresh_holding(&mut reading).await
    }

    async fn refresh_holding(&self, reading: &mut Reading) -> Result<(), CatalogError> {
        reading.began = Instant::now();
        let result = self.read(&mut reading.loader).await;
        self.metrics.catalog_reads.inc();
        if result.is_err() {
            self.metrics.catalog_failures.inc();
        }
        result
    }

    /// Reads the catalog once everybody can see what this transaction did.
    pub(super) async fn refresh_after(&self, transaction: &Transaction) -> Result<(), CatalogError> {
        let client = self.client().await?;
        let query = |e: tokio_postgres::Error| CatalogError::Query(e.to_string());
        let statement = client
            .prepare_cached("select rowcast.is_visible($1)")
            .await
            .map_err(query)?;
        while !client
            .query_one(&statement, &[&i64::from(transaction.xid)])
            .await
            .map_err(query)?
            .get::<_, bool>(0)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(client);
        let mut reading = self.reading.lock().await;
        reading.loader.forget();
        self.refresh_holding(&mut reading).await
    }

    /// Makes sure that the catalog has been read since `asked`; whether it has. Those who ask at once share a reading.
    pub(super) async fn refresh_since(&self, asked: Instant) -> bool {
        let mut reading = self.reading.lock().await;
        if reading.began >= asked {
            return true;
        }
        tokio::time::sleep_until((reading.began + RECHECK).into()).await;
        self.refresh_holding(&mut reading).await.is_ok()
    }

    /// The current snapshot with this role in it; `None` if the database has no such role.
    pub(super) async fn with_role(&self, role: &Arc<str>) -> Result<Option<Arc<Snapshot>>, CatalogError> {
        let snapshot = self.snapshot();
        if snapshot.roles.contains_key(role) {
            return Ok(Some(snapshot));
        }
        let _reading = self.reading.lock().await;
        let snapshot = self.snapshot();
        if snapshot.roles.contains_key(role) {
            return Ok(Some(snapshot));
        }
        let client = self.client().await?;
        let Some(access) = role_access(&client, role, &snapshot.catalog).await? else {
            return Ok(None);
        };
        let mut roles = snapshot.roles.clone();
        roles.insert(Arc::clone(role), Arc::new(access));
        // The same generation: nothing that was settled before has changed.
        let snapshot = Arc::new(Snapshot {
            catalog: Arc::clone(&snapshot.catalog),
            roles,
            generation: snapshot.generation,
            by_oid: Arc::clone(&snapshot.by_oid),
            watched: Arc::clone(&snapshot.watched),
        });
        self.current.send_replace(Arc::clone(&snapshot));
        Ok(Some(snapshot))
    }

    async fn read(&self, loader: &mut Loader) -> Result<(), CatalogError> {
        let mut client = self.client().await?;
        let Loaded { catalog, files } = loader
            .load(&mut client, &self.publication)
            .await
            .map_err(|e| CatalogError::Query(e.to_string()))?;
        for finding in files {
            tracing::warn!(policy = finding.policy, problem = %finding.problem, "a policy from a file");
        }
        let old = self.snapshot();
        let mut roles = HashMap::with_capacity(old.roles.len());
        for role in old.roles.keys() {
            if let Some(access) = role_access(&client, role, &catalog).await? {
                roles.insert(Arc::clone(role), Arc::new(access));
            }
        }
        if *old.catalog != catalog || old.roles != roles {
            let generation = old.generation + 1;
            self.current
                .send_replace(Arc::new(Snapshot::new(catalog, roles, generation)));
        }
        Ok(())
    }
}

async fn role_access(
    client: &Object,
    role: &str,
    catalog: &Catalog,
) -> Result<Option<RoleAccess>, CatalogError> {
    catalog::role_access(client, role, catalog)
        .await
        .map_err(|e| CatalogError::Query(e.to_string()))
}
