//! Accepts connections and speaks HTTP on them, 1.1 or 2, over TCP or TLS, with bounds for those that send no whole request.

mod http2;
mod tls;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::{Listener, ListenerExt};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;
use crate::transport::{Hangup, Stream};

/// So much may wait in the kernel to be sent on one connection: what is on its way comes on top. Bytes.
const UNSENT: u32 = 128 * 1024;

/// What HTTP/2 is called when protocols are negotiated.
pub(super) const H2: &[u8] = b"h2";

/// What connections are served with. Cheap to clone.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) router: Router,
    /// Without it, the port speaks plain text.
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) bounds: Bounds,
    pub(super) metrics: Arc<Metrics>,
}

/// Bounds of what a client may leave unfinished.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// A request's head has to arrive within this time, counted from the connection's first byte or the end of the last answer. So
    /// it is also how long a connection may be idle, and wait for that byte. Default 75 s: proxies that keep theirs for a minute
    /// must not meet one that is just being closed.
    time: Duration,
    /// Most bytes of a head. Default 64 KiB: the longest token, percent-encoded, and room for the rest.
    bytes: usize,
    /// Longest time for a TLS handshake. Default 10 s.
    handshake: Duration,
    /// How often a connection of HTTP/2 on which nothing comes is asked whether it is still there. Default 30 s.
    ping: Duration,
    /// How long it has to say so. Default 20 s.
    pong: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(75),
            bytes: 64 * 1024,
            handshake: Duration::from_secs(10),
            ping: Duration::from_secs(30),
            pong: Duration::from_secs(20),
        }
    }
}

/// What a connection begins to speak.
enum Version {
    Http1,
    Http2,
}

/// Serves connections until `shutdown` is cancelled, then returns when all have ended. It lasts as long as their requests;
/// WebSockets are tasks of their own by then.
pub(super) async fn serve(listener: TcpListener, service: Service, shutdown: &Shutdown) {
    // Messages are written whole; waiting for more would only delay them.
    let mut listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
        bound_unsent(socket);
    });
    let connections = TaskTracker::new();
    loop {
        let socket = tokio::select! {
            // Waits by itself where a connection cannot be accepted.
            (socket, _) = listener.accept() => socket,
            () = shutdown.cancelled() => break,
        };
        let task = connection(socket, service.clone(), connections.clone(), shutdown.clone());
        connections.spawn(task);
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// What waits for a client that does not read waits here, where it is bounded, and not in the kernel, which would take
/// megabytes for each.
fn bound_unsent(socket: &TcpStream) {
    #[cfg(target_os = "linux")]
    if let Err(error) = SockRef::from(socket).set_tcp_notsent_lowat(UNSENT) {
        tracing::trace!(%error, "the kernel bounds what it has not sent by itself");
    }
}

async fn connection(socket: TcpStream, service: Service, connections: TaskTracker, shutdown: Shutdown) {
    let begun = tokio::select! {
        begun = begin(socket, &service) => begun,
        () = shutdown.cancelled() => return,
    };
    let ended = match begun {
        Some((stream, Version::Http1)) => serve_http1(stream, service, &shutdown).await,
        // Boxed: most connections become WebSockets, and this would make every one larger until then.
        Some((stream, Version::Http2)) => {
            Box::pin(http2::serve(stream, service, connections, &shutdown)).await
        }
        None => return,
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "connection ended");
    }
}

/// Waits until the client shows what it speaks; `None` where that is nothing to go on with.
async fn begin(socket: TcpStream, service: &Service) -> Option<(Stream, Version)> {
    let Some(acceptor) = &service.tls else {
        let version = timeout(service.bounds.time, version(&socket)).await.ok()?;
        return Some((Stream::Plain(socket), version.ok()?));
    };
    let stream = Box::pin(tls::accept(socket, acceptor, service)).await?;
    let version = match stream.get_ref().1.alpn_protocol() {
        Some(H2) => Version::Http2,
        _ => Version::Http1,
    };
    Some((Stream::Tls(stream), version))
}

/// Whether the client begins with HTTP/2, without having been told that it may (RFC 9113, section 3.3). Three bytes tell it from
/// any method, and no client sends fewer.
async fn version(socket: &TcpStream) -> io::Result<Version> {
    let mut first = [0; 3];
    socket.peek(&mut first).await?;
    Ok(match &first {
        b"PRI" => Version::Http2,
        _ => Version::Http1,
    })
}

async fn serve_http1(stream: Stream, service: Service, shutdown: &Shutdown) -> hyper::Result<()> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(service.bounds.time)
        .max_header_size(service.bounds.bytes);
    let hangup = Hangup::default();
    let router = TowerToHyperService::new(service.router);
    let routes = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(hangup.clone());
        router.call(request)
    });
    let mut served = pin!(
        http.serve_connection(TokioIo::new(stream), routes)
            .with_upgrades()
    );
    let ended = async {
        tokio::select! {
            ended = served.as_mut() => return ended,
            () = shutdown.cancelled() => {}
        }
        served.as_mut().graceful_shutdown();
        served.await
    };
    tokio::select! {
        ended = ended => ended,
        () = hangup.asked() => Ok(()),
    }
}

#[cfg(test)]
mod tests;
