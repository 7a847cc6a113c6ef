//! What calls on JSON are given beside what others are given.

use std::sync::Arc;

use super::super::arguments::unexpected;
use crate::expression::{Array, Datum, Stop};

/// Text of any text type, or of `json`.
pub(super) fn text(arguments: &[Option<Datum>], at: usize) -> Result<&Arc<str>, Stop> {
    match arguments.get(at) {
        Some(Some(Datum::Text(text) | Datum::Bpchar(text) | Datum::Json(text))) => Ok(text),
        _ => unexpected(),
    }
}

/// The elements of a `text[]`, whatever its dimensions.
pub(super) fn texts(array: &Array) -> Result<Vec<Option<&str>>, Stop> {
    array
        .elements
        .iter()
        .map(|element| match element {
            None => Ok(None),
            Some(Datum::Text(text)) => Ok(Some(text.as_ref())),
            Some(_) => unexpected(),
        })
        .collect()
}
