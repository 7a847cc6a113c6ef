//! What is answered: JSON with the status in it, as phoenix.js reads it. The HTTP status is 200 wherever the session as such
//! works, also for statuses that have no body in HTTP.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::exchange::Reply;
use super::token::{Key, token};
use crate::hub::Frame;
use crate::protocol::errors::ConnectError;
use crate::protocol::push_json_string;

/// A session has been opened: "gone" is how the client learns of its token.
pub(super) fn opened(key: Key) -> Response {
    json(StatusCode::OK, body(410, Some(&token(key, 0)), &[]))
}

/// To a request for messages.
pub(super) fn reply(key: Key, reply: &Reply) -> Response {
    let body = match reply {
        Reply::Messages { number, batch } => body(200, Some(&token(key, *number)), batch),
        Reply::Nothing { number } => body(204, Some(&token(key, *number)), &[]),
        Reply::Gone => return gone(),
    };
    json(StatusCode::OK, body)
}

/// There is no such session: the client connects and joins again, without a token.
pub(super) fn gone() -> Response {
    json(StatusCode::OK, body(410, None, &[]))
}

/// A status alone.
pub(super) fn status(status: StatusCode) -> Response {
    json(status, format!("{{\"status\":{}}}", status.as_u16()))
}

/// What a refused connection is told. phoenix.js knows 403 and 500 and takes no other for an answer.
pub(super) fn refusal(error: &ConnectError) -> String {
    let status = match error.status() {
        401 | 403 => 403,
        _ => 500,
    };
    let mut out = error.json();
    out.truncate(out.trim_end_matches('}').len());
    out.push_str(&format!(",\"status\":{status}}}"));
    out
}

fn body(status: u16, token: Option<&str>, batch: &[Frame]) -> String {
    let length: usize = batch.iter().map(|frame| frame.len() + frame.len() / 4 + 8).sum();
    let mut out = String::with_capacity(length + 80);
    out.push_str(&format!("{{\"status\":{status},\"token\":"));
    match token {
        Some(token) => push_json_string(&mut out, token),
        None => out.push_str("null"),
    }
    out.push_str(",\"messages\":[");
    let texts = batch.iter().filter_map(|frame| match frame {
        Frame::Text(text) => Some(text),
        // The serialiser makes none.
        Frame::Binary(_) => None,
    });
    for (at, text) in texts.enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_json_string(&mut out, text);
    }
    out.push_str("]}");
    out
}

fn json(status: StatusCode, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        // Each answer is for one request at one moment.
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn messages_are_texts_in_json() {
        let batch = ["[\"é\\n\"]", "{}"].map(|text| Frame::Text(text.into()));
        let read: Value = serde_json::from_str(&body(200, Some("t.1"), &batch)).unwrap();
        assert_eq!(
            read,
            json!({"status": 200, "token": "t.1", "messages": ["[\"é\\n\"]", "{}"]})
        );
        let read: Value = serde_json::from_str(&body(410, None, &[])).unwrap();
        assert_eq!(read, json!({"status": 410, "token": null, "messages": []}));
    }

    #[test]
    fn a_refusal_says_why_and_has_a_status_that_clients_know() {
        for (error, status) in [
            (ConnectError::MissingToken, 403),
            (ConnectError::TooManyConnections, 500),
            (ConnectError::Restarting, 500),
        ] {
            let read: Value = serde_json::from_str(&refusal(&error)).unwrap();
            assert_eq!(read, json!({"error": error.to_string(), "status": status}));
        }
    }
}
