use reqwest::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, ORIGIN};
use reqwest::{Method, Response};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::hub::Bounds;

/// A client by long polling, as phoenix.js is one: one request for messages at a time.
struct Poller {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Poller {
    async fn open(server: &Server, path: &str) -> Self {
        let mut poller = Self {
            http: reqwest::Client::new(),
            url: format!("http://{}{path}", server.address),
            token: String::new(),
        };
        let answer = poller.get().await;
        assert_eq!(
            (&answer["status"], &answer["messages"]),
            (&json!(410), &json!([])),
            "{answer}"
        );
        poller.token = answer["token"].as_str().unwrap().to_owned();
        poller
    }

    async fn v2(server: &Server) -> Self {
        Self::open(server, "/realtime/v1/longpoll?apikey=good&vsn=2.0.0").await
    }

    fn url(&self) -> String {
        format!("{}&token={}", self.url, self.token)
    }

    /// Asks for messages; the token stays as it is.
    async fn get(&self) -> Value {
        let response = self.http.get(self.url()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        response.json().await.unwrap()
    }

    /// The same in a task of its own.
    fn asking(&self) -> tokio::task::JoinHandle<Value> {
        let request = self.http.get(self.url());
        tokio::spawn(async move { request.send().await.unwrap().json().await.unwrap() })
    }

    /// The next messages, and takes the token that they came with.
    #[track_caller]
    fn messages(&mut self) -> impl Future<Output = Vec<Value>> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                let answer = tokio::time::timeout(PATIENCE, self.get()).await.unwrap();
                self.token = answer["token"].as_str().unwrap_or_default().to_owned();
                let messages = answer["messages"].as_array().cloned().unwrap_or_default();
                match answer["status"].as_u64() {
                    Some(200) => return messages.iter().map(parsed).collect(),
                    Some(204) => assert!(messages.is_empty()),
                    _ => panic!("expected messages at {caller}, got {answer}"),
                }
            }
        }
    }

    /// So many messages, in however many answers.
    async fn receive(&mut self, count: usize) -> Vec<Value> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.extend(self.messages().await);
        }
        assert_eq!(messages.len(), count, "{messages:#?}");
        messages
    }

    async fn post(&self, media: &str, body: impl Into<reqwest::Body>) -> Value {
        let request = self.http.post(self.url()).header("content-type", media);
        request.body(body).send().await.unwrap().json().await.unwrap()
    }

    async fn send(&self, frames: &[Value]) {
        let lines: Vec<_> = frames.iter().map(Value::to_string).collect();
        let answer = self.post("application/x-ndjson", lines.join("\n")).await;
        assert_eq!(answer, json!({"status": 200}));
    }

    async fn join(&mut self, topic: &str, config: Value) -> Vec<Value> {
        self.send(&[json!(["1", "1", topic, "phx_join", { "config": config }])])
            .await;
        self.messages().await
    }
}

