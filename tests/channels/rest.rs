//! Broadcasts over HTTP, through a whole server.

use serde_json::{Value, json};

use super::{VERSIONS, anon};
use crate::support::broadcast::{KIND_FOUR, envelope};
use crate::support::{Client, Database, Server, Version, token};

const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
const BATCH: &str = "/api/broadcast";
const JSON: (&str, &str) = ("content-type", "application/json");
const BYTES: (&str, &str) = ("content-type", "application/octet-stream");

fn accepted() -> (u16, String) {
    (202, String::new())
}

fn message(status: u16, text: &str) -> (u16, String) {
    (status, json!({ "message": text }).to_string())
}

fn batch(messages: Value) -> String {
    json!({ "messages": messages }).to_string()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_posted_reaches_each_version_in_its_way() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let key = token::token("anon", json!({}));
    let key = ("apikey", key.as_str());
    let mut one = anon(&server, Version::V1).await;
    let mut two = anon(&server, Version::V2).await;
    for client in [&mut one, &mut two] {
        client.enter("a/b: é", json!({})).await;
    }
    for api in ["/api", "/realtime/v1/api"] {
        let messages = json!([
            {"topic": "a/b: é", "event": "e", "payload": {"n": 1}},
            {"topic": "a/b: é", "event": "hidden", "payload": {}, "private": true},
            {"topic": "another", "event": "elsewhere", "payload": {}},
            {"topic": "a/b: é", "event": "e", "payload": {"n": 2}, "id": "7"},
        ]);
        let answer = server
            .post(&format!("{api}/broadcast"), &[key, JSON], batch(messages))
            .await;
        assert_eq!(answer, accepted());
        let mut named = envelope("e", json!({"n": 2}));
        named["meta"] = json!({"id": "7"});
        for client in [&mut one, &mut two] {
            for expected in [&envelope("e", json!({"n": 1})), &named] {
                let heard = client.heard("a/b: é").await;
                assert_eq!((&*heard.event, &heard.payload), ("broadcast", expected));
                assert_eq!((&heard.join_ref, &heard.reference), (&Value::Null, &Value::Null));
            }
        }
        let path = format!("{api}/broadcast/a%2Fb%3A%20%C3%A9/events/e%2F1");
        for (headers, body, payload) in [
            (&[key, JSON][..], r#"{"n": 3}"#, json!({"n": 3})),
            (&[key], "[4]", json!({"_json": [4]})),
            (&[key], "", json!({})),
        ] {
            assert_eq!(server.post(&path, headers, body).await, accepted());
            let heard = two.heard("a/b: é").await;
            assert_eq!(heard.event, KIND_FOUR);
            assert_eq!(
                heard.payload,
                json!({"event": "e/1", "payload": payload, "meta": null})
            );
            assert_eq!(one.heard("a/b: é").await.payload, envelope("e/1", payload));
        }
        assert_eq!(server.post(&path, &[key, BYTES], vec![0, 255]).await, accepted());
        assert_eq!(two.heard("a/b: é").await.payload["bytes"], json!([0, 255]));
    }
    for client in [&mut one, &mut two] {
        let rest = client.everything(&["broadcast", KIND_FOUR]).await;
        assert!(rest.is_empty(), "{rest:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_topics_follow_the_policies() {
    let db = Database::new().await;
    db.execute(
        "create policy read on realtime.messages for select to authenticated using (true);
         create policy write on realtime.messages for insert to authenticated
         with check (extension = 'broadcast' and realtime.topic() = 'user:' || auth.uid()::text
                     and current_setting('request.headers', true)::json ->> 'x-team' = 'blue')",
    )
    .await;
    let server = Server::start(&db).await;
    let alice = bearer(&token::user(ALICE));
    let anon = bearer(&token::token("anon", json!({})));
    let own = format!("user:{ALICE}");
    let mut listeners = Vec::new();
    for version in VERSIONS {
        let mut client = Client::connect(&server, version, &token::user(ALICE)).await;
        client.enter(&own, json!({"private": true})).await;
        client.enter("user:other", json!({"private": true})).await;
        listeners.push(client);
    }
    let single = |topic: &str| format!("{BATCH}/{topic}/events/e?private=true");
    let blue = ("x-team", "blue");
    for (token, team, topic, expected) in [
        (&alice, blue, &*own, accepted()),
        (&alice, ("x-team", "red"), &own, message(403, "Unauthorized")),
        (&alice, ("x-other", "blue"), &own, message(403, "Unauthorized")),
        (&alice, blue, "user:other", message(403, "Unauthorized")),
        (&anon, blue, &own, message(403, "Unauthorized")),
    ] {
        let headers = [("authorization", token.as_str()), team, JSON];
        let answer = server.post(&single(topic), &headers, r#"{"by": "single"}"#).await;
        assert_eq!(answer, expected, "{topic} {team:?}");
        // Within a batch what may not be sent is left out.
        let messages = json!([{"topic": topic, "event": "e", "payload": {"by": "batch"}, "private": true}]);
        assert_eq!(server.post(BATCH, &headers, batch(messages)).await, accepted());
    }
    for client in &mut listeners {
        for by in ["single", "batch"] {
            assert_eq!(client.heard(&own).await.payload["payload"], json!({ "by": by }));
        }
        let rest = client.everything(&["broadcast", KIND_FOUR]).await;
        assert!(rest.is_empty(), "{rest:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_over_http_is_heard_with_its_id_and_replayed() {
    let db = Database::new().await;
    db.execute(
        "create policy read on realtime.messages for select to authenticated using (true);
         create policy write on realtime.messages for insert to authenticated
         with check (extension = 'broadcast' or (extension = 'persistence' and realtime.topic() = 'kept'))",
    )
    .await;
    let server = Server::start(&db).await;
    let alice = bearer(&token::user(ALICE));
    let headers = [("authorization", alice.as_str()), JSON];
    let mut listener = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    listener.enter("kept", json!({"private": true})).await;
    let mut ids = Vec::new();
    for (n, query) in ["persist=true", "persist[ttl]=3600", "persist%5Bttl%5D=3600"]
        .iter()
        .enumerate()
    {
        let path = format!("{BATCH}/kept/events/e?private=true&{query}");
        let (status, body) = server.post(&path, &headers, json!({ "n": n }).to_string()).await;
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(status, 202, "{answer}");
        let heard = listener.heard("kept").await;
        assert_eq!(heard.payload["payload"], json!({ "n": n }));
        assert_eq!(heard.payload["meta"], answer);
        ids.push(answer["id"].clone());
    }
    let public = json!({"errors": {"persist": ["is only available on private channels"]}});
    for (path, expected) in [
        ("kept/events/e?persist=true", (422, public.to_string())),
        (
            "other/events/e?private=true&persist=true",
            message(403, "Unauthorized"),
        ),
        ("other/events/e?private=true", accepted()),
    ] {
        let answer = server.post(&format!("{BATCH}/{path}"), &headers, "{}").await;
        assert_eq!(answer, expected, "{path}");
    }
    for version in VERSIONS {
        let mut late = Client::connect(&server, version, &token::user(ALICE)).await;
        let replay = json!({"private": true, "broadcast": {"replay": {"since": 0}}});
        late.enter("kept", replay).await;
        for (n, id) in ids.iter().enumerate() {
            let heard = late.heard("kept").await;
            assert_eq!(heard.payload["payload"], json!({ "n": n }));
            assert_eq!(heard.payload["meta"], json!({"replayed": true, "id": id}));
        }
    }
    // Without a place for it, a message is neither kept nor sent.
    db.execute(
        "do $$ declare partition regclass; begin
           for partition in select inhrelid::regclass from pg_inherits where inhparent = 'realtime.messages'::regclass
           loop execute 'drop table ' || partition; end loop;
         end $$",
    )
    .await;
    let path = format!("{BATCH}/kept/events/e?private=true&persist=true");
    let answer = server.post(&path, &headers, "{}").await;
    assert_eq!(answer, message(422, "Missing messages partition"));
    assert!(listener.everything(&["broadcast", KIND_FOUR]).await.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_is_told() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| {
        config.limits.payload_bytes = 1_000;
        config.limits.request_bytes = 5_000;
    })
    .await;
    let key = token::token("anon", json!({}));
    let good = [("apikey", key.as_str()), JSON];
    let expired = bearer(&token::signed(
        token::SECRET,
        &json!({"role": "anon", "exp": token::now() - 10}),
    ));
    let one = batch(json!([{"topic": "a", "event": "e", "payload": {}}]));
    let single = format!("{BATCH}/a/events/e");
    for path in [BATCH, &single] {
        for headers in [&[JSON][..], &[("authorization", &*expired), ("apikey", &key)]] {
            let answer = server.post(path, headers, one.clone()).await;
            assert_eq!(answer, message(401, "Unauthorized"), "{path}");
        }
        let huge = server.post(path, &good, "x".repeat(5_001)).await;
        assert_eq!(huge, message(413, "The body can have at most 5000 bytes"));
        assert_eq!(
            server.post(path, &good, "{").await,
            message(400, "The body is not JSON")
        );
        assert_eq!(server.get(path).await.0, 405);
    }
    let large = "x".repeat(1_100);
    let wrong = json!([
        {"topic": "a", "event": "e", "payload": {}},
        {"topic": "a", "event": "e"},
        {"event": "e", "payload": {}},
        {"topic": "a", "payload": {}},
        {"topic": "a", "event": "e", "payload": [1]},
        {"topic": "a", "event": "e", "payload": {"x": large}},
    ]);
    let blank = ["can't be blank"];
    let errors = json!({"errors": {"messages": [
        {},
        {"payload": blank},
        {"topic": blank},
        {"event": blank},
        {"payload": ["is invalid"]},
        {"payload": ["Payload size exceeds tenant limit"]},
    ]}});
    assert_eq!(
        server.post(BATCH, &good, batch(wrong)).await,
        (422, errors.to_string())
    );
    let nothing = json!({"errors": {"messages": blank}});
    assert_eq!(server.post(BATCH, &good, "{}").await, (422, nothing.to_string()));
    let body = json!({ "x": large }).to_string();
    let too_large = json!({"errors": {"payload": ["Payload size exceeds tenant limit"]}});
    assert_eq!(
        server.post(&single, &good, body).await,
        (422, too_large.to_string())
    );
    let media = json!({"error": "Unsupported Media Type. Use application/json or application/octet-stream"});
    let plain = [good[0], ("content-type", "text/plain")];
    assert_eq!(server.post(&single, &plain, "{}").await, (415, media.to_string()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_servers_rate_requests_are_refused() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.events_per_second = 10).await;
    let key = token::token("anon", json!({}));
    let key = [("apikey", key.as_str()), JSON];
    let many = |count: usize| {
        let message = json!({"topic": "a", "event": "e", "payload": {}});
        batch(json!(vec![message; count]))
    };
    let too_many = "Too many messages to broadcast, please reduce the batch size";
    assert_eq!(server.post(BATCH, &key, many(21)).await, message(429, too_many));
    let ping = format!("{}/api/ping", server.url());
    let pong = reqwest::get(&ping).await.expect("an answer");
    let header = |name: &str| pong.headers().get(name).cloned();
    assert_eq!(
        ["x-rate-rolling", "x-rate-limit", "x-rate-limit-remaining"].map(header),
        ["0", "10", "10"].map(|value| value.parse().ok())
    );
    assert_eq!(
        pong.json::<Value>().await.expect("JSON"),
        json!({"message": "Success"})
    );
    // What is over is soon forgiven, so that it may take several attempts to meet it.
    let refused = async |path: &str| {
        for _ in 0..1_000 {
            let answer = server.post(path, &[JSON], "{}").await;
            if answer == message(429, "Too many requests") {
                return;
            }
            assert_eq!(answer, message(401, "Unauthorized"));
            server.post(BATCH, &key, many(19)).await;
        }
        panic!("never refused: {path}");
    };
    refused(BATCH).await;
    refused("/api/broadcast/a/events/e").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_ping_and_the_tenant_are_answered_as_the_original_does() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut client = anon(&server, Version::V2).await;
    client
        .enter("room", json!({"broadcast": {"replication_ready": true}}))
        .await;
    client.system("room").await;
    assert_eq!(server.get("/healthcheck").await, (200, "ok".to_owned()));
    for path in ["/api/ping", "/realtime/v1/api/ping"] {
        assert_eq!(server.get(path).await, message(200, "Success"));
    }
    let path = "/api/tenants/realtime-dev/health";
    assert_eq!(server.get(path).await, (403, String::new()));
    let response = reqwest::Client::new()
        .get(format!("{}{path}", server.url()))
        .bearer_auth(token::token("service_role", json!({})))
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), 200);
    let health: Value = response.json().await.expect("JSON");
    let expected = json!({"data": {
        "healthy": true, "db_connected": true, "replication_connected": true, "connected_cluster": 1,
        "region": "", "node": "rowcast",
    }});
    assert_eq!(health, expected);
    server.stop().await;
}
