//! Clients with a session id that drop the rows they had, because all of them come anew, and a server that goes away while they do:
//! the next one has to know.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::service;
use crate::support::{Client, Database, LIMIT, Process, Version, eventually};

/// More than half an outbox and a socket hold, so that who does not read is in the midst of them.
const TABLE: &str =
    "create table t (id int primary key, v text); alter publication supabase_realtime add table t;
    insert into t select n, repeat('x', 200) from generate_series(1, 40000) as n";

const OFTEN: [(&str, &str); 2] = [
    ("ROWCAST_RESUME_ACKNOWLEDGE", "20ms"),
    ("ROWCAST_RESUME_SAVE_EVERY", "50ms"),
];
/// Nothing is written by itself.
const HARDLY_EVER: [(&str, &str); 2] = [
    ("ROWCAST_RESUME_ACKNOWLEDGE", "20ms"),
    ("ROWCAST_RESUME_SAVE_EVERY", "3600s"),
];
/// Clients leave at great distance from each other.
const SLOWLY: [(&str, &str); 2] = [
    ("ROWCAST_LISTEN_DRAIN", "600s"),
    ("ROWCAST_LISTEN_SHUTDOWN_GRACE", "900s"),
];

async fn serve(db: &Database, settings: &[(&str, &str)]) -> Process {
    Process::serve(&db.settings, &format!("rowcast_{}", db.name), settings).await
}

async fn connect(process: &Process, session: &str) -> Client {
    let token = format!("{}&session={session}", service());
    Client::connect_narrow_to(process.address, Version::V2, &token).await
}

fn rows_first(filter: Option<&str>) -> Value {
    let mut binding = json!({"event": "*", "schema": "public", "table": "t", "snapshot": true});
    if let Some(filter) = filter {
        binding["filter"] = filter.into();
    }
    json!({"config": {"postgres_changes": [binding]}})
}

async fn told(client: &mut Client, message: &str) {
    let fits = |told: &str| told.starts_with(message);
    client
        .expect(message, |m| m.payload["message"].as_str().is_some_and(fits))
        .await;
}

/// What a client has that gets all rows now, by their numbers.
async fn all_rows(client: &mut Client) -> BTreeSet<i64> {
    told(client, "snapshot: begins").await;
    client.forget("postgres_changes");
    told(client, "Subscribed to PostgreSQL").await;
    let rows = client.rows_before_now();
    rows.iter()
        .map(|row| row["record"]["id"].as_i64().expect("a number"))
        .collect()
}

/// Waits until the database has so many clients with all their rows.
async fn saved(db: &Database, clients: &mut [&mut Client]) {
    let known = "select count(*)::text from rowcast.places where exists
        (select from json_each(place) topic, json_each(topic.value) users where users.value ->> 1 is not null)";
    let saved = async {
        while db.text(known).await != clients.len().to_string() {
            for client in &mut *clients {
                // Reading is what answers pings.
                client.round_trip().await;
            }
        }
    };
    let limited = tokio::time::timeout(LIMIT, saved).await;
    limited.expect("their places are in the database");
}

async fn begin_anew(client: &mut Client) {
    let left = client.push("t", "phx_leave", json!({})).await;
    client.reply(&left).await;
    client.push("t", "phx_join", rows_first(None)).await;
    told(client, "snapshot: begins").await;
}

/// The place of a client that has all its rows is in the database, and a server that does not write down anything by itself takes over.
async fn with_its_rows_written() -> (Database, Process, Client) {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let first = serve(&db, &OFTEN).await;
    let mut client = connect(&first, "one").await;
    client.push("t", "phx_join", rows_first(None)).await;
    assert_eq!(all_rows(&mut client).await.len(), 40_000);
    saved(&db, &mut [&mut client]).await;
    first.kill().await;
    let second = serve(&db, &HARDLY_EVER).await;
    let mut client = connect(&second, "one").await;
    client.push("t", "phx_join", rows_first(None)).await;
    told(&mut client, "resumed: nothing was missed").await;
    (db, second, client)
}

/// Another server has no place of this client to go on from.
async fn begins_with_its_rows_at_the_next(db: &Database, session: &str) {
    let server = serve(db, &OFTEN).await;
    let mut client = connect(&server, session).await;
    client.push("t", "phx_join", rows_first(None)).await;
    assert_eq!(all_rows(&mut client).await.len(), 40_000);
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_had_begun_anew_before_a_crash_come_from_the_first() {
    let (db, second, mut client) = with_its_rows_written().await;
    begin_anew(&mut client).await;
    second.kill().await;
    drop(client);
    begins_with_its_rows_at_the_next(&db, "one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_was_left_before_a_crash_begins_with_its_rows() {
    let (db, second, mut client) = with_its_rows_written().await;
    let left = client.push("t", "phx_leave", json!({})).await;
    client.reply(&left).await;
    let nowhere = "select (count(*) = 0)::text from rowcast.places, json_each(place) topic, json_each(topic.value) users
        where users.value ->> 1 is not null";
    eventually("it is written down that it was left", || async {
        (db.text(nowhere).await == "true").then_some(())
    })
    .await;
    second.kill().await;
    begins_with_its_rows_at_the_next(&db, "one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_begin_anew_while_clients_leave_come_from_the_first_at_the_next_server() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let settings: Vec<_> = OFTEN.into_iter().chain(SLOWLY).collect();
    let first = serve(&db, &settings).await;
    let mut clients = [connect(&first, "one").await, connect(&first, "two").await];
    for client in &mut clients {
        client.push("t", "phx_join", rows_first(None)).await;
        assert_eq!(all_rows(client).await.len(), 40_000);
    }
    let [one, two] = &mut clients;
    saved(&db, &mut [&mut *one, &mut *two]).await;
    first.terminate();
    // Its places are written by the time that somebody has to leave.
    let (stays, session) = tokio::select! {
        _ = one.close_code() => (two, "two"),
        _ = two.close_code() => (one, "one"),
    };
    begin_anew(stays).await;
    first.kill().await;
    begins_with_its_rows_at_the_next(&db, session).await;
}

/// The client could not say that it left the channel, nor that it asks for other rows under its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_comes_back_with_another_filter_begins_with_its_rows() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = serve(&db, &OFTEN).await;
    let mut client = connect(&server, "one").await;
    client
        .push("t", "phx_join", rows_first(Some("id=lte.30000")))
        .await;
    assert_eq!(all_rows(&mut client).await.len(), 30_000);
    saved(&db, &mut [&mut client]).await;
    drop(client);
    let mut client = connect(&server, "one").await;
    client
        .push("t", "phx_join", rows_first(Some("id=gt.30000")))
        .await;
    assert_eq!(all_rows(&mut client).await.len(), 10_000);
    saved(&db, &mut [&mut client]).await;
    // And so it is at another server.
    server.kill().await;
    begins_with_its_rows_at_the_next(&db, "one").await;
}
