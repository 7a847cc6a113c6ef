//! Tokens at connect, at join and on a live channel: what is accepted, and what every other one is answered.

mod issuer;
mod keys;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::support::{Client, Database, Message, Server, Version, token};

const TABLE: &str = "create table notes (id int primary key); grant select on notes to authenticated;
                     alter publication supabase_realtime add table notes";
const ALICE: &str = "00000000-0000-0000-0000-00000000000a";

fn notes() -> Value {
    json!([{"event": "*", "schema": "public", "table": "notes"}])
}

fn good() -> String {
    token::user(ALICE)
}

/// Claims that would do, but for what `change` does to them.
fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = json!({"role": "authenticated", "sub": ALICE, "exp": token::now() + 3600});
    change(&mut claims);
    claims
}

fn without(claim: &str) -> String {
    let claims = claims(|claims| drop(claims.as_object_mut().expect("claims").remove(claim)));
    token::signed(token::SECRET, &claims)
}

fn with(claim: &str, value: Value) -> String {
    token::signed(token::SECRET, &claims(|claims| claims[claim] = value))
}

/// Any header over good claims, with a signature that nobody made.
fn forged(header: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(&claims(|_| {})))
}

const MALFORMED: (&str, &str) = ("MalformedJWT", "The token provided is not a valid JWT");
const SIGNATURE: (&str, &str) = ("JwtSignatureError", "Failed to validate JWT signature");
const SIGNER: (&str, &str) = (
    "JwtSignerError",
    "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
);
const UNKNOWN_KID: (&str, &str) = (
    "JwtSignerError",
    "Failed to generate JWT signer for key ID (kid) \"k9\", check your JWT secret or JWKS configuration",
);
const FIELDS: (&str, &str) = ("InvalidJWTToken", "Fields `role` and `exp` are required in JWT");
const EXPIRATION: (&str, &str) = ("InvalidJWTToken", "Token expiration time is invalid");
/// The text of a join; a connection is told less.
const EXPIRED: (&str, &str) = ("InvalidJWTToken", "Token has expired N seconds ago");

/// Bad tokens, with the code and text they are answered.
fn bad() -> Vec<(String, (&'static str, &'static str))> {
    let good = good();
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let middle = message.find('.').expect("three parts") + 20;
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("k9".to_owned());
    let named = encode(&header, &claims(|_| {}), &EncodingKey::from_secret(b"another")).expect("signed");
    vec![
        ("rubbish".to_owned(), MALFORMED),
        ("a.b.c".to_owned(), MALFORMED),
        ("..".to_owned(), MALFORMED),
        ("sb_publishable_abc".to_owned(), MALFORMED),
        (message.to_owned(), MALFORMED),
        (good[..middle].to_owned(), MALFORMED),
        (format!("{good}.{signature}"), MALFORMED),
        (good[..good.len() - 4].to_owned(), SIGNATURE),
        (format!("{message}."), SIGNATURE),
        (
            token::signed("another secret, just as long as it should", &claims(|_| {})),
            SIGNATURE,
        ),
        (named, SIGNATURE),
        (forged(&json!({"alg": "none"}), ""), SIGNER),
        (forged(&json!({"alg": "none", "typ": "JWT"}), signature), SIGNER),
        (forged(&json!({"alg": "RS256"}), signature), SIGNER),
        (forged(&json!({"alg": "PS256", "kid": "k9"}), signature), SIGNER),
        (forged(&json!({"alg": "RS256", "kid": 9}), signature), SIGNER),
        (
            forged(&json!({"alg": "ES256", "kid": "k9"}), signature),
            UNKNOWN_KID,
        ),
        (
            forged(&json!({"alg": "RS256", "kid": "k9"}), signature),
            UNKNOWN_KID,
        ),
        (without("role"), FIELDS),
        (without("exp"), FIELDS),
        (with("role", json!(7)), FIELDS),
        (with("exp", json!("tomorrow")), EXPIRATION),
        (with("exp", json!(null)), EXPIRATION),
        (with("iat", json!("yesterday")), MALFORMED),
        (with("sub", json!("a\0b")), MALFORMED),
        (with("exp", json!(token::now() - 100)), EXPIRED),
        (with("exp", json!(0)), EXPIRED),
    ]
}

