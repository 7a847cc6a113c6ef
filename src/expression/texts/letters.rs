//! Upper and lower case, and characters by number.

use super::super::arguments::{int, strict, text};
use super::{Builtin, Collation, Datum, Stop, Ty, as_text};

pub(super) fn function(name: &str, types: &[Ty], collation: &Collation) -> Option<Builtin> {
    match (name, types) {
        ("lower", [Ty::Text]) => Some(folded(collation, 'I', str::to_ascii_lowercase)),
        ("upper", [Ty::Text]) => Some(folded(collation, 'i', str::to_ascii_uppercase)),
        // What a word is depends on the collation's provider.
        ("initcap", [Ty::Text]) if *collation == Collation::C => Some(strict(Ty::Text, true, |arguments| {
            as_text(capitalised(text(arguments, 0)?))
        })),
        ("ascii", [Ty::Text]) => Some(strict(Ty::Int4, true, |arguments| {
            let first = text(arguments, 0)?.chars().next();
            Ok(Some(Datum::Int(first.map_or(0, u32::from).into())))
        })),
        ("chr", [Ty::Int4]) => Some(strict(Ty::Text, true, |arguments| {
            let number = u32::try_from(int(arguments, 0)?).unwrap_or(0);
            match char::from_u32(number) {
                Some(c) if number > 0 => as_text(c.to_string()),
                _ => Err(Stop::ask("the number of no character")),
            }
        })),
        _ => None,
    }
}

/// `lower` and `upper`. Under `C` only ASCII has case. Elsewhere the letters of ASCII do what they do in English, but for
/// the one that Turkish pairs with another; the default is not Turkish ([`Collation::Default`]).
fn folded(collation: &Collation, turkish: char, fold: fn(&str) -> String) -> Builtin {
    let plain = *collation == Collation::C;
    let turkish = Some(turkish).filter(|_| *collation != Collation::Default);
    strict(Ty::Text, true, move |arguments| {
        let text = text(arguments, 0)?;
        if plain || (text.is_ascii() && !turkish.is_some_and(|turkish| text.contains(turkish))) {
            return as_text(fold(text));
        }
        Err(Stop::ask("upper and lower case by the rules of a language"))
    })
}

/// `initcap` under `C`: letters and digits of ASCII make words.
fn capitalised(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .map(|c| {
            let folded = if inside {
                c.to_ascii_lowercase()
            } else {
                c.to_ascii_uppercase()
            };
            inside = c.is_ascii_alphanumeric();
            folded
        })
        .collect()
}
