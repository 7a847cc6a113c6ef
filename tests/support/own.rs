//! A Postgres that one test may stop, restart and misconfigure.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rowcast::dev::{Installation, Options, PrivateCluster, StopMode};
use rowcast::postgres::{ConnectSettings, Session, SqlError};

use super::{Database, cluster, database};

/// A cluster in a folder that goes with it.
pub struct OwnCluster {
    cluster: Arc<PrivateCluster>,
    dir: PathBuf,
}

impl OwnCluster {
    /// Starts one with these settings beside the usual ones.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let settings: Vec<_> = settings
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Self::start_with(|options| options.settings.extend(settings)).await
    }

    /// Starts one with other options.
    pub async fn start_with(adjust: impl FnOnce(&mut Options)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "rowcast-own-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().join(name);
        let mut options = cluster::fast(&dir);
        adjust(&mut options);
        let started = blocking(move || PrivateCluster::start(options)).await;
        let cluster = started.expect("a private Postgres for this test");
        cluster::stop_with_us(&cluster, &dir);
        Self {
            cluster: Arc::new(cluster),
            dir,
        }
    }

    /// Its database `postgres`, with the objects of `sql/`.
    pub async fn database(&self) -> Database {
        let settings = self.settings("postgres");
        database::prepare(&settings).await;
        Database::open("own".to_owned(), settings).await
    }

    /// The superuser's way into a database.
    pub fn settings(&self, database: &str) -> ConnectSettings {
        self.cluster.connect_settings(database)
    }

    /// Runs statements over a connection of their own, so that a restart before does not matter.
    pub async fn execute(&self, sql: &str) {
        let done = execute(&self.settings("postgres"), sql).await;
        assert!(done, "{sql}");
    }

    /// Stops Postgres and waits for its end.
    pub async fn stop(&self, mode: StopMode) {
        let cluster = Arc::clone(&self.cluster);
        blocking(move || cluster.stop(mode)).await;
    }

    /// Starts Postgres again.
    pub async fn start_again(&self) {
        let cluster = Arc::clone(&self.cluster);
        blocking(move || cluster.start_again().expect("a second start")).await;
    }

    /// Which Postgres it is.
    pub fn installation(&self) -> Installation {
        self.cluster.installation().clone()
    }

    /// Its files.
    pub fn data_dir(&self) -> PathBuf {
        self.cluster.data_dir()
    }

    /// The user that Postgres runs as.
    pub fn owner(&self) -> u32 {
        let files = std::fs::metadata(self.cluster.data_dir());
        std::os::unix::fs::MetadataExt::uid(&files.expect("its files"))
    }

    /// What Postgres logged since its last start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.cluster.log_file()).expect("a log")
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        self.cluster.stop(StopMode::Immediate);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Whether the statements went through, over a connection of their own.
pub async fn execute(settings: &ConnectSettings, sql: &str) -> bool {
    let run = async {
        let connection = rowcast::postgres::connect(settings, &Session::new("rowcast_test")).await?;
        let doing = SqlError::during("running the statements of a test");
        connection.batch_execute(sql).await.map_err(doing)
    };
    run.await.is_ok()
}

/// The first column of the first row, over a connection of its own.
pub async fn text(settings: &ConnectSettings, sql: &str) -> String {
    let session = Session::new("rowcast_test");
    let connection = rowcast::postgres::connect(settings, &session).await;
    let connection = connection.expect("the test database answers");
    match connection.query_one(sql, &[]).await {
        Ok(row) => row.get(0),
        Err(error) => panic!("{sql}\n{error:?}"),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}
