use std::time::Duration;

use axum::RequestExt;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::{StatusCode, header};

use crate::protocol::errors::RequestError;

/// How long a body may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The whole body. What says that it is larger than `limit` bytes is not read at all.
pub(super) async fn read(mut request: Request, limit: usize) -> Result<Bytes, RequestError> {
    let too_large = RequestError::BodyTooLarge { limit };
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large);
    }
    DefaultBodyLimit::max(limit).apply(&mut request);
    let read = tokio::time::timeout(TIMEOUT, Bytes::from_request(request.with_limited_body(), &()));
    match read.await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large),
        Ok(Err(_)) | Err(_) => Err(RequestError::BodyMissing),
    }
}
