use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, TryStreamExt};

use super::super::body;
use super::publish::{Sender, check_rate, publish};
use super::{RequestError, Server, authenticate, names};
use crate::policy::Rights;
use crate::protocol::{Broadcast, Content};

mod messages;

use messages::{Bounds, Message};

/// Private topics of one request that are asked about at once.
const QUESTIONS: usize = 8;

/// After so many deliveries others get their turn.
const DELIVERIES_AT_ONCE: usize = 1_000;

pub(super) async fn broadcast(server: &Server, request: Request) -> Result<Response, RequestError> {
    let claims = authenticate(server, request.headers()).await?;
    let sender = Sender::new(claims, request.headers());
    let body = body::read(request, server.settings.request_bytes).await?;
    let bounds = Bounds {
        payload: server.context.limits.payload_bytes,
        topic: names::longest_topic(server),
    };
    let messages = messages::parse(&body, bounds)?;
    drop(body);
    check_rate(server, messages.len())?;
    let allowed = allowed(server, &sender, &messages).await?;
    let mut deliveries = 0;
    for message in messages {
        if message.private && !allowed.get(&message.topic).copied().unwrap_or(false) {
            let metric = &server.metrics.requests_refused;
            metric
                .get_or_create(&[("reason", RequestError::Denied.label())])
                .inc();
            continue;
        }
        deliveries += send(server, message);
        if deliveries > DELIVERIES_AT_ONCE {
            deliveries = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Which private topics may be written to. Nothing has gone out yet, so whoever is told that the database is away can send the
/// whole batch again.
async fn allowed(
    server: &Server,
    sender: &Sender,
    messages: &[Message],
) -> Result<HashMap<Arc<str>, bool>, RequestError> {
    let private = messages.iter().filter(|message| message.private);
    let topics: HashSet<Arc<str>> = private.map(|message| Arc::clone(&message.topic)).collect();
    futures_util::stream::iter(topics)
        .map(|topic| async move {
            let may = sender.may(server, &topic, Rights::WRITE_BROADCAST).await?;
            Ok((topic, may))
        })
        .buffer_unordered(QUESTIONS)
        .try_collect()
        .await
}

fn send(server: &Server, message: Message) -> usize {
    let broadcast = Broadcast {
        content: Content::Envelope(message.envelope),
        id: None,
    };
    publish(server, &message.topic, message.private, &broadcast)
}
