use super::*;
use crate::secret::Secret;

#[tokio::test]
async fn refusals_have_their_status_and_text() {
    let server = Server::start().await;
    let cases = [
        ("", 401, r#"{"error":"API key is missing"}"#),
        ("?apikey=", 401, r#"{"error":"API key is missing"}"#),
        (
            "?apikey=rubbish",
            401,
            r#"{"error":"The token provided is not a valid JWT"}"#,
        ),
        ("?apikey=expired", 401, r#"{"error":"Token has expired"}"#),
        (
            "?apikey=unsigned&vsn=2.0.0",
            401,
            r#"{"error":"Failed to validate JWT signature"}"#,
        ),
        ("?apikey=good&vsn=3.0.0", 403, ""),
    ];
    for (query, status, body) in cases {
        for path in ["/socket/websocket", "/realtime/v1/websocket"] {
            let refused = server.refused(&format!("{path}{query}")).await;
            assert_eq!(refused, (status, body.to_owned()), "{path}{query}");
        }
    }
    let counted = server
        .metrics
        .connections_refused
        .get_or_create(&[("reason", "MalformedJWT")])
        .get();
    assert_eq!(counted, 2);
}

#[tokio::test]
async fn the_header_wins_over_the_parameter() {
    let server = Server::start().await;
    let url = format!("ws://{}/socket/websocket?apikey=rubbish", server.address);
    let mut request = tungstenite::client::IntoClientRequest::into_client_request(url).unwrap();
    request.headers_mut().insert("x-api-key", "good".parse().unwrap());
    assert!(tokio_tungstenite::connect_async(request).await.is_ok());
}

#[tokio::test]
async fn connections_and_joins_are_limited() {
    let settings = Settings {
        connect_error_delay: Duration::ZERO,
        ..Settings::default()
    };
    let server = Server::with(Settings {
        connections: 1,
        ..settings.clone()
    })
    .await;
    let first = server.client().await;
    let full = (429, r#"{"error":"Too many connected users"}"#.to_owned());
    assert_eq!(server.refused("/socket/websocket?apikey=good").await, full);
    drop(first);
    until("the slot is free", || server.metrics.connections.get() == 0).await;
    server.client().await;

    let server = Server::with(Settings {
        joins_per_second: 1,
        ..settings
    })
    .await;
    let mut client = server.client().await;
    client.join("realtime:a", json!({})).await;
    client.join("realtime:b", json!({})).await;
    let (status, body) = server.refused("/socket/websocket?apikey=good").await;
    assert_eq!(
        (status, body.as_str()),
        (429, r#"{"error":"Too many joins per second"}"#)
    );
}

#[tokio::test]
async fn a_plain_request_to_the_socket_path_is_a_bad_request() {
    let server = Server::start().await;
    assert_eq!(server.get("/socket/websocket?apikey=good").await.0, 400);
    let url = format!("http://{}/realtime/v1/websocket", server.address);
    assert_eq!(
        reqwest::Client::new().post(url).send().await.unwrap().status(),
        400
    );
}

#[tokio::test]
async fn health_follows_the_stream_and_says_why() {
    let server = Server::start().await;
    server.stream.send(StreamState::Live.into()).unwrap();
    assert_eq!(server.get("/healthcheck").await, (200, "ok".to_owned()));
    assert_eq!(
        server.get("/readyz").await,
        (200, r#"{"ready":true,"reason":null,"slot":null}"#.to_owned())
    );
    server
        .stream
        .send(StreamState::Interrupted("slot in use".to_owned()).into())
        .unwrap();
    assert_eq!(
        server.get("/healthcheck").await.0,
        200,
        "clients are still served"
    );
    let (status, body) = server.get("/readyz").await;
    assert!(status == 503 && body.contains("slot in use"), "{body}");
    server.shutdown.cancel();
    assert_eq!(server.get("/healthcheck").await.0, 503);
    assert_eq!(server.get("/livez").await, (200, "ok".to_owned()));
}

#[tokio::test]
async fn before_the_stream_came_up_the_server_is_not_healthy() {
    let (stream, states) = watch::channel(StreamState::Starting.into());
    let health = super::super::admin::Health::watch(states, watch::channel(None).1, &Shutdown::new());
    assert!(!health.has_come_up());
    stream
        .send(StreamState::Interrupted("wal_level is replica".to_owned()).into())
        .unwrap();
    assert!(!health.has_come_up());
    assert!(health.not_streaming().unwrap().contains("wal_level"));
    stream.send(StreamState::Live.into()).unwrap();
    until("it has been noticed", || health.has_come_up()).await;
    stream
        .send(StreamState::Interrupted("restart".to_owned()).into())
        .unwrap();
    assert!(health.has_come_up() && health.not_streaming().is_some());
}

#[tokio::test]
async fn metrics_may_want_a_token() {
    let server = Server::start().await;
    let (status, body) = server.get("/metrics").await;
    assert!(status == 200 && body.contains("rowcast_connections 0"), "{body}");

    let metrics_token = Some(Secret::new("letmein"));
    let server = Server::with(Settings {
        metrics_token,
        ..Settings::default()
    })
    .await;
    assert_eq!(server.get("/metrics").await.0, 401);
    let client = reqwest::Client::new();
    let url = format!("http://{}/metrics", server.address);
    assert_eq!(
        client
            .get(&url)
            .bearer_auth("letmeIn")
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
    assert_eq!(
        client
            .get(&url)
            .bearer_auth("letmein")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn ping_answers() {
    let server = Server::start().await;
    for api in ["/api", "/realtime/v1/api"] {
        let pong = (200, r#"{"message":"Success"}"#.to_owned());
        assert_eq!(server.get(&format!("{api}/ping")).await, pong);
    }
}

#[tokio::test]
async fn the_health_of_a_tenant_is_told_to_whoever_has_a_token() {
    let server = Server::start().await;
    let client = reqwest::Client::new();
    let url = format!("http://{}/api/tenants/realtime-dev/health", server.address);
    for token in ["", "rubbish", "expired"] {
        let response = client.get(&url).bearer_auth(token).send().await.unwrap();
        assert_eq!(response.status(), 403);
        assert_eq!(response.text().await.unwrap(), "");
    }
    assert_eq!(
        server.get("/api/tenants/realtime-dev/health").await,
        (403, String::new())
    );
    let head = client.head(&url).bearer_auth("good").send().await.unwrap();
    assert_eq!(head.status(), 200);
    let health = async || {
        let response = client.get(&url).bearer_auth("good").send().await.unwrap();
        response.json::<Value>().await.unwrap()["data"].clone()
    };
    let expected = json!({
        "healthy": true,
        "db_connected": true,
        "replication_connected": true,
        "connected_cluster": 0,
        "region": "",
        "node": "rowcast",
    });
    assert_eq!(health().await, expected);
    let _client = server.client().await;
    server
        .stream
        .send(StreamState::Interrupted("gone".to_owned()).into())
        .unwrap();
    let now = health().await;
    assert_eq!(
        (&now["healthy"], &now["connected_cluster"]),
        (&json!(false), &json!(1))
    );
}

#[tokio::test]
async fn policies_are_for_the_service_role() {
    let server = Server::start().await;
    for api in ["/api", "/realtime/v1/api"] {
        let url = format!("http://{}{api}/policies", server.address);
        assert_eq!(server.get(&format!("{api}/policies")).await.0, 401);
        for (header, value, status) in [
            ("authorization", "Bearer service", 200),
            ("apikey", "service", 200),
            ("x-api-key", "service", 200),
            ("authorization", "Bearer good", 403),
            ("authorization", "Bearer expired", 401),
            ("authorization", "Basic service", 401),
            ("apikey", "unsigned", 401),
        ] {
            let response = reqwest::Client::new()
                .get(&url)
                .header(header, value)
                .send()
                .await
                .unwrap();
            assert_eq!(response.status(), status, "{header}: {value}");
            let body: Value = response.json().await.unwrap();
            let key = if status == 200 { "tables" } else { "message" };
            assert!(body.get(key).is_some(), "{body}");
        }
    }
}
