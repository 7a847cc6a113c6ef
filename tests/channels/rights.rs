//! What members of a private channel may do: asked when it is wanted, held to what the policies say by then.

use serde_json::{Value, json};

use super::VERSIONS;
use crate::support::broadcast::KIND_FOUR;
use crate::support::{Client, Database, Server, Version, token};

const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
const BOB: &str = "b0b00000-0000-4000-8000-000000000002";

async fn user(server: &Server, version: Version, sub: &str) -> Client {
    Client::connect(server, version, &token::user(sub)).await
}

fn private() -> Value {
    json!({"private": true, "broadcast": {"ack": true}, "presence": {"enabled": true}})
}

fn track(payload: Value) -> Value {
    json!({"type": "presence", "event": "track", "payload": payload})
}

/// A token that may do what `can` names.
fn able(can: &[&str]) -> String {
    token::token("authenticated", json!({"sub": ALICE, "can": can}))
}

/// Waits until all that was sent has been judged: what is pushed into a channel keeps its order, and this is answered.
async fn settled(client: &mut Client) {
    let reference = client.push("room", "presence", track(json!({}))).await;
    assert_eq!(client.reply(&reference).await["status"], "error");
}

/// Rights by the claim `can`, such as `["read broadcast", "write presence"]`.
const BY_CLAIM: &str = "
    create policy read on realtime.messages for select to authenticated
    using (coalesce(auth.jwt() -> 'can' ? ('read ' || extension), false));
    create policy write on realtime.messages for insert to authenticated
    with check (coalesce(auth.jwt() -> 'can' ? ('write ' || extension), false));
