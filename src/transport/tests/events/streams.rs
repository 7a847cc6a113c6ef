//! What is written to a stream, and when it ends.

use super::*;

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
