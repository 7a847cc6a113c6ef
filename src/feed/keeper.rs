//! Keeps the catalog and what each role may read: one immutable snapshot at a time, replaced as a whole.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::Object;

use crate::policy::{Rules, VirtualColumns};
use crate::postgres::Pool;
use tokio::sync::{Mutex, watch};

use crate::change::{Change, TableName, Transaction};
use crate::postgres::catalog::{
    self, Catalog, FileFinding, FilePolicy, FileProblem, Loaded, Loader, RoleAccess, Table,
};
use crate::protocol::Binding;
use crate::subscription::{self, Filter, Unchecked};
use crate::telemetry::Metrics;

use super::watched::Watched;
use super::{Settings, SubscribeError};

/// The database's rules as of one reading.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) catalog: Arc<Catalog>,
    /// The roles that have been asked for and exist.
    pub(super) roles: HashMap<Arc<str>, Arc<RoleAccess>>,
    /// Grows with every difference of the above.
    pub(super) generation: u64,
    /// What policies read beside the row may be read while this is the same ([`Loaded::rights`]).
    pub(super) rights: Arc<str>,
    pub(super) by_oid: Arc<HashMap<u32, Arc<Table>>>,
    /// Tables that policies read.
    pub(super) watched: Arc<Watched>,
    /// What the policies come to.
    pub(super) rules: Arc<Rules>,
    /// The tables to stream: the published ones, those that policies read, and those that broadcasts are stored in.
    pub(super) streamed: Arc<BTreeSet<TableName>>,
    /// Of these, what the stream does not carry. Nobody can subscribe to them, and what policies read in them is asked of
    /// Postgres.
    pub(super) missing: Arc<BTreeSet<TableName>>,
    /// Published tables by the names that their rows have in the stream: a table's own, those of a partition also those
    /// of the published tables above it.
    pub(super) routes: Arc<HashMap<TableName, Vec<Arc<Table>>>>,
    /// The tables that broadcasts are stored in: the partitions of `realtime.messages`.
    pub(super) messages: Arc<HashSet<TableName>>,
    /// What is computed of rows, by the names that they have in the stream.
    pub(super) virtual_columns: Arc<HashMap<TableName, Arc<VirtualColumns>>>,
}

impl Snapshot {
    #[cfg(test)]
    pub(super) fn new(
        catalog: Catalog,
        roles: HashMap<Arc<str>, Arc<RoleAccess>>,
        generation: u64,
        in_memory: bool,
    ) -> Self {
        let streamed = streamed(&catalog);
        Self::lacking(catalog, streamed, Arc::default(), roles, generation, in_memory)
    }

    /// The same where the stream does not carry some of the tables that it should, and the catalog is without them.
    fn lacking(
        catalog: Catalog,
        streamed: BTreeSet<TableName>,
        missing: Arc<BTreeSet<TableName>>,
        roles: HashMap<Arc<str>, Arc<RoleAccess>>,
        generation: u64,
        in_memory: bool,
    ) -> Self {
        let by_oid = catalog
            .tables
            .values()
            .map(|table| (table.oid, Arc::clone(table)))
            .collect();
        let watched = Watched::new(&catalog, &missing);
        let messages = stored_messages(&catalog);
        let routes = routes(&catalog, &by_oid);
        Self {
            streamed: Arc::new(streamed),
            missing,
            messages: Arc::new(messages),
            routes: Arc::new(routes),
            virtual_columns: Arc::new(virtual_columns(&catalog)),
            watched: Arc::new(watched),
            rules: Arc::new(Rules::new(in_memory)),
            catalog: Arc::new(catalog),
            roles,
            generation,
            rights: Arc::default(),
            by_oid: Arc::new(by_oid),
        }
    }

    /// The change with what its rows have in the database and not in the WAL.
    pub(super) fn completed(&self, mut change: Change) -> Change {
        if let Some(columns) = self.virtual_columns.get(&change.table) {
            for row in [&mut change.new, &mut change.old].into_iter().flatten() {
                *row = columns.complete(row);
            }
        }
        change
    }

    pub(super) fn table(&self, oid: u32) -> Option<&Arc<Table>> {
        self.by_oid.get(&oid)
    }

    /// The tables whose subscribers a change concerns that has this name in the stream.
    pub(super) fn concerned(&self, name: &TableName) -> &[Arc<Table>] {
        self.routes.get(name).map_or(&[], Vec::as_slice)
    }
}

fn routes(catalog: &Catalog, by_oid: &HashMap<u32, Arc<Table>>) -> HashMap<TableName, Vec<Arc<Table>>> {
    let mut routes: HashMap<TableName, Vec<Arc<Table>>> = HashMap::new();
    for table in catalog.tables.values() {
        let tables = routes.entry(table.name.clone()).or_default();
        tables.push(Arc::clone(table));
        tables.extend(table.ancestors.iter().filter_map(|oid| by_oid.get(oid).cloned()));
    }
    // A publication by the root does not name the partitions.
    for root in catalog.tables.values().filter(|table| table.partitioned) {
        for name in root
            .stored_in
            .iter()
            .filter(|name| !catalog.tables.contains_key(name))
        {
            routes.entry(name.clone()).or_default().push(Arc::clone(root));
        }
    }
    routes
}

