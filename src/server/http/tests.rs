use std::net::SocketAddr;
use std::sync::Arc;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;

mod http2;
mod tls;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    address: SocketAddr,
    shutdown: Shutdown,
    entered: Arc<Notify>,
    leave: Arc<Notify>,
    serving: JoinHandle<()>,
    metrics: Arc<Metrics>,
}

/// A server with `/`, which answers, and `/slow`, which says when it is entered and waits until it may leave.
async fn served(bounds: Bounds) -> Served {
    served_over(bounds, None).await
}

async fn served_over(bounds: Bounds, tls: Option<TlsAcceptor>) -> Served {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (entering, leaving) = (Arc::clone(&entered), Arc::clone(&leave));
    let slow = || async move {
        entering.notify_one();
        leaving.notified().await;
        "done"
    };
    let router = Router::new()
        .route("/", get(|| async { "here" }))
        .route("/slow", get(slow));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let stopping = shutdown.clone();
    let metrics = Metrics::new();
    let service = Service {
        router,
        tls,
        bounds,
        metrics: Arc::clone(&metrics),
    };
    Served {
        address,
        shutdown,
        entered,
        leave,
        serving: tokio::spawn(async move { serve(listener, service, &stopping).await }),
        metrics,
    }
}

impl Served {
    async fn send(&self, request: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    }
}

/// What comes until the connection ends.
async fn rest(mut socket: TcpStream) -> String {
    let mut text = String::new();
    let ended = tokio::time::timeout(PATIENCE, socket.read_to_string(&mut text)).await;
    // A reset is an end, too.
    drop(ended.expect("the connection ends"));
    text
}

#[tokio::test]
async fn half_a_head_is_not_waited_for_forever() {
    let time = Duration::from_millis(50);
    let server = served(Bounds {
        time,
        ..Bounds::default()
    })
    .await;
    for half in ["", "GET / HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let socket = server.send(half).await;
        let answer = rest(socket).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_refused() {
    let server = served(Bounds::default()).await;
    let head = |bytes: usize| {
        format!(
            "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-long: {}\r\n\r\n",
            "a".repeat(bytes)
        )
    };
    let answer = rest(server.send(&head(60_000)).await).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = rest(server.send(&head(Bounds::default().bytes)).await).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let server = served(Bounds::default()).await;
    let idle = server.send("").await;
    let waiting = server.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.entered.notified().await;
    server.shutdown.cancel();
    assert_eq!(rest(idle).await, "", "who asks nothing is not waited for");
    assert!(!server.serving.is_finished());
    server.leave.notify_one();
    let answer = rest(waiting).await;
    assert!(answer.ends_with("done"), "{answer}");
    tokio::time::timeout(PATIENCE, server.serving)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
