//! Finding and replacing one text in another, by bytes: not under a collation that calls different bytes equal.

use super::super::arguments::{as_count, int, strict, text};
use super::{Builtin, Collation, Datum, Evaluated, Stop, Ty, as_text, quick, short};

type Arguments<'a> = &'a [Option<Datum>];

pub(super) fn function(name: &str, types: &[Ty], collation: &Collation) -> Option<Builtin> {
    use Ty::{Int4, Text};
    let (returns, call): (_, fn(Arguments) -> Evaluated) = match (name, types) {
        ("translate", [Text, Text, Text]) => (Text, translate),
        _ if *collation == Collation::Nondeterministic => return None,
        ("strpos" | "position", [Text, Text]) => (Int4, position),
        ("starts_with", [Text, Text]) => (Ty::Bool, |arguments| {
            let found = text(arguments, 0)?.starts_with(text(arguments, 1)?);
            Ok(Some(Datum::Bool(found)))
        }),
        ("replace", [Text, Text, Text]) => (Text, replace),
        ("split_part", [Text, Text, Int4]) => (Text, split_part),
        _ => return None,
    };
    Some(strict(returns, true, call))
}

/// The first character is 1; 0 if it is not found.
fn position(arguments: Arguments) -> Evaluated {
    let (text, wanted) = (text(arguments, 0)?, text(arguments, 1)?);
    match text.split_once(wanted) {
        Some((before, _)) => as_count(before.chars().count() + 1),
        None => Ok(Some(Datum::Int(0))),
    }
}

fn replace(arguments: Arguments) -> Evaluated {
    let (text, from, to) = (text(arguments, 0)?, text(arguments, 1)?, text(arguments, 2)?);
    if from.is_empty() {
        return as_text(text);
    }
    let found = text.matches(from).count();
    short(text.len().saturating_add(found.saturating_mul(to.len())))?;
    as_text(text.replace(from, to))
}

/// Characters without a counterpart are left out.
fn translate(arguments: Arguments) -> Evaluated {
    let (text, from, to) = (text(arguments, 0)?, text(arguments, 1)?, text(arguments, 2)?);
    quick(text, from)?;
    let translated: String = text
        .chars()
        .filter_map(|c| match from.chars().position(|other| other == c) {
            Some(at) => to.chars().nth(at),
            None => Some(c),
        })
        .collect();
    as_text(translated)
}

/// Counted from 1, or from -1 at the end.
fn split_part(arguments: Arguments) -> Evaluated {
    let (text, separator, number) = (text(arguments, 0)?, text(arguments, 1)?, int(arguments, 2)?);
    let at = usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX);
    if number == 0 {
        return Err(Stop::Raise("22023"));
    }
    let part = if separator.is_empty() {
        (at == 1).then_some(text)
    } else if number > 0 {
        text.split(separator).nth(at - 1)
    } else {
        // Separators are found from the start, also when parts are counted from the end.
        let parts: Vec<_> = text.split(separator).collect();
        let index = parts.len().checked_sub(at);
        index.and_then(|index| parts.get(index).copied())
    };
    as_text(part.unwrap_or_default())
}
