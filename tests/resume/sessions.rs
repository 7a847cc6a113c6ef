use serde_json::{Value, json};

use super::{RESUMED, ROWS, connect, inserts, join, outcome, rows};
use crate::support::token::service;
use crate::support::{Client, Database, LIMIT, Server, Version};

/// Until the server knows that the client has everything up to now.
async fn acknowledged(client: &mut Client, server: &Server) {
    let places = |value: f64| value as u64;
    let before = places(server.metric("rowcast_places_acknowledged_total").await);
    // Something that is asked about.
    loop {
        client.round_trip().await;
        if places(server.metric("rowcast_places_acknowledged_total").await) > before + 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn start(db: &Database) -> Server {
    Server::start_with(db, |config| {
        config.resume.acknowledge = std::time::Duration::from_millis(10);
    })
    .await
}

/// A client of session `s1`, in the channel of a table's rows.
async fn following() -> (Database, Server, Client) {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = start(&db).await;
    let client = again(&server).await;
    (db, server, client)
}

/// The client of session `s1` once more, in the same channel.
async fn again(server: &Server) -> Client {
    let mut client = connect(server, "s1").await;
    join(&mut client, json!({})).await;
    client
}

const UNKNOWN: &str = "resync: this server does not know the session: it is new, or was away for too long";

fn ids(rows: &[(i64, bool)]) -> Vec<i64> {
    rows.iter().map(|(id, _)| *id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_with_its_session_id_misses_nothing() {
    let (db, server, mut client) = following().await;
    db.execute("insert into n select generate_series(1, 5)").await;
    assert_eq!(ids(&rows(&mut client, 5).await), [1, 2, 3, 4, 5]);
    acknowledged(&mut client, &server).await;
    drop(client);
    db.execute("insert into n select generate_series(6, 9)").await;
    let mut client = again(&server).await;
    assert_eq!(outcome(&client).as_deref(), Some(RESUMED));
    db.execute("insert into n values (10)").await;
    let got = rows(&mut client, 5).await;
    assert_eq!(ids(&got), [6, 7, 8, 9, 10], "nothing that it was known to have");
    assert_eq!(got.iter().filter(|(_, told)| *told).count(), 4);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_channels_and_never_says_what_has_arrived_is_given_up() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = Server::start_with(&db, |config| {
        config.limits.connection_joins_per_second = 0;
        // Nobody asks what has arrived.
        config.resume.acknowledge = std::time::Duration::from_secs(3_600);
    })
    .await;
    db.execute("insert into n values (0)").await;
    server.passed(&db).await;
    for (others, outcome_then) in [(100, RESUMED), (1_100, UNKNOWN)] {
        let session = format!("s{others}");
        let mut client = connect(&server, &session).await;
        join(&mut client, json!({})).await;
        for other in 0..others {
            let topic = format!("other-{other}");
            client.join(&topic, json!({})).await;
            let left = client.push(&topic, "phx_leave", json!({})).await;
            client.reply(&left).await;
        }
        drop(client);
        let mut client = connect(&server, &session).await;
        join(&mut client, json!({})).await;
        assert_eq!(outcome(&client).as_deref(), Some(outcome_then));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_arrived_comes_again_with_its_cursor() {
    let (db, server, mut client) = following().await;
    acknowledged(&mut client, &server).await;
    // What comes now is not acknowledged: nobody reads the pings.
    db.execute("insert into n values (1)").await;
    server.passed(&db).await;
    drop(client);
    let mut client = again(&server).await;
    assert_eq!(rows(&mut client, 1).await, [(1, true)]);
    server.stop().await;
}

/// Connections that are lost before all has come that was missed: each goes on from behind what the one before was known to have.
#[tokio::test(flavor = "multi_thread")]
async fn short_connections_make_headway() {
    const COUNT: i64 = 1_000;
    let db = Database::new().await;
    db.execute(ROWS).await;
    db.execute("alter table n add column pad text").await;
    let server = Server::start_with(&db, |config| {
        config.resume.acknowledge = std::time::Duration::from_millis(5);
        config.limits.outbox_frames = 64;
    })
    .await;
    let acknowledged_so_far = async || server.metric("rowcast_places_acknowledged_total").await;
    let mut client = again(&server).await;
    acknowledged(&mut client, &server).await;
    drop(client);
    db.execute(&format!(
        "insert into n select id, repeat('x', 2000) from generate_series(1, {COUNT}) id"
    ))
    .await;
    let token = format!("{}&session=s1", service());
    let mut got = std::collections::BTreeSet::new();
    let mut before = 0;
    while got.len() < usize::try_from(COUNT).expect("few") {
        let mut client = Client::connect_narrow(&server, Version::V2, &token).await;
        client.join("n", json!({"postgres_changes": inserts()})).await;
        let first = client.change().await;
        assert!(first["cursor"].is_string(), "{first}");
        let mut last = first["data"]["record"]["id"].as_i64().expect("an id");
        assert!(last > before, "{last} came again at the next connection");
        before = last;
        got.insert(last);
        // Until it has been asked for what has come by now, and its answer is there. Few questions can be under way.
        let enough = acknowledged_so_far().await + 9.0;
        while last < COUNT && acknowledged_so_far().await < enough {
            for _ in 0..20.min(COUNT - last) {
                let row = client.change().await;
                last = row["data"]["record"]["id"].as_i64().expect("an id");
                got.insert(last);
            }
        }
    }
    assert!(before > 1, "one connection was enough");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcasts_that_were_missed_come_in_order_and_own_ones_do_not() {
    let db = Database::new().await;
    let server = start(&db).await;
    let mut away = connect(&server, "s1").await;
    let mut stays = connect(&server, "s2").await;
    let config = json!({"broadcast": {"ack": true}});
    for client in [&mut away, &mut stays] {
        assert_eq!(client.join("room", config.clone()).await["status"], "ok");
    }
    say(&mut away, 1).await;
    say(&mut stays, 2).await;
    heard(&mut away, &[2]).await;
    acknowledged(&mut away, &server).await;
    drop(away);
    for number in 3..6 {
        say(&mut stays, number).await;
    }
    let mut back = connect(&server, "s1").await;
    assert_eq!(back.join("room", config).await["status"], "ok");
    let outcome = outcome_of(&mut back).await;
    assert_eq!(outcome, RESUMED);
    say(&mut stays, 6).await;
    heard(&mut back, &[3, 4, 5, 6]).await;
    server.stop().await;
}

async fn outcome_of(client: &mut Client) -> String {
    let said = client
        .expect("an outcome", |m| m.payload["extension"] == "resume")
        .await;
    said.payload["message"].as_str().expect("a text").to_owned()
}

async fn say(client: &mut Client, number: u64) {
    let payload = json!({"type": "broadcast", "event": "said", "payload": {"number": number}});
    let reference = client.push("room", "broadcast", payload).await;
    assert_eq!(client.reply(&reference).await["status"], "ok");
}

async fn heard(client: &mut Client, numbers: &[u64]) {
    for number in numbers {
        let message = client.expect("a broadcast", |m| m.event == "broadcast").await;
        assert_eq!(message.payload["payload"]["number"], json!(number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_known_is_told_to_look_itself() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = start(&db).await;
    let mut client = connect(&server, "new").await;
    let reply = client.join("n", json!({"postgres_changes": inserts()})).await;
    assert_eq!(reply["status"], "ok");
    let said = outcome_of(&mut client).await;
    assert!(
        said.starts_with("resync: this server does not know the session"),
        "{said}"
    );
    // Whoever has no session id hears nothing of it.
    let mut other = Client::connect(&server, crate::support::Version::V2, &super::service()).await;
    join(&mut other, json!({})).await;
    assert_eq!(outcome(&other), None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_was_left_starts_anew() {
    let (db, server, mut client) = following().await;
    acknowledged(&mut client, &server).await;
    let leave = client
        .push("n", "phx_leave", Value::Object(Default::default()))
        .await;
    client.reply(&leave).await;
    db.execute("insert into n values (1)").await;
    server.passed(&db).await;
    client.forget("system");
    join(&mut client, json!({})).await;
    db.execute("insert into n values (2)").await;
    assert_eq!(rows(&mut client, 1).await, [(2, false)]);
    server.stop().await;
}

/// As with a tab that was duplicated: what the second one went on from was the place of the first.
#[tokio::test(flavor = "multi_thread")]
async fn who_went_on_from_the_place_of_somebody_who_is_still_there_is_told() {
    let (db, server, mut first) = following().await;
    acknowledged(&mut first, &server).await;
    let mut second = again(&server).await;
    assert_eq!(outcome(&second).as_deref(), Some(RESUMED));
    second.forget("system");
    first.forget("system");
    let told = |client: &Client| outcome(client).is_some();
    let noticing = async {
        let mut id = 0;
        while !told(&second) {
            id += 1;
            db.execute(&format!("insert into n values ({id})")).await;
            for client in [&mut first, &mut second] {
                client.round_trip().await;
            }
        }
    };
    tokio::time::timeout(LIMIT, noticing)
        .await
        .expect("it is noticed");
    let shared = "resync: the session id is used by two connections at once";
    assert_eq!(outcome(&second).as_deref(), Some(shared));
    assert_eq!(outcome(&first), None, "it was there from the beginning");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_connection_does_not_keep_its_client_from_coming_back() {
    let (db, server, mut dead) = following().await;
    acknowledged(&mut dead, &server).await;
    // It is there for the server, but nobody reads it any more.
    db.execute("insert into n values (1)").await;
    let mut client = again(&server).await;
    assert_eq!(rows(&mut client, 1).await, [(1, true)]);
    drop(dead);
    server.stop().await;
}
