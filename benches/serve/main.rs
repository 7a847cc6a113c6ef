//! A whole server beside a private Postgres: time from commit to client, changes per second and calls of the database
//! as subscribers grow in number; broadcasts to rooms; memory of idle connections, and of those that are not read; clients that come
//! back, all at once or at random, or whose server is replaced; plain streams. `cargo bench --bench serve`, or one of `rows`,
//! `rooms`, `idle`, `stalled`, `resume`, `jitter`, `deploy`, `latency` and `sse` with `-- rooms`; prints tables, asserts nothing, ends
//! by itself. Server, clients, writer and Postgres share the machine. `ROWCAST_BENCH_SHRINK=50` makes the last five so many times
//! smaller, to see whether they run.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program that prints what it measured"
)]
#![allow(unreachable_pub, missing_docs, reason = "a program, not a library")]

mod audience;
mod delivery;
mod idle;
mod limit;
mod rooms;
mod scale;
mod server;
mod stalled;
mod wire;
mod writer;

use rowcast::dev::{Durability, Options, PrivateCluster, StopMode};
use rowcast::postgres::{Session, connect};

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let files = server::raise_file_limit();
    if wanted
        .first()
        .is_some_and(|argument| argument == rooms::bare::ARGUMENT)
    {
        return rooms::bare::run().await;
    }
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let dir = std::env::temp_dir().join(format!("rowcast-bench-{}", std::process::id()));
    let mut options = Options::new(&dir);
    options.durability = Durability::Safe;
    let cluster = PrivateCluster::start(options).expect("a private Postgres");
    // Installs what the tables below need.
    let first = server::Server::start(&cluster).await;
    let database = connect(&cluster.connect_settings("postgres"), &Session::new("bench"))
        .await
        .expect("database");
    first.retire(&database).await;
    database.batch_execute(writer::SCHEMA).await.expect("schema");
    if wants("rows") {
        scale::table(&cluster, &database, files.saturating_sub(500)).await;
    }
    if wants("rooms") {
        rooms::table(&cluster).await;
    }
    if wants("idle") {
        idle::table(&cluster, files).await;
    }
    if wants("stalled") {
        stalled::table(&cluster, &database).await;
    }
    if wants("resume") {
        delivery::resume(&cluster, &database).await;
    }
    if wants("jitter") {
        delivery::jitter(&cluster, &database).await;
    }
    if wants("deploy") {
        delivery::deploy(&cluster, &database).await;
    }
    if wants("latency") {
        delivery::latency(&cluster, &database).await;
    }
    if wants("sse") {
        delivery::sse(&cluster, &database).await;
    }
    cluster.stop(StopMode::Fast);
    drop(cluster);
    let _ = std::fs::remove_dir_all(dir);
}
