//! Programs that tests run beside themselves. Those of `tests/clients` tell what happens to them, one JSON object per
//! line, and take commands the same way (see the README there).

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::LIMIT;

/// A running one; killed when dropped.
pub struct Program {
    name: String,
    child: Child,
    commands: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// Told and not yet looked for.
    pending: Vec<Value>,
    /// What it logs, for the message of a test that fails.
    log: Arc<Mutex<String>>,
}

impl Program {
    /// A program of `tests/clients` that Node runs.
    pub fn node(script: &str, variables: &[(&str, &str)]) -> Self {
        let modules = in_repository("tests/clients/node_modules");
        require(&modules, "the npm packages of the client programs");
        let mut command = Command::new("node");
        command.arg(in_repository("tests/clients").join(script));
        Self::start(script, command, variables)
    }

    /// A program of `tests/clients` that Python runs.
    pub fn python(script: &str, variables: &[(&str, &str)]) -> Self {
        let python = in_repository("target/clients-python/bin/python");
        require(&python, "the Python packages of the client programs");
        let mut command = Command::new(python);
        command.arg(in_repository("tests/clients").join(script));
        Self::start(script, command, variables)
    }

    /// Any program. A line that is not JSON is kept as `{"kind": "text", "text": …}`.
    pub fn start(name: &str, mut command: Command, variables: &[(&str, &str)]) -> Self {
        let mut child = command
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}; run `make install`"));
        let log = Arc::new(Mutex::new(String::new()));
        let mut errors = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = errors.next_line().await {
                let mut kept = kept.lock().expect("no panic while it is held");
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        Self {
            name: name.to_owned(),
            commands: child.stdin.take(),
            lines: BufReader::new(child.stdout.take().expect("stdout")).lines(),
            child,
            pending: Vec::new(),
            log,
        }
    }

    /// The next line of this kind that fits; others are kept. Fails, showing what came instead, if none does.
    pub async fn expect(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut looked = 0;
        loop {
            let found = self
                .pending
                .iter()
                .skip(looked)
                .position(|line| line["kind"] == kind && fits(line));
            if let Some(found) = found {
                return self.pending.remove(looked + found);
            }
            looked = self.pending.len();
            match tokio::time::timeout(LIMIT, self.receive()).await {
                Ok(true) => {}
                Ok(false) => self.fail(&format!("ended before the awaited {kind}")),
                Err(_) => self.fail(&format!("did not tell the awaited {kind}")),
            }
        }
    }

    /// The next line of this kind.
    pub async fn next(&mut self, kind: &str) -> Value {
        self.expect(kind, |_| true).await
    }

    /// The next line, whatever it is.
    pub async fn line(&mut self) -> Value {
        if self.pending.is_empty() {
            match tokio::time::timeout(LIMIT, self.receive()).await {
                Ok(true) => {}
                Ok(false) => self.fail("ended"),
                Err(_) => self.fail("told nothing more"),
            }
        }
        self.pending.remove(0)
    }

    /// Gives it a command.
    pub async fn tell(&mut self, command: Value) {
        let line = format!("{command}\n");
        let commands = self.commands.as_mut().expect("not asked to exit yet");
        commands
            .write_all(line.as_bytes())
            .await
            .expect("a program that listens");
    }

    /// Asks it to exit and returns what it told and nobody looked for. Fails unless it exits well.
    pub async fn exit(mut self) -> Vec<Value> {
        self.tell(json!({"cmd": "exit"})).await;
        let (status, rest) = self.ended().await;
        assert!(status.success(), "{status}: {rest:#?}");
        rest
    }

    /// Waits for its end: its status, and what it told and nobody looked for.
    pub async fn ended(mut self) -> (ExitStatus, Vec<Value>) {
        self.commands = None;
        let ending = async {
            while self.receive().await {}
            self.child.wait().await.expect("a status")
        };
        match tokio::time::timeout(LIMIT, ending).await {
            Ok(status) => (status, std::mem::take(&mut self.pending)),
            Err(_) => self.fail("does not end"),
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("not waited for yet")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process id"), signal).expect("a process");
    }

    /// Takes in one line; false once there are no more.
    async fn receive(&mut self) -> bool {
        let Some(line) = self.lines.next_line().await.expect("text") else {
            return false;
        };
        let told = serde_json::from_str(&line);
        self.pending
            .push(told.unwrap_or_else(|_| json!({"kind": "text", "text": line})));
        true
    }

    /// Fails the test, showing everything that is known.
    pub fn fail(&self, what: &str) -> ! {
        let log = self.log.lock().expect("no panic while it is held");
        panic!(
            "{} {what}; it told {:#?} and logged:\n{log}",
            self.name, self.pending
        )
    }
}

/// A path of this repository.
pub fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Fails, with what to do, unless the path is there.
pub fn require(path: &Path, what: &str) {
    assert!(
        path.exists(),
        "{what} are missing ({}); run `make install`",
        path.display()
    );
}
