//! `jsonb` values made from others.

use std::collections::HashSet;
use std::sync::Arc;

use super::WRONG_KIND;
use super::arguments::texts;
use super::path::index;
use crate::expression::{Array, Json, Stop, json};

/// `array_subscript_error`
const DIMENSIONS: Stop = Stop::Raise("2202E");

/// The elements of an array of at most one dimension.
pub(super) fn flat(array: &Array) -> Result<Vec<Option<&str>>, Stop> {
    if array.dimensions.len() > 1 {
        return Err(DIMENSIONS);
    }
    texts(array)
}

/// `left || right`: objects are merged, anything else is put together as arrays.
pub(super) fn concatenate(left: &Arc<Json>, right: &Arc<Json>) -> Arc<Json> {
    if let (Json::Object(a), Json::Object(b)) = (&**left, &**right) {
        let kept = a.iter().filter(|(key, _)| right.field(key).is_none());
        let mut members: Vec<_> = kept.chain(b).cloned().collect();
        members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        return Arc::new(Json::Object(members));
    }
    let elements = [left, right].into_iter().flat_map(|json| match &**json {
        Json::Array(elements) => elements.clone(),
        _ => vec![Arc::clone(json)],
    });
    Arc::new(Json::Array(elements.collect()))
}

/// `json - keys`: without these keys, or without strings that are one of them.
pub(super) fn without(json: &Json, keys: &[Option<&str>]) -> Result<Arc<Json>, Stop> {
    let keys: HashSet<&str> = keys.iter().copied().flatten().collect();
    let listed = |text: &str| keys.contains(text);
    Ok(Arc::new(match json {
        Json::Object(members) => {
            let kept = members.iter().filter(|(key, _)| !listed(key));
            Json::Object(kept.cloned().collect())
        }
        Json::Array(elements) => {
            let kept = elements
                .iter()
                .filter(|element| !matches!(&***element, Json::String(text) if listed(text)));
            Json::Array(kept.cloned().collect())
        }
        _ => return Err(WRONG_KIND),
    }))
}

/// `json - index`
pub(super) fn without_index(json: &Arc<Json>, index: i32) -> Result<Arc<Json>, Stop> {
    let Json::Array(elements) = &**json else {
        return Err(WRONG_KIND);
    };
    Ok(match json::at(elements.len(), index) {
        None => Arc::clone(json),
        Some(at) => without_element(elements, at),
    })
}

fn without_element(elements: &[Arc<Json>], at: usize) -> Arc<Json> {
    let (before, from) = elements.split_at(at.min(elements.len()));
    let kept = before.iter().chain(from.iter().skip(1));
    Arc::new(Json::Array(kept.cloned().collect()))
}

/// `json #- path`
pub(super) fn without_path(json: &Arc<Json>, path: &[Option<&str>]) -> Result<Arc<Json>, Stop> {
    let empty = match &**json {
        Json::Array(elements) => elements.is_empty(),
        Json::Object(members) => members.is_empty(),
        _ => return Err(WRONG_KIND),
    };
    if empty {
        return Ok(Arc::clone(json));
    }
    match path.split_first() {
        None => Ok(Arc::clone(json)),
        Some((first, rest)) => removed(json, *first, rest),
    }
}

/// The path is looked at as far as it leads, and only that far has to be right.
fn removed(json: &Arc<Json>, step: Option<&str>, rest: &[Option<&str>]) -> Result<Arc<Json>, Stop> {
    let step = step.ok_or(Stop::Raise("22004"))?;
    match &**json {
        Json::Object(members) => {
            let Some(at) = members.iter().position(|(key, _)| **key == *step) else {
                return Ok(Arc::clone(json));
            };
            let mut members = members.clone();
            match (rest.split_first(), members.get_mut(at)) {
                (Some((next, rest)), Some((_, value))) => *value = removed(value, *next, rest)?,
                _ => {
                    members.remove(at);
                }
            }
            Ok(Arc::new(Json::Object(members)))
        }
        Json::Array(elements) => {
            let wanted = index(step).ok_or_else(json::invalid)?;
            let Some(at) = json::at(elements.len(), wanted) else {
                return Ok(Arc::clone(json));
            };
            let Some((next, rest)) = rest.split_first() else {
                return Ok(without_element(elements, at));
            };
            let mut elements = elements.clone();
            if let Some(element) = elements.get_mut(at) {
                *element = removed(element, *next, rest)?;
            }
            Ok(Arc::new(Json::Array(elements)))
        }
        _ => Ok(Arc::clone(json)),
    }
}
