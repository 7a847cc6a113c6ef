use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};

use super::super::admission;
use super::Server;
use crate::feed::{Rows, SubscribeError};
use crate::protocol::Binding;
use crate::protocol::errors::{RequestError, RowsError};

/// `GET /api/rows`: the rows of a table that the user may see, and the cursor from which on changes follow them.
pub(in super::super) async fn rows(
    State(server): State<Arc<Server>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match Box::pin(read(&server, &uri, &headers)).await {
        Ok(response) => response,
        Err(error) => {
            let refused = &server.metrics.requests_refused;
            refused.get_or_create(&[("reason", error.label())]).inc();
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, HEADERS, error.json()).into_response()
        }
    }
}

/// What somebody may see is nobody else's, and nothing of it holds for long.
const HEADERS: [(header::HeaderName, &str); 2] = [
    (header::CONTENT_TYPE, "application/json; charset=utf-8"),
    (header::CACHE_CONTROL, "no-store"),
];

async fn read(server: &Server, uri: &Uri, headers: &HeaderMap) -> Result<Response, RowsError> {
    let claims = super::authenticate(server, headers).await;
    let claims = claims.map_err(|_: RequestError| RowsError::Unauthenticated)?;
    let binding = binding(uri)?;
    let rows = server
        .rows
        .rows(claims, binding)
        .await
        .map_err(|error| match error {
            SubscribeError::Refused(text) => RowsError::Refused(text),
            SubscribeError::Unavailable(text) | SubscribeError::Behind(text) => RowsError::Unavailable(text),
        })?;
    Ok((HEADERS, Body::from_stream(body(rows))).into_response())
}

/// `table`, `schema`, `filter` and `select`, each at most once. Another name is a mistake: a filter that is misspelt would show
/// more than was asked for.
fn binding(uri: &Uri) -> Result<Binding, RowsError> {
    let parameters = admission::parameters(uri).ok_or(RowsError::Address)?;
    let mut given = [None; 4];
    for (name, value) in &parameters {
        let place = ["schema", "table", "filter", "select"]
            .iter()
            .position(|known| known == name);
        match place.and_then(|place| given.get_mut(place)) {
            Some(slot @ None) => *slot = Some(value.as_str()),
            Some(Some(_)) => return Err(RowsError::Twice(name.clone())),
            None => return Err(RowsError::Unknown(name.clone())),
        }
    }
    let [schema, table, filter, select] = given;
    let table = table
        .filter(|table| !table.is_empty())
        .ok_or(RowsError::NoTable)?;
    let select: Option<Vec<&str>> = select.map(|names| names.split(',').map(str::trim).collect());
    Ok(Binding::rows(schema, table, filter, select.as_deref()))
}

/// A body that is broken off where the rows are not complete, so that nobody takes the first of them for all.
fn body(rows: Rows) -> impl Stream<Item = io::Result<Bytes>> {
    let head = format!("{{\"cursor\":\"{}\",\"rows\":[", rows.since);
    let pieces = stream::unfold(Some(rows), |rows| async {
        let mut rows = rows?;
        match rows.next().await {
            None => None,
            Some(Ok(piece)) => Some((Ok(piece), Some(rows))),
            Some(Err(error)) => {
                tracing::debug!(%error, "rows of a request are not complete");
                Some((Err(io::Error::other(error)), None))
            }
        }
    });
    stream::once(async move { Ok(head.into()) })
        .chain(pieces)
        .chain(stream::once(async { Ok(Bytes::from_static(b"]}")) }))
}
