//! What goes up and comes down while a session lives.

use super::*;

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
