//! Operators, functions and casts of `json` and `jsonb`.
//!
//! Follows `jsonfuncs.c`, `jsonb_op.c` and `jsonb_util.c` of Postgres; the manual's chapter is "JSON Functions and
//! Operators".

mod arguments;
mod casts;
mod change;
mod contains;
mod path;
mod sets;
mod written;

use std::sync::Arc;

use self::arguments::{text, texts};
use super::arguments::{array, immutable, int, jsonb};
use super::{Builtin, Collation, Datum, Evaluated, Json, Stop, Ty, json};

pub(super) use casts::cast;
pub use sets::{Set, set};

/// What a function meets that wants another kind of json (`invalid_parameter_value`).
const WRONG_KIND: Stop = Stop::Raise("22023");

fn is_text_array(ty: &Ty) -> bool {
    matches!(ty, Ty::Array(element) if **element == Ty::Text)
}

/// An operator with `json` or `jsonb` on one of its sides.
pub(super) fn operator(
    symbol: &str,
    left: Option<&Ty>,
    right: &Ty,
    collation: &Collation,
) -> Option<Builtin> {
    let _ = collation;
    match (left?, right) {
        (Ty::Jsonb, right) => of_jsonb(symbol, right),
        (Ty::Json, right) => written::operator(symbol, right),
        _ => None,
    }
}

fn of_jsonb(symbol: &str, right: &Ty) -> Option<Builtin> {
    match right {
        Ty::Text => of_jsonb_and_text(symbol),
        Ty::Int4 => of_jsonb_and_int4(symbol),
        Ty::Jsonb => of_jsonb_and_jsonb(symbol),
        right if is_text_array(right) => of_jsonb_and_texts(symbol),
        _ => None,
    }
}

fn of_jsonb_and_text(symbol: &str) -> Option<Builtin> {
    Some(match symbol {
        "->" => immutable(Ty::Jsonb, |a| Ok(value(jsonb(a, 0)?.field(text(a, 1)?)))),
        "->>" => immutable(Ty::Text, |a| unquoted(jsonb(a, 0)?.field(text(a, 1)?))),
        "?" => immutable(Ty::Bool, |a| truth(contains::exists(jsonb(a, 0)?, text(a, 1)?))),
        "-" => immutable(Ty::Jsonb, |a| {
            change::without(jsonb(a, 0)?, &[Some(text(a, 1)?)]).map(whole)
        }),
        _ => return None,
    })
}

fn of_jsonb_and_int4(symbol: &str) -> Option<Builtin> {
    Some(match symbol {
        "->" => immutable(Ty::Jsonb, |a| Ok(value(path::element(jsonb(a, 0)?, int(a, 1)?)))),
        "->>" => immutable(Ty::Text, |a| unquoted(path::element(jsonb(a, 0)?, int(a, 1)?))),
        "-" => immutable(Ty::Jsonb, |a| {
            change::without_index(jsonb(a, 0)?, int(a, 1)?).map(whole)
        }),
        _ => return None,
    })
}

fn of_jsonb_and_jsonb(symbol: &str) -> Option<Builtin> {
    Some(match symbol {
        "@>" => immutable(Ty::Bool, |a| {
            truth(contains::contains(jsonb(a, 0)?, jsonb(a, 1)?)?)
        }),
        "<@" => immutable(Ty::Bool, |a| {
            truth(contains::contains(jsonb(a, 1)?, jsonb(a, 0)?)?)
        }),
        "||" => immutable(Ty::Jsonb, |a| {
            Ok(whole(change::concatenate(jsonb(a, 0)?, jsonb(a, 1)?)))
        }),
        _ => return None,
    })
}

fn of_jsonb_and_texts(symbol: &str) -> Option<Builtin> {
    Some(match symbol {
        "#>" => immutable(Ty::Jsonb, |a| {
            Ok(value(path::follow(jsonb(a, 0)?, &texts(array(a, 1)?)?)))
        }),
        "#>>" => immutable(Ty::Text, |a| {
            unquoted(path::follow(jsonb(a, 0)?, &texts(array(a, 1)?)?))
        }),
        "?|" => immutable(Ty::Bool, |a| {
            truth(contains::existing(jsonb(a, 0)?, texts(array(a, 1)?)?)?.any(|exists| exists))
        }),
        "?&" => immutable(Ty::Bool, |a| {
            truth(contains::existing(jsonb(a, 0)?, texts(array(a, 1)?)?)?.all(|exists| exists))
        }),
        "-" => immutable(Ty::Jsonb, |a| {
            let keys = change::flat(array(a, 1)?)?;
            change::without(jsonb(a, 0)?, &keys).map(whole)
        }),
        "#-" => immutable(Ty::Jsonb, |a| {
            let path = change::flat(array(a, 1)?)?;
            change::without_path(jsonb(a, 0)?, &path).map(whole)
        }),
        _ => return None,
    })
}

