use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use serde_json::value::RawValue;

use super::super::{admission, body};
use super::publish::{Sender, check_rate, publish};
use super::{RequestError, Server, authenticate, names};
use crate::messages::{MessagesError, Persist};
use crate::policy::Rights;
use crate::protocol::errors::{FieldError, Invalid};
use crate::protocol::{Broadcast, Content};

/// A header of a frame with bytes is no longer than this, and there is no other form of it.
const MAX_BINARY_NAME: usize = 255;

/// How a message shall be sent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    private: bool,
    /// To be kept, and for how many seconds if not as long as all.
    persist: Option<Option<u64>>,
}

/// What the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Json,
    Bytes,
}

pub(super) async fn broadcast(
    server: &Server,
    topic: String,
    event: String,
    request: Request,
) -> Result<Response, RequestError> {
    let claims = authenticate(server, request.headers()).await?;
    let options = options(&request)?;
    let media = media(request.headers())?;
    let sender = Sender::new(claims, request.headers());
    let body = body::read(request, server.settings.request_bytes).await?;
    check_names(server, &topic, &event, media)?;
    let content = content(&event, media, body)?;
    if content.len() > server.context.limits.payload_bytes {
        return Err(invalid("payload", FieldError::PayloadTooLarge));
    }
    check_rate(server, 1)?;
    let topic = Arc::from(topic);
    if options.private {
        let wanted = match options.persist {
            Some(_) => Rights::WRITE_BROADCAST | Rights::PERSIST,
            None => Rights::WRITE_BROADCAST,
        };
        if !sender.may(server, &topic, wanted).await? {
            return Err(RequestError::Denied);
        }
    }
    let Some(ttl) = options.persist else {
        publish(server, &topic, options.private, &Broadcast { content, id: None });
        return Ok(StatusCode::ACCEPTED.into_response());
    };
    keep(server, &topic, content, ttl).await
}

/// Keeps the message, then sends it with the id that it has got.
async fn keep(
    server: &Server,
    topic: &Arc<str>,
    mut content: Content,
    ttl: Option<u64>,
) -> Result<Response, RequestError> {
    let message = Persist {
        topic: Arc::clone(topic),
        content: content.clone(),
        ttl,
    };
    let id = server.channels.persist(message).await.map_err(|error| {
        tracing::warn!(%error, "a broadcast could not be kept");
        match error {
            MessagesError::Unavailable(_) | MessagesError::Unusable(_) => RequestError::DatabaseUnavailable,
            MessagesError::Canceled => RequestError::QueryCanceled,
            MessagesError::MissingPartition => RequestError::MissingPartition,
            MessagesError::Refused(_) => invalid("payload", FieldError::Invalid),
        }
    })?;
    content.name(id);
    let broadcast = Broadcast {
        content,
        id: Some(id),
    };
    publish(server, topic, true, &broadcast);
    Ok((StatusCode::ACCEPTED, Json(json!({ "id": id.to_string() }))).into_response())
}

fn invalid(field: &'static str, error: FieldError) -> RequestError {
    RequestError::Invalid(Invalid::Field(field, error))
}

/// `private=true`, `persist=true`, `persist[ttl]=<seconds>`; whatever else there is means nothing. The last one counts, but
/// what is said to be private once is not sent in public.
fn options(request: &Request) -> Result<Options, RequestError> {
    let parameters = admission::parameters(request.uri()).ok_or(RequestError::Address)?;
    let mut options = Options::default();
    for (name, value) in &parameters {
        match name.as_str() {
            "private" => options.private |= private(value)?,
            "persist" => options.persist = (value == "true").then_some(None),
            "persist[ttl]" => {
                let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
                let wrong = || invalid("persist", FieldError::Invalid);
                options.persist = Some(Some(seconds.ok_or_else(wrong)?));
            }
            _ => {}
        }
    }
    if options.persist.is_some() && !options.private {
        return Err(invalid("persist", FieldError::OnlyPrivate));
    }
    Ok(options)
}

/// `true` or `false` in any case. What was to be private must not go out in public because it was written in another way.
fn private(value: &str) -> Result<bool, RequestError> {
    if value.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if value.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(invalid("private", FieldError::Invalid))
    }
}

/// JSON where nothing is said.
fn media(headers: &HeaderMap) -> Result<Media, RequestError> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Media::Json);
    };
    let given = given.to_str().map_err(|_| RequestError::MediaType)?;
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(Media::Json)
    } else if essence.eq_ignore_ascii_case("application/octet-stream") {
        Ok(Media::Bytes)
    } else {
        Err(RequestError::MediaType)
    }
}

fn check_names(server: &Server, topic: &str, event: &str, media: Media) -> Result<(), RequestError> {
    let (mut longest_topic, mut longest_event) = (names::longest_topic(server), usize::MAX);
    if media == Media::Bytes {
        longest_topic = longest_topic.min(MAX_BINARY_NAME - names::PREFIX);
        longest_event = MAX_BINARY_NAME;
    }
    names::check(topic, longest_topic).map_err(|error| invalid("topic", error))?;
    names::check(event, longest_event).map_err(|error| invalid("event", error))
}

/// A JSON body that is no object becomes `{"_json": body}`, and none an empty one, as the payload is always an object.
fn content(event: &str, media: Media, body: Bytes) -> Result<Content, RequestError> {
    let event = event.into();
    if media == Media::Bytes {
        return Ok(Content::Binary {
            event,
            payload: body,
            meta: None,
        });
    }
    let payload = if body.is_empty() {
        "{}".into()
    } else {
        let parsed: &RawValue = serde_json::from_slice(&body).map_err(|_| RequestError::NotJson)?;
        match parsed.get() {
            object if object.starts_with('{') => object.into(),
            other => format!("{{\"_json\":{other}}}").into(),
        }
    };
    Ok(Content::Json {
        event,
        payload,
        meta: None,
    })
}
