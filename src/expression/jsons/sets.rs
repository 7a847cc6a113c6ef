//! Functions that return sets, for subqueries that read nothing else.

use std::sync::Arc;

use super::super::arguments::{array, jsonb};
use super::WRONG_KIND;
use super::arguments::text;
use crate::expression::json::{self, Escapes};
use crate::expression::{Collation, Datum, Evaluated, Json, Stop, Ty};

/// The rows that a function returns, one column each. Takes NULL arguments too.
pub type Set = Arc<dyn Fn(&[Option<Datum>]) -> Result<Vec<Option<Datum>>, Stop> + Send + Sync>;

type Rows = Result<Vec<Option<Datum>>, Stop>;

/// A function of `pg_catalog` that returns a set of single columns: their type, and what it does.
pub fn set(name: &str, arguments: &[Ty], collation: &Collation) -> Option<(Ty, Set)> {
    Some(match (name, arguments) {
        ("jsonb_array_elements", [Ty::Jsonb]) => strict(Ty::Jsonb, |a| match &**jsonb(a, 0)? {
            Json::Array(elements) => Ok(elements
                .iter()
                .map(|element| Some(Datum::Jsonb(Arc::clone(element))))
                .collect()),
            _ => Err(WRONG_KIND),
        }),
        ("jsonb_array_elements_text", [Ty::Jsonb]) => strict(Ty::Text, |a| match &**jsonb(a, 0)? {
            Json::Array(elements) => elements
                .iter()
                .map(|element| super::unquoted(Some(element)))
                .collect(),
            _ => Err(WRONG_KIND),
        }),
        ("jsonb_object_keys", [Ty::Jsonb]) => strict(Ty::Text, |a| match &**jsonb(a, 0)? {
            Json::Object(members) => Ok(members
                .iter()
                .map(|(key, _)| Some(Datum::Text(Arc::clone(key))))
                .collect()),
            _ => Err(WRONG_KIND),
        }),
        ("json_array_elements", [Ty::Json]) => strict(Ty::Json, |a| {
            written(text(a, 0)?, Escapes::Keep, |element| {
                Ok(Some(Datum::Json(Arc::from(element))))
            })
        }),
        ("json_array_elements_text", [Ty::Json]) => strict(Ty::Text, |a| {
            written(text(a, 0)?, Escapes::Replace, |element| {
                let text = json::unquoted(element)?;
                Ok(text.map(|text| Datum::Text(Arc::from(text.as_ref()))))
            })
        }),
        ("json_object_keys", [Ty::Json]) => strict(Ty::Text, |a| {
            let keys = json::keys(text(a, 0)?)?.ok_or(WRONG_KIND)?;
            let text = |key: std::borrow::Cow<'_, str>| Some(Datum::Text(Arc::from(key.as_ref())));
            Ok(keys.into_iter().map(text).collect())
        }),
        ("unnest", [Ty::Array(element)]) => {
            strict((**element).clone(), |a| Ok(array(a, 0)?.elements.clone()))
        }
        ("string_to_table", [Ty::Text, Ty::Text] | [Ty::Text, Ty::Text, Ty::Text])
            if *collation != Collation::Nondeterministic =>
        {
            (Ty::Text, Arc::new(split))
        }
        _ => return None,
    })
}

/// No rows if an argument is NULL.
fn strict(column: Ty, rows: impl Fn(&[Option<Datum>]) -> Rows + Send + Sync + 'static) -> (Ty, Set) {
    let call = move |arguments: &[Option<Datum>]| {
        if arguments.iter().any(Option::is_none) {
            return Ok(Vec::new());
        }
        rows(arguments)
    };
    (column, Arc::new(call))
}

fn written(document: &str, escapes: Escapes, each: impl Fn(&str) -> Evaluated) -> Rows {
    // What is no array is refused before the rest is read.
    if json::kind(document, escapes)? != json::Kind::Array {
        return Err(WRONG_KIND);
    }
    json::validate(document, escapes)?;
    let elements = json::elements(document)?.unwrap_or_default();
    elements.into_iter().map(each).collect()
}

/// `string_to_table`: between delimiters; by characters without one; not at all at an empty one.
fn split(arguments: &[Option<Datum>]) -> Rows {
    let optional = |at: usize| match arguments.get(at) {
        None | Some(None) => Ok(None),
        Some(Some(_)) => text(arguments, at).map(|text| Some(text.as_ref())),
    };
    let (text, delimiter, null) = (optional(0)?, optional(1)?, optional(2)?);
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(Vec::new());
    };
    let part = |part: &str| (Some(part) != null).then(|| Datum::Text(Arc::from(part)));
    Ok(match delimiter {
        None => {
            let mut buffer = [0; 4];
            text.chars().map(|c| part(c.encode_utf8(&mut buffer))).collect()
        }
        Some("") => vec![part(text)],
        Some(delimiter) => text.split(delimiter).map(part).collect(),
    })
}
