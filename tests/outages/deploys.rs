//! One server goes, another stands beside it and takes over; clients are told to move, and nothing falls between.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{ROWS, Writer, inserts, not_ready, numbers, ready, service, told};
use crate::support::{Client, Database, Process, Server, Version, eventually, server};

const ONE_AFTER_ANOTHER: [(&str, &str); 2] = [
    ("ROWCAST_LISTEN_DRAIN", "20"),
    ("ROWCAST_LISTEN_SHUTDOWN_GRACE", "40"),
];

async fn connect(server: &Process) -> Client {
    let url = format!("http://{}", server.address);
    let client = Client::try_connect_to(&url, Version::V2, &service()).await;
    client.expect("a connection")
}

async fn subscribed(server: &Process) -> Client {
    let mut client = connect(server).await;
    client.subscribe("n", inserts()).await;
    client
}

/// The numbers of the rows among what has come.
fn received(client: &Client) -> Vec<i64> {
    let rows = client.pending().iter();
    let rows = rows.filter(|message| message.event == "postgres_changes");
    rows.map(|message| {
        message.payload["data"]["record"]["id"]
            .as_i64()
            .expect("a number")
    })
    .collect()
}

/// Ends the first of two servers while rows are written; between what a client of each has got, nothing is missing.
async fn moved(end: impl AsyncFnOnce(Process, &mut Client)) {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let slot = format!("rowcast_{}", db.name);
    let first = Process::serve(&db.settings, &slot, &[]).await;
    let mut before = connect(&first).await;
    let config = json!({"postgres_changes": inserts(), "since": ""});
    before.join("n", config).await;
    told(&mut before, "n", "Subscribed to PostgreSQL").await;
    let second = Process::serve(&db.settings, &slot, &[]).await;
    let words = ["standby: waits for slot", "in use by process"];
    not_ready(second.address, &words).await;
    let mut after = connect(&second).await;
    let writer = Writer::start(&db.settings, 0);
    let mut got: BTreeSet<i64> = numbers(&mut before, 4).await.into_iter().collect();
    let change = before.change().await;
    got.extend(change["data"]["record"]["id"].as_i64());
    let join = json!({"config": {"postgres_changes": inserts(), "since": change["cursor"]}});
    let join = after.push("n", "phx_join", join).await;
    after.round_trip().await;
    got.extend(numbers(&mut before, 50).await);

    end(first, &mut before).await;
    got.extend(received(&before));
    let last = got.last().copied().expect("some");
    assert!(
        got.iter().copied().eq(0..=last),
        "the first missed nothing while it was there"
    );
    ready(second.address).await;
    assert_eq!(after.reply(&join).await["status"], "ok");
    told(&mut after, "n", "Subscribed to PostgreSQL").await;
    let earliest = numbers(&mut after, 1).await[0];
    assert_eq!(earliest, 5, "it goes on behind the cursor");
    eventually("rows are committed after the move", || async {
        let committed: i64 = db
            .text("select max(id)::text from n")
            .await
            .parse()
            .expect("a number");
        (committed > last + 20).then_some(())
    })
    .await;
    let next = writer.stop().await;
    let rest = numbers(
        &mut after,
        usize::try_from(next - earliest - 1).expect("positive"),
    )
    .await;
    assert!(rest.into_iter().eq(earliest + 1..next), "each once, in order");
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_a_server_that_is_stopped() {
    moved(async |first: Process, client: &mut Client| {
        first.terminate();
        assert_eq!(client.close_code().await, Some(1012));
        let (status, log) = first.ended().await;
        assert_eq!(status.code(), Some(0), "{log:#?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_a_server_that_is_killed() {
    moved(async |first: Process, client: &mut Client| {
        first.kill().await;
        assert_eq!(client.close_code().await, None);
    })
    .await;
}

/// Load balancers learn of the end before anybody is sent away.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_will_end_serves_until_it_does() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let slot = format!("rowcast_{}", db.name);
    let more = [
        ("ROWCAST_LISTEN_DRAIN_NOTICE", "6"),
        ("ROWCAST_LISTEN_SHUTDOWN_GRACE", "40"),
    ];
    let server = Process::serve(&db.settings, &slot, &more).await;
    let mut client = subscribed(&server).await;
    server.terminate();
    not_ready(server.address, &["shutting down"]).await;
    assert_eq!(server::get(server.address, "/livez").await.0, 200);
    db.execute("insert into n values (1)").await;
    assert_eq!(numbers(&mut client, 1).await, [1]);
    let mut late = subscribed(&server).await;
    db.execute("insert into n values (2)").await;
    for client in [&mut client, &mut late] {
        assert_eq!(numbers(client, 1).await, [2]);
    }
    for client in [&mut client, &mut late] {
        let goodbye = client.system("n").await;
        assert_eq!(goodbye["message"], "Server requested disconnect");
        assert_eq!(client.close_code().await, Some(1012));
    }
    assert_eq!(server.ended().await.0.code(), Some(0));
}

/// Clients go one after another; the slot goes before them, and who is still here is heard.
#[tokio::test(flavor = "multi_thread")]
async fn clients_leave_in_turns_and_the_slot_before_them() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let slot = format!("rowcast_{}", db.name);
    let first = Process::serve(&db.settings, &slot, &ONE_AFTER_ANOTHER).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = subscribed(&first).await;
        client.join("room", json!({"broadcast": {"self": true}})).await;
        clients.push(client);
    }
    let second = Process::serve(&db.settings, &slot, &[]).await;
    not_ready(second.address, &["standby"]).await;
    first.terminate();
    ready(second.address).await;
    // Nobody new is taken in, not even to look.
    assert!(
        reqwest::get(format!("http://{}/livez", first.address))
            .await
            .is_err()
    );
    // Whose turn has not come is served as before.
    let mut served = 0;
    let payload = json!({"type": "broadcast", "event": "e", "payload": {}});
    for client in &mut clients {
        let frame = json!([client.last_join_ref(), "x", "realtime:room", "broadcast", payload]);
        if client
            .try_raw(tokio_tungstenite::tungstenite::Message::text(frame.to_string()))
            .await
            && client.try_expect(|message| message.event == "broadcast").await
        {
            served += 1;
        }
    }
    assert!(
        (1..10).contains(&served),
        "the first has gone, and others have not: {served}"
    );
    first.signal(Signal::TERM);
    let (status, log) = first.ended().await;
    assert_eq!(status.code(), Some(128 + 15), "the second time at once: {log:#?}");
    second.kill().await;
}

/// Every client is told and gets the close code, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_forgotten_when_a_server_ends() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = Server::start(&db).await;
    let mut clients = Vec::new();
    for _ in 0..60 {
        let mut client = Client::connect(&server, Version::V1, &service()).await;
        client.join("room", json!({})).await;
        clients.push(client);
    }
    let ending = tokio::spawn(server.stop());
    for client in &mut clients {
        assert_eq!(
            client.system("room").await["message"],
            "Server requested disconnect"
        );
        assert_eq!(client.close_code().await, Some(1012));
    }
    ending.await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_says_how_the_slot_is() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    ready(server.address).await;
    let slot = eventually("the slot has been looked at", || async {
        let (_, body) = server.get("/readyz").await;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        (body["slot"]["wal_status"] == "reserved").then(|| body["slot"].clone())
    })
    .await;
    assert!(
        slot["retained_bytes"].as_u64().is_some_and(|bytes| bytes > 0),
        "{slot}"
    );
    assert_eq!(slot["safe_bytes"], Value::Null, "nothing limits it here");
    assert_eq!(slot["window_budget_bytes"], 1 << 30);
    assert_eq!(server.metric("rowcast_slot_safe_bytes").await as i64, -1);
    assert_eq!(server.metric("rowcast_slot_wal_status").await as i64, 1);
    server.stop().await;
}