fn parsed(text: &Value) -> Value {
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

fn heartbeat(reference: &str) -> Value {
    json!([null, reference, "phoenix", "heartbeat", {}])
}

async fn quick() -> Server {
    Server::with(Settings {
        connect_error_delay: Duration::ZERO,
        poll_wait: Duration::from_millis(150),
        poll_patience: Duration::from_secs(3),
        ..Settings::default()
    })
    .await
}

fn closed(server: &Server, reason: &'static str) -> u64 {
    server
        .metrics
        .connections_closed
        .get_or_create(&[("reason", reason)])
        .get()
}

#[tokio::test]
async fn both_path_families_and_both_versions_answer() {
    let server = Server::start().await;
    for socket in ["/socket", "/realtime/v1"] {
        let mut client = Poller::open(&server, &format!("{socket}/longpoll?apikey=good")).await;
        let beat = json!({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "1"});
        let answer = client.post("application/json", beat.to_string()).await;
        assert_eq!(answer, json!({"status": 200}));
        let reply = json!({"topic": "phoenix", "event": "phx_reply", "payload": {"status": "ok", "response": {}}, "ref": "1"});
        assert_eq!(client.receive(1).await, [reply]);

        let mut client = Poller::open(
            &server,
            &format!("{socket}/longpoll?vsn=2.0.0&apikey=%20go%20od&&token="),
        )
        .await;
        client.send(&[heartbeat("1"), heartbeat("2")]).await;
        let replies = client.receive(2).await;
        assert_eq!((&replies[0][1], &replies[1][1]), (&json!("1"), &json!("2")));
    }
    assert_eq!(server.metrics.longpoll_sessions.get(), 4);
    until("frames are counted", || server.metrics.frames_sent.get() == 6).await;
}

#[tokio::test]
async fn rows_and_broadcasts_come_as_text() {
    let server = Server::start().await;
    let mut client = Poller::v2(&server).await;
    let mut socket = server.client().await;
    let mut config = one_binding();
    config["broadcast"] = json!({"self": true, "ack": true});
    let mut joined = client.join("realtime:a", config).await;
    while joined.len() < 2 {
        joined.extend(client.messages().await);
    }
    assert_eq!(joined[0][4]["status"], "ok");
    assert_eq!(joined[1][4]["message"], "Subscribed to PostgreSQL");
    let request = server.request().await;
    let row = r#"[null,null,"realtime:a","postgres_changes",{"é":"\"\u0007"}]"#;
    request
        .subscriber
        .outbox
        .push(Frame::Text(row.to_owned().into()))
        .unwrap();
    assert_eq!(
        client.receive(1).await,
        [serde_json::from_str::<Value>(row).unwrap()]
    );

    // A kind 3 frame, as phoenix.js sends one here: in base64.
    let topic = b"realtime:a";
    let frame = [&[3, 1, 1, 10, 1, 0, 1][..], b"19", topic, b"e", br#"{"x":1}"#].concat();
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, frame);
    assert_eq!(
        client.post("application/x-ndjson", text).await,
        json!({"status": 200})
    );
    let mut heard = client.receive(2).await;
    heard.sort_by_key(|frame| frame[3].to_string());
    let envelope = json!({"type": "broadcast", "event": "e", "payload": {"x": 1}});
    assert_eq!(heard[0], json!([null, null, "realtime:a", "broadcast", envelope]));
    assert_eq!(heard[1][1], "9");

    // Bytes from elsewhere cannot be told; what follows them is.
    socket.join("realtime:a", json!({})).await;
    let mut frame = [&[3, 0, 0, 10, 1, 0, 0][..], topic, b"b"].concat();
    frame.extend([0, 255]);
    socket.0.send(Message::binary(frame)).await.unwrap();
    let said = json!({"type": "broadcast", "event": "after", "payload": {}});
    socket
        .send(json!(["1", null, "realtime:a", "broadcast", said]))
        .await;
    assert_eq!(client.receive(1).await[0][4], said);
}

#[tokio::test]
async fn refusals_are_those_of_the_socket_with_a_status_that_clients_know() {
    let server = Server::with(Settings {
        connections: 1,
        connect_error_delay: Duration::ZERO,
        ..Settings::default()
    })
    .await;
    let ask = async |query: &str| -> Response {
        let url = format!("http://{}/socket/longpoll{query}", server.address);
        let request = reqwest::Client::new()
            .get(url)
            .header(ORIGIN, "http://example.org");
        request.send().await.unwrap()
    };
    for (query, status, told) in [
        ("", 401, json!({"error": "API key is missing", "status": 403})),
        (
            "?apikey=expired",
            401,
            json!({"error": "Token has expired", "status": 403}),
        ),
        (
            "?apikey=unsigned&token=null",
            401,
            json!({"error": "Failed to validate JWT signature", "status": 403}),
        ),
        ("?apikey=good&vsn=3.0.0", 403, json!({"status": 403})),
    ] {
        let response = ask(query).await;
        assert_eq!(response.status(), status, "{query}");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(response.json::<Value>().await.unwrap(), told);
    }
    // A browser asks before it sends lines of JSON to another origin.
    let url = format!("http://{}/socket/longpoll", server.address);
    let preflight = reqwest::Client::new()
        .request(Method::OPTIONS, url)
        .header(ORIGIN, "http://example.org")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "content-type,x-phoenix-authtoken",
        );
    let allowed = preflight.send().await.unwrap();
    assert_eq!(allowed.status(), 200);
    assert_eq!(
        allowed.headers()["access-control-allow-headers"],
        "content-type,x-phoenix-authtoken"
    );
    let _first = Poller::v2(&server).await;
    let response = ask("?apikey=good").await;
    assert_eq!(response.status(), 429);
    let told = json!({"error": "Too many connected users", "status": 500});
    assert_eq!(response.json::<Value>().await.unwrap(), told);
    assert_eq!(server.metrics.connections.get(), 1);
}

