//! The private Postgres that all tests share.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rowcast::dev::{Durability, Options, PrivateCluster};

/// Starts it for the first test that asks. It ends with this process, however that ends.
pub fn shared() -> &'static PrivateCluster {
    static SHARED: OnceLock<PrivateCluster> = OnceLock::new();
    SHARED.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("rowcast-test-{}", std::process::id()));
        let cluster = PrivateCluster::start(fast(&dir)).expect("a private Postgres for the tests");
        stop_with_us(&cluster, &dir);
        cluster
    })
}

/// Quick to start and to stop. The slots of all its databases stay until its end.
pub fn fast(dir: &Path) -> Options {
    let mut options = Options::new(dir);
    options.durability = Durability::Fast;
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
