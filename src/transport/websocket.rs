//! Who may open a WebSocket: path, version, token, limits, in the order of protocol.md a.5.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tracing::debug;

use super::Server;
use super::connection::Connection;
use super::slots::Slot;
use super::socket::Socket;
use super::stream::Stream;
use crate::auth::MAX_TOKEN_BYTES;
use crate::protocol::Version;
use crate::protocol::errors::ConnectError;

/// Read buffer of a socket, in bytes: what most messages fit into. It grows with a larger one, but no system call reads more.
const READ_BUFFER: usize = 1_024;

type Parameters = Vec<(String, String)>;

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
        Err(error) => refuse(&server, &error).await,
    }
}

async fn admit(server: &Server, token: Option<Arc<str>>) -> Result<(Arc<str>, Slot), ConnectError> {
    if server.drain.has_begun() {
        return Err(ConnectError::Restarting);
    }
    let token = token.ok_or(ConnectError::MissingToken)?;
    server
        .tokens
        .verify(Arc::clone(&token))
        .await
        .map_err(ConnectError::Token)?;
    let slot = server.slots.take().ok_or(ConnectError::TooManyConnections)?;
    if server.context.rates.joins.is_exhausted(Instant::now().into_std()) {
        return Err(ConnectError::TooManyJoins);
    }
    Ok((token, slot))
}

/// What a connection begins with.
struct New {
    version: Version,
    token: Arc<str>,
    headers: Arc<str>,
    /// By which the client is known again.
    session: Option<Box<str>>,
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
    let returning = match new.session {
        Some(id) => {
            recall(&server, &id).await;
            server.places.connect(&id, Instant::now().into_std())
        }
        None => None,
    };
    let mut connection = Connection::new(server, socket, new.version, new.token, new.headers);
    if let Some((holder, returning)) = returning {
        connection.track(holder, returning);
    }
    connection.run().await;
    drop(connection);
    drop(slot);
}

/// A client that is not known here may come from another server.
async fn recall(server: &Server, id: &str) {
    if server.places.knows(id) {
        return;
    }
    let id: Arc<str> = Arc::from(id);
    if let Ok(Some(place)) = timeout(RECALL, server.keeper.recall(Arc::clone(&id))).await {
        server.places.take_over([(id, place)], Instant::now().into_std());
    }
}

/// Longest wait for what another server knew of a client. Without it, the client is told to look itself.
const RECALL: Duration = Duration::from_secs(2);

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

async fn refuse(server: &Server, error: &ConnectError) -> Response {
    debug!(code = error.code(), "connection refused");
    server
        .metrics
        .connections_refused
        .get_or_create(&[("reason", error.code())])
        .inc();
    tokio::select! {
        () = tokio::time::sleep(server.settings.connect_error_delay) => {}
        () = server.drain.begun() => {}
    }
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (
        status,
        [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
        error.json(),
    )
        .into_response()
}

/// The connection's token, without white space: `x-api-key`, or else `apikey`.
fn token(headers: &HeaderMap, parameters: &Parameters) -> Option<Arc<str>> {
    let header = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    let given = header.or_else(|| parameter(parameters, "apikey"))?;
    let token: String = given
        .chars()
        .filter(|c| !c.is_whitespace())
        // One more is enough to be refused for its length.
        .take(MAX_TOKEN_BYTES + 1)
        .collect();
    (!token.is_empty()).then(|| Arc::from(token))
}

/// The `x-…` headers as a JSON object, for policies.
fn custom_headers(headers: &HeaderMap) -> Arc<str> {
    json_object(headers.iter().filter(|(name, _)| name.as_str().starts_with("x-")))
}

/// Headers as a JSON object of texts; several of one name are joined.
pub(super) fn json_object<'a>(headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>) -> Arc<str> {
    let mut object = serde_json::Map::new();
    for (name, value) in headers {
        let text = String::from_utf8_lossy(value.as_bytes());
        match object.get_mut(name.as_str()) {
            Some(serde_json::Value::String(before)) => {
                before.push_str(", ");
                before.push_str(&text);
            }
            _ => drop(object.insert(name.to_string(), text.into())),
        }
    }
    serde_json::Value::Object(object).to_string().into()
}

/// The last one of that name counts.
fn parameter<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters
        .iter()
        .rfind(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}
