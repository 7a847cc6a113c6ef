//! Broadcasts from WebSockets on public channels.

use serde_json::{Value, json};

use super::{VERSIONS, anon};
use crate::support::broadcast::{Inner, KIND_FOUR, envelope, kind_three};
use crate::support::{Database, Server, Version, token};

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_reaches_every_version_in_its_way() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut one = anon(&server, Version::V1).await;
    let mut two = anon(&server, Version::V2).await;
    for sender in VERSIONS {
        let mut sender = anon(&server, sender).await;
        for client in [&mut one, &mut two, &mut sender] {
            client.enter("room", json!({})).await;
        }
        sender.say("room", "text", json!({"x": [1, "é"]})).await;
        let expected = envelope("text", json!({"x": [1, "é"]}));
        for client in [&mut one, &mut two] {
            let heard = client.heard("room").await;
            assert_eq!((&*heard.event, &heard.payload), ("broadcast", &expected));
            assert_eq!((&heard.join_ref, &heard.reference), (&Value::Null, &Value::Null));
        }
    }
    let mut sender = anon(&server, Version::V2).await;
    sender.enter("room", json!({})).await;
    sender
        .say_binary("1", "room", "json", Inner::Json(&json!({"x": 1})))
        .await;
    let heard = two.heard("room").await;
    assert_eq!(heard.event, KIND_FOUR);
    assert_eq!(
        heard.payload,
        json!({"event": "json", "payload": {"x": 1}, "meta": null})
    );
    assert_eq!(one.heard("room").await.payload, envelope("json", json!({"x": 1})));
    sender
        .say_binary("2", "room", "bytes", Inner::Bytes(&[0, 255, 7]))
        .await;
    sender.say("room", "last", json!({})).await;
    assert_eq!(two.heard("room").await.payload["bytes"], json!([0, 255, 7]));
    assert_eq!(two.heard("room").await.payload["event"], "last");
    assert_eq!(
        one.heard("room").await.payload["event"],
        "last",
        "bytes have no frame in version 1"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_gets_what_it_asked_for() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        for (own, ack) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut sender = anon(&server, version).await;
            sender
                .enter("room", json!({"broadcast": {"self": own, "ack": ack}}))
                .await;
            let reference = sender.say("room", "e", json!({})).await;
            if ack {
                assert_eq!(
                    sender.reply(&reference).await,
                    json!({"status": "ok", "response": {}})
                );
            }
            if own {
                assert_eq!(sender.heard("room").await.payload, envelope("e", json!({})));
            }
            let rest = sender.everything(&["broadcast", "phx_reply"]).await;
            assert!(rest.is_empty(), "{version:?} self {own} ack {ack}: {rest:?}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_may_be_two_members() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut client = anon(&server, Version::V2).await;
    client.enter("a", json!({})).await;
    client.enter("b", json!({})).await;
    let mut other = anon(&server, Version::V2).await;
    other.enter("b", json!({})).await;
    other.say("b", "e", json!({})).await;
    assert_eq!(client.heard("b").await.topic, "realtime:b");
    // Joining again replaces the membership: it is heard once.
    client.enter("b", json!({})).await;
    other.say("b", "again", json!({})).await;
    client.heard("b").await;
    assert!(client.everything(&["broadcast"]).await.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_not_sent_and_said_so_with_an_ack() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.payload_bytes = 1_000).await;
    for version in VERSIONS {
        let mut listener = anon(&server, version).await;
        listener.enter("room", json!({})).await;
        for ack in [true, false] {
            let mut sender = anon(&server, version).await;
            sender.enter("room", json!({"broadcast": {"ack": ack}})).await;
            let reference = sender.say("room", "e", json!({"text": "a".repeat(1_000)})).await;
            if ack {
                let reply = sender.reply(&reference).await;
                assert_eq!(
                    reply,
                    json!({"status": "error", "response": "payload_size_exceeded"})
                );
            }
            assert!(sender.everything(&["phx_reply"]).await.is_empty());
            sender.say("room", "small", json!({})).await;
            assert_eq!(listener.heard("room").await.payload["event"], "small");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_sender_keep_their_order() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut listener = anon(&server, Version::V2).await;
    listener.enter("room", json!({})).await;
    let mut sender = anon(&server, Version::V2).await;
    sender.enter("room", json!({})).await;
    for n in 0..500 {
        if n % 2 == 0 {
            sender.say("room", "e", json!({ "n": n })).await;
        } else {
            let payload = json!({ "n": n });
            sender.say_binary("", "room", "e", Inner::Json(&payload)).await;
        }
    }
    for n in 0..500 {
        assert_eq!(listener.heard("room").await.payload["payload"]["n"], n);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_server_takes_closes_the_channel_of_who_sends_it() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.events_per_second = 5).await;
    for version in VERSIONS {
        let mut sender = anon(&server, version).await;
        sender.enter("flood", json!({"broadcast": {"self": true}})).await;
        for _ in 0..40 {
            sender.say("flood", "e", json!({})).await;
        }
        let system = sender.system("flood").await;
        assert_eq!(
            system,
            json!({"extension": "system", "status": "error", "message": "Too many messages per second", "channel": "flood"})
        );
        sender.expect("phx_close", |m| m.event == "phx_close").await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_floods_is_slowed_and_loses_nothing() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.connection_messages_per_second = 200).await;
    let mut listener = anon(&server, Version::V2).await;
    listener.enter("room", json!({})).await;
    let mut sender = anon(&server, Version::V2).await;
    sender.enter("room", json!({})).await;
    let began = std::time::Instant::now();
    for n in 0..1_000 {
        sender.say("room", "e", json!({ "n": n })).await;
    }
    for n in 0..1_000 {
        assert_eq!(listener.heard("room").await.payload["payload"]["n"], n);
    }
    // 400 at once and 200 in each second: the clock may be kind to the server, never to the client.
    assert!(
        began.elapsed() >= std::time::Duration::from_secs(2),
        "it was not slowed"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_every_kind_pass() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let long = "t".repeat(246);
    // Longer than a binary header holds, but not than a topic may be.
    let longest = "u".repeat(1_015);
    for topic in ["a:b::c", " ", "*", "ünï/\"\\\n", "realtime:x", &long, &longest] {
        let mut one = anon(&server, Version::V1).await;
        let mut two = anon(&server, Version::V2).await;
        let mut sender = anon(&server, Version::V2).await;
        for client in [&mut one, &mut two, &mut sender] {
            client.enter(topic, json!({})).await;
        }
        let event = if topic == longest { "e" } else { "é :\"\\" };
        sender.say(topic, event, json!({"n": 1})).await;
        for client in [&mut one, &mut two] {
            assert_eq!(
                client.heard(topic).await.payload,
                envelope(event, json!({"n": 1}))
            );
        }
        let key = token::token("anon", json!({}));
        let escaped: String = topic.bytes().map(|b| format!("%{b:02x}")).collect();
        let path = format!("/api/broadcast/{escaped}/events/e");
        let (status, body) = server.post(&path, &[("apikey", &key)], r#"{"n": 2}"#).await;
        if topic == " " {
            assert_eq!(status, 422, "{body}");
            continue;
        }
        assert_eq!(status, 202, "{body}");
        for client in [&mut one, &mut two] {
            assert_eq!(client.heard(topic).await.payload["payload"], json!({"n": 2}));
        }
    }
    for version in VERSIONS {
        let mut client = anon(&server, version).await;
        for (topic, reason) in [
            ("", "TopicNameRequired: You must provide a topic name"),
            (
                &"u".repeat(1_016),
                "TopicNameTooLong: Topic names can have at most 1024 bytes",
            ),
        ] {
            let refused = json!({"status": "error", "response": {"reason": reason}});
            assert_eq!(client.join(topic, json!({})).await, refused);
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_is_relayed_as_it_is() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut one = anon(&server, Version::V1).await;
    let mut two = anon(&server, Version::V2).await;
    for version in VERSIONS {
        let mut sender = anon(&server, version).await;
        for client in [&mut one, &mut two, &mut sender] {
            client.enter("room", json!({"broadcast": {"ack": "TRUE"}})).await;
        }
        // With any payload or none, and with whatever else there is; also behind a ref of an earlier join, or none.
        for payload in [
            envelope("e", json!([1, null, "x"])),
            envelope("e", json!(null)),
            json!({"type": "broadcast", "event": "e"}),
            json!({"type": "broadcast", "event": "e", "payload": {}, "more": {"a": 1}}),
            json!({}),
        ] {
            for (join_ref, reference) in [(json!("stale"), json!("r")), (Value::Null, json!("s"))] {
                sender
                    .send(
                        join_ref,
                        reference.clone(),
                        "realtime:room",
                        "broadcast",
                        payload.clone(),
                    )
                    .await;
                let reference = reference.as_str().expect("a text");
                assert_eq!(
                    sender.reply(reference).await,
                    json!({"status": "ok", "response": {}})
                );
                for client in [&mut one, &mut two] {
                    assert_eq!(client.heard("room").await.payload, payload);
                }
            }
        }
        let reference = sender.push("room", "broadcast", json!([1])).await;
        let reason = json!({"reason": "Broadcast payload must be a map"});
        assert_eq!(sender.reply(&reference).await["response"], reason);
        // What is none of the events is ignored, and so is metadata that means nothing here.
        sender.push("room", "dance", json!({})).await;
        assert!(sender.everything(&["phx_reply"]).await.is_empty());
        let payload = json!({"n": 1});
        let mut sender = anon(&server, Version::V2).await;
        sender.enter("room", json!({})).await;
        for metadata in ["{}", r#"{"a": 1}"#, "rubbish", "[1]"] {
            let frame = kind_three("", "realtime:room", "e", metadata, Inner::Json(&payload));
            sender.raw(frame).await;
            assert_eq!(one.heard("room").await.payload, envelope("e", payload.clone()));
            let heard = two.heard("room").await;
            assert_eq!((&*heard.event, &heard.payload["meta"]), (KIND_FOUR, &Value::Null));
        }
        for client in [&mut one, &mut two, &mut sender] {
            let rest = client.everything(&["broadcast", KIND_FOUR]).await;
            assert!(rest.is_empty(), "{rest:?}");
        }
    }
    server.stop().await;
}
