//! How `jsonb` values compare: `compareJsonbContainers` in `src/backend/utils/adt/jsonb_util.c` of Postgres.

use std::cmp::Ordering;

use super::{Json, number, print};
use crate::expression::{Key, Stop};

/// The order of keys in an object: shorter ones first.
pub(super) fn keys(left: &str, right: &str) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

/// `left = right`
pub(in crate::expression) fn equal(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Null, Json::Null) => true,
        (Json::Bool(a), Json::Bool(b)) => a == b,
        (Json::Number(a), Json::Number(b)) => number::compare(a, b) == Ordering::Equal,
        (Json::String(a), Json::String(b)) => a == b,
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && equal(&a.1, &b.1))
        }
        _ => false,
    }
}

/// How they sort. [`equal`] tells without asking whether this is [`Ordering::Equal`].
///
/// # Errors
/// [`Stop::Ask`] where it takes the database's collation to tell which of two strings comes first.
pub(in crate::expression) fn compare(left: &Json, right: &Json) -> Result<Ordering, Stop> {
    match (left, right) {
        // A scalar by itself is held as an array of one that comes before other arrays of one.
        (Json::Array(elements), other) if !matches!(other, Json::Array(_) | Json::Object(_)) => {
            Ok(if elements.is_empty() {
                Ordering::Less
            } else {
                Ordering::Greater
            })
        }
        (other, Json::Array(_)) if !matches!(other, Json::Array(_) | Json::Object(_)) => {
            compare(right, left).map(Ordering::reverse)
        }
        _ => nested(left, right),
    }
}

fn nested(left: &Json, right: &Json) -> Result<Ordering, Stop> {
    match (left, right) {
        (Json::Bool(a), Json::Bool(b)) => Ok(a.cmp(b)),
        (Json::Number(a), Json::Number(b)) => Ok(number::compare(a, b)),
        (Json::String(a), Json::String(b)) => strings(a, b),
        (Json::Array(a), Json::Array(b)) => {
            if a.len() != b.len() {
                return Ok(a.len().cmp(&b.len()));
            }
            first_difference(a.iter().zip(b).map(|(a, b)| nested(a, b)))
        }
        (Json::Object(a), Json::Object(b)) => {
            if a.len() != b.len() {
                return Ok(a.len().cmp(&b.len()));
            }
            first_difference(
                a.iter()
                    .zip(b)
                    .flat_map(|(a, b)| [strings(&a.0, &b.0), nested(&a.1, &b.1)]),
            )
        }
        _ => Ok(rank(left).cmp(&rank(right))),
    }
}

/// Of kinds.
fn rank(json: &Json) -> u8 {
    match json {
        Json::Null => 0,
        Json::String(_) => 1,
        Json::Number(_) => 2,
        Json::Bool(_) => 3,
        Json::Array(_) => 4,
        Json::Object(_) => 5,
    }
}

fn strings(left: &str, right: &str) -> Result<Ordering, Stop> {
    if left == right {
        Ok(Ordering::Equal)
    } else if left.is_empty() || right.is_empty() {
        // An empty string is a prefix of any other.
        Ok(left.len().cmp(&right.len()))
    } else {
        Err(Stop::ask("the order of strings in jsonb"))
    }
}

fn first_difference(mut pairs: impl Iterator<Item = Result<Ordering, Stop>>) -> Result<Ordering, Stop> {
    pairs
        .find(|order| !matches!(order, Ok(Ordering::Equal)))
        .unwrap_or(Ok(Ordering::Equal))
}

/// What the value is found by: its text with numbers in canonical digits.
///
/// # Errors
/// [`Stop::Ask`] for a number that is none, which `jsonb` does not hold.
pub(in crate::expression) fn key(json: &Json) -> Result<Key, Stop> {
    let mut out = String::new();
    print::write(json, &mut |number| number::canonical(number), &mut out)?;
    Ok(Key::Text(out.into()))
}
