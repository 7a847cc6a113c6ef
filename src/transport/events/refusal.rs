//! Why a request gets no channels.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::Server;
use super::super::admission::refuse;
use super::query::BadParameter;
use crate::protocol::errors::{Close, ConnectError, join_status};

/// Why nothing can be heard.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// The query cannot be decoded.
    Unreadable,
    /// It cannot be used.
    Query(BadParameter),
    /// It is not let in.
    Connect(ConnectError),
    /// The join was refused; `<code>: <text>`.
    Join(String),
    /// The subscription to rows was refused.
    Rows(String),
    /// The channel was closed.
    Closed,
    /// The session was closed.
    Ended(Close),
    /// Where the stream of changes is cannot be told: it has not begun.
    NoStream,
    /// The rows did not all come in time.
    Unread,
    /// More rows than one answer may hold.
    TooManyRows,
}

impl Refusal {
    /// The answer. What had to be looked up for it is answered after a while, as with WebSockets.
    pub(super) async fn response(self, server: &Server) -> Response {
        let (status, text) = match self {
            Self::Unreadable => {
                let json = json!({ "error": "the query cannot be decoded" });
                return answer(StatusCode::BAD_REQUEST, json.to_string());
            }
            Self::Query(bad) => {
                let json = json!({ "error": bad.to_string(), "parameter": bad.parameter });
                return answer(StatusCode::BAD_REQUEST, json.to_string());
            }
            Self::Connect(error) => return uncached(refuse(server, &error, error.json()).await),
            Self::NoStream => {
                let text = "the stream of row changes has not begun";
                (StatusCode::SERVICE_UNAVAILABLE, text.to_owned())
            }
            Self::Unread => {
                let text =
                    "the rows could not be read in time: read them with /api/rows, and go on from its cursor";
                (StatusCode::SERVICE_UNAVAILABLE, text.to_owned())
            }
            Self::TooManyRows => {
                let text =
                    "the rows are too many for a poll: read them with /api/rows, and go on from its cursor";
                (StatusCode::PAYLOAD_TOO_LARGE, text.to_owned())
            }
            Self::Closed => (StatusCode::FORBIDDEN, "the channel was closed".to_owned()),
            Self::Ended(close) => (StatusCode::TOO_MANY_REQUESTS, close.reason().to_owned()),
            Self::Rows(text) => (StatusCode::BAD_REQUEST, text),
            Self::Join(reason) => (status(join_status(&reason)), reason),
        };
        tokio::select! {
            () = tokio::time::sleep(server.settings.connect_error_delay) => {}
            () = server.drain.begun() => {}
        }
        answer(status, json!({ "error": text }).to_string())
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn answer(status: StatusCode, json: String) -> Response {
    let content = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    uncached((status, content, json).into_response())
}

/// What is true now is not to be told to those who ask later.
pub(super) fn uncached(mut response: Response) -> Response {
    let value = header::HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
    response
}
