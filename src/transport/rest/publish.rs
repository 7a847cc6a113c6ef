use std::sync::Arc;
use std::time::Instant;

use axum::http::HeaderMap;

use super::super::admission::json_object;
use super::{RequestError, Server};
use crate::auth::{Claims, Scope};
use crate::feed::{AuthorityError, Seeker};
use crate::policy::Rights;
use crate::protocol::Broadcast;
use crate::room::{Origin, RoomName};

/// Who sends, as policies see it.
pub(super) struct Sender {
    claims: Arc<Claims>,
    headers: Arc<str>,
}

impl Sender {
    /// The user of a request with these headers.
    pub(super) fn new(claims: Arc<Claims>, headers: &HeaderMap) -> Self {
        Self {
            claims,
            headers: json_object(headers.iter()),
        }
    }

    /// Whether it may do all of `wanted` on a private topic.
    pub(super) async fn may(
        &self,
        server: &Server,
        topic: &Arc<str>,
        wanted: Rights,
    ) -> Result<bool, RequestError> {
        let scope = Scope {
            topic: Arc::clone(topic),
            headers: Arc::clone(&self.headers),
        };
        let seeker = Seeker {
            id: None,
            claims: Arc::new(self.claims.within(Arc::new(scope))),
        };
        match server.channels.rights(seeker, wanted).await {
            Ok(rights) => Ok(rights.contains(wanted)),
            Err(error) => {
                tracing::warn!(%error, "rights on a private channel could not be told");
                Err(match error {
                    AuthorityError::Unavailable(_) => RequestError::DatabaseUnavailable,
                    AuthorityError::Canceled => RequestError::QueryCanceled,
                    AuthorityError::Busy => RequestError::DatabaseBusy,
                })
            }
        }
    }
}

/// Whether so many messages may go out now.
pub(super) fn check_rate(server: &Server, messages: usize) -> Result<(), RequestError> {
    let (traffic, now) = (&server.context.rates.traffic, Instant::now());
    if traffic.events().is_exhausted(now) || traffic.bytes().is_exhausted(now) {
        return Err(RequestError::RateExceeded);
    }
    if traffic.events().left(now) < messages as u64 {
        return Err(RequestError::BatchTooLarge);
    }
    Ok(())
}

/// Says it to everybody in the room of a topic (without `realtime:`), and counts it. Returns to how many.
pub(super) fn publish(server: &Server, topic: &str, private: bool, broadcast: &Broadcast) -> usize {
    let room = RoomName {
        topic: format!("realtime:{topic}").into(),
        private,
    };
    let deliveries = server
        .context
        .rooms
        .publish(&room, broadcast, Origin::Client(None));
    let events = (deliveries as u64).saturating_add(1);
    let bytes = broadcast.content.len() as u64;
    let traffic = &server.context.rates.traffic;
    traffic.count(events, bytes, Instant::now());
    deliveries
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn headers_are_an_object_of_texts() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-one", &b"1"[..]),
            ("Accept", b"text/html"),
            ("accept", b"application/json"),
            ("x-odd", b"\"quoted\" \xff"),
        ] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let object: Value = serde_json::from_str(&json_object(headers.iter())).unwrap();
        let expected = json!({
            "accept": "text/html, application/json",
            "x-odd": "\"quoted\" \u{fffd}",
            "x-one": "1",
        });
        assert_eq!(object, expected);
        assert_eq!(&*json_object(HeaderMap::new().iter()), "{}");
    }
}
