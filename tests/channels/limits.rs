//! Each limit on channels, with its answer in both wire versions; whoever is beside it notices nothing.

use serde_json::{Value, json};

use super::{VERSIONS, anon};
use crate::support::broadcast::{Inner, KIND_FOUR, envelope, kind_three};
use crate::support::{Client, Database, Server, Version, eventually, token};

fn track(payload: Value) -> Value {
    json!({"type": "presence", "event": "track", "payload": payload})
}

/// The channel closes with this text, and its connection stays.
async fn closes(client: &mut Client, topic: &str, text: &str) {
    let join_ref = client.last_join_ref();
    let expected = json!({"extension": "system", "status": "error", "message": text, "channel": topic});
    assert_eq!(client.system(topic).await, expected);
    let closed = client.expect("phx_close", |m| m.event == "phx_close").await;
    assert_eq!((&closed.reference, &closed.payload), (&join_ref, &json!({})));
    let reference = client.say(topic, "e", json!({})).await;
    let reply = client.reply(&reference).await;
    assert_eq!(reply["response"], json!({"reason": "unmatched topic"}), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_that_come_too_fast_are_told_and_cut_off() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.connection_joins_per_second = 2).await;
    for version in VERSIONS {
        let mut neighbour = anon(&server, version).await;
        neighbour.enter("room", json!({})).await;
        let mut greedy = anon(&server, version).await;
        for _ in 0..100 {
            let payload = json!({"config": {}});
            let frame = match version {
                Version::V1 => {
                    json!({"topic": "realtime:room", "event": "phx_join", "payload": payload, "ref": "1"})
                }
                Version::V2 => json!(["1", "1", "realtime:room", "phx_join", payload]),
            };
            if !greedy.try_raw(frame.to_string().into()).await {
                break;
            }
        }
        assert_eq!(greedy.close_code().await, Some(1001));
        let reason = "ClientJoinRateLimitReached: Too many joins per second";
        let told = |m: &&crate::support::Message| m.payload["response"]["reason"] == reason;
        assert_eq!(greedy.pending().iter().filter(told).count(), 1);
        neighbour.round_trip().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_told_in_every_version() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.connections = 1).await;
    let mut only = anon(&server, Version::V1).await;
    let key = token::token("anon", json!({}));
    for vsn in ["1.0.0", "2.0.0"] {
        let target = format!("/socket/websocket?vsn={vsn}&apikey={key}");
        let full = json!({"error": "Too many connected users"}).to_string();
        assert_eq!(server.handshake(&target, &[]).await, (429, full));
    }
    only.enter("room", json!({})).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_above_the_limit_close_with_1009() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.frame_bytes = 10_000).await;
    for version in VERSIONS {
        let mut neighbour = anon(&server, version).await;
        neighbour.enter("room", json!({})).await;
        let mut client = anon(&server, version).await;
        client.enter("room", json!({})).await;
        client.say("room", "e", json!({"x": "x".repeat(9_000)})).await;
        neighbour.heard("room").await;
        client.say("room", "e", json!({"x": "x".repeat(10_000)})).await;
        assert_eq!(client.close_code().await, Some(1009));
        assert!(neighbour.everything(&["broadcast"]).await.is_empty());
    }
    let mut client = anon(&server, Version::V2).await;
    client.enter("room", json!({})).await;
    client
        .say_binary("1", "room", "e", Inner::Bytes(&[7; 10_000]))
        .await;
    assert_eq!(client.close_code().await, Some(1009));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_in_a_binary_frame_is_told_as_well() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.payload_bytes = 100).await;
    let mut listener = anon(&server, Version::V2).await;
    listener.enter("room", json!({})).await;
    let mut client = anon(&server, Version::V2).await;
    client.enter("room", json!({"broadcast": {"ack": true}})).await;
    let large = json!({"x": "x".repeat(100)});
    for (reference, inner) in [("a", Inner::Json(&large)), ("b", Inner::Bytes(&[7; 101]))] {
        client.say_binary(reference, "room", "e", inner).await;
        let refused = json!({"status": "error", "response": "payload_size_exceeded"});
        assert_eq!(client.reply(reference).await, refused);
    }
    client
        .say_binary("c", "room", "fits", Inner::Bytes(&[7; 90]))
        .await;
    assert_eq!(client.reply("c").await["status"], "ok");
    assert_eq!(listener.heard("room").await.payload["event"], "fits");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_bytes_than_the_server_takes_close_the_channel() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.bytes_per_second = 1_000).await;
    for version in VERSIONS {
        let mut neighbour = anon(&server, version).await;
        neighbour.enter("quiet", json!({})).await;
        let mut sender = anon(&server, version).await;
        sender.enter("flood", json!({})).await;
        for _ in 0..40 {
            sender.say("flood", "e", json!({"x": "x".repeat(500)})).await;
        }
        closes(&mut sender, "flood", "Too many messages per second").await;
        neighbour.round_trip().await;
        assert!(neighbour.pending().is_empty(), "{:?}", neighbour.pending());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_presence_than_the_server_takes_closes_the_channel() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.presence_per_second = 2).await;
    for version in VERSIONS {
        let mut client = anon(&server, version).await;
        client.enter("room", json!({})).await;
        for n in 0..20 {
            client.push("room", "presence", track(json!({ "n": n }))).await;
        }
        closes(&mut client, "room", "Too many presence messages per second").await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_that_is_too_large_closes_the_channel() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.presence_bytes = 100).await;
    for version in VERSIONS {
        let mut client = anon(&server, version).await;
        client.enter("room", json!({})).await;
        client
            .push("room", "presence", track(json!({"x": "x".repeat(100)})))
            .await;
        closes(&mut client, "room", "Track message size exceeded").await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn public_channels_can_be_forbidden() {
    let db = Database::new().await;
    db.execute("create policy read on realtime.messages for select to anon using (true)")
        .await;
    let server = Server::start_with(&db, |config| config.session.private_only = true).await;
    for version in VERSIONS {
        let mut client = anon(&server, version).await;
        for config in [json!({}), json!({"private": false}), json!({"private": null})] {
            let reason = "PrivateOnly: This project only allows private channels";
            assert_eq!(
                client.join("room", config).await,
                json!({"status": "error", "response": {"reason": reason}})
            );
        }
        client.enter("room", json!({"private": true})).await;
        client.enter("room", json!({"private": "TRUE"})).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_can_be_told_to_everybody() {
    let db = Database::new().await;
    db.execute("create policy read on realtime.messages for select to anon using (extension = 'presence')")
        .await;
    let server = Server::start_with(&db, |config| config.session.presence_enabled = true).await;
    for version in VERSIONS {
        for (topic, config) in [
            ("public", json!({"presence": {"enabled": false}})),
            ("private", json!({"private": true})),
        ] {
            let mut client = anon(&server, version).await;
            client.enter(topic, config).await;
            let state = client.expect("the state", |m| m.event == "presence_state").await;
            assert_eq!(state.payload, json!({}));
            assert_eq!(state.topic, format!("realtime:{topic}"));
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_reading_in_a_busy_room_is_closed_and_the_others_hear_everything() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| {
        config.limits.outbox_bytes = 256 * 1024;
        config.limits.outbox_frames = 64;
    })
    .await;
    let key = token::token("anon", json!({}));
    for version in VERSIONS {
        let topic = format!("busy {version:?}");
        let before = server.metric("rowcast_outbox_overflows_total").await;
        let mut stalled = Client::connect_narrow(&server, version, &key).await;
        stalled.enter(&topic, json!({})).await;
        let mut quick = Vec::new();
        for version in VERSIONS {
            let mut client = anon(&server, version).await;
            client.enter(&topic, json!({})).await;
            quick.push(client);
        }
        let mut sender = anon(&server, version).await;
        sender.enter(&topic, json!({"broadcast": {"ack": true}})).await;
        let mut said = 0;
        while server.metric("rowcast_outbox_overflows_total").await == before {
            for _ in 0..10 {
                said += 1;
                let payload = json!({"n": said, "x": "x".repeat(20_000)});
                let reference = sender.say(&topic, "e", payload).await;
                assert_eq!(sender.reply(&reference).await["status"], "ok");
                for client in &mut quick {
                    assert_eq!(client.heard(&topic).await.payload["payload"]["n"], said);
                }
            }
            assert!(said < 2_000, "40 MB are nowhere near its outbox");
        }
        eventually("it is no member any more", || async {
            (server.metric("rowcast_channels").await == 3.0).then_some(())
        })
        .await;
        let reference = sender.say(&topic, "last", json!({})).await;
        assert_eq!(sender.reply(&reference).await["status"], "ok");
        for client in &mut quick {
            assert_eq!(client.heard(&topic).await.payload, envelope("last", json!({})));
        }
        // What it finds when it reads again: all up to some point, and why there is no more.
        assert_eq!(stalled.close_code().await, Some(1013));
        let heard: Vec<i64> = stalled
            .pending()
            .iter()
            .filter(|m| m.event == "broadcast")
            .map(|m| m.payload["payload"]["n"].as_i64().expect("a number"))
            .collect();
        let last = i64::try_from(heard.len()).expect("few");
        assert_eq!(heard, (1..=last).collect::<Vec<_>>());
        assert!(last < said, "{last} of {said}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_where_one_is_not_is_refused_and_heard_by_nobody() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let mut listener = anon(&server, version).await;
        listener.enter("room", json!({})).await;
        let mut client = anon(&server, version).await;
        let unmatched = json!({"status": "error", "response": {"reason": "unmatched topic"}});
        for left in [false, true] {
            if left {
                client.enter("room", json!({})).await;
                let leave = client.push("room", "phx_leave", json!({})).await;
                assert_eq!(
                    client.reply(&leave).await,
                    json!({"status": "ok", "response": {}})
                );
            }
            for (event, payload) in [
                ("broadcast", envelope("e", json!({}))),
                ("presence", track(json!({}))),
            ] {
                let reference = client.push("room", event, payload).await;
                assert_eq!(client.reply(&reference).await, unmatched);
            }
            if version == Version::V2 {
                let said = kind_three("b", "realtime:room", "e", "", Inner::Bytes(&[1]));
                client.raw(said).await;
                assert_eq!(client.reply("b").await, unmatched);
            }
        }
        let rest = listener
            .everything(&["broadcast", KIND_FOUR, "presence_diff"])
            .await;
        assert!(rest.is_empty(), "{rest:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_many_bytes_is_slowed_and_loses_nothing() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.connection_bytes_per_second = 100_000).await;
    let began = std::time::Instant::now();
    let flood = async |version: Version| {
        let topic = format!("flood {version:?}");
        let mut listener = anon(&server, version).await;
        listener.enter(&topic, json!({})).await;
        let mut sender = anon(&server, version).await;
        sender.enter(&topic, json!({})).await;
        for n in 0..40 {
            sender
                .say(&topic, "e", json!({"n": n, "x": "x".repeat(10_000)}))
                .await;
        }
        for n in 0..40 {
            assert_eq!(listener.heard(&topic).await.payload["payload"]["n"], n);
        }
    };
    tokio::join!(flood(Version::V1), flood(Version::V2));
    // 200 kB at once and 100 kB in each second: the clock may be kind to the server, never to the client.
    assert!(
        began.elapsed() >= std::time::Duration::from_secs(1),
        "they were not slowed"
    );
    server.stop().await;
}
