//! `rowcast dev` as people start, kill and stop it: the binary itself.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rowcast::config::Config;
use rowcast::server::connect_settings;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Client, Database, Program, Version, eventually};

/// A data folder that the user Postgres runs as can reach. What still runs in it ends with it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let open = std::fs::Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new()
            .prefix("rowcast-dev")
            .permissions(open)
            .tempdir();
        Self(folder.expect("a folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowcast"));
        command.arg("dev").arg("--data-dir").arg(self.path());
        command.args(["--port", "0"]).args(more);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ROWCAST_") {
                command.env_remove(name);
            }
        }
        command
    }

    fn start(&self, more: &[&str]) -> Program {
        Program::start("rowcast dev", self.command(more), &[])
    }

    /// What dev.json says, once it is there.
    async fn announced(&self, dev: &mut Program) -> Value {
        let file = self.path().join("dev.json");
        // Written once clients can connect, before the welcome.
        dev.expect("text", |line| {
            line["text"].as_str().is_some_and(|text| text.contains("URL"))
        })
        .await;
        let mode = file.metadata().expect("dev.json").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "there are secrets in it");
        serde_json::from_str(&std::fs::read_to_string(file).expect("dev.json")).expect("JSON")
    }

    fn postmaster(&self) -> Option<Pid> {
        let file = std::fs::read_to_string(self.path().join("postgres/data/postmaster.pid")).ok()?;
        Pid::from_raw(file.lines().next()?.trim().parse().ok()?)
    }

    /// Files that stand for something that runs.
    fn traces(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["", "postgres", "postgres/data"] {
            let Ok(entries) = std::fs::read_dir(self.path().join(folder)) else {
                continue;
            };
            let names = entries.flatten().map(|entry| entry.file_name());
            found.extend(
                names
                    .map(|name| name.to_string_lossy().into_owned())
                    .filter(|name| {
                        ["lock", "dev.json", "postmaster.pid"].contains(&name.as_str())
                            || name.starts_with(".s.")
                    }),
            );
        }
        found
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(postmaster) = self.postmaster() {
            let _ = kill_process(postmaster, Signal::QUIT);
        }
    }
}

/// A superuser's way into its database.
async fn database(running: &Value) -> Database {
    let url = running["database_url"].as_str().expect("a URL");
    let config = Config::from_pairs(&[("database.url", url)]).expect("a URL that we understand");
    Database::open("dev".to_owned(), connect_settings(&config)).await
}

async fn connect(running: &Value, key: &str) -> Client {
    let token = running[key].as_str().expect("a token");
    let url = running["url"].as_str().expect("a URL");
    Client::try_connect_to(url, Version::V2, token)
        .await
        .expect("a connection")
}

async fn stop(dev: Program, signal: Signal) {
    dev.signal(signal);
    let (status, told) = dev.ended().await;
    assert!(status.success(), "{status}: {told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_is_live_for_every_ready_made_token() {
    let folder = Folder::new();
    let sql = folder.path().join("schema.sql");
    std::fs::write(
        &sql,
        "create table if not exists notes (id int primary key, body text)",
    )
    .expect("a file");
    let mut dev = folder.start(&["--sql", sql.to_str().expect("text")]);
    let running = folder.announced(&mut dev).await;
    let db = database(&running).await;
    // All that a newcomer does: no grants.
    db.execute("alter publication supabase_realtime add table notes")
        .await;
    db.execute("create table own (id int primary key, owner uuid default auth.uid())")
        .await;
    db.execute("alter table own enable row level security").await;
    db.execute("create policy own on own using (owner = auth.uid())")
        .await;
    db.execute("alter publication supabase_realtime add table own")
        .await;
    let mut clients = Vec::new();
    for key in ["anon_key", "authenticated_key", "service_key"] {
        let mut client = connect(&running, key).await;
        let every = json!([{"event": "*", "schema": "public", "table": "*"}]);
        client.subscribe("all", every).await;
        clients.push((key, client));
    }
    let user = "00000000-0000-4000-8000-000000000001";
    db.execute(&format!("insert into own values (1, '{user}')")).await;
    db.execute("insert into notes values (2, 'for all')").await;
    for (key, client) in &mut clients {
        if *key != "anon_key" {
            assert_eq!(client.data().await["record"]["id"], 1, "{key}");
        }
        let change = client.data().await;
        assert_eq!(
            change["record"],
            json!({"id": 2, "body": "for all"}),
            "{key} {change}"
        );
    }
    drop(clients);
    stop(dev, Signal::TERM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_names_the_first_and_harms_nothing() {
    let folder = Folder::new();
    let mut dev = folder.start(&[]);
    let running = folder.announced(&mut dev).await;
    let second = folder.command(&[]).output().await.expect("it runs");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success(), "{said}");
    let process = format!("process {}", dev.id());
    assert!(
        said.contains("already running") && said.contains(&process),
        "{said}"
    );
    assert!(folder.path().join("dev.json").exists());
    connect(&running, "anon_key").await;
    stop(dev, Signal::INT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_leaves_nothing_behind() {
    let folder = Folder::new();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut dev = folder.start(&[]);
        let running = folder.announced(&mut dev).await;
        let postmaster = folder.postmaster().expect("a running Postgres");
        let mut client = connect(&running, "anon_key").await;
        let (_, code) = tokio::join!(stop(dev, signal), client.close_code());
        assert_eq!(code, Some(1012), "service restart");
        assert!(
            test_kill_process(postmaster).is_err(),
            "Postgres runs after {signal:?}"
        );
        assert_eq!(folder.traces(), [""; 0], "after {signal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_it_starts_again_with_its_data_and_keys() {
    let folder = Folder::new();
    let mut dev = folder.start(&[]);
    let before = folder.announced(&mut dev).await;
    let db = database(&before).await;
    db.execute("create table notes (id int primary key)").await;
    db.execute("alter publication supabase_realtime add table notes")
        .await;
    db.execute("insert into notes values (1)").await;
    let orphan = folder.postmaster().expect("a running Postgres");
    dev.signal(Signal::KILL);
    let (status, _) = dev.ended().await;
    assert!(!status.success());
    drop(db);

    let mut dev = folder.start(&[]);
    let after = folder.announced(&mut dev).await;
    eventually("the Postgres that was left behind has ended", || async {
        test_kill_process(orphan).is_err().then_some(())
    })
    .await;
    for same in ["jwt_secret", "anon_key", "service_key", "database_url"] {
        assert_eq!(before[same], after[same], "{same}");
    }
    let mut client = connect(&after, "anon_key").await;
    client
        .subscribe(
            "n",
            json!([{"event": "INSERT", "schema": "public", "table": "notes"}]),
        )
        .await;
    let db = database(&after).await;
    assert_eq!(db.text("select count(*)::text from notes").await, "1");
    db.execute("insert into notes values (2)").await;
    assert_eq!(client.data().await["record"], json!({"id": 2}));
    drop(client);
    stop(dev, Signal::TERM).await;
}
