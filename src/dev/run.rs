//! `rowcast dev`: private cluster, objects, keys and server, up together and down together.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::cluster::{Options, PrivateCluster, write_secret};
use super::error::DevError;
use super::installation::Installation;
use super::keys::Keys;
use super::lock::FolderLock;
use super::postmaster::StopMode;
use super::sql_files;
use crate::config::{Config, Inputs};
use crate::postgres::{self, InstallOptions, Session, SqlError};
use crate::secret::Secret;
use crate::server;
use crate::shutdown::Shutdown;

/// The database that is followed.
const DATABASE: &str = "postgres";
/// What new tables in `public` grant to the API roles.
const NEW_TABLES: &str = include_str!("new_tables.sql");
/// Where clusters go when Postgres cannot reach the data folder.
const ELSEWHERE: &str = "/var/lib/rowcast";

/// What `rowcast dev` was asked for.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// Folder that keeps the database, the secret and what describes the running server.
    pub data_dir: PathBuf,
    /// Port for clients, on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Port of the database; 0 keeps that of the last run, or takes a free one.
    pub database_port: u16,
    /// Folder of the binaries of the Postgres to run; the one that made the data, else the best one installed when unset.
    pub postgres: Option<PathBuf>,
    /// SQL files to run before serving, in order.
    pub sql: Vec<PathBuf>,
    /// Settings of the server, as for `serve`. What is said here about the database, the port and the secret is
    /// overruled.
    pub settings: Inputs,
}

/// What a client, a backend or a script needs to know about the running server (`dev.json`).
#[derive(Serialize, Deserialize)]
struct Running {
    url: String,
    database_url: String,
    jwt_secret: String,
    anon_key: String,
    authenticated_key: String,
    service_key: String,
}

/// Runs until `shutdown` is cancelled, or until the server ends. Leaves no process, socket or lock behind.
///
/// # Errors
/// See [`DevError`].
pub async fn run(options: DevOptions, shutdown: Shutdown) -> Result<(), DevError> {
    let folder = DataFolder::open(&options.data_dir)?;
    let listener = listen(options.port).await?;
    let address = listener
        .local_addr()
        .map_err(|error| DevError::Prepare(error.to_string()))?;
    let keys = Keys::load_or_make(&folder.path)?;
    let cluster = start_cluster(&folder, &options, &keys).await?;
    if shutdown.is_cancelled() {
        return stop_cluster(cluster).await;
    }
    let outcome = serve(
        &folder,
        &options,
        &keys,
        &cluster,
        listener,
        address.port(),
        &shutdown,
    )
    .await;
    shutdown.cancel();
    stop_cluster(cluster).await?;
    outcome
}

async fn serve(
    folder: &DataFolder,
    options: &DevOptions,
    keys: &Keys,
    cluster: &Arc<PrivateCluster>,
    listener: TcpListener,
    port: u16,
    shutdown: &Shutdown,
) -> Result<(), DevError> {
    let database_url = cluster.url(DATABASE);
    tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        prepared = prepare(cluster, &database_url, &options.sql) => prepared?,
    }

    let config = server_config(options, keys, cluster)?;
    let mut server = tokio::spawn(server::run(listener, config, shutdown.clone()));
    let running = Running {
        url: format!("http://127.0.0.1:{port}"),
        database_url,
        jwt_secret: keys.jwt_secret.clone(),
        anon_key: keys.anon_key.clone(),
        authenticated_key: keys.authenticated_key.clone(),
        service_key: keys.service_key.clone(),
    };
    tokio::select! {
        ended = &mut server => return server_result(ended),
        () = until_ready(&running.url) => {}
    }
    folder.announce(&running)?;
    print_welcome(&running, cluster);
    tokio::select! {
        ended = &mut server => server_result(ended),
        () = keep_alive(cluster) => Ok(()),
    }
}

