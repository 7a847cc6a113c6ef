//! The server process of a cluster: started, watched until it is ready, stopped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::error::{DevError, tail};
use super::owner::Owner;

/// Recovery after a crash of a small cluster takes a second or two.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A fast shutdown writes a checkpoint.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at a process or file.
const POLL: Duration = Duration::from_millis(10);

/// How Postgres stops (manual, "Shutting Down the Server").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Ends all connections, writes a checkpoint.
    Fast,
    /// Ends at once, as in a crash; recovers at the next start.
    Immediate,
}

impl StopMode {
    fn signal(self) -> Signal {
        match self {
            Self::Fast => Signal::INT,
            Self::Immediate => Signal::QUIT,
        }
    }
}

/// What it takes to start it.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub owner: &'a Owner,
    pub postgres: PathBuf,
    pub data: &'a Path,
    pub log: &'a Path,
    pub port: u16,
    /// `name=value`.
    pub settings: Vec<String>,
}

/// A running one. Dropping it kills nothing: the owner stops it.
#[derive(Debug)]
pub(super) struct Postmaster(Child);

impl Postmaster {
    /// Starts it and returns once it accepts connections. Blocks.
    pub(super) fn start(launch: &Launch<'_>) -> Result<Self, DevError> {
        use std::os::unix::process::CommandExt;
        let failed = |error: &std::io::Error| DevError::file("write", launch.log, error);
        let log = File::create(launch.log).map_err(|error| failed(&error))?;
        let also_log = log.try_clone().map_err(|error| failed(&error))?;
        let mut command = launch.owner.command(&launch.postgres);
        command.arg("-D").arg(launch.data);
        for setting in &launch.settings {
            command.arg("-c").arg(setting);
        }
        // In a group of its own: Ctrl-C is for us, and we stop it after the server has let go of it.
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also_log)
            .spawn()
            .map_err(|error| DevError::file("run", &launch.postgres, &error))?;
        let mut postmaster = Self(child);
        match postmaster.wait_until_ready(launch) {
            Ok(()) => Ok(postmaster),
            Err(error) => {
                postmaster.stop(StopMode::Immediate);
                Err(error)
            }
        }
    }

    fn wait_until_ready(&mut self, launch: &Launch<'_>) -> Result<(), DevError> {
        let started = Instant::now();
        let not_ready = |reason: String| DevError::NotReady {
            reason,
            log: launch.log.to_owned(),
        };
        loop {
            if let Ok(Some(_)) = self.0.try_wait() {
                let log = std::fs::read_to_string(launch.log).unwrap_or_default();
                if log.contains("could not bind") {
                    return Err(DevError::DatabasePort { port: launch.port });
                }
                return Err(not_ready(tail(&log)));
            }
            if PidFile::read(launch.data).is_some_and(|file| file.pid == self.0.id() && file.ready) {
                return Ok(());
            }
            if started.elapsed() > START_LIMIT {
                return Err(not_ready(format!("not ready after {} s", START_LIMIT.as_secs())));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Whether the process is still there.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Stops it and returns when the process has ended. Blocks.
    pub(super) fn stop(&mut self, mode: StopMode) {
        let pid = Pid::from_child(&self.0);
        for mode in [mode, StopMode::Immediate] {
            if !self.is_running() {
                return;
            }
            let _ = kill_process(pid, mode.signal());
            let asked = Instant::now();
            while self.is_running() && asked.elapsed() < STOP_LIMIT {
                std::thread::sleep(POLL);
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a postmaster writes about itself (`postmaster.pid`; its lines are in Postgres's `pidfile.h`).
#[derive(Debug, PartialEq, Eq)]
struct PidFile {
    pid: u32,
    ready: bool,
}

impl PidFile {
    fn read(data: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        let status = lines.nth(6);
        Some(Self {
            pid,
            ready: status.is_some_and(|status| status.trim() == "ready"),
        })
    }
}

/// Stops the postmaster that an earlier run of ours left behind when it was killed. The caller holds the folder, so
/// nobody else uses it. Blocks.
pub(super) fn stop_left_over(data: &Path) -> Result<(), DevError> {
    let Some(file) = PidFile::read(data) else {
        return Ok(());
    };
    let Some(pid) = i32::try_from(file.pid).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    if !is_postmaster_of(pid, data) {
        // After a restart of the machine the number may belong to anything, and Postgres would not dare to start.
        let path = data.join("postmaster.pid");
        return std::fs::remove_file(&path).map_err(|error| DevError::file("remove", &path, &error));
    }
    tracing::info!(
        pid = file.pid,
        "stopping the Postgres that an earlier run left behind"
    );
    for mode in [StopMode::Fast, StopMode::Immediate] {
        let _ = kill_process(pid, mode.signal());
        let asked = Instant::now();
        while asked.elapsed() < STOP_LIMIT {
            if !is_postmaster_of(pid, data) {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
    }
    Err(DevError::NotReady {
        reason: format!("process {} of an earlier run does not stop", file.pid),
        log: data.join("postmaster.pid"),
    })
}

/// A postmaster works in its data directory. Without `/proc` a living process has to do.
fn is_postmaster_of(pid: Pid, data: &Path) -> bool {
    if test_kill_process(pid).is_err() {
        return false;
    }
    if !Path::new("/proc/self").exists() {
        return true;
    }
    let cwd = std::fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
    match (cwd, data.canonicalize()) {
        (Ok(cwd), Ok(data)) => cwd == data,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pid_files_written_half_and_whole() {
        let whole = "4242\n/data\n1700000000\n54321\n/data\n127.0.0.1\n  1234  5\nready   \n";
        assert_eq!(
            PidFile::parse(whole),
            Some(PidFile {
                pid: 4242,
                ready: true
            })
        );
        let starting = whole.replace("ready   ", "starting");
        assert_eq!(PidFile::parse(&starting).map(|file| file.ready), Some(false));
        for cut in 0..whole.len() {
            let _ = PidFile::parse(&whole[..cut]);
        }
        assert_eq!(PidFile::parse(""), None);
    }
}
