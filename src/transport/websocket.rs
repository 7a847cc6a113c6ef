//! How a WebSocket is opened: the request, its version, and who may (`admission`).

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::Server;
use super::admission::{Parameters, admit, custom_headers, parameter, recall, refuse, token};
use super::connection::Connection;
use super::driver::New;
use super::slots::Slot;
use super::socket::Socket;
use super::stream::Stream;
use crate::protocol::Version;

/// Read buffer of a socket, in bytes: what most messages fit into. It grows with a larger one, but no system call reads more.
const READ_BUFFER: usize = 1_024;

/// `GET /socket/websocket` and `/realtime/v1/websocket`.
pub(super) async fn connect(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    query: Result<Query<Parameters>, QueryRejection>,
    upgrade: Option<Extension<OnUpgrade>>,
    // Says what is wrong with a request; behind the one that it would take.
    request: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if let Err(rejection) = request {
        return (StatusCode::BAD_REQUEST, rejection.body_text()).into_response();
    }
    let (Some(Extension(upgrade)), Some(key)) = (upgrade, headers.get(header::SEC_WEBSOCKET_KEY)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Ok(Query(parameters)) = query else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(version) = Version::from_vsn(parameter(&parameters, "vsn")) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    match admit(&server, token(&headers, &parameters)).await {
        Ok((token, slot)) => {
            let connection = New {
                version,
                token,
                headers: custom_headers(&headers),
                session: parameter(&parameters, "session").map(Box::from),
            };
            tokio::spawn(serve(upgrade, server, connection, slot));
            switching_protocols(key)
        }
        Err(error) => refuse(&server, &error, error.json()).await,
    }
}

/// Serves a connection from its upgrade to its end.
async fn serve(upgrade: OnUpgrade, server: Arc<Server>, new: New, slot: Slot) {
    // Otherwise the client has gone meanwhile.
    let Ok(upgraded) = upgrade.await else { return };
    let Some((stream, read)) = beneath(upgraded) else {
        tracing::error!("a connection of an unknown kind");
        return;
    };
    // What is somewhat too large is read to its end, so that the client gets a close code instead of a reset.
    let limit = server.settings.message_bytes.saturating_mul(2);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit));
    let socket = Socket::new(stream, read, config).await;
    recall(&server, new.session.as_deref()).await;
    let mut connection = Connection::new(server, socket, new);
    connection.run().await;
    drop(connection);
    drop(slot);
}

/// The connection beneath, and what was read of it beyond the request: the server's own, or TCP as `axum::serve` wraps it.
fn beneath(upgraded: Upgraded) -> Option<(Stream, Bytes)> {
    match upgraded.downcast::<TokioIo<Stream>>() {
        Ok(parts) => Some((parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => {
            let parts = downcast::<TokioIo<TcpStream>>(upgraded).ok()?;
            Some((Stream::Plain(parts.io.into_inner()), parts.read_buf))
        }
    }
}

fn switching_protocols(key: &HeaderValue) -> Response {
    let headers = [
        (header::CONNECTION, "upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes())),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