/// Roles, publication, the objects of the `realtime` and `auth` schemas and the grants of new tables, then the user's
/// files.
async fn prepare(cluster: &PrivateCluster, database_url: &str, sql: &[PathBuf]) -> Result<(), DevError> {
    let failed = |error: SqlError| DevError::Prepare(error.chain());
    let session = Session::new("rowcast_dev");
    let mut connection = postgres::connect(&cluster.connect_settings(DATABASE), &session)
        .await
        .map_err(failed)?;
    postgres::install(&mut connection, &InstallOptions::default())
        .await
        .map_err(failed)?;
    connection
        .batch_execute(NEW_TABLES)
        .await
        .map_err(|error| failed(SqlError::new("granting new tables to the API roles", error)))?;
    sql_files::run(database_url, sql).await
}

/// The data folder, held by this process.
struct DataFolder {
    path: PathBuf,
    _lock: FolderLock,
}

impl DataFolder {
    fn open(path: &Path) -> Result<Self, DevError> {
        std::fs::create_dir_all(path).map_err(|error| DevError::file("make", path, &error))?;
        let path = path
            .canonicalize()
            .map_err(|error| DevError::file("find", path, &error))?;
        let lock = FolderLock::take(&path)?;
        // There are secrets and a database in here: nothing for a repository.
        let ignore = path.join(".gitignore");
        std::fs::write(&ignore, "*\n").map_err(|error| DevError::file("write", &ignore, &error))?;
        let folder = Self { path, _lock: lock };
        // One that was killed could not take its announcement back.
        folder.withdraw();
        Ok(folder)
    }

    fn announcement(&self) -> PathBuf {
        self.path.join("dev.json")
    }

    fn announce(&self, running: &Running) -> Result<(), DevError> {
        let text = serde_json::to_string_pretty(running).unwrap_or_default();
        // Renamed into place: whoever waits for the file finds it whole.
        let unfinished = self.path.join("dev.json.new");
        write_secret(&unfinished, &format!("{text}\n"))?;
        let path = self.announcement();
        std::fs::rename(&unfinished, &path).map_err(|error| DevError::file("write", &path, &error))
    }

    fn withdraw(&self) {
        let _ = std::fs::remove_file(self.announcement());
    }

