//! `GET …/sse`: the stream of one request (HTML Standard, "Server-sent events").

mod pieces;
mod streaming;

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::super::Server;
use super::super::hangup::Hangup;
use super::admission::{Admitted, admit};
use super::handoff::{Writer, handoff};
use super::opening::{Opened, open};

use streaming::{Ending, LAST, Streaming};

/// `GET` and `HEAD …/sse`.
pub(in super::super) async fn serve(
    State(server): State<Arc<Server>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    hangup: Option<Extension<Hangup>>,
) -> Response {
    let admitted = match admit(&server, &uri, &headers).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.response(&server).await,
    };
    if method == Method::HEAD {
        return head(Body::empty());
    }
    let Admitted { asked, new, slot } = admitted;
    match Box::pin(open(&server, new, &asked)).await {
        Ok(opened) => {
            let (writer, stream) = handoff(slot);
            tokio::spawn(write(opened, writer, hangup.map(|Extension(hangup)| hangup)));
            head(Body::new(stream))
        }
        Err(refusal) => refusal.response(&server).await,
    }
}

/// What an answer begins with. Proxies are asked neither to keep nor to change nor to gather it.
fn head(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store, no-transform"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (StatusCode::OK, headers, body).into_response()
}

/// Writes a stream from its opening to its end.
async fn write(opened: Opened, writer: Writer, hangup: Option<Hangup>) {
    let metrics = Arc::clone(&opened.channels.server().metrics);
    metrics.event_streams.inc();
    let mut streaming = Streaming::new(opened.channels, writer);
    let ending = streaming.run(opened.batches).await;
    metrics.event_streams.dec();
    streaming.channels.end(ending.label());
    let taken = match ending {
        Ending::Slow => false,
        Ending::Client => true,
        Ending::Over(_) => timeout(LAST, streaming.writer.taken(true)).await.is_ok(),
    };
    if !taken {
        streaming.writer.abandon();
        // The HTTP server would wait for it to read for as long as it likes.
        if let Some(hangup) = hangup {
            hangup.now();
        }
    }
}
