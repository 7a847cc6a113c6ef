//! Lengths, parts and paddings, counted in characters.

use super::super::arguments::{as_count, int, strict, text};
use super::{Builtin, Datum, Evaluated, Stop, Ty, as_text, quick, short};

type Arguments<'a> = &'a [Option<Datum>];

pub(super) fn function(name: &str, types: &[Ty]) -> Option<Builtin> {
    use Ty::{Bpchar, Int4, Text};
    let (returns, call): (_, fn(Arguments) -> Evaluated) = match (name, types) {
        ("length" | "char_length" | "character_length", [Text]) => {
            (Int4, |arguments| as_count(text(arguments, 0)?.chars().count()))
        }
        ("length" | "char_length" | "character_length", [Bpchar]) => (Int4, |arguments| {
            as_count(text(arguments, 0)?.trim_end_matches(' ').chars().count())
        }),
        ("octet_length", [Text | Bpchar]) => (Int4, |arguments| as_count(text(arguments, 0)?.len())),
        ("bit_length", [Text]) => (Int4, |arguments| as_count(text(arguments, 0)?.len() * 8)),
        ("left", [Text, Int4]) => (Text, left),
        ("right", [Text, Int4]) => (Text, right),
        ("substr" | "substring", [Text, Int4]) => (Text, |arguments| {
            as_text(between(text(arguments, 0)?, int(arguments, 1)?.into(), i64::MAX))
        }),
        ("substr" | "substring", [Text, Int4, Int4]) => (Text, substring),
        ("reverse", [Text]) => (Text, |arguments| {
            as_text(text(arguments, 0)?.chars().rev().collect::<String>())
        }),
        ("repeat", [Text, Int4]) => (Text, repeat),
        ("btrim" | "ltrim" | "rtrim", [Text] | [Text, Text]) => return Some(trim(name)),
        ("lpad", [Text, Int4] | [Text, Int4, Text]) => (Text, |arguments| {
            let (padding, kept) = padded(arguments)?;
            as_text(padding + kept)
        }),
        ("rpad", [Text, Int4] | [Text, Int4, Text]) => (Text, |arguments| {
            let (padding, kept) = padded(arguments)?;
            as_text(kept.to_owned() + &padding)
        }),
        _ => return None,
    };
    Some(strict(returns, true, call))
}

/// The first so many characters.
fn first(text: &str, count: usize) -> &str {
    match text.char_indices().nth(count) {
        Some((end, _)) => text.split_at(end).0,
        None => text,
    }
}

/// All but the first so many characters.
fn behind(text: &str, count: usize) -> &str {
    match text.char_indices().nth(count) {
        Some((start, _)) => text.split_at(start).1,
        None => "",
    }
}

/// A count from the other end if it is negative: so many characters from the start are meant.
fn from_start(text: &str, count: i32) -> usize {
    let magnitude = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count >= 0 {
        magnitude
    } else {
        text.chars().count().saturating_sub(magnitude)
    }
}

fn left(arguments: Arguments) -> Evaluated {
    let text = text(arguments, 0)?;
    as_text(first(text, from_start(text, int(arguments, 1)?)))
}

fn right(arguments: Arguments) -> Evaluated {
    let (text, count) = (text(arguments, 0)?, int(arguments, 1)?);
    // The opposite of this number does not exist.
    let count = count.checked_neg().ok_or_else(|| Stop::ask("the lowest count"))?;
    if count == 0 {
        return as_text("");
    }
    as_text(behind(text, from_start(text, count)))
}

fn substring(arguments: Arguments) -> Evaluated {
    let (start, length) = (i64::from(int(arguments, 1)?), i64::from(int(arguments, 2)?));
    if length < 0 {
        return Err(Stop::Raise("22011"));
    }
    as_text(between(text(arguments, 0)?, start, start + length))
}

/// Characters from `start` to before `end`, the first being 1; positions below that count and are empty.
fn between(text: &str, start: i64, end: i64) -> &str {
    let start = start.max(1);
    let place = |position: i64| usize::try_from(position).unwrap_or(usize::MAX);
    if end <= start {
        return "";
    }
    first(behind(text, place(start - 1)), place(end - start))
}

fn repeat(arguments: Arguments) -> Evaluated {
    let (text, count) = (text(arguments, 0)?, int(arguments, 1)?);
    let count = usize::try_from(count).unwrap_or(0);
    short(text.len().saturating_mul(count))?;
    as_text(text.repeat(count))
}

fn trim(name: &str) -> Builtin {
    let (start, end) = (name != "rtrim", name != "ltrim");
    strict(Ty::Text, true, move |arguments| {
        let mut rest = text(arguments, 0)?;
        let set = if arguments.len() > 1 {
            text(arguments, 1)?
        } else {
            " "
        };
        quick(rest, set)?;
        let in_set = |c: char| set.contains(c);
        if start {
            rest = rest.trim_start_matches(in_set);
        }
        if end {
            rest = rest.trim_end_matches(in_set);
        }
        as_text(rest)
    })
}

/// The padding, and what of the text is left at the wanted length.
fn padded<'a>(arguments: Arguments<'a>) -> Result<(String, &'a str), Stop> {
    let text_given = text(arguments, 0)?;
    let length = usize::try_from(int(arguments, 1)?).unwrap_or(0);
    let fill = if arguments.len() > 2 {
        text(arguments, 2)?
    } else {
        " "
    };
    short(length.saturating_mul(4))?;
    let kept = first(text_given, length);
    let missing = length - kept.chars().count();
    Ok((fill.chars().cycle().take(missing).collect(), kept))
}
