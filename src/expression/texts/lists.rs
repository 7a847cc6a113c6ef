//! From many texts one, and from one many.

use std::borrow::Cow;

use super::super::arguments::{array, text};
use super::{Array, Builtin, Collation, Datum, Evaluated, Stop, Ty, as_text, lenient, short, strict};

pub(super) fn function(name: &str, types: &[Ty], collation: &Collation) -> Option<Builtin> {
    match (name, types) {
        // Not immutable: of other types, output depends on settings.
        ("concat", [_, ..]) if types.iter().all(printable) => Some(lenient(Ty::Text, false, |arguments| {
            joined(arguments.iter().flatten(), "")
        })),
        ("concat_ws", [Ty::Text, rest @ ..]) if !rest.is_empty() && rest.iter().all(printable) => {
            Some(lenient(Ty::Text, false, |arguments| match arguments {
                [Some(Datum::Text(separator)), rest @ ..] => joined(rest.iter().flatten(), separator),
                _ => Ok(None),
            }))
        }
        ("array_to_string", [Ty::Array(element), Ty::Text]) if printable(element) => {
            Some(strict(Ty::Text, false, array_to_string))
        }
        ("array_to_string", [Ty::Array(element), Ty::Text, Ty::Text]) if printable(element) => {
            Some(lenient(Ty::Text, false, |arguments| match arguments {
                [Some(_), Some(_), _] => array_to_string(arguments),
                _ => Ok(None),
            }))
        }
        ("string_to_array", [Ty::Text, Ty::Text] | [Ty::Text, Ty::Text, Ty::Text])
            if *collation != Collation::Nondeterministic =>
        {
            let texts = Ty::Array(Box::new(Ty::Text));
            Some(lenient(texts, true, string_to_array))
        }
        _ => None,
    }
}

/// Whether the output of values of this type is known here and depends on nothing else.
fn printable(ty: &Ty) -> bool {
    matches!(
        ty,
        Ty::Text | Ty::Varchar | Ty::Bpchar | Ty::Name | Ty::Int2 | Ty::Int4 | Ty::Int8 | Ty::Bool
    )
}

fn printed(datum: &Datum) -> Result<Cow<'_, str>, Stop> {
    match datum {
        Datum::Text(text) | Datum::Bpchar(text) => Ok(Cow::Borrowed(text)),
        Datum::Int(int) => Ok(Cow::Owned(int.to_string())),
        Datum::Bool(truth) => Ok(Cow::Borrowed(if *truth { "t" } else { "f" })),
        _ => Err(Stop::ask("the output of another type")),
    }
}

fn joined<'a>(parts: impl Iterator<Item = &'a Datum>, separator: &str) -> Evaluated {
    let mut whole = String::new();
    for (at, part) in parts.enumerate() {
        if at > 0 {
            whole.push_str(separator);
        }
        whole.push_str(&printed(part)?);
        short(whole.len())?;
    }
    as_text(whole)
}

/// All elements, whatever the dimensions; NULLs as the third argument says them, or not at all.
fn array_to_string(arguments: &[Option<Datum>]) -> Evaluated {
    let null = arguments.get(2).and_then(Option::as_ref);
    let elements = &array(arguments, 0)?.elements;
    let shown = elements.iter().filter_map(|element| element.as_ref().or(null));
    joined(shown, text(arguments, 1)?)
}

/// Parts between separators, or characters if the separator is NULL; parts that equal the third argument become NULL.
fn string_to_array(arguments: &[Option<Datum>]) -> Evaluated {
    if !matches!(arguments, [Some(_), ..]) {
        return Ok(None);
    }
    let whole = text(arguments, 0)?;
    let given = |at| match arguments.get(at) {
        Some(Some(_)) => text(arguments, at).map(Some),
        _ => Ok(None),
    };
    let (separator, null) = (given(1)?, given(2)?);
    let parts: Vec<&str> = match separator {
        _ if whole.is_empty() => Vec::new(),
        Some("") => vec![whole],
        Some(separator) => whole.split(separator).collect(),
        None => whole.split("").filter(|part| !part.is_empty()).collect(),
    };
    let dimensions = if parts.is_empty() {
        Vec::new()
    } else {
        vec![(parts.len(), 1)]
    };
    let elements = parts
        .into_iter()
        .map(|part| (Some(part) != null).then(|| Datum::Text(part.into())))
        .collect();
    Ok(Some(Datum::Array(Array { dimensions, elements }.into())))
}
