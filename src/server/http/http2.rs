//! HTTP/2 on one connection. A WebSocket cannot be opened on it (RFC 8441 is not offered), so clients open those on
//! connections of their own; everything else can be asked.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::Service;
use crate::shutdown::Shutdown;
use crate::transport::Stream;

/// Requests that may be open on one connection, streams of events among them. RFC 9113, section 6.5.2, advises against fewer than
/// 100.
const STREAMS: u32 = 200;

/// What may have been received for one request, and for all of a connection, and is not read yet. In bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What may wait to be sent for one request, in bytes: beyond it, whoever answers waits.
const SEND_BUFFER: usize = 64 * 1024;

/// Requests that may have been taken back before they were looked at; with one more the connection ends (CVE-2023-44487).
const RESETS: usize = 20;

/// Mistakes of a client that are each answered with a reset; with one more the connection ends (RUSTSEC-2024-0003).
const ERRORS: usize = 100;

/// Serves a connection until it ends, has nothing to ask for a while, or `shutdown` is cancelled; what is open by then is still
/// answered.
pub(super) async fn serve(
    stream: Stream,
    service: Service,
    connections: TaskTracker,
    shutdown: &Shutdown,
) -> hyper::Result<()> {
    let bounds = service.bounds;
    let requests = Requests::new(connections);
    let mut http = http2::Builder::new(requests.clone());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(bounds.bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(ERRORS)
        .keep_alive_interval(bounds.ping)
        .keep_alive_timeout(bounds.pong);
    let router = TowerToHyperService::new(service.router);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), router));
    tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
        () = requests.idle(bounds.time) => {
            served.as_mut().graceful_shutdown();
            // It may not even have said hello.
            timeout(bounds.time, served).await.unwrap_or(Ok(()))
        }
    }
}

/// The requests of one connection, each a task from its head to the end of its answer.
#[derive(Clone)]
struct Requests {
    tasks: TaskTracker,
    begun: Arc<AtomicU64>,
    ended: Arc<AtomicU64>,
}

impl Requests {
    fn new(tasks: TaskTracker) -> Self {
        Self {
            tasks,
            begun: Arc::default(),
            ended: Arc::default(),
        }
    }

    /// Resolves once there has been none for this long, and at most for twice as long.
    async fn idle(&self, time: Duration) {
        let mut before = 0;
        loop {
            sleep(time).await;
            let begun = self.begun.load(Ordering::Acquire);
            if begun == before && self.ended.load(Ordering::Acquire) == begun {
                return;
            }
            before = begun;
        }
    }
}

impl<F> Executor<F> for Requests
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, request: F) {
        self.begun.fetch_add(1, Ordering::AcqRel);
        let under_way = UnderWay(Arc::clone(&self.ended));
        self.tasks.spawn(async move {
            request.await;
            drop(under_way);
        });
    }
}

/// Counts a request as ended, however it ends.
struct UnderWay(Arc<AtomicU64>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}
