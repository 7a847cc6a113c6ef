//! What a request shows to be let in.

use std::sync::Arc;

use axum::http::{HeaderMap, header};

use crate::auth::MAX_TOKEN_BYTES;

/// The headers that hold a token by itself, in the order in which they count.
const KEY_HEADERS: [&str; 2] = ["apikey", "x-api-key"];

/// The token of `Authorization: Bearer`, whose scheme may be in any case, or else that of `apikey` or `x-api-key`.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let key = |name: &&str| headers.get(*name)?.to_str().ok();
    bearer(headers).or_else(|| KEY_HEADERS.iter().find_map(key))
}

/// The token of `Authorization: Bearer`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A token without white space, which copies bring along; `None` if nothing is left.
pub(super) fn cleaned(given: &str) -> Option<Arc<str>> {
    let token: String = given
        .chars()
        .filter(|c| !c.is_whitespace())
        // One more is enough to be refused for its length.
        .take(MAX_TOKEN_BYTES + 1)
        .collect();
    (!token.is_empty()).then(|| Arc::from(token))
}
