//! Rows per second through our own replication client, decoded, beside what `pg_recvlogical` moves without looking:
//! both drain copies of one slot, once for each output plugin. `cargo bench --bench decode`; prints a table, asserts nothing, ends by itself.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program that prints what it measured"
)]

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rowcast::change::{Event, HandedOver, Lsn, TableName};
use rowcast::dev::{Durability, Options, PrivateCluster};
use rowcast::postgres::{Connection, Session, connect};
use rowcast::replication::{PGOUTPUT, Settings, Signals, SlotSettings, WAL2JSON, run};
use rowcast::shutdown::Shutdown;
use rowcast::telemetry::Metrics;
use tokio::sync::{mpsc, watch};

const ROWS: u64 = 200_000;
/// Drains per client and slot; the clients take turns so that a busy machine hurts both.
const TURNS: usize = 5;

#[tokio::main]
async fn main() {
    let dir = std::env::temp_dir().join(format!("rowcast-bench-{}", std::process::id()));
    let mut options = Options::new(&dir);
    options.durability = Durability::Fast;
    let cluster = PrivateCluster::start(options).expect("a private Postgres");
    let database = connect(&cluster.connect_settings("postgres"), &Session::new("bench"))
        .await
        .expect("database");
    let schema = "create table items (id bigint primary key, owner uuid, title text, done boolean,
                  price numeric(10,2), changed timestamptz);
                  create publication copy_stream for table items;
                  create publication copy_stream_inserts with (publish = 'insert, truncate')";
    database.batch_execute(schema).await.expect("schema");

    println!("\n{ROWS} rows of 6 columns, thousand rows/s, median of {TURNS} drains (best)\n");
    println!(
        "| plugin | rows per transaction | pg_recvlogical | same options as ours | rowcast, decoded | ratio |"
    );
    println!("|---|---|---|---|---|---|");
    for (plugin, usual, same_options) in [
        (WAL2JSON, &["format-version=2"][..], &WAL2JSON_OPTIONS[..]),
        (PGOUTPUT, &PGOUTPUT_OPTIONS[..], &PGOUTPUT_OPTIONS[..]),
    ] {
        for batch in [1, 10, 1000] {
            let end = fill(&database, plugin, batch).await;
            let (mut plain, mut same, mut ours) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..TURNS {
                plain.push(recvlogical(&cluster, &database, end, usual).await);
                same.push(recvlogical(&cluster, &database, end, same_options).await);
                ours.push(rowcast(&cluster, &database, plugin, end).await);
            }
            drop_slot(&database, "base").await;
            let ratio = median(&mut plain) / median(&mut ours);
            println!(
                "| {plugin} | {batch} | {} | {} | {} | {ratio:.2} |",
                rate(&mut plain),
                rate(&mut same),
                rate(&mut ours)
            );
        }
    }
    drop(cluster);
    // A folder that stays behind in the temporary directory is all that could go wrong.
    let _ = std::fs::remove_dir_all(&dir);
}

const WAL2JSON_OPTIONS: [&str; 8] = [
    "format-version=2",
    "include-transaction=1",
    "include-lsn=1",
    "include-timestamp=1",
    "include-type-oids=1",
    "include-xids=1",
    "include-types=0",
    "add-tables=public.items",
];

const PGOUTPUT_OPTIONS: [&str; 3] = [
    "proto_version=1",
    "publication_names=copy_stream,copy_stream_inserts",
    "messages=true",
];

/// Makes the slot `base` and writes the rows behind it; the position after the last one.
async fn fill(database: &Connection, plugin: &str, batch: u64) -> Lsn {
    let sql = format!(
        "truncate items;
         select pg_create_logical_replication_slot('base', '{plugin}');
         do $$ begin
           for low in 1..{ROWS} by {batch} loop
             insert into items select n, gen_random_uuid(), 'a title of usual length', n % 2 = 0, n / 100.0, now()
             from generate_series(low, low + {batch} - 1) n;
             commit;
           end loop;
         end $$"
    );
    for statement in sql.splitn(3, ";\n") {
        database.batch_execute(statement).await.expect("rows");
    }
    let row = database
        .query_one("select pg_current_wal_flush_lsn()::text", &[])
        .await
        .expect("position");
    // Something behind it, at which pg_recvlogical sees at once that it has passed the end.
    database
        .batch_execute("select pg_logical_emit_message(true, 'end', '')")
        .await
        .expect("message");
    row.get::<_, String>(0).parse().expect("position")
}

