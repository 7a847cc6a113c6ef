use super::*;
use crate::hub::Bounds;

#[tokio::test]
async fn both_path_families_and_both_versions_answer_a_heartbeat() {
    let server = Server::start().await;
    for path in [
        "/socket/websocket",
        "/realtime/v1/websocket",
        "/realtime/v1/websocket/",
    ] {
        let mut client = server.connect(&format!("{path}?apikey=good")).await.unwrap();
        client
            .send(json!({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": null}))
            .await;
        let reply = json!({"topic": "phoenix", "event": "phx_reply", "payload": {"status": "ok", "response": {}}, "ref": null});
        assert_eq!(client.receive().await, reply);
        let mut client = server
            .connect(&format!("{path}?vsn=2.0.0&apikey=%20go%20od"))
            .await
            .unwrap();
        client.send(json!([null, "1", "phoenix", "heartbeat", {}])).await;
        assert_eq!(client.receive().await[1], "1");
    }
}

#[tokio::test]
async fn the_reply_and_subscribed_come_through_the_feed() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let reply = client.join("realtime:a", one_binding()).await;
    assert_eq!(reply[4]["status"], "ok");
    assert_eq!(client.receive().await[4]["message"], "Subscribed to PostgreSQL");
    let request = server.request().await;
    for n in 0..3 {
        let frame = format!("[null,null,\"realtime:a\",\"postgres_changes\",{n}]");
        request.subscriber.outbox.push(Frame::Text(frame.into())).unwrap();
    }
    for n in 0..3 {
        assert_eq!(client.receive().await[4], n);
    }
    until("frames are counted", || server.metrics.frames_sent.get() == 5).await;
}

#[tokio::test]
async fn a_client_that_goes_away_gives_everything_back() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.join("realtime:a", one_binding()).await;
    let request = server.request().await;
    client.0.close(None).await.unwrap();
    assert_eq!(
        client.close_code().await,
        None,
        "a close without a code is answered in kind"
    );
    assert_eq!(server.given_back().await, request.subscriber.id);
    until("the slot is free", || server.metrics.connections.get() == 0).await;
    assert_eq!(server.metrics.channels.get(), 0);
    assert!(!request.subscriber.outbox.outbox().is_open());
}

#[tokio::test]
async fn rubbish_is_dropped_and_the_connection_stays() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for rubbish in [
        Message::text("{"),
        Message::text("[1,2]"),
        Message::binary(vec![3, 200, 1]),
        Message::binary(vec![]),
    ] {
        client.0.send(rubbish).await.unwrap();
    }
    client.0.send(Message::Ping(vec![1].into())).await.unwrap();
    client.send(json!([null, "1", "phoenix", "heartbeat", {}])).await;
    loop {
        match client.0.next().await.unwrap().unwrap() {
            Message::Pong(_) => {}
            Message::Text(text) => break assert!(text.contains("phx_reply")),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.metrics.frames_malformed.get(), 4);
}

#[tokio::test]
async fn a_message_too_large_closes_with_its_code_and_harms_nobody() {
    let server = Server::start().await;
    let (mut sender, mut bystander) = (server.client().await, server.client().await);
    sender.0.send(Message::text("x".repeat(6_000_000))).await.unwrap();
    assert_eq!(sender.close_code().await, Some(1009));
    bystander
        .send(json!([null, "1", "phoenix", "heartbeat", {}]))
        .await;
    bystander.receive().await;
    let mut huge = server.client().await;
    // Much too large: the server does not read it to its end, so the client may see a broken socket instead.
    let _ = huge.0.send(Message::text("x".repeat(11_000_000))).await;
    let code = huge.close_code().await;
    assert!(matches!(code, Some(1009) | None), "{code:?}");
    until("both are counted as too large", || {
        server
            .metrics
            .connections_closed
            .get_or_create(&[("reason", "too_large")])
            .get()
            == 2
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_is_told_to_come_back() {
    let outbox = Bounds {
        frames: 4,
        bytes: 1_000_000,
    };
    let server = Server::with(Settings {
        outbox,
        ..Settings::default()
    })
    .await;
    let mut client = server.client().await;
    client.join("realtime:a", one_binding()).await;
    let request = server.request().await;
    // In one go, so that the connection's task cannot take any meanwhile (this runtime has one thread).
    let frame = Frame::Text(
        "[null,null,\"realtime:a\",\"postgres_changes\",{}]"
            .to_owned()
            .into(),
    );
    while request.subscriber.outbox.push(frame.clone()).is_ok() {}
    assert_eq!(client.close_code().await, Some(1013));
    assert_eq!(server.metrics.outbox_overflows.get(), 1);
}

#[tokio::test]
async fn a_restart_is_announced_and_waits_for_every_connection() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.join("realtime:a", json!({})).await;
    server.shutdown.cancel();
    assert_eq!(
        client.receive().await[4]["message"],
        "Server requested disconnect"
    );
    assert_eq!(client.close_code().await, Some(1012));
    server.shutdown.wait(PATIENCE).await.unwrap();
    assert_eq!(server.metrics.connections.get(), 0);
    let (status, _) = server.refused("/socket/websocket?apikey=good").await;
    assert_eq!(status, 503);
}

#[tokio::test]
async fn a_client_that_stays_cannot_hold_up_a_restart() {
    let server = Server::start().await;
    let client = server.client().await;
    server.shutdown.cancel();
    server.shutdown.wait(PATIENCE).await.unwrap();
    drop(client);
}

#[tokio::test]
async fn joining_a_thousand_times_in_a_second_is_answered_and_closed() {
    let server = Server::start().await;
    let (mut client, mut bystander) = (server.client().await, server.client().await);
    for n in 0..1000 {
        let join = json!([n.to_string(), n.to_string(), "realtime:a", "phx_join", {"config": {}}]);
        if client.0.send(Message::text(join.to_string())).await.is_err() {
            break;
        }
    }
    assert!(matches!(client.close_code().await, Some(1001) | None));
    assert_eq!(bystander.join("realtime:a", json!({})).await[4]["status"], "ok");
}

#[tokio::test]
async fn the_state_of_the_stream_reaches_subscribed_channels() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.join("realtime:a", one_binding()).await;
    client.receive().await;
    server
        .stream
        .send(StreamState::Interrupted("gone".to_owned()).into())
        .unwrap();
    assert!(
        client.receive().await[4]["message"]
            .as_str()
            .unwrap()
            .contains("delayed")
    );
    server.stream.send(StreamState::Live.into()).unwrap();
    assert!(
        client.receive().await[4]["message"]
            .as_str()
            .unwrap()
            .contains("flowing again")
    );
}

#[tokio::test]
async fn an_idle_connections_task_is_small() {
    let size = std::mem::size_of::<super::super::connection::Connection>();
    assert!(size < 1_024, "{size} bytes");
}
