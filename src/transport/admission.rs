//! Who may connect, by whatever transport: token, limits, in the order of protocol.md a.5; and how the others are told.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::slots::Slot;
use super::{Server, Unread, credentials};
use crate::protocol::errors::ConnectError;

/// What stands in a query.
pub(super) type Parameters = Vec<(String, String)>;

/// A slot for a connection with this token.
pub(super) async fn admit(
    server: &Server,
    token: Option<Arc<str>>,
) -> Result<(Arc<str>, Slot), ConnectError> {
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

/// Counts a refusal and answers it with this JSON, after a while.
pub(super) async fn refuse(server: &Server, error: &ConnectError, json: String) -> Response {
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
        json,
    )
        .into_response()
}

/// A client that is not known here may come from another server.
pub(super) async fn recall(server: &Server, session: Option<&str>) {
    let Some(id) = session.filter(|id| !server.places.knows(id)) else {
        return;
    };
    let id: Arc<str> = Arc::from(id);
    let recalled = timeout(RECALL, server.keeper.recall(Arc::clone(&id))).await;
    let written = match recalled.unwrap_or(Err(Unread)) {
        Ok(None) => return,
        Ok(Some(written)) => Some(written),
        Err(Unread) => None,
    };
    server
        .places
        .take_over([(id, written)], Instant::now().into_std());
}

/// Longest wait for what another server knew of a client. Without it, the client is told to look itself, which costs the
/// database more than waiting does where thousands come at once; clients give up on a join after ten seconds.
const RECALL: Duration = Duration::from_secs(5);

/// The connection's token, without white space: `x-api-key`, or else `apikey`.
pub(super) fn token(headers: &HeaderMap, parameters: &Parameters) -> Option<Arc<str>> {
    let header = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    let given = header.or_else(|| parameter(parameters, "apikey"))?;
    credentials::cleaned(given)
}

/// The `x-…` headers as a JSON object, for policies.
pub(super) fn custom_headers(headers: &HeaderMap) -> Arc<str> {
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

/// What stands in the query of an address; `None` where it is not UTF-8 once percent-decoded. It is not mended by U+FFFD: a
/// filter would mean something else.
pub(super) fn parameters(uri: &Uri) -> Option<Parameters> {
    let is_text = str::from_utf8(&percent_decoded(uri.query().unwrap_or_default())).is_ok();
    let query = Query::try_from_uri(uri).ok().filter(|_| is_text);
    query.map(|Query(parameters)| parameters)
}

/// A `%` in front of anything but two digits stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind.first_chunk::<2>().filter(|_| *first == b'%');
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let code = digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = match code {
            Some(_) => behind.get(2..).unwrap_or_default(),
            None => behind,
        };
    }
    bytes
}

/// The last one of that name counts.
pub(super) fn parameter<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters
        .iter()
        .rfind(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}
