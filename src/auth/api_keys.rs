//! Keys that are no tokens: opaque texts that stand for a role, as newer Supabase projects hand them out.

use std::sync::Arc;

use serde_json::json;

use super::claims::Claims;
use crate::secret::Secret;

/// What every such key begins with, so that it is never taken for a token.
const PREFIX: &str = "sb_";

/// How long claims made from a key hold: it has no end of its own.
const TEN_YEARS: i64 = 10 * 366 * 24 * 60 * 60;

/// The keys that are known, each with what a token of its role would say.
#[derive(Debug)]
pub(super) struct ApiKeys(Vec<(Secret, Arc<Claims>)>);

/// Whether a text is meant as such a key.
pub(super) fn is_api_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

impl ApiKeys {
    /// From keys and their roles; `now` in seconds since the Unix epoch.
    pub(super) fn new(keys: Vec<(Secret, String)>, now: i64) -> Self {
        let exp = now.saturating_add(TEN_YEARS);
        let known = keys.into_iter().map(|(key, role)| {
            let json = json!({ "role": role }).to_string().into();
            let claims = Claims {
                role: role.into(),
                sub: None,
                exp,
                json,
                scope: None,
            };
            (key, Arc::new(claims))
        });
        Self(known.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The claims that a key stands for. Looks at every key, so that the time tells nothing.
    pub(super) fn find(&self, given: &str) -> Option<Arc<Claims>> {
        self.0.iter().fold(None, |found, (key, claims)| {
            if key.is(given) {
                Some(Arc::clone(claims))
            } else {
                found
            }
        })
    }
}