/// Digits between two words become N.
fn without_numbers(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let number = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        if number { "N" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_needs_a_good_token() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let bad = bad();
    for path in ["/socket/websocket", "/realtime/v1/websocket"] {
        for (token, (_, text)) in &bad {
            let text = if *text == EXPIRED.1 {
                "Token has expired"
            } else {
                text
            };
            let expected = (401, json!({ "error": text }).to_string());
            let by_query = server
                .handshake(&format!("{path}?vsn=2.0.0&apikey={token}"), &[])
                .await;
            assert_eq!(by_query, expected, "{token:.100}");
            let by_header = server.handshake(path, &[("x-api-key", token)]).await;
            assert_eq!(by_header, expected, "{token:.100}");
        }
        let missing = (401, json!({"error": "API key is missing"}).to_string());
        for query in ["", "?apikey=", "?apikey=%20%0A", "?token=x"] {
            assert_eq!(
                server.handshake(&format!("{path}{query}"), &[]).await,
                missing,
                "{query}"
            );
        }
        let good = good();
        let query = format!("{path}?apikey={good}");
        assert_eq!(server.handshake(&query, &[]).await.0, 101);
        assert_eq!(server.handshake(path, &[("x-api-key", &good)]).await.0, 101);
        // Clients on the way put line breaks and escapes into tokens.
        let folded = good.replace('.', "%2E%0A%20");
        assert_eq!(
            server.handshake(&format!("{path}?apikey={folded}"), &[]).await.0,
            101
        );
        // The header is what counts.
        assert_eq!(server.handshake(&query, &[("x-api-key", "rubbish")]).await.0, 401);
        let bad_query = format!("{path}?apikey=rubbish");
        assert_eq!(server.handshake(&bad_query, &[("x-api-key", &good)]).await.0, 101);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_none_or_of_an_unknown_version() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let good = good();
    for path in ["/socket/websocket", "/realtime/v1/websocket"] {
        for vsn in ["3.0.0", "0.9.0", "2", "2.1.0", "two", ""] {
            let target = format!("{path}?apikey={good}&vsn={vsn}");
            assert_eq!(
                server.handshake(&target, &[]).await,
                (403, String::new()),
                "{vsn}"
            );
        }
        for vsn in ["1.0.0", "2.0.0", "2.0.9"] {
            let target = format!("{path}?apikey={good}&vsn={vsn}");
            assert_eq!(server.handshake(&target, &[]).await.0, 101, "{vsn}");
        }
        let plain = format!("{path}?apikey={good}");
        assert_eq!(server.get(&plain).await.0, 400);
        let posted = reqwest::Client::new()
            .post(format!("{}{plain}", server.url()))
            .send()
            .await;
        assert_eq!(posted.expect("an answer").status(), 400);
        // Escapes that are no UTF-8, and a version that is.
        assert_eq!(
            server.handshake(&format!("{path}?apikey=%ff%fe"), &[]).await.0,
            401
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_with_a_bad_token_is_told_why() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    for version in [Version::V1, Version::V2] {
        let mut client = Client::connect(&server, version, &good()).await;
        client.subscribe("mine", notes()).await;
        let mut bad = bad();
        bad.retain(|(token, _)| !token.starts_with("sb_"));
        bad.push((with("more", json!("x".repeat(20_000))), MALFORMED));
        bad.push(("x".repeat(1_000), MALFORMED));
        for (token, (code, text)) in bad {
            let payload = json!({"config": {"postgres_changes": notes()}, "access_token": token});
            let reference = client.push("room", "phx_join", payload).await;
            let reply = client.reply(&reference).await;
            assert_eq!(reply["status"], "error", "{token:.100}");
            let reason = reply["response"]["reason"].as_str().expect("a reason");
            assert_eq!(without_numbers(reason), format!("{code}: {text}"), "{token:.100}");
        }
        let expired = with("exp", json!(token::now() - 100));
        let reference = client
            .push("room", "phx_join", json!({"config": {}, "access_token": expired}))
            .await;
        let reply = client.reply(&reference).await;
        let seconds = reply["response"]["reason"].as_str().and_then(|reason| {
            let rest = reason.strip_prefix("InvalidJWTToken: Token has expired ")?;
            rest.strip_suffix(" seconds ago")?.parse::<u32>().ok()
        });
        assert!(matches!(seconds, Some(100..200)), "{reply}");
        // None of it touched what stands.
        db.execute("insert into notes values (1)").await;
        assert_eq!(client.data().await["record"]["id"], 1);
        db.execute("delete from notes").await;
        client.data().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn which_token_a_join_uses() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    let nobody = token::token("ghost", json!({}));
    for version in [Version::V1, Version::V2] {
        let mut client = Client::connect(&server, version, &good()).await;
        let tokens = [
            (json!({}), true),
            (json!({"access_token": null}), true),
            (json!({"access_token": "sb_publishable_x"}), true),
            (json!({"access_token": "sb_secret_x", "user_token": nobody}), true),
            (json!({"access_token": nobody}), false),
            (json!({"user_token": nobody}), false),
            (json!({"access_token": good(), "user_token": nobody}), false),
            (json!({"access_token": nobody, "user_token": good()}), true),
            (json!({"access_token": 7, "user_token": good()}), true),
        ];
        for (tokens, good) in tokens {
            let mut payload = json!({"config": {"postgres_changes": notes()}});
            for (key, value) in tokens.as_object().expect("tokens") {
                payload[key] = value.clone();
            }
            let reference = client.push("room", "phx_join", payload).await;
            assert_eq!(client.reply(&reference).await["status"], "ok", "{tokens}");
            let told = client.system("room").await["message"].clone();
            let expected = if good {
                "Subscribed to PostgreSQL"
            } else {
                "role \"ghost\" does not exist"
            };
            assert_eq!(told, expected, "{tokens}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_does_not_exist_is_named_and_the_channel_stays() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    let long = "r".repeat(200);
    let mut neighbour = Client::connect(&server, Version::V2, &good()).await;
    neighbour.subscribe("n", notes()).await;
    for role in [
        "ghost",
        "none",
        "public",
        "",
        "Anon",
        "x\"; drop table notes; --",
        "ü",
        &long,
    ] {
        let mut client = Client::connect(&server, Version::V2, &token::token(role, json!({}))).await;
        let reply = client.join("room", json!({ "postgres_changes": notes() })).await;
        assert_eq!(reply["status"], "ok", "{role}");
        let expected = json!({
            "extension": "postgres_changes", "status": "error", "channel": "room",
            "message": format!("role \"{role}\" does not exist")
        });
        assert_eq!(client.system("room").await, expected);
        // The channel is there: a better token makes it work.
        client
            .push("room", "access_token", json!({"access_token": good()}))
            .await;
        assert_eq!(client.system("room").await["message"], "Subscribed to PostgreSQL");
        db.execute("insert into notes values (1); delete from notes")
            .await;
        for kind in ["INSERT", "DELETE"] {
            assert_eq!(client.data().await["type"], kind);
            assert_eq!(neighbour.data().await["type"], kind);
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_on_a_live_channel_ends_that_channel_only() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    let mut bad = bad();
    bad.retain(|(token, _)| !token.starts_with("sb_"));
    bad.push((with("more", json!("x".repeat(20_000))), MALFORMED));
    for version in [Version::V1, Version::V2] {
        let mut client = Client::connect(&server, version, &good()).await;
        client.subscribe("kept", notes()).await;
        for (token, (_, text)) in &bad {
            client.subscribe("room", notes()).await;
            let join_ref = client.last_join_ref();
            for ignored in [json!(null), json!("sb_secret_x"), json!(7), json!(good())] {
                client
                    .push("room", "access_token", json!({ "access_token": ignored }))
                    .await;
            }
            client
                .push("room", "access_token", json!({ "access_token": token }))
                .await;
            let told = client
                .expect("the verdict", |m| {
                    m.event == "system" && m.payload["status"] == "error"
                })
                .await;
            assert_eq!(told.topic, "realtime:room");
            assert_eq!(
                (&told.payload["extension"], &told.payload["channel"]),
                (&json!("system"), &json!("room"))
            );
            assert_eq!(
                without_numbers(told.payload["message"].as_str().expect("a text")),
                *text,
                "{token:.100}"
            );
            let closed = client.expect("phx_close", |m| m.event == "phx_close").await;
            assert_eq!(
                (&closed.topic[..], &closed.reference),
                ("realtime:room", &join_ref),
                "{token:.100}"
            );
            client.forget("system");
        }
        db.execute("insert into notes values (1); delete from notes")
            .await;
        for kind in ["INSERT", "DELETE"] {
            let change = client.expect("a change", |m| m.event == "postgres_changes").await;
            assert_eq!(
                (&change.topic[..], &change.payload["data"]["type"]),
                ("realtime:kept", &json!(kind))
            );
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_ends_the_channel_and_its_rows() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    for version in [Version::V1, Version::V2] {
        let brief = with("exp", json!(token::now() + 3));
        let mut ending = Client::connect(&server, version, &brief).await;
        ending.subscribe("ending", notes()).await;
        let join_ref = ending.last_join_ref();
        let mut renewed = Client::connect(&server, version, &brief).await;
        renewed.subscribe("renewed", notes()).await;
        renewed
            .push("renewed", "access_token", json!({"access_token": good()}))
            .await;
        let renewal = |m: &Message| m.event == "system" && m.payload["message"] == "Subscribed to PostgreSQL";
        renewed.expect("the renewal", renewal).await;

        let warned = ending.system("ending").await;
        assert_eq!(
            (&warned["status"], &warned["extension"]),
            (&json!("ok"), &json!("system"))
        );
        let message = warned["message"].as_str().expect("a text");
        assert_eq!(without_numbers(message), "Token expires in N seconds");
        let told = ending.system("ending").await;
        let message = told["message"].as_str().expect("a text");
        assert_eq!(without_numbers(message), EXPIRED.1);
        assert_eq!(
            (&told["status"], &told["extension"]),
            (&json!("error"), &json!("system"))
        );
        let closed = ending.expect("phx_close", |m| m.event == "phx_close").await;
        assert_eq!(closed.reference, join_ref);
        db.execute("insert into notes values (1); delete from notes")
            .await;
        assert_eq!(renewed.data().await["type"], "INSERT");
        assert_eq!(renewed.data().await["type"], "DELETE");
        ending.round_trip().await;
        assert!(ending.pending().is_empty(), "{:?}", ending.pending());
        // The connection stays, for a join with another token.
        let payload = json!({"config": {"postgres_changes": notes()}, "access_token": good()});
        let reference = ending.push("again", "phx_join", payload).await;
        assert_eq!(ending.reply(&reference).await["status"], "ok");
    }
    server.stop().await;
}
