use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::{Server, refuse};
use crate::protocol::errors::RequestError;

const ROLLING: HeaderName = HeaderName::from_static("x-rate-rolling");
const LIMIT: HeaderName = HeaderName::from_static("x-rate-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-rate-limit-remaining");

/// What [`rated`] answers with.
pub(in super::super) const HEADERS: [HeaderName; 3] = [ROLLING, LIMIT, REMAINING];

/// Refuses while all broadcasts together are beyond the server's rate, and says in every answer how they stand to it:
/// `x-rate-rolling` is events per second in the last minute, `x-rate-limit` how many may be, and
/// `x-rate-limit-remaining` the difference. Without a limit there are no such two.
pub(in super::super) async fn rated(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Response {
    let (traffic, now) = (Arc::clone(&server.context.rates.traffic), Instant::now());
    let rolling = traffic.events_per_second(now);
    let mut response = if traffic.events().is_exhausted(now) {
        refuse(&server, &RequestError::TooManyRequests)
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(ROLLING, HeaderValue::from(rolling));
    let limit = u64::from(traffic.events().per_second());
    if limit > 0 {
        headers.insert(LIMIT, HeaderValue::from(limit));
        headers.insert(REMAINING, HeaderValue::from(limit.saturating_sub(rolling)));
    }
    response
}