    /// The database's port in the last run.
    fn last_port(&self) -> Option<u16> {
        std::fs::read_to_string(self.path.join("port"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        self.withdraw();
    }
}

async fn listen(port: u16) -> Result<TcpListener, DevError> {
    let address = format!("127.0.0.1:{port}");
    TcpListener::bind(&address)
        .await
        .map_err(|error| DevError::Listen {
            address,
            reason: error.to_string(),
        })
}

async fn start_cluster(
    folder: &DataFolder,
    options: &DevOptions,
    keys: &Keys,
) -> Result<Arc<PrivateCluster>, DevError> {
    let inside = folder.path.join("postgres");
    let mut cluster_options = Options::new(&inside);
    cluster_options.password = Some(Secret::new(keys.database_password.as_str()));
    cluster_options.port = options.database_port;
    cluster_options.preferred_port = folder.last_port();
    if let Some(bin) = &options.postgres {
        let found = Installation::at(bin).ok_or_else(|| DevError::NotPostgres { bin: bin.clone() })?;
        cluster_options.installation = Some(found);
    }
    let port_file = folder.path.join("port");
    let started = tokio::task::spawn_blocking(move || {
        let cluster = start_here_or_elsewhere(cluster_options)?;
        let port = cluster.port().to_string();
        std::fs::write(&port_file, port).map_err(|error| DevError::file("write", &port_file, &error))?;
        Ok(Arc::new(cluster))
    });
    started
        .await
        .unwrap_or_else(|error| Err(DevError::Prepare(error.to_string())))
}

/// Starts the cluster; elsewhere when we are root in a folder that only root can reach.
fn start_here_or_elsewhere(mut options: Options) -> Result<PrivateCluster, DevError> {
    let error = match PrivateCluster::start(options.clone()) {
        Err(error @ DevError::Unreachable { .. }) => error,
        other => return other,
    };
    let elsewhere = elsewhere(&options.dir);
    make_reachable(&elsewhere).map_err(|_| error)?;
    tracing::info!(dir = %elsewhere.display(), "Postgres does not run as root and cannot reach the data folder; its files are elsewhere");
    let _ = std::fs::remove_dir(&options.dir);
    options.dir = elsewhere;
    PrivateCluster::start(options)
}

/// `/root/app/.rowcast/postgres` becomes `/var/lib/rowcast/root-app-.rowcast-postgres`.
fn elsewhere(dir: &Path) -> PathBuf {
    let name: Vec<_> = dir
        .components()
        .filter_map(|component| match component {
            std::path::Component::Normal(name) => Some(name.to_string_lossy()),
            _ => None,
        })
        .collect();
    Path::new(ELSEWHERE).join(name.join("-"))
}

fn make_reachable(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for folder in [Path::new(ELSEWHERE), dir] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

async fn stop_cluster(cluster: Arc<PrivateCluster>) -> Result<(), DevError> {
    let stopped = tokio::task::spawn_blocking(move || cluster.stop(StopMode::Fast));
    stopped
        .await
        .map_err(|error| DevError::Prepare(error.to_string()))
}

fn server_config(options: &DevOptions, keys: &Keys, cluster: &PrivateCluster) -> Result<Config, DevError> {
    let mut inputs = options.settings.clone();
    inputs.environment = own_environment(inputs.environment);
    let port = cluster.port().to_string();
    for (key, value) in [
        ("database.host", "127.0.0.1"),
        ("database.port", &port),
        ("database.user", "postgres"),
        ("database.password", &keys.database_password),
        ("database.name", DATABASE),
        ("database.sslmode", "disable"),
        ("database.url", ""),
        ("listen.tls_certificate", ""),
        ("listen.tls_key", ""),
        ("auth.jwt_secret", &keys.jwt_secret),
    ] {
        inputs.flags.push((key.to_owned(), value.to_owned()));
    }
    let loaded = Config::load(&inputs)?;
    for warning in loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded.config)
}

/// What of an environment the development server listens to: `DATABASE_URL` and its like are meant for other programs
/// and other databases.
pub fn own_environment(mut environment: Vec<(String, String)>) -> Vec<(String, String)> {
    environment.retain(|(name, _)| name.starts_with("ROWCAST_") && !name.starts_with("ROWCAST_DATABASE_"));
    environment
}

fn server_result(
    ended: Result<Result<(), server::ServeError>, tokio::task::JoinError>,
) -> Result<(), DevError> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error @ server::ServeError::PolicyFiles(_))) => Err(DevError::PolicyFiles(error.to_string())),
        Ok(Err(error)) => Err(DevError::Server(error.to_string())),
        Err(error) => Err(DevError::Server(error.to_string())),
    }
}

/// Resolves once the server says that clients can be served.
async fn until_ready(url: &str) {
    let health = format!("{url}/healthcheck");
    loop {
        let answer = reqwest::get(&health).await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Starts the cluster again when somebody else stops it. Never resolves.
async fn keep_alive(cluster: &Arc<PrivateCluster>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if cluster.is_running() {
            continue;
        }
        tracing::warn!("Postgres has ended; starting it again");
        let again = Arc::clone(cluster);
        let started: JoinHandle<Result<(), DevError>> =
            tokio::task::spawn_blocking(move || again.start_again());
        if let Ok(Err(error)) = started.await {
            tracing::error!("{error}");
        }
    }
}

fn print_welcome(running: &Running, cluster: &PrivateCluster) {
    let psql = cluster.installation().bin.join("psql");
    let Running {
        url,
        database_url,
        anon_key,
        authenticated_key,
        service_key,
        jwt_secret,
    } = running;
    // Nobody may be listening any more; the server runs on.
    let _ = write!(
        std::io::stdout().lock(),
        "
Rowcast is running. Ctrl-C stops it; the data stays.

  URL            {url}
  Database       {database_url}
  psql           {} {database_url}

  Publish a table to follow it:
                 alter publication supabase_realtime add table my_table;

  Tokens, for one year (JWT secret: {jwt_secret})
  anon           {anon_key}
  authenticated  {authenticated_key}
  service_role   {service_key}

",
        psql.display(),
    );
}
