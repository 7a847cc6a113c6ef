//! What one client does to others.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Raw;

use super::{ALICE, BOB, anon, private, user};
use crate::support::broadcast::{Inner, KIND_FOUR, kind_three};
use crate::support::{Client, Database, Message, Server, Version, eventually, token};

fn track(payload: &Value) -> Value {
    json!({"type": "presence", "event": "track", "payload": payload})
}

fn present(key: &str) -> Value {
    json!({"presence": {"enabled": true, "key": key}})
}

/// Tracks, and waits for the answer.
async fn tracks(client: &mut Client, topic: &str, payload: &Value) -> Value {
    let reference = client.push(topic, "presence", track(payload)).await;
    client.reply(&reference).await
}

async fn state(client: &mut Client) -> Value {
    client
        .expect("the state", |m| m.event == "presence_state")
        .await
        .payload
}

fn has(message: &Message, side: &str, key: &str) -> bool {
    message.event == "presence_diff" && message.payload[side][key].is_object()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_for_another_by_his_key() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut alice = anon(&server).await;
    let mut eve = anon(&server).await;
    alice.enter("room", present("alice")).await;
    tracks(&mut alice, "room", &json!({"who": "alice"})).await;
    eve.enter("room", present("alice")).await;
    let meta = state(&mut eve).await["alice"]["metas"][0].clone();
    // With his key, and with his refs.
    let forged = json!({"who": "eve", "phx_ref": meta["phx_ref"], "phx_ref_prev": meta["phx_ref"]});
    tracks(&mut eve, "room", &forged).await;
    let joined = alice.expect("eve", |m| {
        has(m, "joins", "alice") && m.payload["joins"]["alice"]["metas"][0]["who"] == "eve"
    });
    let eves = joined.await.payload["joins"]["alice"]["metas"][0].clone();
    assert_ne!(eves["phx_ref"], meta["phx_ref"]);
    assert_eq!(eves["phx_ref_prev"], Value::Null);
    eve.push("room", "presence", json!({"event": "untrack"})).await;
    let left = alice.expect("eve goes", |m| has(m, "leaves", "alice")).await;
    assert_eq!(left.payload["leaves"]["alice"]["metas"], json!([eves]));
    let mut late = anon(&server).await;
    late.enter("room", present("late")).await;
    assert_eq!(state(&mut late).await, json!({"alice": {"metas": [meta]}}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_some_library_cannot_read_is_not_shown_to_the_room() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut eve = anon(&server).await;
    eve.enter("room", present("eve")).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for (n, value) in [&*deep, r#""\ud800""#, "1e999"].iter().enumerate() {
        let reference = format!("x{n}");
        let payload = format!(r#"{{"event":"track","payload":{{"a":{value}}}}}"#);
        let frame = format!(r#"["1","{reference}","realtime:room","presence",{payload}]"#);
        eve.raw(Raw::text(frame)).await;
        assert_eq!(eve.reply(&reference).await["status"], "error", "{reference}");
    }
    let mut late = anon(&server).await;
    late.enter("room", present("late")).await;
    assert_eq!(state(&mut late).await, json!({}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_full_of_long_presences_can_be_joined() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.outbox_bytes = 65_536).await;
    let mut clients = Vec::new();
    for n in 0..6 {
        let mut client = anon(&server).await;
        client.enter("room", present(&n.to_string())).await;
        let payload = json!({"x": "x".repeat(30_000)});
        assert_eq!(tracks(&mut client, "room", &payload).await["status"], "ok");
        clients.push(client);
    }
    let mut late = anon(&server).await;
    late.enter("room", present("late")).await;
    assert_eq!(
        state(&mut late).await.as_object().map(serde_json::Map::len),
        Some(6)
    );
    // One that is too long ends its own channel, and nobody else's.
    let reference = late
        .push("room", "presence", track(&json!({"x": "x".repeat(70_000)})))
        .await;
    assert_eq!(
        late.system("room").await["message"],
        "Track message size exceeded",
        "{reference}"
    );
    for client in &mut clients {
        client.round_trip().await;
        assert_eq!(client.closed, None);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_of_long_messages_can_be_joined() {
    let db = Database::new().await;
    db.execute("create policy read on realtime.messages for select to authenticated using (true)")
        .await;
    let server = Server::start_with(&db, |config| config.limits.outbox_bytes = 1 << 20).await;
    db.execute(
        "select realtime.send(jsonb_build_object('n', n, 'x', repeat('x', 200000)), 'e', 'tea') from generate_series(1, 20) n",
    )
    .await;
    // What the server has yet to read would come as well.
    server.passed(&db).await;
    let mut alice = user(&server, Version::V2, ALICE).await;
    let mut config = private();
    config["broadcast"]["replay"] = json!({"since": 0});
    alice.enter("tea", config).await;
    for n in 19..=20 {
        assert_eq!(alice.heard("tea").await.payload["payload"]["n"], n);
    }
    state(&mut alice).await;
    assert!(alice.everything(&["broadcast"]).await.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_what_postgres_cannot_answer_keeps_nobody_out() {
    let db = Database::new().await;
    db.execute(
        "create function may() returns boolean language plpgsql stable as $$
         begin perform pg_sleep(0.01); return true; end $$;
         create policy read on realtime.messages for select to authenticated using (may());",
    )
    .await;
    let server = Server::start(&db).await;
    let mut eve = user(&server, Version::V2, BOB).await;
    let mut alice = user(&server, Version::V2, ALICE).await;
    for n in 0..10 {
        for m in 0..5 {
            let config = json!({"config": private()});
            eve.push(&format!("\0{n} {m}"), "phx_join", config).await;
        }
        alice.enter(&format!("tea {n}"), private()).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_is_let_go_and_the_room_goes_on() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.outbox_bytes = 1 << 20).await;
    let token = token::token("anon", json!({}));
    let mut stalled = Client::connect_narrow(&server, Version::V2, &token).await;
    stalled.enter("room", json!({})).await;
    let mut reader = anon(&server).await;
    reader.enter("room", json!({})).await;
    let mut sender = anon(&server).await;
    sender.enter("room", json!({"broadcast": {"ack": true}})).await;
    let filler = "x".repeat(100_000);
    let mut said = 0;
    // What the kernel takes for a socket nobody reads differs.
    while server.metric("rowcast_outbox_overflows_total").await < 1.0 {
        let payload = json!({"n": said, "x": filler});
        let reference = sender.say("room", "e", payload).await;
        assert_eq!(sender.reply(&reference).await["status"], "ok");
        assert_eq!(reader.heard("room").await.payload["payload"]["n"], said);
        said += 1;
        assert!(said < 1_000, "it is never let go");
    }
    assert_eq!(stalled.close_code().await, Some(1013));
    let reference = sender.say("room", "e", json!({"n": said})).await;
    assert_eq!(sender.reply(&reference).await["status"], "ok");
    assert_eq!(reader.heard("room").await.payload["payload"]["n"], said);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_lie_are_dropped_and_harm_nobody() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut eve = anon(&server).await;
    let mut alice = anon(&server).await;
    eve.enter("room", json!({})).await;
    alice.enter("room", json!({})).await;
    let Raw::Binary(good) = kind_three("1", "realtime:room", "e", "", Inner::Json(&json!({}))) else {
        unreachable!()
    };
    for cut in 0..good.len() {
        eve.raw(Raw::binary(good[..cut].to_vec())).await;
    }
    for at in 1..6 {
        let mut lying = good.to_vec();
        lying[at] = 255;
        eve.raw(Raw::binary(lying)).await;
    }
    // Kind 0, for what clients send as text.
    for event in ["broadcast", "presence", "phx_join", "access_token", "phx_leave"] {
        let topic = "realtime:room";
        let mut push = vec![0, 1, 1, 13, u8::try_from(event.len()).expect("short")];
        push.extend_from_slice(format!("19{topic}{event}").as_bytes());
        push.extend_from_slice(br#"{"event":"track","payload":{}}"#);
        eve.raw(Raw::binary(push)).await;
    }
    eve.round_trip().await;
    let heard = alice.everything(&["broadcast", KIND_FOUR, "presence_diff"]).await;
    assert!(heard.is_empty(), "{heard:?}");
    let mut sender = anon(&server).await;
    sender.enter("room", json!({})).await;
    sender.say("room", "e", json!({"x": 1})).await;
    assert_eq!(alice.heard("room").await.payload["payload"]["x"], 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_gone_without_a_word_is_seen_to_go() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut alice = anon(&server).await;
    alice.enter("room", present("alice")).await;
    for round in 0..5 {
        let mut gone = anon(&server).await;
        gone.enter("room", present("gone")).await;
        tracks(&mut gone, "room", &json!({ "n": round })).await;
        alice.expect("it comes", |m| has(m, "joins", "gone")).await;
        // Again under the same key before the first is noticed to be gone.
        let mut again = anon(&server).await;
        again.enter("room", present("gone")).await;
        tracks(&mut again, "room", &json!({ "again": round })).await;
        alice.expect("it comes again", |m| has(m, "joins", "gone")).await;
        drop(gone);
        let left = alice.expect("the first goes", |m| has(m, "leaves", "gone")).await;
        assert_eq!(left.payload["leaves"]["gone"]["metas"][0]["n"], round);
        drop(again);
        let left = alice
            .expect("the second goes", |m| has(m, "leaves", "gone"))
            .await;
        assert_eq!(left.payload["leaves"]["gone"]["metas"][0]["again"], round);
    }
    tracks(&mut alice, "room", &json!({})).await;
    eventually("nobody else is left", || async {
        (server.metric("rowcast_present").await == 1.0).then_some(())
    })
    .await;
    server.stop().await;
}
