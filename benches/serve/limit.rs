//! What Postgres' own client receives of the same changes: nothing can be faster.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rowcast::dev::PrivateCluster;
use rowcast::postgres::Connection;

use super::writer;

/// Longest wait for the rows.
const LIMIT: Duration = Duration::from_secs(30);

/// Seconds from the first commit to the last row, for `rows` rows written as [`writer::bulk`] writes them.
pub async fn recvlogical(cluster: &PrivateCluster, database: &Connection, rows: usize, users: usize) -> f64 {
    let slot = "select pg_create_logical_replication_slot('limit', 'wal2json')";
    database.batch_execute(slot).await.expect("slot");
    let output = std::env::temp_dir().join(format!("rowcast-bench-{}.out", std::process::id()));
    let settings = cluster.connect_settings("postgres");
    let mut client = Command::new(cluster.installation().bin.join("pg_recvlogical"))
        .args([
            "-h",
            &settings.host,
            "-p",
            &settings.port.to_string(),
            "-U",
            &settings.user,
        ])
        .args([
            "-d",
            "postgres",
            "-S",
            "limit",
            "--start",
            "--no-loop",
            "-F",
            "0",
            "-f",
        ])
        .arg(&output)
        .args(["-o", "format-version=2", "-o", "add-tables=public.docs"])
        .stderr(Stdio::null())
        .spawn()
        .expect("pg_recvlogical");
    let active = "select 1 from pg_replication_slots where slot_name = 'limit' and active";
    while database.query(active, &[]).await.expect("slots").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let started = Instant::now();
    writer::bulk(database, rows, users).await;
    // The bytes of each row are as many as those of the others, up to the digits of its number.
    let expected = rows * MINIMAL_LINE;
    while Instant::now() < started + LIMIT {
        let length = std::fs::metadata(&output).map_or(0, |file| file.len());
        if length >= expected as u64 && lines(&output) >= rows {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = started.elapsed().as_secs_f64();
    let _ = client.kill();
    let _ = client.wait();
    let _ = std::fs::remove_file(output);
    let drop = "select pg_drop_replication_slot('limit')";
    while database.batch_execute(drop).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    took
}

/// A row of `docs` takes more than this.
const MINIMAL_LINE: usize = 200;

fn lines(output: &std::path::Path) -> usize {
    let text = std::fs::read(output).unwrap_or_default();
    text.split(|byte| *byte == b'\n')
        .filter(|line| line.starts_with(br#"{"action":"I""#))
        .count()
}
