//! HTTP/2 without TLS, by a client that knows, and by frames (RFC 9113) that no client sends.

use reqwest::{Client, StatusCode, Version};

use super::*;

/// What a client begins with, and its settings, none.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// Types of frames.
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

fn client() -> Client {
    Client::builder().http2_prior_knowledge().build().unwrap()
}

async fn hello(server: &Served) -> TcpStream {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(HELLO).await.unwrap();
    socket
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `GET path`, ended, without names that need to be compressed: `:method GET`, `:scheme http` and `:path` are in the static table
/// (RFC 7541, appendix A).
fn get(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block.extend([0x01, 1]);
    block.extend(b"x");
    // HEADERS, with END_STREAM and END_HEADERS.
    frame(1, 0x5, stream, &block)
}

/// The next frame of this type: its payload. `None` if the connection ends before.
async fn next(socket: &mut TcpStream, kind: u8) -> Option<Vec<u8>> {
    let search = async {
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).ok()?];
            socket.read_exact(&mut payload).await.ok()?;
            if head[3] == kind {
                return Some(payload);
            }
        }
    };
    tokio::time::timeout(PATIENCE, search)
        .await
        .expect("a frame or an end")
}

/// The reason in a GOAWAY frame.
fn reason(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[4..8].try_into().unwrap())
}

#[tokio::test]
async fn who_knows_speaks_http2_on_the_same_port() {
    let server = served(Bounds::default()).await;
    let url = format!("http://{}/", server.address);
    for (client, version) in [(client(), Version::HTTP_2), (Client::new(), Version::HTTP_11)] {
        let answer = client.get(&url).send().await.unwrap();
        assert_eq!(answer.version(), version);
        assert_eq!(answer.text().await.unwrap(), "here");
    }
}

#[tokio::test]
async fn requests_share_a_connection() {
    let server = served(Bounds::default()).await;
    let mut socket = hello(&server).await;
    for stream in [1, 3, 5] {
        socket.write_all(&get(stream, "/slow")).await.unwrap();
        server.entered.notified().await;
    }
    server.leave.notify_waiters();
    for _ in 0..3 {
        assert_eq!(next(&mut socket, 0).await.as_deref(), Some(&b"done"[..]));
    }
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_refused() {
    let server = served(Bounds::default()).await;
    let ask = |bytes: usize| {
        let request = client().get(format!("http://{}/", server.address));
        request.header("x-long", "a".repeat(bytes)).send()
    };
    assert_eq!(ask(60_000).await.unwrap().status(), StatusCode::OK);
    let refused = ask(Bounds::default().bytes).await.unwrap();
    assert_eq!(refused.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let server = served(Bounds::default()).await;
    let mut idle = hello(&server).await;
    let mut waiting = hello(&server).await;
    waiting.write_all(&get(1, "/slow")).await.unwrap();
    server.entered.notified().await;
    server.shutdown.cancel();
    // Told to ask nothing more. What it had asked is answered, whoever else has gone.
    assert_eq!(next(&mut waiting, GOAWAY).await.map(|p| reason(&p)), Some(0));
    assert!(next(&mut idle, GOAWAY).await.is_some());
    drop(idle);
    assert!(!server.serving.is_finished());
    server.leave.notify_one();
    assert_eq!(next(&mut waiting, 0).await.as_deref(), Some(&b"done"[..]));
    drop(waiting);
    tokio::time::timeout(PATIENCE, server.serving)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn who_asks_nothing_is_not_kept() {
    let server = served(Bounds {
        time: Duration::from_millis(50),
        ..Bounds::default()
    })
    .await;
    // Half a hello, a whole one, one with half a request behind it, and one whose request was answered.
    let half = [HELLO, &get(1, "/")[..12]].concat();
    let whole = [HELLO, &get(1, "/")].concat();
    for said in [&HELLO[..10], HELLO, &half, &whole] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(said).await.unwrap();
        while next(&mut socket, u8::MAX).await.is_some() {}
    }
    // But who waits for an answer is.
    let mut socket = hello(&server).await;
    socket.write_all(&get(1, "/slow")).await.unwrap();
    server.entered.notified().await;
    for _ in 0..3 {
        let mut idle = hello(&server).await;
        while next(&mut idle, u8::MAX).await.is_some() {}
    }
    server.leave.notify_one();
    assert_eq!(next(&mut socket, 0).await.as_deref(), Some(&b"done"[..]));
}

#[tokio::test]
async fn who_leaves_ends_what_it_has_asked() {
    let server = served(Bounds::default()).await;
    let mut leaving = hello(&server).await;
    for stream in [1, 3] {
        leaving.write_all(&get(stream, "/slow")).await.unwrap();
        server.entered.notified().await;
    }
    drop(leaving);
    server.shutdown.cancel();
    tokio::time::timeout(PATIENCE, server.serving)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn who_is_gone_without_a_word_is_not_waited_for() {
    let server = served(Bounds {
        ping: Duration::from_millis(50),
        pong: Duration::from_secs(1),
        ..Bounds::default()
    })
    .await;
    let url = format!("http://{}/slow", server.address);
    let there = tokio::spawn(client().get(url).send());
    server.entered.notified().await;
    // This one waits for an answer as well, and answers no ping. It began later, so the other has been asked before.
    let mut gone = hello(&server).await;
    gone.write_all(&get(1, "/slow")).await.unwrap();
    server.entered.notified().await;
    while next(&mut gone, u8::MAX).await.is_some() {}
    server.leave.notify_waiters();
    let answer = there.await.unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), "done");
}

#[tokio::test]
async fn a_flood_of_requests_taken_back_ends_the_connection() {
    let server = served(Bounds::default()).await;
    let mut socket = hello(&server).await;
    let mut flood = Vec::new();
    for stream in (1..4_000).step_by(2) {
        flood.extend(get(stream, "/slow"));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    // The connection may be gone before all of it is written.
    let _ = socket.write_all(&flood).await;
    // ENHANCE_YOUR_CALM.
    assert_eq!(next(&mut socket, GOAWAY).await.map(|p| reason(&p)), Some(11));
    let answer = client().get(format!("http://{}/", server.address)).send().await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn more_requests_at_once_than_allowed_are_refused() {
    let server = served(Bounds::default()).await;
    let mut socket = hello(&server).await;
    for stream in (1..=401).step_by(2) {
        socket.write_all(&get(stream, "/slow")).await.unwrap();
    }
    // REFUSED_STREAM: it may be asked again.
    let refused = next(&mut socket, RST_STREAM).await.unwrap();
    assert_eq!(refused, 7_u32.to_be_bytes());
}
