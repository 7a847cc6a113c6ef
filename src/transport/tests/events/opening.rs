//! What is opened for whom, and what others are told.

use super::*;

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
            "event: is none of INSERT, UPDATE, DELETE, TRUNCATE and *",
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

#[tokio::test]
async fn a_query_that_is_not_utf_8_is_refused_and_not_mended() {
    let server = Server::start().await;
    for query in [
        "topic=a%ff",
        "table=t&filter=a=eq.%C3",
        "topic=a&%80=b",
        "topic=%ed%a0%80",
    ] {
        for way in ["sse", "poll"] {
            let answer = server
                .ask(&format!("/{way}?{query}"), &[("apikey", "good")])
                .await;
            assert_eq!(answer.status(), 400, "{query}");
            let text = r#"{"error":"the query cannot be decoded"}"#;
            assert_eq!(answer.text().await.unwrap(), text, "{query}");
        }
    }
    for query in ["topic=%C3%BC+%25", "topic=100%", "topic=%zz", "topic=a%2"] {
        let answer = server.ask(&format!("/poll?{query}"), &[("apikey", "good")]).await;
        assert_eq!(answer.status(), 200, "{query}");
    }
}
