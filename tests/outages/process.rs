//! The program itself, killed and stopped, and the doctor.

use serde_json::json;

use super::{ROWS, Writer, inserts, numbers, ready, service};
use crate::support::{Client, Database, Process, Version, eventually, process, server, version};

/// What has been delivered is confirmed at once.
const NO_WINDOW: &[(&str, &str)] = &[("ROWCAST_RESUME_WINDOW", "0s")];

async fn connect(server: &Process) -> Client {
    let url = format!("http://{}", server.address);
    let client = Client::try_connect_to(&url, Version::V2, &service()).await;
    client.expect("a connection")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_while_it_was_dead_comes_out_of_the_slot() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let slot = format!("rowcast_{}", db.name);
    let first = Process::serve(&db.settings, &slot, NO_WINDOW).await;
    let mut client = connect(&first).await;
    client.subscribe("n", inserts()).await;
    let writer = Writer::start(&db.settings, 0);
    numbers(&mut client, 20).await;
    first.kill().await;
    let committed = || db.text("select count(*)::text from n");
    let at_death: u64 = committed().await.parse().expect("a number");
    eventually("rows are committed while nobody listens", || async {
        let now: u64 = committed().await.parse().expect("a number");
        (now >= at_death + 20).then_some(())
    })
    .await;
    let next = writer.stop().await;
    // Those that the slot still holds: what was confirmed before the end is not among them.
    free(&db, &slot).await;
    let held = match version::pgoutput() {
        // "Logical Replication Message Formats": an insert begins with an I.
        true => format!(
            "select count(*)::text from pg_logical_slot_peek_binary_changes('{slot}', null, null, 'proto_version', '1',
               'publication_names', '{slot}_stream,{slot}_stream_inserts') where get_byte(data, 0) = ascii('I')"
        ),
        false => format!(
            "select count(*)::text from pg_logical_slot_peek_changes('{slot}', null, null, 'format-version', '2')
             where data::json ->> 'action' = 'I'"
        ),
    };
    let held = db.text(&held).await;
    let held: u64 = held.parse().expect("a number");
    assert!(held >= 20, "{held}");

    let second = Process::serve(&db.settings, &slot, NO_WINDOW).await;
    ready(second.address).await;
    server::passed(second.address, &db).await;
    let came = server::metric(second.address, "rowcast_changes_total").await;
    assert_eq!(came, Some(held), "all of them, each once");
    let end = db.text("select pg_current_wal_flush_lsn()::text").await;
    confirmed(&db, &slot, &end).await;

    // And the stream goes on, without a hole, for who comes back.
    let mut client = connect(&second).await;
    client.subscribe("n", inserts()).await;
    let writer = Writer::start(&db.settings, next);
    let got = numbers(&mut client, 50).await;
    writer.stop().await;
    assert!(got.into_iter().eq(next..next + 50), "from the first one on");
    second.kill().await;
}

async fn free(db: &Database, slot: &str) {
    let query =
        format!("select (active_pid is null)::text from pg_replication_slots where slot_name = '{slot}'");
    eventually("nobody reads from the slot", || async {
        (db.text(&query).await == "true").then_some(())
    })
    .await;
}

async fn confirmed(db: &Database, slot: &str, position: &str) {
    let query = format!(
        "select (confirmed_flush_lsn >= '{position}'::pg_lsn)::text from pg_replication_slots
         where slot_name = '{slot}'"
    );
    eventually("the slot has been confirmed", || async {
        (db.text(&query).await == "true").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_cleanly() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let slot = format!("rowcast_{}", db.name);
    let server = Process::serve(&db.settings, &slot, NO_WINDOW).await;
    let mut client = connect(&server).await;
    client.subscribe("n", inserts()).await;
    db.execute("insert into n select generate_series(1, 100)").await;
    let end = db.text("select pg_current_wal_flush_lsn()::text").await;
    numbers(&mut client, 100).await;
    server::passed(server.address, &db).await;
    server.terminate();
    let goodbye = client.expect("a goodbye", |m| m.event == "system").await;
    assert_eq!(
        (&goodbye.payload["message"], &goodbye.payload["status"]),
        (&json!("Server requested disconnect"), &json!("ok"))
    );
    assert_eq!(client.close_code().await, Some(1012));
    let (status, log) = server.ended().await;
    assert_eq!(status.code(), Some(0), "{log:#?}");
    free(&db, &slot).await;
    let left = format!(
        "select (confirmed_flush_lsn >= '{end}'::pg_lsn)::text from pg_replication_slots where slot_name = '{slot}'"
    );
    assert_eq!(db.text(&left).await, "true", "confirmed to the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_to_run() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let slot = format!("rowcast_{}", db.name);
    let good = process::run(&db.settings, &["check", "--replication-slot", &slot]).await;
    let report = String::from_utf8_lossy(&good.stdout);
    assert_eq!(good.status.code(), Some(0), "{report}");
    assert!(report.contains("public.n"), "{report}");

    let mut nowhere = db.settings.clone();
    nowhere.database = "no_such_database".to_owned();
    let bad = process::run(&nowhere, &["check"]).await;
    let report = String::from_utf8_lossy(&bad.stdout);
    assert_eq!(bad.status.code(), Some(1), "{report}");
    assert!(
        report.contains("CREATE DATABASE \"no_such_database\""),
        "{report}"
    );

    let wrong = process::run(&db.settings, &["check", "--replication-slott", "x"]).await;
    assert_eq!(wrong.status.code(), Some(2));
    let message = String::from_utf8_lossy(&wrong.stderr);
    assert!(
        wrong.stdout.is_empty() && message.contains("--replication-slot"),
        "{message}"
    );
}
