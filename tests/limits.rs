//! Many clients, greedy clients, silent clients and slow ones: each limit has its answer, and nobody else pays.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Raw;

use crate::support::token::service;
use crate::support::{Client, Database, Server, Version, eventually};

const TABLE: &str = "create table n (id int primary key, body text);
                     alter publication supabase_realtime add table n";

fn rows() -> Value {
    json!([{"event": "*", "schema": "public", "table": "n"}])
}

fn join_frame(topic: &str, reference: u32) -> Raw {
    let payload = json!({"config": {"postgres_changes": rows()}});
    let reference = reference.to_string();
    Raw::text(json!([reference, reference, topic, "phx_join", payload]).to_string())
}

fn reason(payload: &Value) -> &str {
    payload["response"]["reason"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_joins_from_one_client() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    let mut neighbour = Client::connect(&server, Version::V2, &service()).await;
    neighbour.subscribe("neighbour", rows()).await;
    let mut greedy = Client::connect(&server, Version::V2, &service()).await;
    for n in 0..1_000 {
        if !greedy.try_raw(join_frame(&format!("realtime:{n}"), n)).await {
            break;
        }
    }
    assert_eq!(greedy.close_code().await, Some(1001));
    let replies: Vec<&Value> = greedy
        .pending()
        .iter()
        .filter(|m| m.event == "phx_reply")
        .map(|m| &m.payload)
        .collect();
    let count = |text: &str| replies.iter().filter(|payload| reason(payload) == text).count();
    // As many channels as one may have; then refusals; then the end.
    let full = count("ChannelRateLimitReached: Too many channels");
    assert!(full > 0, "{replies:?}");
    assert_eq!(count("ClientJoinRateLimitReached: Too many joins per second"), 1);
    let joined = replies.iter().filter(|payload| payload["status"] == "ok").count();
    assert!(
        joined <= 100 && joined + full + 1 == replies.len(),
        "{joined} of {}",
        replies.len()
    );
    db.execute("insert into n values (1)").await;
    assert_eq!(neighbour.data().await["record"]["id"], 1);
    eventually("what it had is given back", || async {
        let left = server.metric("rowcast_subscriptions").await + server.metric("rowcast_channels").await;
        (left == 2.0).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_joins_from_many_clients() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(Client::connect(&server, Version::V2, &service()).await);
    }
    for client in &mut clients {
        for n in 0..20 {
            client.raw(join_frame(&format!("realtime:{n}"), n)).await;
        }
    }
    for client in &mut clients {
        for n in 0..20 {
            let reply = client.reply(&n.to_string()).await;
            assert_eq!(reply["status"], "ok", "{reply}");
        }
        for n in 0..20 {
            let live = client.system(&n.to_string()).await;
            assert_eq!(live["message"], "Subscribed to PostgreSQL");
        }
    }
    db.execute("insert into n values (1)").await;
    for client in &mut clients {
        for _ in 0..20 {
            assert_eq!(client.data().await["record"]["id"], 1);
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_of_all_together_have_a_rate() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start_with(&db, |config| config.limits.joins_per_second = 1).await;
    let mut early = Client::connect(&server, Version::V2, &service()).await;
    early.subscribe("early", rows()).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::connect(&server, Version::V2, &service()).await);
    }
    // Joins use up the rate; then neither joins nor connections are taken.
    let target = format!("/socket/websocket?apikey={}", service());
    let mut refused = None;
    for (n, client) in clients.iter_mut().enumerate() {
        let mut tries = 0;
        refused = loop {
            let push = client
                .push(&format!("{n}-{tries}"), "phx_join", json!({"config": {}}))
                .await;
            let reply = client.reply(&push).await;
            if reply["status"] == "error" {
                assert_eq!(
                    reason(&reply),
                    "ClientJoinRateLimitReached: Too many joins per second"
                );
                assert_eq!(client.close_code().await, Some(1001));
                break Some(server.handshake(&target, &[]).await);
            }
            tries += 1;
        };
        if matches!(refused, Some((429, _))) {
            break;
        }
    }
    let expected = json!({"error": "Too many joins per second"}).to_string();
    assert_eq!(refused, Some((429, expected)));
    db.execute("insert into n values (1)").await;
    assert_eq!(early.data().await["record"]["id"], 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start_with(&db, |config| config.limits.connections = 2).await;
    let mut first = Client::connect(&server, Version::V2, &service()).await;
    first.subscribe("first", rows()).await;
    let second = Client::connect(&server, Version::V1, &service()).await;
    let target = format!("/realtime/v1/websocket?apikey={}", service());
    let full = json!({"error": "Too many connected users"}).to_string();
    assert_eq!(server.handshake(&target, &[]).await, (429, full));
    // Who may not connect anyway is told that, and takes no place.
    for _ in 0..5 {
        assert_eq!(
            server.handshake("/realtime/v1/websocket?apikey=x", &[]).await.0,
            401
        );
    }
    db.execute("insert into n values (1)").await;
    assert_eq!(first.data().await["record"]["id"], 1);
    drop(second);
    let third = eventually("there is room again", || async {
        Client::try_connect(&server, Version::V2, &service()).await.ok()
    });
    third.await.subscribe("third", rows()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_of_a_connection_are_counted() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.channels_per_connection = 3).await;
    for version in [Version::V1, Version::V2] {
        let mut client = Client::connect(&server, version, &service()).await;
        for topic in ["a", "b", "c"] {
            assert_eq!(client.join(topic, json!({})).await["status"], "ok");
        }
        let reply = client.join("d", json!({})).await;
        let full = "ChannelRateLimitReached: Too many channels";
        assert_eq!(reply, json!({"status": "error", "response": {"reason": full}}));
        // Joining again is no further channel, and leaving makes room.
        assert_eq!(client.join("a", json!({})).await["status"], "ok");
        let leave = client.push("b", "phx_leave", json!({})).await;
        assert_eq!(client.reply(&leave).await["status"], "ok");
        assert_eq!(client.join("d", json!({})).await["status"], "ok");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_is_closed_and_its_neighbour_gets_everything() {
    for version in [Version::V1, Version::V2] {
        let db = Database::new().await;
        db.execute(TABLE).await;
        let server = Server::start_with(&db, |config| {
            config.limits.outbox_bytes = 256 * 1024;
            config.limits.outbox_frames = 64;
        })
        .await;
        let mut slow = Client::connect_narrow(&server, version, &service()).await;
        slow.subscribe("slow", rows()).await;
        let mut neighbour = Client::connect(&server, version, &service()).await;
        neighbour.subscribe("quick", rows()).await;
        let mut written = 0;
        // It is given up while it does not read, and nothing is kept for it.
        while server.metric("rowcast_outbox_overflows_total").await == 0.0 {
            for _ in 0..10 {
                written += 1;
                db.execute(&format!("insert into n values ({written}, repeat('x', 20000))"))
                    .await;
                assert_eq!(neighbour.data().await["record"]["id"], written);
            }
            assert!(written < 2_000, "40 MB are nowhere near its outbox");
        }
        eventually("its subscription is gone", || async {
            (server.metric("rowcast_subscriptions").await == 1.0).then_some(())
        })
        .await;
        db.execute("insert into n values (0, 'after')").await;
        assert_eq!(neighbour.data().await["record"]["id"], 0);
        // What it finds when it reads again: the rows up to some point without a gap, and why there are no more.
        assert_eq!(slow.close_code().await, Some(1013));
        let got: Vec<i64> = slow
            .pending()
            .iter()
            .filter(|m| m.event == "postgres_changes")
            .map(|m| m.payload["data"]["record"]["id"].as_i64().expect("an id"))
            .collect();
        let last = i64::try_from(got.len()).expect("few");
        assert_eq!(got, (1..=last).collect::<Vec<_>>());
        assert!(last < i64::from(written), "{last} of {written}");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_again_is_dropped() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start_with(&db, |config| {
        config.session.write_timeout = Duration::from_secs(1);
    })
    .await;
    let mut stalled = Client::connect_narrow(&server, Version::V2, &service()).await;
    stalled.subscribe("stalled", rows()).await;
    let mut neighbour = Client::connect(&server, Version::V2, &service()).await;
    neighbour.subscribe("quick", rows()).await;
    let mut written = 0;
    while server.metric("rowcast_connections").await > 1.0 {
        for _ in 0..10 {
            written += 1;
            db.execute(&format!("insert into n values ({written}, repeat('x', 200000))"))
                .await;
            assert_eq!(neighbour.data().await["record"]["id"], written);
        }
        assert!(written < 1_000, "a socket takes no 200 MB");
    }
    // Bytes are still on their way to it, but the server holds nothing more for it.
    assert_eq!(server.metric("rowcast_subscriptions").await, 1.0);
    drop(stalled);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_does_not_keep_the_server_from_stopping() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    let mut stalled = Client::connect_narrow(&server, Version::V2, &service()).await;
    stalled.subscribe("stalled", rows()).await;
    // More than sockets hold, less than an outbox.
    db.execute("insert into n select g, repeat('x', 500000) from generate_series(1, 14) g")
        .await;
    server.passed(&db).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_closes_and_heartbeats_keep() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start_with(&db, |config| config.session.idle_timeout = Duration::from_secs(3)).await;
    for version in [Version::V1, Version::V2] {
        let mut beating = Client::connect(&server, version, &service()).await;
        let mut pinging = Client::connect(&server, version, &service()).await;
        let silences = async {
            let mut silent = Client::connect(&server, version, &service()).await;
            silent.subscribe("silent", rows()).await;
            assert_eq!(silent.close_code().await, Some(1000));
        };
        let beats = async {
            loop {
                beating.round_trip().await;
                pinging.raw(Raw::Ping(Vec::new().into())).await;
                // What is received is no sign of life of the client's.
                db.execute("insert into n values (1); delete from n").await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = silences => {}
            () = beats => {}
        }
        beating.round_trip().await;
        pinging.round_trip().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_left_every_channel_is_closed_after_a_while() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| {
        config.session.no_channel_timeout = Duration::from_secs(1);
    })
    .await;
    let mut never = Client::connect(&server, Version::V2, &service()).await;
    let mut stays = Client::connect(&server, Version::V2, &service()).await;
    stays.join("room", json!({})).await;
    let mut leaves = Client::connect(&server, Version::V2, &service()).await;
    leaves.join("room", json!({})).await;
    leaves.push("room", "phx_leave", json!({})).await;
    assert_eq!(leaves.close_code().await, Some(1000));
    never.round_trip().await;
    stays.round_trip().await;
    server.stop().await;
}