#[tokio::test]
async fn a_token_that_is_none_opens_nothing() {
    let server = Server::start().await;
    let gone = json!({"status": 410, "token": null, "messages": []});
    let mut client = Poller::v2(&server).await;
    let good = client.token.clone();
    let unknown = format!("{}.0", "A".repeat(22));
    for token in [
        unknown.as_str(),
        "rubbish",
        "%00",
        "a.b",
        &format!("{good}1"),
        &format!("{}7", good),
    ] {
        client.token = token.to_owned();
        assert_eq!(client.get().await, gone, "{token}");
    }
    for token in ["", "null", &unknown, "rubbish"] {
        client.token = token.to_owned();
        assert_eq!(client.post("application/json", "[]").await, gone, "{token}");
    }
    for method in [Method::HEAD, Method::PUT, Method::DELETE] {
        let url = format!("http://{}/socket/longpoll?apikey=good", server.address);
        let response = client.http.request(method, url).send().await.unwrap();
        assert_eq!(response.status(), 405);
    }
    assert_eq!(server.metrics.connections.get(), 1);
    client.token = good;
    client.send(&[heartbeat("1")]).await;
    assert_eq!(client.receive(1).await[0][1], "1");
}

#[tokio::test]
async fn an_answer_that_did_not_arrive_is_given_again_and_nothing_twice_to_who_goes_on() {
    let server = Server::start().await;
    let mut client = Poller::v2(&server).await;
    client.send(&[heartbeat("1")]).await;
    let first = client.get().await;
    client.send(&[heartbeat("2")]).await;
    assert_eq!(client.get().await, first, "the token says that it did not come");
    client.token = first["token"].as_str().unwrap().to_owned();
    assert_eq!(client.receive(1).await[0][1], "2");
    // Whoever waits and goes away has been told nothing, whenever the server notices.
    let waiting = client.asking();
    tokio::task::yield_now().await;
    waiting.abort();
    client.send(&[heartbeat("3")]).await;
    assert_eq!(client.receive(1).await[0][1], "3");
}

#[tokio::test]
async fn of_two_requests_the_older_ends_with_nothing() {
    let server = Server::start().await;
    let mut client = Poller::v2(&server).await;
    let mut asking: Vec<_> = (0..20).map(|_| client.asking()).collect();
    // All but one of them, in whatever order they came.
    let mut ended = 0;
    while ended < 19 {
        let (answer, _, rest) = futures_util::future::select_all(asking).await;
        asking = rest;
        let answer = answer.unwrap();
        assert_eq!(
            (&answer["status"], &answer["token"]),
            (&json!(204), &json!(client.token))
        );
        ended += 1;
    }
    client.send(&[heartbeat("1")]).await;
    let answer = asking.remove(0).await.unwrap();
    assert_eq!(parsed(&answer["messages"][0])[1], "1");
    client.token = answer["token"].as_str().unwrap().to_owned();
    client.send(&[heartbeat("2")]).await;
    assert_eq!(client.receive(1).await[0][1], "2");
}

