//! Many streams on one connection of HTTP/2, in the clear and over TLS.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use super::{ALICE, alice, anybody, database};
use crate::support::tls::Authority;
use crate::support::{LIMIT, Program, Server};

const STREAMS: i64 = 100;

/// Larger than the window that the client opens for a stream.
const LARGE_ROWS: i64 = 30;

fn request(id: &str, query: &str, last: &str) -> Value {
    let bearer = format!("Bearer {}", anybody());
    let mut headers = json!({ ":path": format!("/sse?{query}"), "authorization": bearer });
    if !last.is_empty() {
        headers["last-event-id"] = last.into();
    }
    json!({ "id": id, "headers": headers })
}

fn channel(n: i64) -> String {
    format!("topic=room{n}&table=lists&filter=id=eq.{n}")
}

/// The next message of a stream that says this.
async fn told(node: &mut Program, id: &str, message: &str) -> Value {
    let fits = |line: &Value| line["id"] == id && line["data"]["payload"]["message"] == message;
    node.expect("event", fits).await
}

/// The `id` of the row of the next change that a stream brings.
async fn row(node: &mut Program, id: &str) -> i64 {
    let fits = |line: &Value| line["id"] == id && line["name"] == "postgres_changes";
    let event = node.expect("event", fits).await;
    event["data"]["payload"]["data"]["record"]["id"]
        .as_i64()
        .expect("an id")
}

/// Asks on the same connection until there are so many streams.
async fn are_open(node: &mut Program, streams: i64) {
    let wanted = format!("\nrowcast_connections {streams}\n");
    let asking = async {
        loop {
            let ask = json!({ "id": "metrics", "headers": { ":path": "/metrics" } });
            node.tell(json!({ "cmd": "ask", "requests": [ask] })).await;
            let answer = node.expect("answer", |line| line["id"] == "metrics").await;
            if answer["text"].as_str().expect("a text").contains(&wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, asking)
        .await
        .expect("that many streams");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_streams_share_a_connection() {
    share(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_streams_share_a_connection_over_tls() {
    share(Some(Authority::new())).await;
}

async fn share(authority: Option<Authority>) {
    let db = database().await;
    let server = Server::start_with(&db, |config| {
        config.session.write_timeout = Duration::from_millis(300);
        if let Some(authority) = &authority {
            authority.configure(config);
        }
    })
    .await;
    let root = authority.as_ref().map(Authority::root).unwrap_or_default();
    let url = match &authority {
        Some(_) => format!("https://localhost:{}", server.address.port()),
        None => server.url(),
    };
    let variables = [
        ("ROWCAST_URL", url.as_str()),
        ("ROOT", root.to_str().expect("a path")),
    ];
    let mut node = Program::node("http2.mjs", &variables);
    let protocol = if authority.is_some() { "h2" } else { "h2c" };
    assert_eq!(node.next("connected").await["protocol"], protocol);
    let mut requests: Vec<Value> = (0..STREAMS)
        .map(|n| request(&n.to_string(), &channel(n), ""))
        .collect();
    requests.push(request("stalled", "table=todos", ""));
    node.tell(json!({ "cmd": "follow", "requests": requests })).await;
    for n in 0..STREAMS {
        told(&mut node, &n.to_string(), "Subscribed to PostgreSQL").await;
    }
    told(&mut node, "stalled", "Subscribed to PostgreSQL").await;

    // Who reads nothing holds up nobody, and is let go; the connection stays.
    node.tell(json!({ "cmd": "stall", "id": "stalled" })).await;
    db.execute(&format!(
        "insert into todos select n, null, repeat('x', 20000) from generate_series(1, {LARGE_ROWS}) n;
         insert into lists select n, 0 from generate_series(0, {STREAMS}) n"
    ))
    .await;
    for n in 0..STREAMS {
        assert_eq!(row(&mut node, &n.to_string()).await, n);
    }
    are_open(&mut node, STREAMS).await;
    node.tell(json!({ "cmd": "read", "id": "stalled" })).await;
    let left = node.expect("left", |line| line["id"] == "stalled").await;
    let place = left["place"].as_str().expect("a place");
    let mut rows = Vec::new();
    let resumed = request("resumed", "table=todos", place);
    node.tell(json!({ "cmd": "follow", "requests": [resumed] })).await;
    told(&mut node, "resumed", "resumed: nothing was missed").await;
    let changes =
        |id: &'static str| move |line: &Value| line["id"] == id && line["name"] == "postgres_changes";
    for _ in 0..LARGE_ROWS {
        let either = |line: &Value| changes("stalled")(line) || changes("resumed")(line);
        let event = node.expect("event", either).await;
        let id = &event["data"]["payload"]["data"]["record"]["id"];
        rows.push((event["id"] == "stalled", id.as_i64().expect("an id")));
    }
    let all: Vec<i64> = rows.iter().map(|(_, id)| *id).collect();
    assert_eq!(all, (1..=LARGE_ROWS).collect::<Vec<_>>());
    assert!(rows.iter().any(|(before, _)| !before), "it was not let go");

    // One that is cut off goes on where it was.
    node.tell(json!({ "cmd": "leave", "id": "7" })).await;
    let left = node.expect("left", |line| line["id"] == "7").await;
    db.execute("update lists set n = 1 where id = 7").await;
    let place = left["place"].as_str().expect("a place");
    node.tell(json!({ "cmd": "follow", "requests": [request("seven", &channel(7), place)] }))
        .await;
    assert_eq!(row(&mut node, "seven").await, 7);
    told(&mut node, "seven", "resumed: nothing was missed").await;

    // A server that stops says so on every stream, and ends each and the connection as HTTP/2 wants it.
    let stopping = tokio::spawn(server.stop());
    assert_eq!(node.next("goaway").await["code"], 0);
    for id in (0..STREAMS).map(|n| n.to_string()).filter(|id| id != "7") {
        let left = node.expect("left", |line| line["id"] == id).await;
        assert_eq!(left["code"], 0, "{left}");
    }
    for id in ["resumed", "seven"] {
        node.expect("left", |line| line["id"] == id).await;
    }
    node.next("closed").await;
    stopping.await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_looks_at_a_table_by_http2() {
    let authority = Authority::new();
    let root = authority.root().display().to_string();
    for secured in [false, true] {
        let db = database().await;
        let server = Server::start_with(&db, |config| {
            if secured {
                authority.configure(config);
            }
        })
        .await;
        let (scheme, options) = match secured {
            true => ("https", vec!["--http2", "--cacert", &root]),
            false => ("http", vec!["--http2-prior-knowledge"]),
        };
        let port = server.address.port();
        let url = format!("{scheme}://localhost:{port}/sse?table=todos&apikey={}", alice());
        let mut command = Command::new("curl");
        command
            .args(["-4sN", "-w", "spoke %{http_version}"])
            .args(options)
            .arg(url);
        let mut curl = Program::start("curl", command, &[]);
        let line = |text: &'static str| {
            move |line: &Value| line["text"].as_str().is_some_and(|line| line.contains(text))
        };
        curl.expect("text", line("Subscribed to PostgreSQL")).await;
        db.execute(&format!("insert into todos values (1, '{ALICE}', 'hers')"))
            .await;
        curl.expect("text", line("hers")).await;
        server.stop().await;
        curl.expect("text", line("spoke 2")).await;
        let (status, _) = curl.ended().await;
        assert!(status.success(), "the stream was ended as HTTP wants it");
    }
}
