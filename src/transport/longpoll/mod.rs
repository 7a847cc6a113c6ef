//! Phoenix' long polling: what phoenix.js falls back to where a WebSocket does not come through.
//!
//! `GET` without a token opens a session and is given one; `GET` with a token waits for messages; `POST` with a token brings
//! some. A session is a task of its own (`connection`), and between two requests nobody holds a socket for it. `exchange`
//! knows which messages have been read.

mod answer;
mod connection;
mod exchange;
mod messages;
mod place;
mod registry;
mod token;

pub(super) use registry::Sessions;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;

use super::admission::{Parameters, admit, custom_headers, parameter, refuse};
use super::driver::New;
use super::{Server, admission, body};
use crate::protocol::Version;

use connection::Connection;
use messages::Messages;
use registry::{Handle, Poll, Post};

/// `GET` and `POST` of `/socket/longpoll` and `/realtime/v1/longpoll`.
pub(super) async fn serve(State(server): State<Arc<Server>>, request: Request) -> Response {
    let Some(parameters) = admission::parameters(request.uri()) else {
        return answer::status(StatusCode::BAD_REQUEST);
    };
    // Clients that know of no token write that they do not.
    let token = parameter(&parameters, "token").filter(|token| !matches!(*token, "" | "null" | "undefined"));
    match (request.method(), token) {
        (&Method::GET, None) => open(server, request.headers(), &parameters).await,
        (&Method::GET, Some(token)) => poll(&server, token).await,
        (&Method::POST, token) => post(&server, token.unwrap_or_default(), request).await,
        _ => {
            let allowed = [(header::ALLOW, "GET, POST")];
            (allowed, answer::status(StatusCode::METHOD_NOT_ALLOWED)).into_response()
        }
    }
}

/// Opens a session for whoever may connect.
async fn open(server: Arc<Server>, headers: &HeaderMap, parameters: &Parameters) -> Response {
    let Some(version) = Version::from_vsn(parameter(parameters, "vsn")) else {
        return answer::status(StatusCode::FORBIDDEN);
    };
    match admit(&server, admission::token(headers, parameters)).await {
        Ok((token, slot)) => {
            let new = New {
                version: version.as_text(),
                token,
                headers: custom_headers(headers),
                session: parameter(parameters, "session").map(Box::from),
            };
            admission::recall(&server, new.session.as_deref()).await;
            let entry = server.longpoll.enter();
            let key = entry.key;
            let connection = Connection::new(server, entry, new);
            tokio::spawn(async move {
                connection.run().await;
                drop(slot);
            });
            answer::opened(key)
        }
        Err(error) => {
            let mut refused = refuse(&server, &error, answer::refusal(&error)).await;
            let no_store = HeaderValue::from_static("no-store");
            refused.headers_mut().insert(header::CACHE_CONTROL, no_store);
            refused
        }
    }
}

/// Waits for messages. Dropped if the client goes away meanwhile, which the session is told by it.
async fn poll(server: &Server, token: &str) -> Response {
    let Some((key, seen)) = token::read(token) else {
        return answer::gone();
    };
    let Some(session) = server.longpoll.find(key) else {
        return answer::gone();
    };
    let (reply, replied) = oneshot::channel();
    if session.polls.send(Poll { seen, reply }).await.is_err() {
        return answer::gone();
    }
    // It must not hold the session's end up.
    drop(session);
    match replied.await {
        Ok(reply) => answer::reply(key, &reply),
        Err(_) => answer::gone(),
    }
}

/// Brings messages, and is answered once the session has taken them in.
async fn post(server: &Server, token: &str, request: Request) -> Response {
    let known = token::read(token).and_then(|(key, seen)| Some((server.longpoll.find(key)?, seen)));
    let Some((session, seen)) = known else {
        return answer::gone();
    };
    let ended = session.posts.clone();
    let handing_over = Box::pin(hand_over(server, session, seen, request));
    tokio::select! {
        outcome = handing_over => outcome.unwrap_or_else(answer::gone),
        () = ended.closed() => answer::gone(),
    }
}

/// `None` if the session ends before.
async fn hand_over(server: &Server, session: Handle, seen: u64, request: Request) -> Option<Response> {
    let turn = session.posting.acquire_owned().await.ok()?;
    let media = request.headers().get(header::CONTENT_TYPE).cloned();
    let body = match body::read(request, server.settings.request_bytes).await {
        Ok(body) => body,
        Err(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            return Some(answer::status(status));
        }
    };
    let messages = Messages::new(body, media.as_ref().and_then(|media| media.to_str().ok()));
    let (taken, all_taken) = oneshot::channel();
    let post = Post {
        seen,
        messages,
        turn,
        taken,
    };
    session.posts.send(post).await.ok()?;
    all_taken.await.ok()?;
    Some(answer::status(StatusCode::OK))
}
