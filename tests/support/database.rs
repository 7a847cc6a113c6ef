//! A database of a test's own, in the shared cluster.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use rowcast::dev::PrivateCluster;
use rowcast::postgres::{ConnectSettings, Connection, Session};
use tokio::sync::Mutex;

use super::cluster;

/// A fresh database with the objects of `sql/` and an empty publication.
pub struct Database {
    /// Its name, usable as part of other names.
    pub name: String,
    /// A superuser's way in.
    pub settings: ConnectSettings,
    client: Connection,
}

impl Database {
    /// Makes one.
    pub async fn new() -> Self {
        Self::in_cluster(cluster::shared()).await
    }

    /// Makes one in a Postgres of this major version.
    pub async fn on_version(major: u32) -> Self {
        Self::in_cluster(cluster::of_version(major)).await
    }

    async fn in_cluster(cluster: &PrivateCluster) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Clusters, by their ports, that have the template.
        static TEMPLATES: Mutex<BTreeSet<u16>> = Mutex::const_new(BTreeSet::new());
        {
            let mut made = TEMPLATES.lock().await;
            if !made.contains(&cluster.port()) {
                make_template(cluster).await;
                made.insert(cluster.port());
            }
        }
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let admin = connect(&cluster.connect_settings("postgres")).await;
        let create = format!("create database {name} template rowcast_template");
        admin.batch_execute(&create).await.expect("a database");
        Self::open(name.clone(), cluster.connect_settings(&name)).await
    }

    /// Uses an existing database, prepared as [`prepare`] does.
    pub async fn open(name: String, settings: ConnectSettings) -> Self {
        let client = connect(&settings).await;
        Self {
            name,
            settings,
            client,
        }
    }

    /// Runs statements as superuser, each in a transaction of its own unless they say otherwise.
    pub async fn execute(&self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql).await {
            panic!("{sql}\n{error:?}");
        }
    }

    /// Runs statements that may fail.
    pub async fn try_execute(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    /// The first column of the first row.
    pub async fn text(&self, sql: &str) -> String {
        match self.client.query_one(sql, &[]).await {
            Ok(row) => row.get(0),
            Err(error) => panic!("{sql}\n{error:?}"),
        }
    }

    /// Another connection of the same superuser.
    pub async fn connection(&self) -> Connection {
        connect(&self.settings).await
    }
}

async fn make_template(cluster: &PrivateCluster) {
    let admin = connect(&cluster.connect_settings("postgres")).await;
    admin
        .batch_execute("create database rowcast_template")
        .await
        .expect("template");
    let settings = cluster.connect_settings("rowcast_template");
    prepare(&settings).await;
    // As on Supabase, so that tests name only the grants that they are about.
    let service = "alter default privileges grant select on tables to service_role;
                   alter default privileges grant usage on schemas to service_role";
    connect(&settings)
        .await
        .batch_execute(service)
        .await
        .expect("default privileges");
}

/// Installs what `rowcast serve` installs.
pub async fn prepare(settings: &ConnectSettings) {
    let mut connection = connect(settings).await;
    let options = rowcast::postgres::InstallOptions::default();
    rowcast::postgres::install(&mut connection, &options)
        .await
        .expect("the objects of sql/");
}

async fn connect(settings: &ConnectSettings) -> Connection {
    rowcast::postgres::connect(settings, &Session::new("rowcast_test"))
        .await
        .expect("the test database answers")
}