/// Those of all tables that have some; rows of a partitioned table come under the names of its partitions.
fn virtual_columns(catalog: &Catalog) -> HashMap<TableName, Arc<VirtualColumns>> {
    let mut found: HashMap<TableName, Arc<VirtualColumns>> = HashMap::new();
    for table in catalog.tables.values().chain(catalog.others.values()) {
        if let Some(columns) = VirtualColumns::of(table, catalog).map(Arc::new) {
            for name in &table.stored_in {
                found.entry(name.clone()).or_insert_with(|| Arc::clone(&columns));
            }
            found.insert(table.name.clone(), columns);
        }
    }
    found
}

/// What is to be streamed for this catalog.
fn streamed(catalog: &Catalog) -> BTreeSet<TableName> {
    let watched = Watched::new(catalog, &BTreeSet::new());
    let tables = catalog.tables.values();
    let by_oid = tables.map(|table| (table.oid, Arc::clone(table))).collect();
    let routes = routes(catalog, &by_oid);
    let published = routes.keys().chain(watched.names()).cloned();
    published.chain(stored_messages(catalog)).collect()
}

fn stored_messages(catalog: &Catalog) -> HashSet<TableName> {
    let channels = catalog.channels.iter();
    channels
        .flat_map(|channels| channels.read.stored_in.iter().cloned())
        .collect()
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
    /// Postgres refuses some of the policy files.
    #[error("policy files cannot be used: {}", .0.iter().map(|found| found.problem.to_string()).collect::<Vec<_>>().join("; "))]
    PolicyFiles(Vec<FileFinding>),
}

#[derive(Debug)]
pub(super) struct Keeper {
    pool: Pool,
    publication: String,
    max_in_values: usize,
    policies_required: bool,
    in_memory: bool,
    metrics: Arc<Metrics>,
    current: watch::Sender<Arc<Snapshot>>,
    /// What the stream has said that it does not carry.
    missing: watch::Sender<Arc<BTreeSet<TableName>>>,
    /// Held while reading, so that readings do not overlap.
    reading: Mutex<Reading>,
}

#[derive(Debug)]
struct Reading {
    /// When the last one began.
    began: Instant,
    loader: Loader,
    /// The policy files in force.
    files: Vec<FilePolicy>,
    /// What was last said of them.
    findings: Vec<FileFinding>,
}

/// What is dropped between a reading and what roles may see of it makes both be read again, but not without end.
const ATTEMPTS: usize = 3;

/// Least time between two readings that refused subscriptions ask for, so that a loop of them costs little.
const RECHECK: Duration = Duration::from_millis(100);

impl Keeper {
    pub(super) async fn start(
        pool: Pool,
        settings: &Settings,
        files: Vec<FilePolicy>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, CatalogError> {
        let keeper = Self {
            pool,
            publication: settings.publication.clone(),
            max_in_values: settings.max_in_values,
            policies_required: settings.policies_required,
            in_memory: settings.in_memory,
            metrics,
            current: watch::Sender::new(Arc::default()),
            missing: watch::Sender::new(Arc::default()),
            reading: Mutex::new(Reading {
                began: Instant::now(),
                loader: Loader::default(),
                files: Vec::new(),
                findings: Vec::new(),
            }),
        };
        keeper.set_files(files).await?;
        Ok(keeper)
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow())
    }

