//! The harness: one private Postgres for the whole binary, a database per test, servers on port 0, and clients.
//!
//! Tests wait for conditions; [`LIMIT`] only ends what would hang.

pub(crate) mod broadcast;
pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod own;
pub(crate) mod pair;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod server;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod version;

pub(crate) use client::{Client, Message, Version};
pub(crate) use clock::Clock;
pub(crate) use database::Database;
pub(crate) use own::OwnCluster;
pub(crate) use pair::Pair;
pub(crate) use process::Process;
pub(crate) use program::Program;
pub(crate) use proxy::Proxy;
pub(crate) use server::Server;

use std::time::Duration;

/// How long any wait may take before the test fails and shows what it has seen: what takes two seconds here, on a machine that does
/// many other things at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// Waits until `check` answers `Some`, trying again and again.
pub(crate) async fn eventually<T, F>(what: &str, mut check: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let started = std::time::Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "gave up waiting until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
