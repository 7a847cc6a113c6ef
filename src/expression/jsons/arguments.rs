//! What calls are given: typed views of arguments. The compiler has chosen the call by its types, so that anything
//! else here is a fault of ours, and asks.

use std::sync::Arc;

use crate::expression::{Array, Builtin, Datum, Evaluated, Json, Stop, Ty};

/// An immutable, strict call.
pub(super) fn immutable(
    returns: Ty,
    call: impl Fn(&[Option<Datum>]) -> Evaluated + Send + Sync + 'static,
) -> Builtin {
    Builtin {
        returns,
        strict: true,
        immutable: true,
        call: Arc::new(call),
    }
}

fn unexpected<T>() -> Result<T, Stop> {
    Err(Stop::ask("an argument of another type"))
}

/// Text of any text type, or of `json`.
pub(super) fn text(arguments: &[Option<Datum>], at: usize) -> Result<&Arc<str>, Stop> {
    match arguments.get(at) {
        Some(Some(Datum::Text(text) | Datum::Bpchar(text) | Datum::Json(text))) => Ok(text),
        _ => unexpected(),
    }
}

/// `jsonb`
pub(super) fn jsonb(arguments: &[Option<Datum>], at: usize) -> Result<&Arc<Json>, Stop> {
    match arguments.get(at) {
        Some(Some(Datum::Jsonb(json))) => Ok(json),
        _ => unexpected(),
    }
}

/// `int4`
pub(super) fn int4(arguments: &[Option<Datum>], at: usize) -> Result<i32, Stop> {
    match arguments.get(at) {
        Some(Some(Datum::Int(int))) => i32::try_from(*int).or_else(|_| unexpected()),
        _ => unexpected(),
    }
}

/// An array.
pub(super) fn array(arguments: &[Option<Datum>], at: usize) -> Result<&Arc<Array>, Stop> {
    match arguments.get(at) {
        Some(Some(Datum::Array(array))) => Ok(array),
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