#[tokio::test]
async fn a_wait_without_news_ends_and_the_session_stays_as_long_as_it_is_polled() {
    let server = quick().await;
    let client = Poller::v2(&server).await;
    for _ in 0..25 {
        let answer = client.get().await;
        let nothing = json!({"status": 204, "token": client.token, "messages": []});
        assert_eq!(answer, nothing);
    }
    assert_eq!(server.metrics.longpoll_sessions.get(), 1);
}

#[tokio::test]
async fn a_session_that_nobody_polls_gives_everything_back() {
    let server = quick().await;
    let mut client = Poller::v2(&server).await;
    client.join("realtime:a", one_binding()).await;
    let request = server.request().await;
    assert_eq!(server.given_back().await, request.subscriber.id);
    until("the slot is free", || server.metrics.connections.get() == 0).await;
    assert_eq!(
        (server.metrics.longpoll_sessions.get(), closed(&server, "client")),
        (0, 1)
    );
    assert!(!request.subscriber.outbox.outbox().is_open());
    assert_eq!(client.get().await["status"], 410);
}

#[tokio::test]
async fn who_goes_away_while_it_waits_is_missed_before_its_time() {
    // Otherwise it would be missed after more than half a minute, which is longer than this waits.
    let server = Server::start().await;
    let client = Poller::v2(&server).await;
    let (answer, _, waiting) = futures_util::future::select_all([client.asking(), client.asking()]).await;
    assert_eq!(answer.unwrap()["status"], 204, "the other one waits now");
    for waiting in waiting {
        waiting.abort();
    }
    until("it has ended", || server.metrics.connections.get() == 0).await;
    assert_eq!(closed(&server, "client"), 1);
}

#[tokio::test]
async fn sessions_that_nobody_uses_make_room_again() {
    let server = Server::with(Settings {
        connections: 20,
        connect_error_delay: Duration::ZERO,
        poll_patience: Duration::from_millis(600),
        ..Settings::default()
    })
    .await;
    let open = format!("http://{}/socket/longpoll?apikey=good", server.address);
    let flood = (0..100).map(|_| async { reqwest::get(&open).await.unwrap().status().as_u16() });
    let statuses = futures_util::future::join_all(flood).await;
    assert!(
        statuses.iter().all(|status| [200, 429].contains(status)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&429) && server.metrics.connections.get() <= 20);
    until("all have ended", || server.metrics.connections.get() == 0).await;
    Poller::v2(&server).await;
}

