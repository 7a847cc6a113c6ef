//! A Postgres and its standby behind one address, as operators have them: the address leads to whichever is the primary.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use rowcast::dev::{Options, StopMode};
use rowcast::postgres::ConnectSettings;

use super::{Database, OwnCluster, Proxy, database, eventually, own};

/// The physical slot of a standby that copies slots.
const STANDBY: &str = "standby_1";

/// Two clusters and the address in front of them.
pub struct Pair {
    primary: OwnCluster,
    standby: Option<OwnCluster>,
    /// Where the primary is.
    pub address: Proxy,
}

impl Pair {
    /// Starts the primary, prepared as the tests want it, with its database `postgres`. The standby comes with
    /// [`Pair::attach`].
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with other options.
    pub async fn start_with(adjust: impl FnOnce(&mut Options)) -> Self {
        let primary = OwnCluster::start_with(adjust).await;
        database::prepare(&primary.settings("postgres")).await;
        let address = Proxy::start(address_of(&primary)).await;
        Self {
            primary,
            standby: None,
            address,
        }
    }

    /// The way to the primary, whichever it is.
    pub fn settings(&self) -> ConnectSettings {
        ConnectSettings {
            port: self.address.address.port(),
            ..self.primary.settings("postgres")
        }
    }

    /// The primary's database.
    pub async fn database(&self) -> Database {
        Database::open("own".to_owned(), self.settings()).await
    }

    /// Makes the standby from the primary's files, with the slots that are among them, as some tools do before Postgres 17.
    pub async fn attach(&mut self) {
        self.attach_with(&[], |_| {}).await;
    }

    /// Makes a standby that copies the slots itself (PostgreSQL 17), and waits until it has this one.
    pub async fn attach_synchronized(&mut self, slot: &str) {
        let create = format!("select pg_create_physical_replication_slot('{STANDBY}')");
        self.primary.execute(&create).await;
        let settings = [
            ("primary_slot_name", STANDBY),
            ("sync_replication_slots", "on"),
            ("hot_standby_feedback", "on"),
        ];
        // Copies of files have no place among slots that are synchronised.
        let forget =
            |data: &Path| std::fs::remove_dir_all(data.join("pg_replslot").join(slot)).expect("its slot");
        self.attach_with(&settings, forget).await;
        let wait = format!("alter system set synchronized_standby_slots = '{STANDBY}'");
        for sql in [&*wait, "select pg_reload_conf()"] {
            self.primary.execute(sql).await;
        }
        let synced = format!(
            "select count(*)::text from pg_replication_slots where slot_name = '{slot}' and synced and not temporary"
        );
        eventually("the slot is synchronised", || async {
            // Its place moves only with what is written.
            self.primary
                .execute("select pg_logical_emit_message(true, 'test', '')")
                .await;
            (own::text(&self.standby().settings("postgres"), &synced).await == "1").then_some(())
        })
        .await;
    }

    async fn attach_with(&mut self, settings: &[(&str, &str)], change: impl FnOnce(&Path)) {
        self.primary.stop(StopMode::Fast).await;
        let installation = self.primary.installation();
        let (from, user) = (self.primary.data_dir(), self.primary.settings("postgres").user);
        let port = self.primary.settings("postgres").port;
        let standby = OwnCluster::start_with(|options| {
            std::fs::create_dir_all(&options.dir).expect("a folder");
            copy(&from, &options.dir.join("data"));
            std::fs::write(options.dir.join("data/standby.signal"), "").expect("a file");
            change(&options.dir.join("data"));
            options.installation = Some(installation);
            let given = settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            options.settings.extend(given);
            let way = format!("host=127.0.0.1 port={port} user={user} dbname=postgres");
            options.settings.push(("primary_conninfo".to_owned(), way));
        });
        self.standby = Some(standby.await);
        self.primary.start_again().await;
        self.streams().await;
    }

    /// The standby.
    pub fn standby(&self) -> &OwnCluster {
        self.standby.as_ref().expect("a standby")
    }

    /// Waits until the standby follows the primary.
    async fn streams(&self) {
        eventually("the standby follows", || async {
            let state = "select count(*)::text from pg_stat_replication where state = 'streaming' and application_name = 'walreceiver'";
            (own::text(&self.primary.settings("postgres"), state).await == "1").then_some(())
        })
        .await;
    }

    /// Waits until the standby has all that the primary has written.
    pub async fn caught_up(&self) {
        let written = "select pg_current_wal_flush_lsn()::text";
        let written = own::text(&self.primary.settings("postgres"), written).await;
        let has = format!("select (pg_last_wal_replay_lsn() >= '{written}')::text");
        eventually("the standby has everything", || async {
            let has = own::text(&self.standby().settings("postgres"), &has).await;
            (has == "true").then_some(())
        })
        .await;
    }

    /// The primary dies.
    pub async fn crash(&self) {
        self.primary.stop(StopMode::Immediate).await;
    }

    /// The address leads to the standby from now on, whatever it is.
    pub fn lead_to_standby(&self) {
        self.address.lead_to(address_of(self.standby()));
        self.address.cut_all();
    }

    /// The standby becomes a primary.
    pub async fn promote(&self) {
        let promote = "select pg_promote(true, 60)::text";
        assert_eq!(
            own::text(&self.standby().settings("postgres"), promote).await,
            "true"
        );
    }

    /// All of it, one after the other.
    pub async fn fail_over(&self) {
        self.crash().await;
        self.promote().await;
        self.lead_to_standby();
    }
}

fn address_of(cluster: &OwnCluster) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, cluster.settings("postgres").port).into()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "the files are copied"
    );
}