";

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_broadcast_without_an_ack_is_dropped_in_silence() {
    let db = Database::new().await;
    db.execute(BY_CLAIM).await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let mut listener = Client::connect(&server, version, &able(&["read broadcast"])).await;
        listener.enter("room", json!({"private": true})).await;
        let mut sender = Client::connect(&server, version, &able(&["read broadcast"])).await;
        sender.enter("room", json!({"private": true})).await;
        sender.say("room", "denied", json!({})).await;
        settled(&mut sender).await;
        let answers = sender.everything(&["phx_reply", "system", "phx_close"]).await;
        assert!(answers.is_empty(), "{answers:?}");
        // The next token may: the same channel sends from then on, without joining anew.
        let token = able(&["read broadcast", "write broadcast"]);
        sender
            .push("room", "access_token", json!({ "access_token": token }))
            .await;
        sender.say("room", "allowed", json!({})).await;
        assert_eq!(listener.heard("room").await.payload["event"], "allowed");
        // And with the one after that it may not any more.
        let token = able(&["read broadcast"]);
        sender
            .push("room", "access_token", json!({ "access_token": token }))
            .await;
        sender.say("room", "denied", json!({})).await;
        settled(&mut sender).await;
        assert!(listener.everything(&["broadcast"]).await.is_empty());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_begins_and_ends_what_is_heard() {
    let db = Database::new().await;
    db.execute(BY_CLAIM).await;
    let server = Server::start(&db).await;
    let all = able(&[
        "read broadcast",
        "read presence",
        "write broadcast",
        "write presence",
    ]);
    for version in VERSIONS {
        let mut sender = Client::connect(&server, version, &all).await;
        sender.enter("room", private()).await;
        let mut member = Client::connect(&server, version, &able(&["read presence"])).await;
        member.enter("room", private()).await;
        member.expect("the state", |m| m.event == "presence_state").await;
        sender.say("room", "unheard", json!({})).await;
        sender.push("room", "presence", track(json!({"n": 1}))).await;
        member
            .expect("a difference", |m| m.event == "presence_diff")
            .await;
        assert!(member.everything(&["broadcast"]).await.is_empty());
        member
            .push("room", "access_token", json!({ "access_token": all }))
            .await;
        // It is never answered: what is heard tells that it holds.
        let mut heard = member.everything(&["broadcast"]).await;
        while heard.is_empty() {
            let reference = sender.say("room", "heard", json!({})).await;
            sender.reply(&reference).await;
            heard = member.everything(&["broadcast"]).await;
        }
        assert!(heard.iter().all(|m| m.payload["event"] == "heard"), "{heard:?}");
        assert!(member.everything(&["system", "phx_reply"]).await.is_empty());
        // Less than before closes, although something is left to read.
        member
            .push(
                "room",
                "access_token",
                json!({"access_token": able(&["read presence"])}),
            )
            .await;
        let message = "You no longer have permission to read from this Channel topic: room";
        assert_eq!(
            member.system("room").await,
            json!({"extension": "system", "status": "error", "message": message, "channel": "room"})
        );
        let closed = member.expect("phx_close", |m| m.event == "phx_close").await;
        assert_eq!(closed.reference, member.last_join_ref());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_did_not_enable_presence_hears_of_it_once_it_tracks_and_may() {
    let db = Database::new().await;
    db.execute(BY_CLAIM).await;
    let server = Server::start(&db).await;
    let plain = json!({"private": true});
    for version in VERSIONS {
        let all = able(&["read broadcast", "read presence", "write presence"]);
        let mut other = Client::connect(&server, version, &all).await;
        other.enter("room", private()).await;
        let mut late = Client::connect(&server, version, &all).await;
        late.enter("room", plain.clone()).await;
        let blind = able(&["read broadcast", "write presence"]);
        let mut blind = Client::connect(&server, version, &blind).await;
        blind.enter("room", plain.clone()).await;
        let reference = other.push("room", "presence", track(json!({"n": 1}))).await;
        assert_eq!(other.reply(&reference).await["status"], "ok");
        for client in [&mut late, &mut blind] {
            let told = client.everything(&["presence_state", "presence_diff"]).await;
            assert!(told.is_empty(), "nothing is known of its right yet: {told:?}");
            let reference = client.push("room", "presence", track(json!({"n": 2}))).await;
            assert_eq!(
                client.reply(&reference).await,
                json!({"status": "ok", "response": {}})
            );
        }
        let state = late
            .expect("presence", |m| m.event.starts_with("presence_"))
            .await;
        assert_eq!(state.event, "presence_state");
        let metas = |people: &Value| people.as_object().map_or(0, serde_json::Map::len);
        let mut seen = metas(&state.payload);
        while seen < 3 {
            let diff = late.expect("a difference", |m| m.event == "presence_diff").await;
            seen += metas(&diff.payload["joins"]);
        }
        let told = blind.everything(&["presence_state", "presence_diff"]).await;
        assert!(told.is_empty(), "it may not read it: {told:?}");
        // Who may not track is told so, and untracking needs no right.
        let mut reader = Client::connect(&server, version, &able(&["read broadcast"])).await;
        reader.enter("room", plain.clone()).await;
        let reference = reader.push("room", "presence", track(json!({}))).await;
        assert_eq!(
            reader.reply(&reference).await,
            json!({"status": "error", "response": {}})
        );
        let untrack = json!({"type": "presence", "event": "untrack"});
        let reference = reader.push("room", "presence", untrack).await;
        assert_eq!(reader.reply(&reference).await["status"], "ok");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_see_claims_topic_extension_and_headers() {
    let db = Database::new().await;
    db.execute(
        "create policy read on realtime.messages for select to authenticated using (
             realtime.topic() = 'room:1'
             and current_setting('request.jwt.claims', true)::json ->> 'sub' = auth.uid()::text
             and current_setting('request.jwt.claim.sub', true) = auth.uid()::text
             and current_setting('request.jwt.claim.role', true) = 'authenticated'
             and current_user = 'authenticated'
             and current_setting('request.headers', true)::json ->> 'x-team' = 'blue'
             and messages.topic = realtime.topic() and messages.private
             and messages.extension in ('broadcast', 'presence'))",
    )
    .await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let alice = token::user(ALICE);
        for (headers, topic, status) in [
            (&[("x-team", "blue")][..], "room:1", "ok"),
            (&[("x-team", "blue")], "room:2", "error"),
            (&[("x-team", "red")], "room:1", "error"),
            (&[], "room:1", "error"),
        ] {
            let mut client = Client::connect_with(&server, version, &alice, headers).await;
            let reply = client.join(topic, private()).await;
            assert_eq!(reply["status"], status, "{headers:?} {topic} {reply}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_raise_deny_in_both_versions() {
    let db = Database::new().await;
    db.execute(
        "create policy read on realtime.messages for select to authenticated
         using (realtime.topic() <> 'raises' or 1 / (length(realtime.topic()) - 6) > 0);
         create function refuse() returns boolean language plpgsql as
         $$ begin raise exception 'no'; end $$;
         create policy write on realtime.messages for insert to authenticated with check (refuse())",
    )
    .await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let mut client = user(&server, version, BOB).await;
        let reason = "Unauthorized: You do not have permissions to read from this Channel topic: raises";
        assert_eq!(
            client.join("raises", private()).await,
            json!({"status": "error", "response": {"reason": reason}})
        );
        client.enter("room", private()).await;
        let reference = client.say("room", "e", json!({})).await;
        let reason = "You do not have permissions to write to this Channel topic: room";
        assert_eq!(
            client.reply(&reference).await,
            json!({"status": "error", "response": {"reason": reason}})
        );
        let reference = client.push("room", "presence", track(json!({}))).await;
        assert_eq!(
            client.reply(&reference).await,
            json!({"status": "error", "response": {}})
        );
        let bob = token::user(BOB);
        let answer = server
            .post(
                "/api/broadcast/room/events/e?private=true",
                &[("apikey", &bob)],
                "{}",
            )
            .await;
        assert_eq!(answer, (403, json!({"message": "Unauthorized"}).to_string()));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_on_a_public_channel_changes_nothing_that_is_seen() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let mut alice = user(&server, version, ALICE).await;
        alice
            .enter("room", json!({"presence": {"enabled": true, "key": "a"}}))
            .await;
        let reference = alice.push("room", "presence", track(json!({"n": 1}))).await;
        alice.reply(&reference).await;
        let mut bob = user(&server, version, BOB).await;
        bob.enter("room", json!({"presence": {"enabled": true}})).await;
        bob.expect("the state", |m| m.event == "presence_state").await;
        alice.everything(&[]).await;
        alice.forget("presence_state");
        alice.forget("presence_diff");
        alice
            .push("room", "access_token", json!({"access_token": token::user(BOB)}))
            .await;
        bob.say("room", "e", json!({})).await;
        alice.heard("room").await;
        alice.round_trip().await;
        assert!(alice.pending().is_empty(), "{:?}", alice.pending());
        let told = bob.everything(&["presence_diff", KIND_FOUR]).await;
        assert!(told.is_empty(), "{told:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_are_not_there_may_nothing_in_private_and_all_in_public() {
    let db = Database::new().await;
    db.execute("create policy everything on realtime.messages using (true) with check (true)")
        .await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        for role in ["ghost", "none", "public", "", "Anon", "x\"; select 1; --"] {
            let token = token::token(role, json!({}));
            let mut client = Client::connect(&server, version, &token).await;
            client.enter("room", json!({})).await;
            let reason = "Unauthorized: You do not have permissions to read from this Channel topic: room";
            let refused = client.join("room", private()).await;
            assert_eq!(
                refused,
                json!({"status": "error", "response": {"reason": reason}}),
                "{role}"
            );
            let path = "/api/broadcast/room/events/e?private=true";
            let answer = server.post(path, &[("apikey", &token)], "{}").await;
            assert_eq!(answer.0, 403, "{role} {answer:?}");
        }
        let mut anon = super::anon(&server, version).await;
        anon.enter("room", private()).await;
    }
    server.stop().await;
}
