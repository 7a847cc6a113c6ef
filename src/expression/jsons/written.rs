//! Operators and functions of type `json`, whose values are texts.

use std::sync::Arc;

use super::super::arguments::{array, immutable, int};
use super::arguments::{text, texts};
use super::path::index;
use super::{WRONG_KIND, count, is_path, is_text_array, variadic};
use crate::expression::json::{self, Escapes, Step};
use crate::expression::{Builtin, Datum, Evaluated, Stop, Ty};

/// How a part of a document is given.
#[derive(Clone, Copy)]
enum Form {
    /// As `json`: as it is written.
    Written,
    /// As text: strings without quotes and escapes, `null` as SQL's NULL.
    Unquoted,
}

/// An operator with `json` on its left.
pub(super) fn operator(symbol: &str, right: &Ty) -> Option<Builtin> {
    let (form, by_path) = match symbol {
        "->" => (Form::Written, false),
        "->>" => (Form::Unquoted, false),
        "#>" => (Form::Written, true),
        "#>>" => (Form::Unquoted, true),
        _ => return None,
    };
    match right {
        Ty::Text if !by_path => Some(immutable(form.ty(), move |a| {
            let step = Step {
                key: Some(text(a, 1)?),
                index: None,
            };
            part(text(a, 0)?, &[step], form)
        })),
        Ty::Int4 if !by_path => Some(immutable(form.ty(), move |a| {
            let step = Step {
                key: None,
                index: Some(int(a, 1)?),
            };
            part(text(a, 0)?, &[step], form)
        })),
        right if by_path && is_text_array(right) => Some(immutable(form.ty(), move |a| {
            follow(text(a, 0)?, &texts(array(a, 1)?)?, form)
        })),
        _ => None,
    }
}

/// A function of `json`.
pub(super) fn function(name: &str, arguments: &[Ty]) -> Option<Builtin> {
    match (name, arguments) {
        ("json_typeof", [Ty::Json]) => Some(immutable(Ty::Text, |a| {
            let kind = match json::kind(text(a, 0)?, Escapes::Keep)? {
                json::Kind::Object => "object",
                json::Kind::Array => "array",
                json::Kind::String => "string",
                json::Kind::Number => "number",
                json::Kind::Bool => "boolean",
                json::Kind::Null => "null",
            };
            Ok(Some(Datum::Text(Arc::from(kind))))
        })),
        ("json_array_length", [Ty::Json]) => Some(immutable(Ty::Int4, |a| {
            count(json::length(text(a, 0)?)?.ok_or(WRONG_KIND)?)
        })),
        ("json_extract_path", [Ty::Json, path @ ..]) if is_path(path) => Some(immutable(Ty::Json, |a| {
            follow(text(a, 0)?, &variadic(a)?, Form::Written)
        })),
        ("json_extract_path_text", [Ty::Json, path @ ..]) if is_path(path) => {
            Some(immutable(Ty::Text, |a| {
                follow(text(a, 0)?, &variadic(a)?, Form::Unquoted)
            }))
        }
        _ => None,
    }
}

impl Form {
    fn ty(self) -> Ty {
        match self {
            Self::Written => Ty::Json,
            Self::Unquoted => Ty::Text,
        }
    }
}

fn follow(document: &str, path: &[Option<&str>], form: Form) -> Evaluated {
    let Some(path) = path.iter().copied().collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let steps: Vec<Step<'_>> = path
        .into_iter()
        .map(|step| Step {
            key: Some(step),
            index: index(step),
        })
        .collect();
    // Postgres turns a negative index into a position by the first array of its level, wherever that is.
    if steps
        .iter()
        .skip(1)
        .any(|step| step.index.is_some_and(i32::is_negative))
    {
        return Err(Stop::ask("a negative index inside of a json path"));
    }
    part(document, &steps, form)
}

fn part(document: &str, steps: &[Step<'_>], form: Form) -> Evaluated {
    // Postgres reads all of it, and all of its escapes, whatever is looked for.
    json::validate(document, Escapes::Replace)?;
    let Some(found) = json::find(document, steps)? else {
        return Ok(None);
    };
    Ok(match form {
        Form::Written => Some(Datum::Json(Arc::from(found))),
        Form::Unquoted => json::unquoted(found)?.map(|text| Datum::Text(Arc::from(text.as_ref()))),
    })
}
