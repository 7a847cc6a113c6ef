//! A Postgres cluster in a folder of its own, which ends with us.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::error::{DevError, tail};
use super::installation::Installation;
use super::lock::FolderLock;
use super::owner::Owner;
use super::postmaster::{Launch, Postmaster, StopMode, stop_left_over};
use crate::postgres::{ConnectSettings, SslMode};
use crate::secret::Secret;

/// The superuser of every private cluster.
const SUPERUSER: &str = "postgres";
/// A socket's whole path must fit `sockaddr_un` (104 bytes on macOS), `.s.PGSQL.65535.lock` included.
const LONGEST_SOCKET_FOLDER: usize = 80;
/// How often a free port may be snatched away between our finding it and Postgres's taking it.
const PORT_ATTEMPTS: usize = 5;

/// What kind of cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder for everything; made if missing, kept when the cluster stops.
    pub dir: PathBuf,
    /// TCP port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// A port to try first when any is fine.
    pub preferred_port: Option<u16>,
    /// Password of the superuser `postgres`, set when the cluster is made; anybody on this machine may log in as
    /// anybody when unset.
    pub password: Option<Secret>,
    /// What survives a crash of the machine.
    pub durability: Durability,
    /// Which Postgres; the best one installed when unset.
    pub installation: Option<Installation>,
    /// Further settings (`max_connections`, `200`), stronger than ours.
    pub settings: Vec<(String, String)>,
}

/// What survives a crash of the machine, and how fast the cluster is for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Every commit, as in production.
    Safe,
    /// Nothing: no fsync, and stopping on drop is immediate. For tests. A crash of Postgres alone loses nothing.
    Fast,
}

impl Options {
    /// A safe cluster in `dir` on a free port without a password.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            port: 0,
            preferred_port: None,
            password: None,
            durability: Durability::Safe,
            installation: None,
            settings: Vec::new(),
        }
    }
}

/// A running cluster with `wal_level=logical`, on 127.0.0.1 and, where the path is short enough, a Unix socket in
/// its data directory. Stopped when dropped; the data stays. Everything here blocks (starting takes about a second).
#[derive(Debug)]
pub struct PrivateCluster {
    options: Options,
    installation: Installation,
    owner: Owner,
    port: u16,
    postmaster: Mutex<Option<Postmaster>>,
    // Last, so that the folder is let go of after the server has stopped.
    _lock: FolderLock,
}

impl PrivateCluster {
    /// Makes the cluster if the folder has none yet, and starts it. One that an earlier process left running here
    /// when it was killed is stopped first.
    ///
    /// # Errors
    /// See [`DevError`]; nothing keeps running then.
    pub fn start(mut options: Options) -> Result<Self, DevError> {
        let owner = Owner::choose()?;
        std::fs::create_dir_all(&options.dir)
            .map_err(|error| DevError::file("make", &options.dir, &error))?;
        options.dir = options
            .dir
            .canonicalize()
            .map_err(|error| DevError::file("find", &options.dir, &error))?;
        owner.check_reach(&options.dir)?;
        let lock = FolderLock::take(&options.dir)?;
        let installation = choose_installation(&options)?;
        let mut cluster = Self {
            port: options.port,
            options,
            installation,
            owner,
            postmaster: Mutex::new(None),
            _lock: lock,
        };
        if !cluster.data_dir().join("PG_VERSION").exists() {
            cluster.initialise()?;
        }
        stop_left_over(&cluster.data_dir())?;
        cluster.start_on_a_port()?;
        Ok(cluster)
    }

    /// TCP port on 127.0.0.1. Stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data directory (`PGDATA`).
    pub fn data_dir(&self) -> PathBuf {
        self.options.dir.join("data")
    }

    /// What Postgres logged since its last start.
    pub fn log_file(&self) -> PathBuf {
        self.options.dir.join("postgres.log")
    }

    /// Which Postgres it is.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// The superuser, over TCP without TLS, to a database of this cluster.
    pub fn connect_settings(&self, database: &str) -> ConnectSettings {
        ConnectSettings {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: self.port,
            user: SUPERUSER.to_owned(),
            password: self.options.password.clone().unwrap_or_default(),
            database: database.to_owned(),
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            connect_timeout: Duration::from_secs(10),
        }
    }

