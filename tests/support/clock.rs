//! A wall clock for a [`Process`](super::Process) that can be set while it runs.

use std::os::unix::fs::FileExt;

use tempfile::TempDir;
use tokio::process::Command;

use super::program::in_repository;

/// The clock, and the library that shows it.
pub struct Clock {
    /// Goes with it.
    _folder: TempDir,
    file: std::fs::File,
    variables: [(&'static str, String); 2],
}

impl Clock {
    /// One that is right. Needs a C compiler, as the build of Rowcast does.
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("clock.so");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(in_repository("tests/support/clock.c"))
            .status()
            .await
            .expect("a C compiler");
        assert!(compiled.success(), "the clock compiles");
        let path = folder.path().join("shift");
        let file = std::fs::File::create(&path).expect("a file");
        let text = |path: &std::path::Path| path.to_str().expect("a path of text").to_owned();
        let variables = [("LD_PRELOAD", text(&library)), ("TEST_CLOCK", text(&path))];
        let clock = Self {
            _folder: folder,
            file,
            variables,
        };
        clock.shift(0);
        clock
    }

    /// Sets it to so many seconds ahead of the system's.
    pub fn shift(&self, seconds: i64) {
        let written = self.file.write_all_at(&seconds.to_ne_bytes(), 0);
        written.expect("a file that can be written");
    }

    /// What a process has to be started with.
    pub fn variables(&self) -> Vec<(&str, &str)> {
        self.variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect()
    }
}
