//! `GET /api/rows`.

use serde_json::{Value, json};

use super::service;
use crate::support::{Client, Database, Server, Version, token};

async fn get(server: &Server, path: &str, token: &str) -> (u16, Value) {
    let request = reqwest::Client::new().get(format!("{}{path}", server.url()));
    let response = request.header("apikey", token).send().await.expect("an answer");
    let status = response.status().as_u16();
    assert_eq!(response.headers()["cache-control"], "no-store");
    (status, response.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_the_cursor_behind_them() {
    let db = Database::new().await;
    db.execute(
        "create schema s; create table s.t (id int primary key, v text, at timestamptz);
         create table empty (id int primary key);
         alter publication supabase_realtime add table s.t, empty;
         grant usage on schema s to authenticated; grant select (id, v) on s.t to authenticated;
         insert into s.t select n, 'v ' || n, '2026-01-02 03:04:05+00' from generate_series(1, 2500) as n",
    )
    .await;
    let server = Server::start(&db).await;
    let (status, body) = get(
        &server,
        "/realtime/v1/api/rows?table=t&schema=s&filter=id=lte.2",
        &service(),
    )
    .await;
    assert_eq!(status, 200, "{body}");
    let expected = json!([
        {"id": 1, "v": "v 1", "at": "2026-01-02T03:04:05+00:00"}, {"id": 2, "v": "v 2", "at": "2026-01-02T03:04:05+00:00"}
    ]);
    assert_eq!(body["rows"], expected);
    let (_, body) = get(&server, "/api/rows?schema=s&table=t&select=v", &token::user("x")).await;
    let rows = body["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2500);
    assert_eq!(rows[7], json!({"id": 8, "v": "v 8"}));

    db.execute("insert into s.t values (3000, 'new')").await;
    let mut client = Client::connect(&server, Version::V2, &token::user("x")).await;
    let binding = json!({"event": "*", "schema": "s", "table": "t"});
    client
        .join(
            "room",
            json!({"postgres_changes": [binding], "since": body["cursor"]}),
        )
        .await;
    assert_eq!(client.data().await["record"], json!({"id": 3000, "v": "new"}));
    for text in ["resumed: nothing was missed", "Subscribed to PostgreSQL"] {
        assert_eq!(client.system("room").await["message"], text);
    }

    let (status, body) = get(&server, "/api/rows?table=empty", &service()).await;
    assert_eq!((status, &body["rows"]), (200, &json!([])));
    assert!(body["cursor"].is_string(), "{body}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_what_is_wrong() {
    let db = Database::new().await;
    db.execute(
        "create table t (id int primary key, secret text); grant select (id) on t to authenticated;
         create table unpublished (id int primary key); alter publication supabase_realtime add table t;
         insert into t select generate_series(1, 11)",
    )
    .await;
    let server = Server::start_with(&db, |config| config.snapshot.rows = 10).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client
        .subscribe("up", json!([{"event": "*", "schema": "public", "table": "t"}]))
        .await;
    for (query, part) in [
        ("", "A table is required"),
        ("?table=", "A table is required"),
        ("?table=t&table=t", "Parameter given more than once: table"),
        ("?table=t&fitler=id=eq.1", "Unknown parameter: fitler"),
        (
            "?table=unpublished",
            "Unable to subscribe to changes with given parameters",
        ),
        ("?table=*", "Snapshots are not supported for wildcard"),
        ("?table=t&filter=id=eq.x", "invalid input syntax"),
        ("?table=t&filter=secret=eq.x", "invalid column for filter secret"),
        ("?table=t&select=secret", "invalid column for select secret"),
        ("?table=t&select=id,nothing", "invalid column for select nothing"),
    ] {
        let (status, body) = get(&server, &format!("/api/rows{query}"), &token::user("x")).await;
        let message = body["message"].as_str().expect("a text");
        assert!(
            status == 400 && message.contains(part),
            "{query}: {status} {body}"
        );
    }
    for token in ["", "garbage"] {
        let (status, body) = get(&server, "/api/rows?table=t", token).await;
        assert_eq!((status, &body), (401, &json!({"message": "Unauthorized"})));
    }
    // The answer has begun by then: it is broken off, so that nobody takes a part for the whole.
    let response = reqwest::Client::new()
        .get(format!("{}/api/rows?table=t", server.url()))
        .header("authorization", format!("Bearer {}", service()))
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err());
    server.stop().await;
}
