//! Ways into a `jsonb` value.

use std::sync::Arc;

use crate::expression::{Json, json};

/// The element of an array; a scalar is the only element of itself.
pub(super) fn element(json: &Arc<Json>, index: i32) -> Option<&Arc<Json>> {
    match &**json {
        Json::Array(elements) => elements.get(json::at(elements.len(), index)?),
        Json::Object(_) => None,
        _ => json::at(1, index).map(|_| json),
    }
}

/// Where a path leads: keys into objects, whole numbers into arrays. Nowhere if one of its parts is NULL.
pub(super) fn follow<'a>(json: &'a Arc<Json>, path: &[Option<&str>]) -> Option<&'a Arc<Json>> {
    if path.contains(&None) {
        return None;
    }
    path.iter().flatten().try_fold(json, |json, step| match &**json {
        Json::Object(_) => json.field(step),
        Json::Array(elements) => elements.get(json::at(elements.len(), index(step)?)?),
        _ => None,
    })
}

/// A whole number as C's `strtol` reads all of a text into an `int4`: blanks in front, a sign.
pub(super) fn index(text: &str) -> Option<i32> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}