    /// The stream does not carry these tables; whether that is news, which the next reading takes into account.
    pub(super) fn lacks(&self, missing: Arc<BTreeSet<TableName>>) -> bool {
        self.missing.send_if_modified(|known| {
            let news = *known != missing;
            *known = missing;
            news
        })
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

    /// Puts these policy files in the place of those before and reads the catalog with them. Where Postgres refuses one,
    /// those before stay.
    pub(super) async fn set_files(&self, files: Vec<FilePolicy>) -> Result<(), CatalogError> {
        let mut reading = self.reading.lock().await;
        reading.loader.set_files(files.clone());
        let before = std::mem::replace(&mut reading.files, files);
        let taken = self.refresh_holding(&mut reading, Files::New).await;
        if taken.is_err() {
            reading.loader.set_files(before.clone());
            reading.files = before;
        }
        taken
    }

    /// Reads the catalog, and again what every known role may read.
    pub(super) async fn refresh(&self) -> Result<(), CatalogError> {
        let mut reading = self.reading.lock().await;
        self.refresh_holding(&mut reading, Files::InForce).await
    }

    async fn refresh_holding(&self, reading: &mut Reading, files: Files) -> Result<(), CatalogError> {
        reading.began = Instant::now();
        let result = self.read(reading, files).await;
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
        self.refresh_holding(&mut reading, Files::InForce).await
    }

    /// Makes sure that the catalog has been read since `asked`; whether it has. Those who ask at once share a reading.
    pub(super) async fn refresh_since(&self, asked: Instant) -> bool {
        let mut reading = self.reading.lock().await;
        if reading.began >= asked {
            return true;
        }
        tokio::time::sleep_until((reading.began + RECHECK).into()).await;
        self.refresh_holding(&mut reading, Files::InForce).await.is_ok()
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
        let Some(access) = self.role_access(&client, role, &snapshot.catalog).await? else {
            return Ok(None);
        };
        let mut roles = snapshot.roles.clone();
        roles.insert(Arc::clone(role), Arc::new(access));
        // The same generation: nothing that was settled before has changed.
        let snapshot = Arc::new(Snapshot {
            roles,
            ..Snapshot::clone(&snapshot)
        });
        self.current.send_replace(Arc::clone(&snapshot));
        Ok(Some(snapshot))
    }

    async fn read(&self, reading: &mut Reading, files: Files) -> Result<(), CatalogError> {
        let mut client = self.client().await?;
        let mut attempt = 1;
        let (loaded, streamed, missing, roles) = loop {
            let loaded = reading.loader.load(&mut client, &self.publication).await;
            let mut loaded = loaded.map_err(|e| CatalogError::Query(e.to_string()))?;
            let missing = Arc::clone(&self.missing.borrow());
            let streamed = streamed(&loaded.catalog);
            loaded.catalog.tables.retain(|name, _| !missing.contains(name));
            let roles = self.roles(&client, &loaded.catalog).await?;
            if attempt == ATTEMPTS || !roles.values().any(|access| access.outdated) {
                break (loaded, streamed, missing, roles);
            }
            attempt += 1;
        };
        let Loaded {
            catalog,
            files: findings,
            rights,
        } = loaded;
        if files == Files::New {
            accept(&findings)?;
        }
        reading.tell(findings);
        let old = self.snapshot();
        let rights = Arc::from(rights);
        if *old.catalog != catalog
            || old.roles != roles
            || old.missing != missing
            || *old.streamed != streamed
        {
            let generation = old.generation + 1;
            let new = Snapshot::lacking(catalog, streamed, missing, roles, generation, self.in_memory);
            self.current.send_replace(Arc::new(Snapshot { rights, ..new }));
        } else if old.rights != rights {
            let same = Snapshot::clone(&old);
            self.current.send_replace(Arc::new(Snapshot { rights, ..same }));
        }
        Ok(())
    }

    /// What every known role may see in a catalog.
    async fn roles(
        &self,
        client: &Object,
        catalog: &Catalog,
    ) -> Result<HashMap<Arc<str>, Arc<RoleAccess>>, CatalogError> {
        let known = self.snapshot();
        let mut roles = HashMap::with_capacity(known.roles.len());
        for role in known.roles.keys() {
            if let Some(access) = self.role_access(client, role, catalog).await? {
                roles.insert(Arc::clone(role), Arc::new(access));
            }
        }
        Ok(roles)
    }

    async fn role_access(
        &self,
        client: &Object,
        role: &str,
        catalog: &Catalog,
    ) -> Result<Option<RoleAccess>, CatalogError> {
        let access = catalog::role_access(client, role, catalog).await;
        let mut access = access.map_err(|e| CatalogError::Query(e.to_string()))?;
        if let Some(access) = access.as_mut().filter(|_| self.policies_required) {
            access.require_policies(catalog);
        }
        Ok(access)
    }
}

/// Whether the policy files of a reading are to be taken over by it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    /// They are refused as a whole where one of them is wrong.
    New,
    /// They were right once. One that something has become wrong with lets nothing through.
    InForce,
}

/// Whether new policy files can be used.
fn accept(findings: &[FileFinding]) -> Result<(), CatalogError> {
    let errors: Vec<FileFinding> = findings
        .iter()
        .filter(|found| !found.problem.is_warning())
        .cloned()
        .collect();
    let unasked = |found: &&FileFinding| matches!(found.problem, FileProblem::NotAsked(_));
    match (errors.first(), errors.iter().find(unasked)) {
        (None, _) => Ok(()),
        // The database is what is wrong here.
        (_, Some(found)) if errors.iter().all(|found| unasked(&found)) => {
            Err(CatalogError::Query(found.problem.to_string()))
        }
        _ => Err(CatalogError::PolicyFiles(errors)),
    }
}

impl Reading {
    /// Says what is wrong with policy files, once.
    fn tell(&mut self, findings: Vec<FileFinding>) {
        if self.findings == findings {
            return;
        }
        for FileFinding { policy, problem } in &findings {
            let Some(FilePolicy { table, name, .. }) = self.files.get(*policy) else {
                continue;
            };
            if problem.is_warning() {
                tracing::warn!(%table, policy = name, "policy file: {problem}");
            } else {
                tracing::error!(%table, policy = name, "policy file: {problem}; nothing passes this policy");
            }
        }
        self.findings = findings;
    }
}
