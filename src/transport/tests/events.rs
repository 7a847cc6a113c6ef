//! Streams of events and polls, with a feed that the test holds in its hands.

use super::*;
use crate::hub::At;
use crate::protocol::fan_out;

/// An open stream of events.
struct Reader {
    response: reqwest::Response,
    text: String,
}

#[derive(Debug, PartialEq)]
struct Event {
    id: Option<String>,
    name: String,
    data: Value,
}

impl Reader {
    /// The next block, without its end.
    #[track_caller]
    fn block(&mut self) -> impl Future<Output = Option<String>> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                if let Some((block, rest)) = self.text.split_once("\n\n") {
                    let block = block.to_owned();
                    self.text = rest.to_owned();
                    return Some(block);
                }
                let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
                match chunk.unwrap_or_else(|_| panic!("nothing came at {caller}")) {
                    Ok(Some(chunk)) => self.text.push_str(std::str::from_utf8(&chunk).unwrap()),
                    Ok(None) | Err(_) => return None,
                }
            }
        }
    }

    /// The next event; comments and what is no event are passed over. `None` at the end.
    async fn event(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            if let (Some(name), Some(data)) = (field("event"), field("data")) {
                return Some(Event {
                    id: field("id").map(str::to_owned),
                    name: name.to_owned(),
                    data: serde_json::from_str(data).unwrap(),
                });
            }
        }
    }
}

impl Server {
    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let url = format!("http://{}{path}", self.address);
        let mut request = reqwest::Client::new().get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn events(&self, query: &str, headers: &[(&str, &str)]) -> Reader {
        let response = self.ask(&format!("/sse?apikey=good&{query}"), headers).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store, no-transform");
        Reader {
            response,
            text: String::new(),
        }
    }

    fn reach(&self, at: &str) {
        *self.position.lock().unwrap() = Some(at.parse().unwrap());
    }

    async fn poll(&self, query: &str) -> (u16, Value) {
        let response = self.ask(&format!("/poll?apikey=good&{query}"), &[]).await;
        assert_eq!(response.headers()["cache-control"], "no-store");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }
}

/// Puts a row into a channel's outbox.
fn row(request: &SubscribeRequest, at: &str, number: u64) {
    let topic = &request.subscriber.topic;
    let payload = json!({ "data": number }).to_string();
    let frame = Frame::Text(fan_out(request.subscriber.version, topic, "postgres_changes", &payload).into());
    let _ = request
        .subscriber
        .outbox
        .push_at(frame, At::Row(at.parse().unwrap()));
}

fn number(event: &Event) -> u64 {
    assert_eq!(event.name, "postgres_changes");
    event.data["payload"]["data"].as_u64().unwrap()
}

/// A path, headers, and the status that they are answered with.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u16);

#[tokio::test]
async fn a_stream_says_what_is_open_and_then_what_happens_with_places() {
    let server = Server::start().await;
    server.reach("1-5");
    let mut reader = server.events("table=todos&filter=id=eq.1", &[]).await;
    let request = server.request().await;
    assert_eq!((request.since.clone(), request.subscriber.cursors), (None, true));
    assert_eq!(request.bindings[0].filter.as_deref(), Some("id=eq.1"));
    assert!(reader.block().await.unwrap().starts_with("retry: "));
    let open = reader.event().await.unwrap();
    assert_eq!(
        (open.name.as_str(), &open.data["topic"]),
        ("system", &json!("phoenix"))
    );
    assert_eq!(open.data["payload"]["extension"], "open");
    let channel = &open.data["payload"]["channels"][0];
    assert_eq!(channel["topic"], "realtime:public:todos");
    assert_eq!(channel["postgres_changes"][0]["table"], "todos");
    // No reply is seen, but this is.
    let subscribed = reader.event().await.unwrap();
    assert_eq!(subscribed.data["payload"]["message"], "Subscribed to PostgreSQL");
    assert_eq!(subscribed.id.as_deref(), Some("1-5"));
    row(&request, "1-8-6-0", 1);
    row(&request, "1-8-7-0", 2);
    for (id, expected) in [("1-8-6-0", 1), ("1-8-7-0", 2)] {
        let event = reader.event().await.unwrap();
        assert_eq!((event.id.as_deref(), number(&event)), (Some(id), expected));
    }
    assert_eq!(server.metrics.event_streams.get(), 1);
    drop(reader);
    assert_eq!(server.given_back().await, request.subscriber.id);
    until("the stream is gone", || {
        server.metrics.event_streams.get() == 0 && server.metrics.connections.get() == 0
    })
    .await;
}

