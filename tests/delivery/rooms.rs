//! What rooms remember, when it is too much, when there are many, and when somebody may not hear it any more.

use std::time::Duration;

use serde_json::{Value, json};

use super::seed;
use crate::oracle::random::Random;
use crate::support::broadcast::KIND_FOUR;
use crate::support::{Client, Database, Message, Server, Version, token};

const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";

async fn start(db: &Database, bytes: usize) -> Server {
    Server::start_with(db, |config| {
        config.resume.acknowledge = Duration::from_millis(10);
        config.resume.broadcasts_bytes = bytes;
        config.limits.connection_messages_per_second = 0;
        config.limits.connection_bytes_per_second = 0;
    })
    .await
}

async fn connect(server: &Server, session: &str, token: &str) -> Client {
    Client::connect(server, Version::V2, &format!("{token}&session={session}")).await
}

/// Until the server knows how far it is.
async fn acknowledged(client: &mut Client, server: &Server) {
    let before = server.metric("rowcast_places_acknowledged_total").await;
    while server.metric("rowcast_places_acknowledged_total").await <= before {
        client.round_trip().await;
    }
}

async fn say(client: &mut Client, topic: &str, payload: Value) {
    client.say(topic, "said", payload).await;
}

fn numbers(client: &Client, topic: &str) -> Vec<u64> {
    let topic = format!("realtime:{topic}");
    let on = |m: &&Message| m.topic == topic && m.event == "broadcast";
    let said = client.pending().iter().filter(on);
    said.filter_map(|m| m.payload["payload"]["number"].as_u64())
        .collect()
}

fn outcomes(client: &Client, topic: &str) -> Vec<String> {
    let topic = format!("realtime:{topic}");
    let told = client
        .pending()
        .iter()
        .filter(|m| m.topic == topic && m.payload["extension"] == "resume");
    told.map(|m| m.payload["message"].as_str().expect("a text").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_to_floods_in_many_rooms_has_everything_or_is_told() {
    let seed = seed(3);
    let mut random = Random(seed);
    let bytes = 200_000;
    let db = Database::new().await;
    let server = start(&db, bytes).await;
    let service = super::service();
    let mut away = connect(&server, "away", &service).await;
    let mut speaker = connect(&server, "speaker", &service).await;
    let topics: Vec<String> = (0..20).map(|n| format!("room{n}")).collect();
    for topic in &topics {
        away.enter(topic, json!({})).await;
        speaker.enter(topic, json!({})).await;
    }
    acknowledged(&mut away, &server).await;
    drop(away);
    // Some rooms are floods.
    let mut said = vec![0; topics.len()];
    for _ in 0..3_000 {
        let room = if random.percent(70) {
            random.below(3)
        } else {
            random.below(topics.len())
        };
        said[room] += 1;
        let padding = "x".repeat(random.below(200));
        say(
            &mut speaker,
            &topics[room],
            json!({"number": said[room], "padding": padding}),
        )
        .await;
    }
    speaker.round_trip().await;
    let kept = server.metric("rowcast_kept_broadcast_bytes").await;
    assert!(kept > 0.0 && kept <= bytes as f64, "ROWCAST_SEED={seed}: {kept}");
    let mut back = connect(&server, "away", &service).await;
    for topic in &topics {
        back.enter(topic, json!({})).await;
    }
    back.round_trip().await;
    let (mut whole, mut told) = (0, 0);
    for (topic, said) in topics.iter().zip(&said) {
        let (heard, outcomes) = (numbers(&back, topic), outcomes(&back, topic));
        let first = said + 1 - heard.len() as u64;
        assert!(
            heard.iter().copied().eq(first..=*said),
            "ROWCAST_SEED={seed} {topic}: {heard:?}"
        );
        let resync = outcomes.iter().any(|text| text.starts_with("resync"));
        assert_eq!(
            resync,
            first > 1,
            "ROWCAST_SEED={seed} {topic}: {outcomes:?}, from {first} of {said}"
        );
        whole += usize::from(!resync);
        told += usize::from(resync);
    }
    assert!(told > 0, "{whole} whole");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_room_says_nothing_again_to_whom_it_is_closed_by_now() {
    let db = Database::new().await;
    db.execute(
        "create table allowed (who uuid primary key); grant select on allowed to authenticated;
         create policy hear on realtime.messages for select to authenticated
         using (exists (select from allowed a where a.who = auth.uid()))",
    )
    .await;
    db.execute(&format!("insert into allowed values ('{ALICE}')"))
        .await;
    let server = start(&db, 1 << 20).await;
    let private = json!({"private": true});
    let mut alice = connect(&server, "alice", &token::user(ALICE)).await;
    alice.enter("room", private.clone()).await;
    acknowledged(&mut alice, &server).await;
    drop(alice);
    db.execute("select realtime.send('{\"number\": 1}', 'said', 'room', true)")
        .await;
    server.passed(&db).await;
    db.execute("delete from allowed").await;
    server.passed(&db).await;
    let mut alice = connect(&server, "alice", &token::user(ALICE)).await;
    assert_eq!(alice.join("room", private.clone()).await["status"], "error");
    alice.round_trip().await;
    assert!(
        alice
            .pending()
            .iter()
            .all(|m| m.event != "broadcast" && m.event != KIND_FOUR)
    );
    // With the right, what was missed comes after all.
    db.execute(&format!("insert into allowed values ('{ALICE}')"))
        .await;
    server.passed(&db).await;
    drop(alice);
    let mut alice = connect(&server, "alice", &token::user(ALICE)).await;
    alice.enter("room", private).await;
    let heard = alice.heard("room").await;
    assert_eq!(heard.payload["payload"]["number"], 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_says_again_what_the_database_said_and_tells_that_it_knows_no_more() {
    let db = Database::new().await;
    db.execute("create table n (id int primary key); alter publication supabase_realtime add table n")
        .await;
    let first = start(&db, 1 << 20).await;
    let service = super::service();
    let mut client = connect(&first, "s", &service).await;
    let rows = json!([{"event": "INSERT", "schema": "public", "table": "n"}]);
    client
        .enter("n", json!({"postgres_changes": rows, "since": ""}))
        .await;
    let subscribed = |m: &Message| m.payload["message"] == "Subscribed to PostgreSQL";
    client.expect("live", subscribed).await;
    db.execute("insert into n values (1)").await;
    let change = client.change().await;
    let cursor = change["cursor"].as_str().expect("a cursor");
    db.execute("select realtime.send('{\"number\": 1}', 'said', 'room', false)")
        .await;
    first.passed(&db).await;
    first.stop().await;
    db.execute("select realtime.send('{\"number\": 2}', 'said', 'room', false)")
        .await;
    let second = start(&db, 1 << 20).await;
    second.passed(&db).await;
    let mut client = connect(&second, "s", &service).await;
    let since = format!("1-7@{cursor}");
    client.enter("room", json!({"broadcast": {"since": since}})).await;
    for number in 1..3 {
        assert_eq!(client.heard("room").await.payload["payload"]["number"], number);
    }
    let told = |m: &Message| {
        let text = m.payload["message"].as_str().unwrap_or_default();
        m.topic == "realtime:room" && text.contains("server was replaced")
    };
    client.expect("that it knows no more", told).await;
    second.stop().await;
}