/// A function of `json` or `jsonb`. Variadic ones take their texts one by one or as one array.
pub(super) fn function(name: &str, arguments: &[Ty], collation: &Collation) -> Option<Builtin> {
    let _ = collation;
    match (name, arguments) {
        ("jsonb_typeof", [Ty::Jsonb]) => Some(immutable(Ty::Text, |a| {
            Ok(Some(Datum::Text(Arc::from(kind(jsonb(a, 0)?)))))
        })),
        ("jsonb_array_length", [Ty::Jsonb]) => Some(immutable(Ty::Int4, |a| match &**jsonb(a, 0)? {
            Json::Array(elements) => count(elements.len()),
            _ => Err(WRONG_KIND),
        })),
        ("jsonb_extract_path", [Ty::Jsonb, path @ ..]) if is_path(path) => Some(immutable(Ty::Jsonb, |a| {
            Ok(value(path::follow(jsonb(a, 0)?, &variadic(a)?)))
        })),
        ("jsonb_extract_path_text", [Ty::Jsonb, path @ ..]) if is_path(path) => {
            Some(immutable(Ty::Text, |a| {
                unquoted(path::follow(jsonb(a, 0)?, &variadic(a)?))
            }))
        }
        ("to_jsonb", [from]) => to_jsonb(from),
        _ => written::function(name, arguments),
    }
}

/// Whether these are the variadic arguments of a path.
fn is_path(arguments: &[Ty]) -> bool {
    match arguments {
        [] => false,
        [array] if is_text_array(array) => true,
        texts => texts.iter().all(|ty| *ty == Ty::Text),
    }
}

/// The texts behind the first argument, given one by one or as one array.
fn variadic(arguments: &[Option<Datum>]) -> Result<Vec<Option<&str>>, Stop> {
    if let Some(Some(Datum::Array(array))) = arguments.get(1) {
        return texts(array);
    }
    (1..arguments.len())
        .map(|at| text(arguments, at).map(|text| Some(text.as_ref())))
        .collect()
}

/// Of values whose JSON form depends on no setting. Postgres calls it stable because of the other ones.
fn to_jsonb(from: &Ty) -> Option<Builtin> {
    let builtin = match from {
        Ty::Text | Ty::Varchar | Ty::Bpchar => immutable(Ty::Jsonb, |a| {
            Ok(whole(Arc::new(Json::String(Arc::clone(text(a, 0)?)))))
        }),
        Ty::Bool => immutable(Ty::Jsonb, |a| match a {
            [Some(Datum::Bool(value))] => Ok(whole(Arc::new(Json::Bool(*value)))),
            _ => Err(Stop::ask("to_jsonb")),
        }),
        Ty::Int2 | Ty::Int4 | Ty::Int8 => immutable(Ty::Jsonb, |a| match a {
            [Some(Datum::Int(value))] => json::parse(&value.to_string()).map(|json| whole(Arc::new(json))),
            _ => Err(Stop::ask("to_jsonb")),
        }),
        Ty::Jsonb => immutable(Ty::Jsonb, |a| Ok(whole(Arc::clone(jsonb(a, 0)?)))),
        _ => return None,
    };
    Some(Builtin {
        immutable: false,
        ..builtin
    })
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

fn truth(value: bool) -> Evaluated {
    Ok(Some(Datum::Bool(value)))
}

fn count(length: usize) -> Evaluated {
    let length = i64::try_from(length).map_err(|_| Stop::ask("a long array"))?;
    Ok(Some(Datum::Int(length)))
}

fn whole(json: Arc<Json>) -> Option<Datum> {
    Some(Datum::Jsonb(json))
}

/// What was found, or SQL's NULL.
fn value(found: Option<&Arc<Json>>) -> Option<Datum> {
    found.map(|json| Datum::Jsonb(Arc::clone(json)))
}

/// What was found as text: strings without quotes, `null` as SQL's NULL.
fn unquoted(found: Option<&Arc<Json>>) -> Evaluated {
    Ok(match found.map(|json| &**json) {
        None | Some(Json::Null) => None,
        Some(Json::String(text)) => Some(Datum::Text(Arc::clone(text))),
        Some(other) => Some(Datum::Text(json::print(other)?.into())),
    })
}

#[cfg(test)]
mod tests;
