//! Keys that are no tokens, several signing keys at once, and who a token has to be from and for.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rowcast::config::ApiKeys;
use rowcast::secret::Secret;
use serde_json::{Value, json};

use super::issuer::{Issuer, SigningKey};
use super::{ALICE, MALFORMED, claims, without_numbers};
use crate::support::broadcast::envelope;
use crate::support::{Client, Database, Server, Version, token};

const BOTH: [Version; 2] = [Version::V1, Version::V2];
const PUBLISHABLE: &str = "sb_publishable_abc";
const SECRET: &str = "sb_secret_def";

#[tokio::test(flavor = "multi_thread")]
async fn api_keys_stand_for_their_roles() {
    let db = Database::new().await;
    db.execute(
        "create policy read on realtime.messages for select to anon using (realtime.topic() = 'lobby');
         create policy write on realtime.messages for insert to anon
         with check (realtime.topic() = 'lobby' and extension = 'broadcast')",
    )
    .await;
    let server = Server::start_with(&db, |config| {
        let keys = [(PUBLISHABLE, "anon"), (SECRET, "service_role")];
        config.auth.api_keys = ApiKeys(keys.map(|(key, role)| (Secret::new(key), role.to_owned())).into());
    })
    .await;
    for version in BOTH {
        let mut anon = Client::connect(&server, version, PUBLISHABLE).await;
        let mut service = Client::connect(&server, version, SECRET).await;
        let ack = json!({"private": true, "broadcast": {"ack": true}});
        // What supabase-js sends with a join is its key: it counts as no token, and the connection's is used.
        for (client, key) in [(&mut anon, PUBLISHABLE), (&mut service, SECRET)] {
            for topic in ["lobby", "room"] {
                let payload = json!({"config": ack, "access_token": key});
                let reference = client.push(topic, "phx_join", payload).await;
                let allowed = key == SECRET || topic == "lobby";
                let status = if allowed { "ok" } else { "error" };
                assert_eq!(client.reply(&reference).await["status"], status, "{key} {topic}");
                client
                    .push(topic, "access_token", json!({"access_token": "sb_secret_x"}))
                    .await;
            }
        }
        anon.round_trip().await;
        let reference = anon.say("lobby", "e", json!({"n": 1})).await;
        assert_eq!(anon.reply(&reference).await["status"], "ok");
        assert_eq!(
            service.heard("lobby").await.payload,
            envelope("e", json!({"n": 1}))
        );
        for (header, key, status) in [
            ("apikey", PUBLISHABLE.to_owned(), 403),
            ("authorization", format!("Bearer {PUBLISHABLE}"), 403),
            ("apikey", SECRET.to_owned(), 202),
            ("apikey", "sb_secret_x".to_owned(), 401),
        ] {
            let path = "/api/broadcast/room/events/e?private=true";
            let answer = server.post(path, &[(header, &key)], "{}").await;
            assert_eq!(answer.0, status, "{header}: {key}");
        }
        service.heard("room").await;
    }
    let unknown = json!({"error": MALFORMED.1}).to_string();
    let target = "/realtime/v1/websocket?apikey=sb_publishable_x";
    assert_eq!(server.handshake(target, &[]).await, (401, unknown));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_have_to_be_from_and_for_whom_the_settings_say() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| {
        config.auth.issuer = "https://auth.example".to_owned();
        config.auth.audience = "app".to_owned();
    })
    .await;
    let of = |issuer: Value, audience: Value| {
        let claims = claims(|claims| {
            claims["iss"] = issuer;
            claims["aud"] = audience;
        });
        token::signed(token::SECRET, &claims)
    };
    let issuer = || json!("https://auth.example");
    let good = [of(issuer(), json!("app")), of(issuer(), json!(["other", "app"]))];
    let text = |claim: &str| format!("Claim `{claim}` does not have the required value");
    let bad = [
        (of(json!("https://other.example"), json!("app")), text("iss")),
        (of(Value::Null, json!("app")), text("iss")),
        (of(issuer(), json!("other")), text("aud")),
        (of(issuer(), json!(["other"])), text("aud")),
        (of(issuer(), Value::Null), text("aud")),
    ];
    for version in BOTH {
        for good in &good {
            let mut client = Client::connect(&server, version, good).await;
            client.enter("kept", json!({})).await;
            for (bad, text) in &bad {
                let payload = json!({"config": {}, "access_token": bad});
                let reference = client.push("room", "phx_join", payload).await;
                let reason = format!("InvalidJWTToken: {text}");
                assert_eq!(
                    client.reply(&reference).await,
                    json!({"status": "error", "response": {"reason": reason}})
                );
                client.enter("room", json!({})).await;
                client
                    .push("room", "access_token", json!({ "access_token": bad }))
                    .await;
                assert_eq!(client.system("room").await["message"], **text);
                client.expect("phx_close", |m| m.event == "phx_close").await;
            }
            client.say("kept", "e", json!({})).await;
            client.round_trip().await;
        }
    }
    for (bad, text) in &bad {
        let target = format!("/socket/websocket?apikey={bad}");
        let refused = json!({ "error": text }).to_string();
        assert_eq!(server.handshake(&target, &[]).await, (401, refused));
        let answer = server
            .post("/api/broadcast", &[("apikey", bad)], r#"{"messages": []}"#)
            .await;
        assert_eq!(answer, (401, json!({"message": "Unauthorized"}).to_string()));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_signing_keys_hold_at_once() {
    const NEXT: &str = "the next secret, which is just as long as it should be";
    let db = Database::new().await;
    db.execute(
        "create policy read on realtime.messages for select to authenticated using (auth.uid() is not null)",
    )
    .await;
    let key = SigningKey::generate(Algorithm::ES256);
    let fetched = SigningKey::generate(Algorithm::EdDSA);
    let shared = EncodingKey::from_secret(b"a shared key of the key set, of 32 bytes or more");
    let shared_jwk = json!({
        "kty": "oct", "kid": "shared",
        "k": "YSBzaGFyZWQga2V5IG9mIHRoZSBrZXkgc2V0LCBvZiAzMiBieXRlcyBvciBtb3Jl",
    });
    let issuer = Issuer::default();
    issuer.publish(&[fetched.public("fetched")]);
    let url = issuer.serve().await;
    let server = Server::start_with(&db, |config| {
        config.auth.jwt_secret_next = Secret::new(NEXT);
        let keys = json!({"keys": [key.public("pair"), shared_jwk]});
        config.auth.jwks = Secret::new(keys.to_string());
        config.auth.jwks_url = url;
        config.auth.jwks_min_interval = Duration::ZERO;
    })
    .await;
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("shared".to_owned());
    let tokens = [
        token::user(ALICE),
        token::signed(NEXT, &claims(|_| {})),
        key.sign("pair"),
        fetched.sign("fetched"),
        encode(&header, &claims(|_| {}), &shared).expect("signed"),
    ];
    for version in BOTH {
        let mut speaker = Client::connect(&server, version, &tokens[0]).await;
        speaker.enter("room", json!({})).await;
        // One channel goes from key to key and misses nothing.
        let mut listener = Client::connect(&server, version, &tokens[0]).await;
        listener.enter("room", json!({})).await;
        listener.enter("private", json!({"private": true})).await;
        for (n, token) in tokens.iter().enumerate() {
            Client::connect(&server, version, token)
                .await
                .enter("private", json!({"private": true}))
                .await;
            for topic in ["room", "private"] {
                listener
                    .push(topic, "access_token", json!({ "access_token": token }))
                    .await;
            }
            speaker.say("room", "e", json!({ "n": n })).await;
            assert_eq!(listener.heard("room").await.payload["payload"]["n"], n);
            let answer = server
                .post("/api/broadcast/room/events/e", &[("apikey", token)], "{}")
                .await;
            assert_eq!(answer.0, 202);
            listener.heard("room").await;
            speaker.heard("room").await;
        }
        listener.round_trip().await;
        let ended = listener.everything(&["system", "phx_close"]).await;
        assert!(ended.is_empty(), "{ended:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_without_rows_are_warned_before_their_token_runs_out() {
    let db = Database::new().await;
    db.execute("create policy read on realtime.messages for select to authenticated using (true)")
        .await;
    let server = Server::start(&db).await;
    let mut all = Vec::new();
    for version in BOTH {
        let brief = super::with("exp", json!(token::now() + 4));
        let mut client = Client::connect(&server, version, &brief).await;
        for topic in ["public", "private", "renewed"] {
            client.enter(topic, json!({"private": topic != "public"})).await;
            let warned = client.system(topic).await;
            let text = warned["message"].as_str().expect("a text");
            assert_eq!(without_numbers(text), "Token expires in N seconds");
            assert_eq!(
                (&warned["status"], &warned["extension"], &warned["channel"]),
                (&json!("ok"), &json!("system"), &json!(topic))
            );
        }
        let renewed = json!({"access_token": token::user(ALICE)});
        client.push("renewed", "access_token", renewed).await;
        all.push(client);
    }
    for client in &mut all {
        for topic in ["public", "private"] {
            let ended = client.system(topic).await;
            let text = ended["message"].as_str().expect("a text");
            assert_eq!(without_numbers(text), "Token has expired N seconds ago");
            client
                .expect("phx_close", |m| {
                    m.event == "phx_close" && m.topic == format!("realtime:{topic}")
                })
                .await;
        }
        let told = client.everything(&["system", "phx_close"]).await;
        assert!(told.is_empty(), "the renewed one stays: {told:?}");
    }
    server.stop().await;
}
