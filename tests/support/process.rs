//! The program itself as a child process: `rowcast serve` to kill, and commands to run to their end.

use std::net::SocketAddr;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use rowcast::postgres::ConnectSettings;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::server::{follows, has_slot};
use super::{LIMIT, eventually, token};

/// A running `rowcast serve`. Killed when dropped.
pub struct Process {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts it on a free port, with further settings as environment variables. As [`Server::start`](super::Server::start),
    /// this waits for one that has to make its slot.
    pub async fn serve(database: &ConnectSettings, slot: &str, more: &[(&str, &str)]) -> Self {
        let found = has_slot(database, slot).await;
        let server = Self::launch(database, slot, more).await;
        if !found {
            let tls = more
                .iter()
                .any(|(name, _)| *name == "ROWCAST_LISTEN_TLS_CERTIFICATE");
            let scheme = if tls { "https" } else { "http" };
            follows(&format!("{scheme}://{}", server.address), || false).await;
        }
        server
    }

    /// One that may not be able to follow its database yet, or never.
    pub async fn launch(database: &ConnectSettings, slot: &str, more: &[(&str, &str)]) -> Self {
        let mut child = program(database)
            .arg("serve")
            .args(["--host", "127.0.0.1", "--port", "0"])
            .env("ROWCAST_REPLICATION_SLOT", slot)
            .envs(more.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = child.stderr.take().expect("its standard error");
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&log);
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                seen.lock().expect("the log").push(line);
            }
        });
        let address = eventually("it says where it listens", || async {
            let log = log.lock().expect("the log");
            let line = log.iter().find(|line| line.contains("listening"))?;
            line.rsplit('=').next()?.trim().parse().ok()
        })
        .await;
        Self { address, child, log }
    }

    /// Ends it as the kernel does when memory runs out.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it was running");
    }

    /// Asks it to end, as an orchestrator does.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it is running");
        let pid = Pid::from_raw(i32::try_from(id).expect("a pid")).expect("not zero");
        kill_process(pid, signal).expect("it is ours");
    }

    /// Memory that it has resident.
    pub fn resident_kib(&self) -> u64 {
        let id = self.child.id().expect("it is running");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("procfs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.expect("KiB")
    }

    /// Processor time that it has used, in ticks of a hundredth of a second.
    pub fn cpu_ticks(&self) -> u64 {
        let id = self.child.id().expect("it is running");
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("procfs");
        // Behind the name, which may have anything in it.
        let fields = stat
            .rsplit(") ")
            .next()
            .unwrap_or_default()
            .split(' ')
            .skip(11)
            .take(2);
        fields.map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let status = tokio::time::timeout(LIMIT, self.child.wait())
            .await
            .expect("an end in time")
            .expect("its status");
        (status, self.log())
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_none()
    }

    /// What it has logged.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("the log").clone()
    }
}

/// Runs a command of the program to its end.
pub async fn run(database: &ConnectSettings, arguments: &[&str]) -> Output {
    let output = program(database).args(arguments).output();
    tokio::time::timeout(LIMIT, output)
        .await
        .expect("an end in time")
        .expect("the program starts")
}

fn program(database: &ConnectSettings) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowcast"));
    command
        .env_clear()
        .env("ROWCAST_AUTH_JWT_SECRET", token::SECRET)
        .env("ROWCAST_DATABASE_HOST", &database.host)
        .env("ROWCAST_DATABASE_PORT", database.port.to_string())
        .env("ROWCAST_DATABASE_USER", &database.user)
        .env("ROWCAST_DATABASE_NAME", &database.database)
        .env("ROWCAST_DATABASE_SSLMODE", "disable")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}
