//! What is in a `jsonb` value.

use std::sync::Arc;

use crate::expression::{Json, Stop, json};

/// Comparisons that one operator may take; they can grow with the product of both sides, so that Postgres with its
/// timeouts is asked beyond.
const MAX_COMPARISONS: usize = 1 << 20;

/// `json ? key`: a key of an object, a string in an array, or the string itself.
pub(super) fn exists(json: &Json, key: &str) -> bool {
    let is_key = |json: &Json| matches!(json, Json::String(text) if &**text == key);
    match json {
        Json::Object(_) => json.field(key).is_some(),
        Json::Array(elements) => elements.iter().any(|element| is_key(element)),
        scalar => is_key(scalar),
    }
}

/// Which of several keys exist, in their order.
///
/// # Errors
/// [`Stop::Ask`] if that is long to find out.
pub(super) fn existing<'a>(
    json: &'a Json,
    keys: Vec<Option<&'a str>>,
) -> Result<impl Iterator<Item = bool> + 'a, Stop> {
    if let Json::Array(elements) = json
        && elements.len().saturating_mul(keys.len()) > MAX_COMPARISONS
    {
        return Err(long());
    }
    Ok(keys.into_iter().flatten().map(|key| exists(json, key)))
}

fn long() -> Stop {
    Stop::ask("large jsonb values")
}

/// `json @> part`
///
/// # Errors
/// [`Stop::Ask`] if that is long to find out.
pub(super) fn contains(json: &Json, part: &Json) -> Result<bool, Stop> {
    let mut search = Search {
        left: MAX_COMPARISONS,
    };
    match (json, part) {
        // Alone among containers and scalars, an array contains a scalar that is one of its elements.
        (Json::Array(elements), part) if is_scalar(part) => search.has_scalar(elements, part),
        _ => search.nested(json, part),
    }
}

struct Search {
    /// Comparisons that may follow.
    left: usize,
}

impl Search {
    fn step(&mut self) -> Result<(), Stop> {
        self.left = self.left.checked_sub(1).ok_or_else(long)?;
        Ok(())
    }

    fn nested(&mut self, json: &Json, part: &Json) -> Result<bool, Stop> {
        self.step()?;
        match (json, part) {
            (Json::Object(_), Json::Object(parts)) => {
                for (key, part) in parts {
                    match json.field(key) {
                        Some(value) if self.nested(value, part)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            }
            (Json::Array(elements), Json::Array(parts)) => {
                for part in parts {
                    if !self.has(elements, part)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (json, part) => Ok(is_scalar(json) && is_scalar(part) && json::equal(json, part)),
        }
    }

    fn has(&mut self, elements: &[Arc<Json>], part: &Json) -> Result<bool, Stop> {
        if is_scalar(part) {
            return self.has_scalar(elements, part);
        }
        for element in elements {
            if self.nested(element, part)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_scalar(&mut self, elements: &[Arc<Json>], scalar: &Json) -> Result<bool, Stop> {
        for element in elements {
            self.step()?;
            if is_scalar(element) && json::equal(element, scalar) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn is_scalar(json: &Json) -> bool {
    !matches!(json, Json::Array(_) | Json::Object(_))
}
