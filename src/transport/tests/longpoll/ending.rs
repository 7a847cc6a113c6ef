//! When a session ends, and what is left of it then.

use tokio::io::AsyncWriteExt;

use super::*;
use crate::hub::Bounds;

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
