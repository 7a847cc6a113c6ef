//! The private Postgres that all tests share, and one for each further version that tests name.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rowcast::dev::{Durability, Options, PrivateCluster};

use super::version;

/// The one that tests share, started for the first that asks. It ends with this process, however that ends.
pub fn shared() -> &'static PrivateCluster {
    started(None)
}

/// The one of this major version.
pub fn of_version(major: u32) -> &'static PrivateCluster {
    started(Some(major))
}

fn started(major: Option<u32>) -> &'static PrivateCluster {
    static STARTED: Mutex<BTreeMap<Option<u32>, &'static PrivateCluster>> = Mutex::new(BTreeMap::new());
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    started.entry(major).or_insert_with(|| {
        let suffix = major.map(|major| format!("-{major}")).unwrap_or_default();
        let dir = std::env::temp_dir().join(format!("rowcast-test-{}{suffix}", std::process::id()));
        let mut options = fast(&dir);
        if let Some(major) = major {
            options.installation = Some(version::installation(major));
            let prepared = ("max_prepared_transactions".to_owned(), "20".to_owned());
            options.settings.push(prepared);
        }
        let cluster = PrivateCluster::start(options).expect("a private Postgres for the tests");
        stop_with_us(&cluster, &dir);
        Box::leak(Box::new(cluster))
    })
}

/// Quick to start and to stop. The slots of all its databases stay until its end.
pub fn fast(dir: &Path) -> Options {
    let mut options = Options::new(dir);
    options.durability = Durability::Fast;
    options.installation = version::chosen();
    options.settings = [
        ("max_connections", "400"),
        ("max_replication_slots", "3000"),
        ("max_wal_senders", "100"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    options
}

/// Statics are not dropped, and tests may be killed: a shell that reads from us until we are gone cleans up.
pub fn stop_with_us(cluster: &PrivateCluster, dir: &Path) {
    let pid_file = cluster.data_dir().join("postmaster.pid");
    let script = "cat >/dev/null; kill -QUIT $(head -n 1 \"$1\"); sleep 1; rm -rf \"$2\"";
    // In a group of its own: Ctrl-C and `timeout` end whole groups, and Postgres is not in ours either.
    let keeper = Command::new("sh")
        .process_group(0)
        .args(["-c", script, "sh"])
        .args([&pid_file, dir])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell to clean up");
    // Its standard input stays open exactly as long as this process lives.
    std::mem::forget(keeper);
}
