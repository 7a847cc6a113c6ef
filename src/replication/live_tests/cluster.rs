use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::postgres::{ConnectSettings, SslMode};
use crate::secret::Secret;

/// A Postgres of the test's own, stopped and removed when dropped.
pub(super) struct Cluster {
    dir: TempDir,
    bin: PathBuf,
    port: u16,
    keeper: Option<Child>,
}

/// A table `t` whose rows can be as long as a test needs them.
pub(super) const WIDE: &str = "create table t (id int primary key, filler text)";

impl Cluster {
    /// Makes and starts one, `conf` being appended to postgresql.conf.
    pub(super) fn start(conf: &str) -> Self {
        let Some(bin) = find_bin() else {
            panic!("no Postgres with wal2json is installed; run `make install`");
        };
        let mut cluster = Self {
            dir: tempfile::Builder::new().prefix("rowcast-pg").tempdir().unwrap(),
            bin,
            port: free_port(),
            keeper: None,
        };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(cluster.dir.path()));
        }
        let data = cluster.data();
        let data = data.to_str().unwrap();
        cluster.tool(
            "initdb",
            &[
                "-D",
                data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ],
        );
        let known = cluster.tool("postgres", &["--describe-config"]).stdout;
        let trust = if String::from_utf8_lossy(&known).contains("output_plugin_libraries") {
            "output_plugin_libraries = 'pgoutput, test_decoding, wal2json, no_such_plugin'\n"
        } else {
            ""
        };
        let own = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nwal_level = logical\n\
             fsync = off\nmax_wal_senders = 10\nmax_replication_slots = 10\nshared_buffers = 16MB\nstatement_timeout = 60s\n{trust}{conf}\n",
            cluster.port,
            cluster.dir.path().display(),
        );
        let path = cluster.data().join("postgresql.conf");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, before + &own).unwrap();
        cluster.up();
        cluster.keeper = Some(cluster.stop_with_us());
        cluster
    }

    /// Tests may be killed, with their whole group: a shell that reads from us until we are gone stops the server then.
    fn stop_with_us(&self) -> Child {
        use std::os::unix::process::CommandExt;
        let script =
            "cat >/dev/null; [ -e \"$1/postmaster.pid\" ] && kill -QUIT $(head -n 1 \"$1/postmaster.pid\")";
        Command::new("sh")
            .process_group(0)
            .args(["-c", script, "sh"])
            .arg(self.data())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub(super) fn up(&self) {
        let log = self.dir.path().join("log");
        let (data, log) = (self.data(), log.to_str().unwrap().to_owned());
        self.tool(
            "pg_ctl",
            &["-D", data.to_str().unwrap(), "-l", &log, "-w", "start"],
        );
    }

    /// `mode` is one of pg_ctl's: smart, fast, immediate.
    pub(super) fn down(&self, mode: &str) {
        self.tool(
            "pg_ctl",
            &["-D", self.data().to_str().unwrap(), "-m", mode, "-w", "stop"],
        );
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Puts a file into the data folder, readable by the server alone.
    pub(super) fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let path = self.data().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let owner = std::fs::metadata(self.data()).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }

    pub(super) fn settings(&self) -> ConnectSettings {
        ConnectSettings {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: "postgres".to_owned(),
            password: Secret::default(),
            database: "postgres".to_owned(),
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            connect_timeout: Duration::from_secs(10),
        }
    }

    /// The directory of the Unix socket, as a host.
    pub(super) fn socket_dir(&self) -> String {
        self.dir.path().display().to_string()
    }

    /// One with these settings and a table `t` of one column, `id`, and somebody who can write to it.
    pub(super) async fn with_table(settings: &str) -> (Self, Client) {
        Self::with(settings, "create table t (id int primary key)").await
    }

    /// One with these settings in which this has been executed, and a connection to it.
    pub(super) async fn with(settings: &str, sql: &str) -> (Self, Client) {
        let cluster = Self::start(settings);
        let client = cluster.client().await;
        client.batch_execute(sql).await.unwrap();
        (cluster, client)
    }

    pub(super) async fn client(&self) -> Client {
        let config = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Runs a program of the installation as a user that Postgres accepts.
    pub(super) fn tool(&self, program: &str, arguments: &[&str]) -> Output {
        let program = self.bin.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        run(command.args(arguments).current_dir(self.dir.path()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let data = self.data();
        if data.join("postmaster.pid").exists() {
            self.down("immediate");
        }
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

fn run(command: &mut Command) -> Output {
    // A server started by pg_ctl must not hold our pipes open.
    let output = tempfile::tempfile().unwrap();
    let status = command
        .stdout(output.try_clone().unwrap())
        .stderr(output.try_clone().unwrap())
        .status()
        .unwrap();
    let text = std::io::read_to_string({
        use std::io::Seek;
        let mut output = output;
        output.rewind().unwrap();
        output
    });
    assert!(status.success(), "{command:?}: {text:?}");
    Output {
        status,
        stdout: text.unwrap_or_default().into_bytes(),
        stderr: Vec::new(),
    }
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The newest installation that has wal2json, from PATH or the places distributions use.
fn find_bin() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for root in ["/usr/lib/postgresql", "/usr/local/pgsql", "/opt/postgresql"] {
        let mut versions: Vec<_> = std::fs::read_dir(root).into_iter().flatten().flatten().collect();
        versions.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
        places.extend(versions.iter().map(|entry| entry.path().join("bin")));
    }
    places
        .into_iter()
        .find(|bin| bin.join("initdb").exists() && has_wal2json(bin))
}

fn has_wal2json(bin: &Path) -> bool {
    let library = Command::new(bin.join("pg_config")).arg("--pkglibdir").output();
    let dir = library.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    dir.is_ok_and(|dir| Path::new(&dir).join("wal2json.so").exists())
        // Debian splits pg_config from the server package.
        || bin.parent().is_some_and(|version| version.join("lib/wal2json.so").exists())
}