async fn copy_slot(database: &Connection, name: &str) {
    let sql = format!("select pg_copy_logical_replication_slot('base', '{name}')");
    database.batch_execute(&sql).await.expect("slot");
}

async fn drop_slot(database: &Connection, name: &str) {
    let sql = format!("select pg_drop_replication_slot('{name}')");
    // Its last reader may still be leaving.
    while database.batch_execute(&sql).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Postgres' own client, output thrown away.
async fn recvlogical(
    cluster: &PrivateCluster,
    database: &Connection,
    end: Lsn,
    options: &[&str],
) -> Duration {
    copy_slot(database, "copy").await;
    let settings = cluster.connect_settings("postgres");
    let mut command = Command::new(cluster.installation().bin.join("pg_recvlogical"));
    command
        .args([
            "-h",
            &settings.host,
            "-p",
            &settings.port.to_string(),
            "-U",
            &settings.user,
        ])
        .args(["-d", "postgres", "-S", "copy", "--start", "--no-loop", "-f", "-"])
        .args(["--endpos", &end.to_string()])
        .stdout(Stdio::null());
    for option in options {
        command.args(["-o", option]);
    }
    let start = Instant::now();
    let status = command.status().expect("pg_recvlogical");
    let took = start.elapsed();
    assert!(status.success(), "pg_recvlogical failed");
    drop_slot(database, "copy").await;
    took
}

/// Ours: every row decoded and handed to a receiver that reads its first value.
async fn rowcast(cluster: &PrivateCluster, database: &Connection, plugin: &str, end: Lsn) -> Duration {
    copy_slot(database, "copy").await;
    let settings = Settings {
        connect: cluster.connect_settings("postgres"),
        slot: SlotSettings {
            name: "copy".to_owned(),
            plugins: vec![plugin.to_owned()],
            recreate_lost: false,
            take_over: false,
            failover: false,
        },
        application_name: "rowcast bench".to_owned(),
        peer_timeout: Duration::from_secs(60),
        logical_broadcasts: false,
    };
    let tables = BTreeSet::from([TableName::new("public", "items")]);
    let (_tables, wanted) = watch::channel(Arc::new(tables));
    let (handed_over, confirmed) = watch::channel(HandedOver::default());
    let (events, mut received) = mpsc::channel(16);
    let shutdown = Shutdown::new();
    let start = Instant::now();
    let (signals, metrics, stop) = (Signals::default(), Metrics::new(), shutdown.clone());
    let stream = run(settings, wanted, events, confirmed, signals, metrics, stop);
    shutdown.spawn("replication", stream);
    let mut rows = 0;
    while rows < ROWS {
        for event in received.recv().await.expect("events") {
            match event {
                Event::Change(change) => rows += u64::from(change.new.is_some_and(|row| row.at(0).is_some())),
                Event::Commit(transaction) => {
                    _ = handed_over.send_replace(transaction.end_lsn.min(end).into())
                }
                _ => {}
            }
        }
    }
    let took = start.elapsed();
    shutdown.cancel();
    shutdown.wait(Duration::from_secs(10)).await.expect("an end");
    drop_slot(database, "copy").await;
    took
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
}

fn rate(times: &mut [Duration]) -> String {
    let thousands = |seconds: f64| ROWS as f64 / seconds / 1000.0;
    let median = thousands(median(times));
    let best = times.first().map_or(f64::NAN, Duration::as_secs_f64);
    format!("{median:.0} ({:.0})", thousands(best))
}
