//! Who somebody is to SQL: the role, and the settings that policies know them by.

use std::sync::Arc;

use serde::Serialize;

use crate::auth::{Claims, Scope};

/// What stands in `request.headers` where there is no request. An object, so that a policy that casts it to JSON finds
/// no header instead of raising.
const NO_HEADERS: &str = "{}";

/// As the functions of sql/rowcast take it. All of it is set for everybody: on a shared connection, what is left out would
/// be somebody else's.
#[derive(Debug, Serialize)]
pub(super) struct Identity<'a> {
    pub(super) role: &'a str,
    pub(super) claims: &'a str,
    pub(super) sub: Option<&'a str>,
    pub(super) email: Option<String>,
    pub(super) topic: &'a str,
    pub(super) headers: &'a str,
}

impl<'a> Identity<'a> {
    pub(super) fn of(claims: &'a Claims) -> Self {
        let (topic, headers) = scope(claims.scope.as_ref());
        Self {
            role: &claims.role,
            claims: &claims.json,
            sub: claims.sub.as_deref(),
            email: email(&claims.json),
            topic,
            headers,
        }
    }

    /// The settings by name; one that has no value is empty.
    pub(super) fn settings(&self) -> [(&'static str, &str); 6] {
        [
            ("request.jwt.claims", self.claims),
            ("request.jwt.claim.sub", self.sub.unwrap_or_default()),
            ("request.jwt.claim.role", self.role),
            (
                "request.jwt.claim.email",
                self.email.as_deref().unwrap_or_default(),
            ),
            ("realtime.topic", self.topic),
            ("request.headers", self.headers),
        ]
    }
}

/// Topic and headers as policies see them.
pub(super) fn scope(scope: Option<&Arc<Scope>>) -> (&str, &str) {
    match scope {
        Some(scope) => (&scope.topic, &scope.headers),
        None => ("", NO_HEADERS),
    }
}

/// The claim `email`, as the setting of its own that policies may read.
pub(super) fn email(claims: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Email {
        email: Option<String>,
    }
    serde_json::from_str::<Email>(claims).ok()?.email
}