#[tokio::test]
async fn who_does_not_fetch_is_told_to_come_back() {
    let server = Server::with(Settings {
        outbox: Bounds {
            frames: 4,
            bytes: 1_000_000,
        },
        ..Settings::default()
    })
    .await;
    let mut client = Poller::v2(&server).await;
    client.join("realtime:a", one_binding()).await;
    let outbox = server.request().await.subscriber.outbox;
    while outbox.push(Frame::Text("[]".into())).is_ok() {}
    until("the session has ended", || {
        server.metrics.longpoll_sessions.get() == 0
    })
    .await;
    assert_eq!(client.get().await["status"], 410);
    assert_eq!(
        (
            server.metrics.outbox_overflows.get(),
            closed(&server, "slow_consumer")
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn rubbish_is_dropped_and_what_is_too_large_refused() {
    let server = Server::with(Settings {
        message_bytes: 1_000,
        request_bytes: 10_000,
        ..Settings::default()
    })
    .await;
    let mut client = Poller::v2(&server).await;
    let mut body = b"{\n[1,2]\nnull\n\"x\"\n!!\nAwDI\n\xff\xfe\n".to_vec();
    body.extend(heartbeat("1").to_string().into_bytes());
    assert_eq!(
        client.post("application/x-ndjson", body).await,
        json!({"status": 200})
    );
    assert_eq!(client.receive(1).await[0][1], "1");
    assert_eq!(server.metrics.frames_malformed.get(), 7);
    for empty in ["", "\n\n \r\n"] {
        assert_eq!(
            client.post("application/x-ndjson", empty).await,
            json!({"status": 200})
        );
    }
    assert_eq!(
        client.post("application/json", "[".repeat(10_001)).await,
        json!({"status": 413})
    );
    client.send(&[heartbeat("2")]).await;
    assert_eq!(client.receive(1).await[0][1], "2");
    let told = client.post("application/json", "[".repeat(1_001)).await;
    assert_eq!(told["status"], 410);
    until("it has ended", || closed(&server, "too_large") == 1).await;
}

#[tokio::test]
async fn a_flood_is_taken_in_as_fast_as_it_may_be_and_in_order() {
    let server = Server::start().await;
    let mut client = Poller::v2(&server).await;
    // Twice 1,000 at once, then 1,000 per second.
    let beats: Vec<_> = (0..2_300).map(|n| heartbeat(&n.to_string())).collect();
    let (first, second) = beats.split_at(1_500);
    let mut listener = Poller {
        http: client.http.clone(),
        url: client.url.clone(),
        token: client.token.clone(),
    };
    let sending = async {
        client.send(first).await;
        client.send(second).await;
    };
    let ((), replies) = tokio::join!(sending, listener.receive(2_300));
    for (n, reply) in replies.iter().enumerate() {
        assert_eq!(reply[1], n.to_string());
    }
    client.token = listener.token;
    assert_eq!(server.metrics.longpoll_sessions.get(), 1);
}

#[tokio::test]
async fn half_a_request_holds_nobody_up() {
    let server = quick().await;
    let client = Poller::v2(&server).await;
    let mut half = TcpStream::connect(&server.address).await.unwrap();
    let head = format!(
        "POST /socket/longpoll?token={} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n[",
        client.token
    );
    half.write_all(head.as_bytes()).await.unwrap();
    let mut neighbour = Poller::v2(&server).await;
    neighbour.send(&[heartbeat("1")]).await;
    assert_eq!(neighbour.receive(1).await[0][1], "1");
    // Its own next message has to wait, but not longer than the session lives.
    let second = client.post("application/json", heartbeat("2").to_string());
    let second = tokio::time::timeout(PATIENCE, second).await.unwrap();
    assert_eq!(second["status"], 410);
    until("both have ended", || server.metrics.connections.get() == 0).await;
}

#[tokio::test]
async fn a_stop_tells_everybody_and_waits_for_nobody() {
    let server = Server::start().await;
    let mut waiting = Poller::v2(&server).await;
    waiting.join("realtime:a", json!({})).await;
    let asking = waiting.asking();
    let mut away = Poller::v2(&server).await;
    away.join("realtime:b", json!({})).await;
    let idle = Poller::v2(&server).await.asking();
    until("all have asked", || server.metrics.frames_sent.get() == 2).await;
    server.shutdown.cancel();
    let answer = asking.await.unwrap();
    let notice = parsed(&answer["messages"][0]);
    assert_eq!(
        (&answer["status"], &notice[4]["message"]),
        (&json!(200), &json!("Server requested disconnect"))
    );
    assert_eq!(idle.await.unwrap()["status"], 410);
    // One that does not ask for the rest does not hold the end up for long.
    server.shutdown.wait(PATIENCE).await.unwrap();
    assert_eq!(
        (server.metrics.connections.get(), closed(&server, "restart")),
        (0, 3)
    );
    waiting.token = answer["token"].as_str().unwrap().to_owned();
    assert_eq!(waiting.get().await["status"], 410);
    let response = reqwest::get(&waiting.url).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.json::<Value>().await.unwrap()["status"], 500);
}
