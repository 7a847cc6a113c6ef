//! Moments at which a gap could pass unnoticed: whoever comes back either gets what it missed, or is told.

use std::time::Duration;

use serde_json::{Value, json};

use super::service;
use crate::support::{Client, Database, Message, Server, Version, eventually, token};

const ROWS: &str = "create table n (id int primary key); alter publication supabase_realtime add table n";

fn rows() -> Value {
    json!([{"event": "INSERT", "schema": "public", "table": "n"}])
}

async fn start(db: &Database, acknowledge: Duration) -> Server {
    Server::start_with(db, |config| config.resume.acknowledge = acknowledge).await
}

async fn connect(server: &Server, session: &str) -> Client {
    let token = format!("{}&session={session}", service());
    Client::connect(server, Version::V2, &token).await
}

/// Joins `n` for its rows, and waits until they are live.
async fn live(client: &mut Client) {
    client.enter("n", json!({"postgres_changes": rows()})).await;
    let subscribed = |m: &Message| m.payload["message"] == "Subscribed to PostgreSQL";
    client.expect("live", subscribed).await;
}

/// Until the server knows how far some client is.
async fn acknowledged(client: &mut Client, server: &Server) {
    let before = server.metric("rowcast_places_acknowledged_total").await;
    loop {
        client.round_trip().await;
        if server.metric("rowcast_places_acknowledged_total").await > before {
            return;
        }
    }
}

/// The numbers of what came until `last`, and what was told of the past.
async fn came(client: &mut Client, last: u64) -> (Vec<u64>, Vec<String>) {
    let number = |m: &Message| match &*m.event {
        "postgres_changes" => m.payload["data"]["record"]["id"].as_u64(),
        "broadcast" => m.payload["payload"]["number"].as_u64(),
        _ => None,
    };
    let end = client.expect("the last", |m| number(m) == Some(last)).await;
    let mut numbers: Vec<u64> = client.pending().iter().filter_map(number).collect();
    numbers.push(number(&end).expect("a number"));
    let outcomes = client
        .pending()
        .iter()
        .filter(|m| m.payload["extension"] == "resume");
    let outcomes = outcomes.map(|m| m.payload["message"].as_str().expect("a text").to_owned());
    (numbers, outcomes.collect())
}

async fn say(server: &Server, topic: &str, number: u64) {
    let body = json!({"messages": [{"topic": topic, "event": "said", "payload": {"number": number}}]});
    let headers = [("apikey", &*service()), ("content-type", "application/json")];
    let (status, text) = server.post("/api/broadcast", &headers, body.to_string()).await;
    assert_eq!(status, 202, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_was_joined_right_before_the_cut_is_gone_on_with() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = start(&db, Duration::from_secs(2)).await;
    let mut client = connect(&server, "s1").await;
    client.enter("other", json!({})).await;
    acknowledged(&mut client, &server).await;
    // The next question comes two seconds later.
    client.enter("room", json!({})).await;
    live(&mut client).await;
    db.execute("insert into n values (1)").await;
    client.change().await;
    say(&server, "room", 1).await;
    client.heard("room").await;
    drop(client);
    db.execute("insert into n values (2)").await;
    say(&server, "room", 2).await;
    server.passed(&db).await;

    let mut client = connect(&server, "s1").await;
    live(&mut client).await;
    db.execute("insert into n values (3)").await;
    let (numbers, outcomes) = came(&mut client, 3).await;
    assert!(numbers.ends_with(&[2, 3]), "{numbers:?} {outcomes:?}");
    client.forget("postgres_changes");
    client.enter("room", json!({})).await;
    say(&server, "room", 3).await;
    let (numbers, outcomes) = came(&mut client, 3).await;
    assert!(numbers.ends_with(&[2, 3]), "{numbers:?} {outcomes:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_whose_token_was_no_good_is_gone_on_with() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = start(&db, Duration::from_millis(10)).await;
    let mut client = connect(&server, "s1").await;
    live(&mut client).await;
    client.enter("room", json!({})).await;
    acknowledged(&mut client, &server).await;
    for topic in ["n", "room"] {
        let old = token::token("service_role", json!({"exp": token::now() - 10}));
        client
            .push(topic, "access_token", json!({ "access_token": old }))
            .await;
        client
            .expect("its end", |m| {
                m.event == "phx_close" && m.topic == format!("realtime:{topic}")
            })
            .await;
    }
    db.execute("insert into n values (1)").await;
    say(&server, "room", 1).await;
    server.passed(&db).await;
    client.forget("system");
    // On the same connection.
    live(&mut client).await;
    db.execute("insert into n values (2)").await;
    let (numbers, outcomes) = came(&mut client, 2).await;
    assert_eq!(numbers, [1, 2], "{outcomes:?}");
    client.forget("postgres_changes");
    client.enter("room", json!({})).await;
    say(&server, "room", 2).await;
    let (numbers, outcomes) = came(&mut client, 2).await;
    assert_eq!(numbers, [1, 2], "{outcomes:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_answers_of_a_dead_connection_do_not_make_two_of_its_client() {
    let db = Database::new().await;
    let server = start(&db, Duration::from_millis(10)).await;
    let mut old = connect(&server, "s1").await;
    old.enter("room", json!({})).await;
    acknowledged(&mut old, &server).await;
    // Asked, and answered only behind the next connection's begin.
    say(&server, "room", 1).await;
    eventually("it has been said", || async {
        (server.metric("rowcast_broadcast_deliveries_total").await > 0.0).then_some(())
    })
    .await;
    let mut new = connect(&server, "s1").await;
    let late = server.metric("rowcast_places_acknowledged_total").await;
    drop_after_answering(old, &server, late).await;
    new.enter("room", json!({})).await;
    acknowledged(&mut new, &server).await;
    drop(new);
    let mut again = connect(&server, "s1").await;
    again.enter("room", json!({})).await;
    say(&server, "room", 2).await;
    let (_, outcomes) = came(&mut again, 2).await;
    assert_eq!(outcomes, ["resumed: nothing was missed"]);
    server.stop().await;
}

/// Reads what came before, which answers the question behind it, and ends.
async fn drop_after_answering(mut client: Client, server: &Server, before: f64) {
    client.heard("room").await;
    while server.metric("rowcast_places_acknowledged_total").await <= before {
        // Sending anything sends the answer, too; only pings before this ask about the past.
        client.round_trip().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_is_more_than_an_outbox_and_yet_comes_again() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    db.execute("alter table n add x text").await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    let mut config = json!({"postgres_changes": rows(), "since": ""});
    client.enter("n", config.clone()).await;
    let subscribed = |m: &Message| m.payload["message"] == "Subscribed to PostgreSQL";
    client.expect("live", subscribed).await;
    db.execute("insert into n values (0)").await;
    config["since"] = client.change().await["cursor"].clone();
    drop(client);
    db.execute("insert into n select i, repeat('x', 2000) from generate_series(1, 8000) i")
        .await;
    server.passed(&db).await;
    // Over a socket that takes in little more than what is read.
    let mut client = Client::connect_narrow(&server, Version::V2, &service()).await;
    client.enter("n", config).await;
    for id in 1..=8_000 {
        assert_eq!(client.data().await["record"]["id"], json!(id));
    }
    server.stop().await;
}