#[tokio::test]
async fn who_comes_back_says_where_it_was() {
    let server = Server::start().await;
    server.reach("1-9");
    let cases: [(&str, &[(&str, &str)]); 3] = [
        ("table=a&since=1-5", &[]),
        ("table=a&since=1-2", &[("last-event-id", "1-5")]),
        ("table=a", &[("last-event-id", "1-3.rf0ad39f3=1-4.r7=1-8")]),
    ];
    for (query, headers) in cases {
        let mut reader = server.events(query, headers).await;
        let since = server.request().await.since.unwrap();
        assert!(
            ["1-5", "1-3"].contains(&since.to_string().as_str()),
            "{query}: {since}"
        );
        let next = reader.event().await.unwrap();
        assert_eq!(next.data["payload"]["extension"], "open", "{query}");
    }
    for garbled in ["", "nonsense", "1-5.", "9-9-9-9-9-9", "%00"] {
        let mut reader = server.events("table=a", &[("last-event-id", garbled)]).await;
        assert_eq!(server.request().await.since, None, "{garbled}");
        let first = reader.event().await.unwrap().data;
        let said = first["payload"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let expected = match garbled {
            "" => "open",
            _ => "resync: the cursor cannot be read",
        };
        assert_eq!(said, expected, "{garbled}");
    }
    // It says where another channel was.
    let mut reader = server.events("table=a&since=.b7=1-1", &[]).await;
    let first = reader.event().await.unwrap().data;
    assert_eq!(
        first["payload"]["message"],
        "resync: the cursor says nothing of this channel"
    );
}

#[tokio::test]
async fn what_cannot_be_opened_has_a_status_and_opens_nothing() {
    let server = Server::start().await;
    let cases = [
        ("table=a", 401, "API key is missing"),
        ("table=a&apikey=expired", 401, "Token has expired"),
        (
            "table=a&apikey=good&access_token=rubbish",
            401,
            "The token provided is not a valid JWT",
        ),
        (
            "apikey=good",
            400,
            "table: name at least one table, topic or join",
        ),
        (
            "apikey=good&table=a&event=x",
            400,
            "event: is none of INSERT, UPDATE, DELETE and *",
        ),
        ("apikey=good&table=none", 400, "there is no such table"),
        (
            "apikey=good&topic=denied&private=true",
            403,
            "Unauthorized: You do not have permissions to read from this Channel topic: denied",
        ),
        (
            "apikey=good&topic=away&private=true",
            503,
            "UnableToConnectToProject: Realtime was unable to connect to the project database",
        ),
        (
            "apikey=good&join={\"topic\":\"a\",\"config\":{\"broadcast\":{\"replay\":{\"since\":1}}}}",
            400,
            "UnableToReplayMessages: Replay is not allowed for public channels",
        ),
    ];
    for path in [
        "/sse",
        "/poll",
        "/socket/sse",
        "/realtime/v1/sse",
        "/realtime/v1/poll",
        "/socket/poll",
    ] {
        for (query, status, error) in cases {
            let response = server.ask(&format!("{path}?{query}"), &[]).await;
            assert_eq!(response.status(), status, "{path}?{query}");
            assert_eq!(response.headers()["cache-control"], "no-store");
            let body: Value = response.json().await.unwrap();
            assert_eq!(body["error"], error, "{path}?{query}");
        }
    }
    until("all is given back", || {
        server.metrics.connections.get() == 0 && server.metrics.channels.get() == 0
    })
    .await;
}

#[tokio::test]
async fn one_channel_that_is_refused_does_not_keep_the_others_out() {
    let server = Server::start().await;
    server.reach("1-5");
    let mut reader = server.events("table=a&topic=b&table=none", &[]).await;
    let open = reader.event().await.unwrap();
    let channels = open.data["payload"]["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 1);
    assert_eq!(channels[0]["topic"], "realtime:public:a");
    let request = server.request().await;
    row(&request, "1-6-1-0", 7);
    let mut refused = false;
    loop {
        let event = reader.event().await.unwrap();
        if event.name == "postgres_changes" {
            assert_eq!((number(&event), event.id.as_deref()), (7, Some("1-6-1-0")));
            break;
        }
        refused |= event.data["payload"]["status"] == "error"
            && event.data["topic"] == "realtime:b"
            && event.data["payload"]["message"] == "there is no such table";
    }
    assert!(refused);
}

#[tokio::test]
async fn tokens_come_by_header_query_and_cookie() {
    let with = |cookie: Option<&str>, query_token| Settings {
        connect_error_delay: Duration::ZERO,
        cookie: cookie.map(str::to_owned),
        query_token,
        ..Settings::default()
    };
    let server = Server::with(with(Some("session"), false)).await;
    let cases: [Case; 7] = [
        ("", &[("authorization", "Bearer good")], 200),
        ("", &[("apikey", "good")], 200),
        ("", &[("x-api-key", "good")], 200),
        ("", &[("cookie", "a=b; session=\"good\"; c=d")], 200),
        ("", &[("cookie", "session=rubbish"), ("apikey", "good")], 401),
        ("", &[("cookie", "other=good")], 401),
        ("&apikey=good", &[], 401),
    ];
    for (query, headers, status) in cases {
        let response = server.ask(&format!("/poll?topic=a{query}"), headers).await;
        assert_eq!(response.status(), status, "{query} {headers:?}");
    }
    let server = Server::with(with(None, true)).await;
    let cases: [Case; 4] = [
        ("&apikey=good", &[], 200),
        ("&apikey=rubbish&access_token=good", &[], 200),
        ("&access_token=rubbish", &[("authorization", "Bearer good")], 200),
        ("", &[("cookie", "session=good")], 401),
    ];
    for (query, headers, status) in cases {
        let response = server.ask(&format!("/poll?topic=a{query}"), headers).await;
        assert_eq!(response.status(), status, "{query} {headers:?}");
    }
}

#[tokio::test]
async fn broadcasts_come_only_to_those_who_named_a_topic() {
    let server = Server::start().await;
    server.reach("1-5");
    let mut reader = server.events("topic=a&table=t", &[]).await;
    server.request().await;
    let mut rows = server.events("table=t", &[]).await;
    server.request().await;
    assert_eq!(server.metrics.rooms.get(), 1);
    let mut sender = server.client().await;
    sender.join("realtime:a", json!({})).await;
    sender
        .send(json!(["1", "2", "realtime:a", "broadcast", {"type": "broadcast", "event": "e", "payload": {"x": 1}}]))
        .await;
    loop {
        let event = reader.event().await.unwrap();
        if event.name == "broadcast" {
            assert_eq!(event.data["topic"], "realtime:a");
            assert_eq!(event.data["payload"]["payload"], json!({ "x": 1 }));
            break;
        }
    }
    server.shutdown.cancel();
    while let Some(event) = rows.event().await {
        assert_ne!(event.name, "broadcast");
    }
}

#[tokio::test]
async fn presence_comes_to_those_who_ask_for_it() {
    let server = Server::start().await;
    let mut present = server.client().await;
    present
        .join(
            "realtime:a",
            json!({ "presence": { "key": "k", "enabled": true } }),
        )
        .await;
    present
        .send(json!(["1", "2", "realtime:a", "presence", {"event": "track", "payload": {"n": 1}}]))
        .await;
    let mut reader = server.events("topic=a&presence=true", &[]).await;
    loop {
        let event = reader.event().await.unwrap();
        let payload = &event.data["payload"];
        if ["presence_state", "presence_diff"].contains(&event.name.as_str())
            && (payload.get("k").is_some() || payload["joins"].get("k").is_some())
        {
            break;
        }
    }
    // The state is told once, until it is another one.
    let (_, first) = server.poll("topic=a&presence=true").await;
    let cursor = first["cursor"].as_str().unwrap();
    assert_eq!(first["events"][0]["event"], "presence_state");
    let (_, second) = server
        .poll(&format!("topic=a&presence=true&cursor={cursor}&wait=0"))
        .await;
    assert_eq!(second, json!({ "cursor": cursor, "events": [] }));
}

#[tokio::test]
async fn a_stream_that_stops_says_when_to_come_back() {
    let server = Server::start().await;
    let mut reader = server.events("table=a", &[]).await;
    server.request().await;
    server.shutdown.cancel();
    let mut blocks = Vec::new();
    while let Some(block) = reader.block().await {
        blocks.push(block);
    }
    let last = blocks.iter().rposition(|block| block.starts_with("retry: "));
    assert!(last > Some(0), "{blocks:?}");
    assert!(
        blocks
            .iter()
            .any(|block| block.contains("Server requested disconnect")),
        "{blocks:?}"
    );
    let response = server.ask("/sse?apikey=good&table=a", &[]).await;
    assert_eq!(response.status(), 503);
}

#[tokio::test]
async fn a_quiet_stream_moves_on() {
    let server = Server::with(Settings {
        keep_alive: Duration::from_millis(20),
        ..Settings::default()
    })
    .await;
    server.reach("1-5");
    let mut reader = server.events("table=a", &[]).await;
    server.request().await;
    let mut comments = 0;
    while comments < 2 {
        comments += usize::from(reader.block().await.unwrap() == ":");
    }
    server.reach("1-7");
    loop {
        let event = reader.event().await.unwrap();
        if event.name == "cursor" && event.id.as_deref() == Some("1-7") {
            assert_eq!(event.data, json!({ "cursor": "1-7" }));
            break;
        }
    }
}

#[tokio::test]
async fn who_does_not_read_is_let_go() {
    let server = Server::with(Settings {
        outbox: crate::hub::Bounds {
            frames: 100_000,
            bytes: 1 << 20,
        },
        ..Settings::default()
    })
    .await;
    let _reader = server.events("table=a", &[]).await;
    let request = server.request().await;
    let text = format!("event: x\ndata: {}\n\n", "x".repeat(100_000));
    until("it is given up", || {
        let _ = request.subscriber.outbox.push(Frame::Text(text.clone().into()));
        server.metrics.outbox_overflows.get() == 1
    })
    .await;
    assert_eq!(server.given_back().await, request.subscriber.id);

    let server = Server::with(Settings {
        write_timeout: Duration::from_millis(50),
        ..Settings::default()
    })
    .await;
    let _reader = server.events("table=a", &[]).await;
    let request = server.request().await;
    for _ in 0..70 {
        let _ = request.subscriber.outbox.push(Frame::Text(text.clone().into()));
        tokio::task::yield_now().await;
    }
    assert_eq!(server.given_back().await, request.subscriber.id);
}

#[tokio::test]
async fn polls_answer_with_what_came_and_where_to_go_on() {
    let server = Server::start().await;
    assert_eq!(server.poll("table=a&wait=0").await.0, 503);
    server.request().await;
    server.reach("1-5");
    let (_, first) = server.poll("table=a").await;
    assert_eq!(first, json!({ "cursor": "1-5", "events": [] }));
    server.request().await;
    // Nothing came.
    server.reach("1-6");
    let (_, empty) = server.poll("table=a&cursor=1-5&wait=0.05").await;
    assert_eq!(empty, json!({ "cursor": "1-6", "events": [] }));
    let request = server.request().await;
    assert_eq!(request.since.unwrap().to_string(), "1-5");
    // Something comes while it waits.
    let feeding = async {
        let request = server.request().await;
        server.reach("1-9");
        row(&request, "1-9-1-0", 1);
        row(&request, "1-9-2-0", 2);
    };
    let ((_, some), ()) = tokio::join!(server.poll("table=a&cursor=1-6"), feeding);
    let numbers: Vec<u64> = some["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["payload"]["data"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(some["cursor"], "1-9");
    let (_, garbled) = server.poll("table=a&cursor=rubbish").await;
    assert_eq!(
        garbled,
        json!({ "cursor": "1-9", "resync": "the cursor cannot be read", "events": [] })
    );
    assert_eq!(server.metrics.polls.get(), 4);
}

#[tokio::test]
async fn a_long_answer_is_cut_and_its_cursor_is_where_it_was_cut() {
    let server = Server::start().await;
    server.reach("1-5000");
    let feeding = async {
        let request = server.request().await;
        for n in 0..3_000_u64 {
            row(&request, &format!("1-10-{:x}-0", n + 1), n);
        }
    };
    let ((_, answer), ()) = tokio::join!(server.poll("table=a&cursor=1-6"), feeding);
    let events = answer["events"].as_array().unwrap();
    let last = events.last().unwrap()["payload"]["data"].as_u64().unwrap();
    assert_eq!(u64::try_from(events.len()).unwrap(), last + 1);
    assert!(events.len() < 3_000);
    assert_eq!(answer["cursor"], format!("1-10-{:x}-0", last + 1));
}

#[tokio::test]
async fn other_methods_get_what_is_due_to_them() {
    let server = Server::start().await;
    let client = reqwest::Client::new();
    let url = format!("http://{}/sse?table=a&apikey=good", server.address);
    let head = client.head(&url).send().await.unwrap();
    assert_eq!(head.headers()["content-type"], "text/event-stream");
    assert_eq!(head.text().await.unwrap(), "");
    let preflight = client
        .request(reqwest::Method::OPTIONS, &url)
        .header("origin", "http://a.example")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "last-event-id,authorization")
        .send()
        .await
        .unwrap();
    let allowed = preflight.headers()["access-control-allow-headers"]
        .to_str()
        .unwrap();
    assert_eq!(allowed, "last-event-id,authorization");
    assert_eq!(client.post(&url).send().await.unwrap().status(), 405);
    // Nothing was joined.
    assert_eq!(server.metrics.event_streams.get(), 0);
}
