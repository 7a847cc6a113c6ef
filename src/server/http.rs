//! Accepts connections and speaks HTTP/1.1 on them, with bounds for those that send no whole request.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::serve::{Listener, ListenerExt};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use crate::shutdown::Shutdown;

/// Bounds of a request's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// It has to arrive within this time, counted from the connection's beginning or the end of the last answer. So it is also
    /// how long a connection may be idle. Default 75 s: proxies that keep theirs for a minute must not meet one that is just
    /// being closed.
    time: Duration,
    /// Most bytes of it. Default 64 KiB: the longest token, percent-encoded, and room for the rest.
    bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(75),
            bytes: 64 * 1024,
        }
    }
}

/// Serves connections until `shutdown` is cancelled, then returns when all have ended. It lasts as long as their requests;
/// WebSockets are tasks of their own by then.
pub(super) async fn serve(listener: TcpListener, router: Router, bounds: Bounds, shutdown: &Shutdown) {
    // Messages are written whole; waiting for more would only delay them.
    let mut listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    let connections = TaskTracker::new();
    loop {
        let socket = tokio::select! {
            // Waits by itself where a connection cannot be accepted.
            (socket, _) = listener.accept() => socket,
            () = shutdown.cancelled() => break,
        };
        connections.spawn(connection(socket, router.clone(), bounds, shutdown.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(socket: TcpStream, router: Router, bounds: Bounds, shutdown: Shutdown) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.time)
        .max_header_size(bounds.bytes);
    let service = TowerToHyperService::new(router);
    let mut served = pin!(
        http.serve_connection(TokioIo::new(socket), service)
            .with_upgrades()
    );
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests;
