//! A private Postgres for the tests of this module: one cluster per test process, one database per test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{ConnectSettings, Connection, Session, SslMode, connect};
use crate::secret::Secret;

/// A running cluster. Its keeper, a shell, waits for our end of a pipe to close, which also happens when this process
/// is killed; then it stops the server and removes the folder.
pub(crate) struct Cluster {
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    _keeper: Child,
}

/// What runs as the user `postgres` (the server refuses root). wal3json is allowed and does not exist. `$1` binaries, `$2` folder, `$3` port, `$4…` settings.
const KEEPER: &str = r#"
bin=$1 folder=$2 port=$3; shift 3
"$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --no-sync --locale=C.UTF-8 >"$folder/initdb.log" 2>&1 || { cat "$folder/initdb.log"; exit 1; }
"$bin/postgres" --describe-config | grep -q ^output_plugin_libraries && set -- -c output_plugin_libraries=pgoutput,test_decoding,wal2json,wal3json "$@"
"$bin/postgres" -D "$folder/data" -k "$folder" -p "$port" -c fsync=off "$@" >"$folder/log" 2>&1 </dev/null &
server=$!
echo "started"
read -r _
kill -INT "$server"
wait "$server"
cd / && rm -rf "$folder"
"#;

impl Cluster {
    /// The cluster all tests share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(|_| vec!["wal_level=logical".into(), "max_connections=50".into()]))
    }

    /// A cluster of its own. `prepare` may put files into its folder and answers the server's settings.
    pub(crate) fn start(prepare: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("rowcast-pg-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        let port = free_port();
        let arguments = prepare(&folder);
        let mut command = as_postgres(&folder);
        // In a group of its own: Ctrl-C and `timeout` end whole groups, and it has to outlive us.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut keeper = command
            .args(["sh", "-c", KEEPER, "keeper"])
            .arg(binaries())
            .arg(&folder)
            .arg(port.to_string())
            .args(
                arguments
                    .into_iter()
                    .flat_map(|setting| ["-c".to_owned(), setting]),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let stdout = keeper.stdout.take().expect("its output");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("its first line");
        assert_eq!(line.trim(), "started", "initdb: {line}");
        Self {
            folder,
            port,
            _keeper: keeper,
        }
    }

    /// Settings for the superuser over TCP, without TLS.
    pub(crate) fn settings(&self, database: &str) -> ConnectSettings {
        ConnectSettings {
            host: "127.0.0.1".into(),
            port: self.port,
            user: "postgres".into(),
            password: Secret::default(),
            database: database.into(),
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            connect_timeout: Duration::from_secs(10),
        }
    }

    /// A connection as superuser, as soon as the server takes one.
    pub(crate) async fn superuser(&self, database: &str) -> Connection {
        self.superuser_at(&self.settings(database)).await
    }

    /// A connection with these settings, as soon as the server takes one.
    pub(crate) async fn superuser_at(&self, settings: &ConnectSettings) -> Connection {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            match connect(settings, &Session::new("test")).await {
                Ok(connection) => return connection,
                Err(error) if error.kind().is_transient() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{}", error.chain()),
            }
        }
    }

    /// A new empty database and a connection to it.
    pub(crate) async fn database(&self) -> (String, Connection) {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let admin = self.superuser("postgres").await;
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .expect("a new database");
        let connection = self.superuser(&name).await;
        (name, connection)
    }
}

/// Runs the rest of the command line as `postgres` when we are root, and hands the folder over.
fn as_postgres(folder: &Path) -> Command {
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        return Command::new("env");
    }
    let owner = Command::new("chown")
        .args(["-R", "postgres"])
        .arg(folder)
        .status();
    assert!(owner.is_ok_and(|status| status.success()), "chown to postgres");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]);
    command
}

fn binaries() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<_> = installed
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|bin| bin.join("initdb").exists())
    };
    found
        .pop()
        .or_else(on_path)
        .expect("an installed PostgreSQL (initdb)")
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}
