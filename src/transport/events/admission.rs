//! Whether a request is let in, and what it asks for.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, Uri, header};

use super::super::Server;
use super::super::admission::{self, Parameters, custom_headers, parameter};
use super::super::credentials;
use super::super::driver::New;
use super::super::slots::Slot;
use super::query::Asked;
use super::refusal::Refusal;
use crate::protocol::Version;

/// What a reader of server-sent events that comes back says.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A request that is let in.
pub(super) struct Admitted {
    pub(super) asked: Asked,
    pub(super) new: New,
    pub(super) slot: Slot,
}

/// Reads the URL, then looks at the token and at the limits.
pub(super) async fn admit(server: &Server, uri: &Uri, headers: &HeaderMap) -> Result<Admitted, Refusal> {
    let parameters = admission::parameters(uri).ok_or(Refusal::Unreadable)?;
    let mut asked = Asked::read(&parameters).map_err(Refusal::Query)?;
    if let Some(last) = headers.get(LAST_EVENT_ID) {
        // The URL of a reader that comes back is still that of its first time.
        asked.since = Some(String::from_utf8_lossy(last.as_bytes()).into_owned());
    }
    let settings = &server.settings;
    let token = token(
        headers,
        &parameters,
        settings.query_token,
        settings.cookie.as_deref(),
    );
    let (token, slot) = admission::admit(server, token).await.map_err(Refusal::Connect)?;
    let new = New {
        version: Version::Events,
        token,
        headers: custom_headers(headers),
        session: None,
    };
    Ok(Admitted { asked, new, slot })
}

/// The token, without white space: a user's (`Authorization`, `access_token`, the cookie) before an application's (`apikey`).
fn token(
    headers: &HeaderMap,
    parameters: &Parameters,
    in_query: bool,
    cookie_name: Option<&str>,
) -> Option<Arc<str>> {
    let query = |name: &str| parameter(parameters, name).filter(|_| in_query);
    let given = credentials::bearer(headers)
        .or_else(|| query("access_token"))
        .or_else(|| cookie(headers, cookie_name?))
        .or_else(|| credentials::token(headers))
        .or_else(|| query("apikey"))?;
    credentials::cleaned(given)
}

/// The value of a cookie (RFC 6265, section 5.4), without the quotes that some put around it.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).into_iter();
    let mut pairs = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(other, _)| *other == name)?;
    Some(value.trim_matches('"')).filter(|value| !value.is_empty())
}
