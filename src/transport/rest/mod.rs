//! Broadcasts over HTTP, for senders that have no channel: a batch of messages, or a single one. And the rows of a table, for
//! readers that have none.
//!
//! Broadcasts go the same way: the server's rate (`rated`), the token, the body, what it says, the right to write to private
//! topics, and then the rooms.

mod batch;
mod names;
mod publish;
mod rated;
mod rows;
mod single;

pub(super) use rated::{HEADERS as RATE_HEADERS, rated};
pub(super) use rows::rows;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tracing::debug;

use super::{Server, credentials};
use crate::auth::Claims;
use crate::protocol::errors::RequestError;

/// `POST /api/broadcast`: many messages, to any topics.
pub(super) async fn broadcast(State(server): State<Arc<Server>>, request: Request) -> Response {
    let outcome = Box::pin(batch::broadcast(&server, request)).await;
    outcome.unwrap_or_else(|error| refuse(&server, &error))
}

/// `POST /api/broadcast/{topic}/events/{event}`: one message, which is the body.
pub(super) async fn broadcast_one(
    State(server): State<Arc<Server>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let outcome = match path {
        Ok(Path((topic, event))) => Box::pin(single::broadcast(&server, topic, event, request)).await,
        Err(_) => Err(RequestError::Address),
    };
    outcome.unwrap_or_else(|error| refuse(&server, &error))
}

/// Whose request it is.
async fn authenticate(server: &Server, headers: &HeaderMap) -> Result<Arc<Claims>, RequestError> {
    let token = credentials::token(headers).ok_or(RequestError::Unauthenticated)?;
    server.tokens.verify(token.into()).await.map_err(|error| {
        debug!(code = error.code(), "the token of a request was not accepted");
        RequestError::Unauthenticated
    })
}

fn refuse(server: &Server, error: &RequestError) -> Response {
    server
        .metrics
        .requests_refused
        .get_or_create(&[("reason", error.label())])
        .inc();
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (status, json, error.json()).into_response()
}
