//! What Postgres' own client takes for the same changes: nothing can be faster.

use std::process::{Command, Stdio};
use std::time::Instant;

use rowcast::dev::PrivateCluster;
use rowcast::postgres::Connection;

/// Keeps what is written from now on.
pub async fn keep(database: &Connection) {
    let slot = "select pg_create_logical_replication_slot('limit', 'wal2json')";
    database.batch_execute(slot).await.expect("slot");
}

/// Seconds that `pg_recvlogical` takes for what was kept, with its start, which is some hundredths.
pub async fn drain(cluster: &PrivateCluster, database: &Connection) -> f64 {
    let end = database
        .query_one("select pg_current_wal_flush_lsn()::text", &[])
        .await
        .expect("a position");
    let settings = cluster.connect_settings("postgres");
    let (port, end) = (settings.port.to_string(), end.get::<_, String>(0));
    let mut command = Command::new(cluster.installation().bin.join("pg_recvlogical"));
    command
        .args([
            "-h",
            &settings.host,
            "-p",
            &port,
            "-U",
            &settings.user,
            "-d",
            "postgres",
        ])
        .args([
            "-S",
            "limit",
            "--start",
            "--no-loop",
            "--endpos",
            &end,
            "-F",
            "0",
            "-f",
            "/dev/null",
        ])
        .args(["-o", "format-version=2", "-o", "add-tables=public.docs"])
        .stderr(Stdio::null());
    let run = move || {
        let started = Instant::now();
        let status = command.status().expect("pg_recvlogical");
        assert!(status.success(), "pg_recvlogical: {status}");
        started.elapsed().as_secs_f64()
    };
    let took = tokio::task::spawn_blocking(run).await.expect("no panic");
    let drop = "select pg_drop_replication_slot('limit')";
    while database.batch_execute(drop).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    took
}