    /// The same as a URL, password included.
    pub fn url(&self, database: &str) -> String {
        let password = match &self.options.password {
            Some(password) => format!(":{}", password.expose()),
            None => String::new(),
        };
        format!(
            "postgres://{SUPERUSER}{password}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// Whether the server process is there.
    pub fn is_running(&self) -> bool {
        let mut postmaster = self.postmaster.lock().unwrap_or_else(PoisonError::into_inner);
        postmaster.as_mut().is_some_and(Postmaster::is_running)
    }

    /// Stops the server and returns when its process has ended.
    pub fn stop(&self, mode: StopMode) {
        let mut postmaster = self.postmaster.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut running) = postmaster.take() {
            running.stop(mode);
        }
    }

    /// Starts the server after [`PrivateCluster::stop`], on the same port.
    ///
    /// # Errors
    /// [`DevError::NotReady`].
    pub fn start_again(&self) -> Result<(), DevError> {
        let mut postmaster = self.postmaster.lock().unwrap_or_else(PoisonError::into_inner);
        if postmaster.as_mut().is_some_and(Postmaster::is_running) {
            return Ok(());
        }
        let data = self.data_dir();
        *postmaster = Some(Postmaster::start(&Launch {
            owner: &self.owner,
            postgres: self.installation.bin.join("postgres"),
            data: &data,
            log: &self.log_file(),
            port: self.port,
            settings: self.settings(&data),
        })?);
        Ok(())
    }

    /// Stops and starts.
    ///
    /// # Errors
    /// [`DevError::NotReady`].
    pub fn restart(&self, mode: StopMode) -> Result<(), DevError> {
        self.stop(mode);
        self.start_again()
    }

    fn start_on_a_port(&mut self) -> Result<(), DevError> {
        if self.options.port != 0 {
            return self.start_again();
        }
        if let Some(port) = self.options.preferred_port {
            self.port = port;
            match self.start_again() {
                Err(DevError::DatabasePort { .. }) => {}
                other => return other,
            }
        }
        let mut attempts = PORT_ATTEMPTS;
        loop {
            self.port = free_port()?;
            attempts -= 1;
            match self.start_again() {
                Err(DevError::DatabasePort { .. }) if attempts > 0 => {}
                other => return other,
            }
        }
    }

    fn settings(&self, data: &Path) -> Vec<String> {
        let socket_folder = if data.as_os_str().len() <= LONGEST_SOCKET_FOLDER {
            data.display().to_string()
        } else {
            String::new()
        };
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            format!("unix_socket_directories={socket_folder}"),
            "wal_level=logical".to_owned(),
            "max_replication_slots=50".to_owned(),
            "max_wal_senders=50".to_owned(),
            "max_connections=200".to_owned(),
        ];
        if self.installation.lists_plugins {
            settings.push("output_plugin_libraries=pgoutput,test_decoding,wal2json".to_owned());
        }
        if self.options.durability == Durability::Fast {
            // Commits stay synchronous: asynchronous ones could be lost when Postgres alone is killed.
            settings.extend(["fsync=off", "full_page_writes=off"].map(str::to_owned));
        }
        let further = self.options.settings.iter();
        settings.extend(further.map(|(name, value)| format!("{name}={value}")));
        settings
    }

    /// Runs initdb beside the final place, so that an interrupted one leaves nothing that looks like a cluster.
    fn initialise(&self) -> Result<(), DevError> {
        let unfinished = self.options.dir.join("data.new");
        let password_file = self.options.dir.join("initdb.password");
        let _ = std::fs::remove_file(&password_file);
        if let Some(password) = &self.options.password {
            write_secret(&password_file, password.expose())?;
            self.owner.own(&password_file)?;
        }
        // C.UTF-8 knows all letters; not every system has it.
        let made = self
            .initdb(&unfinished, &password_file, "C.UTF-8")
            .or_else(|_| self.initdb(&unfinished, &password_file, "C"));
        let _ = std::fs::remove_file(&password_file);
        made?;
        let data = self.data_dir();
        std::fs::rename(&unfinished, &data).map_err(|error| DevError::file("make", &data, &error))
    }

    fn initdb(&self, data: &Path, password_file: &Path, locale: &str) -> Result<(), DevError> {
        let failed = |error: &std::io::Error| DevError::file("make", data, error);
        if data.exists() {
            std::fs::remove_dir_all(data).map_err(|error| failed(&error))?;
        }
        std::fs::create_dir(data).map_err(|error| failed(&error))?;
        self.owner.own(data)?;
        let program = self.installation.bin.join("initdb");
        let mut command = self.owner.command(&program);
        command.arg("--pgdata").arg(data);
        command.args(["--username", SUPERUSER, "--encoding=UTF8", "--auth-local=trust"]);
        command.arg(format!("--locale={locale}"));
        if self.options.password.is_some() {
            command
                .arg("--auth-host=scram-sha-256")
                .arg("--pwfile")
                .arg(password_file);
        } else {
            command.arg("--auth-host=trust");
        }
        if self.options.durability == Durability::Fast {
            command.arg("--no-sync");
        }
        let output = command
            .output()
            .map_err(|error| DevError::file("run", &program, &error))?;
        if output.status.success() {
            return Ok(());
        }
        Err(DevError::Program {
            program: "initdb",
            reason: tail(&String::from_utf8_lossy(&output.stderr)),
        })
    }
}

impl Drop for PrivateCluster {
    fn drop(&mut self) {
        self.stop(match self.options.durability {
            Durability::Safe => StopMode::Fast,
            Durability::Fast => StopMode::Immediate,
        });
    }
}

/// The one asked for, else the one that made the folder, else the best.
fn choose_installation(options: &Options) -> Result<Installation, DevError> {
    let data = options.dir.join("data");
    let Ok(made_by) = std::fs::read_to_string(data.join("PG_VERSION")) else {
        return options.installation.clone().map_or_else(Installation::find, Ok);
    };
    let made_by = made_by.trim();
    let same = |found: &Installation| found.major.to_string() == made_by;
    if let Some(installation) = &options.installation {
        return if same(installation) {
            Ok(installation.clone())
        } else {
            Err(DevError::AskedForOther {
                dir: data,
                made_by: made_by.to_owned(),
                asked_for: installation.major,
            })
        };
    }
    Installation::all()
        .into_iter()
        .find(same)
        .ok_or_else(|| DevError::OtherVersion {
            dir: data,
            made_by: made_by.to_owned(),
        })
}

fn free_port() -> Result<u16, DevError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| DevError::Listen {
            address: Ipv4Addr::LOCALHOST.to_string(),
            reason: error.to_string(),
        })
}

/// Writes a file that only its owner can read.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<(), DevError> {
    use std::io::Write;
    // A new file each time: an old one could have wider permissions.
    let _ = std::fs::remove_file(path);
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| DevError::file("write", path, &error))
}

#[cfg(test)]
mod tests;
