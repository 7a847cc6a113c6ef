//! A whole server beside a private Postgres: time from commit to client, changes per second and calls of the database
//! as subscribers grow in number, and memory of idle connections. `cargo bench --bench serve`; prints tables, asserts
//! nothing, ends by itself. Server, clients, writer and Postgres share the machine.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program that prints what it measured"
)]
#![allow(unreachable_pub, missing_docs, reason = "a program, not a library")]

mod audience;
mod idle;
mod limit;
mod scale;
mod server;
mod writer;

use rowcast::dev::{Durability, Options, PrivateCluster, StopMode};
use rowcast::postgres::{Session, connect};

#[tokio::main]
async fn main() {
    let files = server::raise_file_limit();
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
    scale::table(&cluster, &database, files.saturating_sub(500)).await;
    idle::table(&cluster).await;
    cluster.stop(StopMode::Fast);
    drop(cluster);
    let _ = std::fs::remove_dir_all(dir);
}
