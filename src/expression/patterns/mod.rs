//! `LIKE`, `ILIKE` and regular expressions.

mod bracket;
mod like;
mod regular;

use std::sync::{Arc, Mutex, PoisonError};

use super::arguments::{strict, text};
use super::{Builtin, Collation, Datum, Stop, Ty};
use regular::{Case, Regular};

/// A pattern operator: text, `char(n)` (with its blanks) or `name` on the left, text on the right.
pub(super) fn operator(
    symbol: &str,
    left: Option<&Ty>,
    right: &Ty,
    collation: &Collation,
) -> Option<Builtin> {
    let known = matches!(left?, Ty::Text | Ty::Bpchar | Ty::Name) && *right == Ty::Text;
    // Some versions refuse those, others give answers of their own.
    if !known || *collation == Collation::Nondeterministic {
        return None;
    }
    Some(match symbol {
        "~~" => like(Case::Exact, false),
        "!~~" => like(Case::Exact, true),
        "~~*" => like(insensitive(collation), false),
        "!~~*" => like(insensitive(collation), true),
        "~" => regular(Case::Exact, collation, false),
        "!~" => regular(Case::Exact, collation, true),
        "~*" => regular(insensitive(collation), collation, false),
        "!~*" => regular(insensitive(collation), collation, true),
        _ => return None,
    })
}

/// A function of patterns.
pub(super) fn function(name: &str, arguments: &[Ty], collation: &Collation) -> Option<Builtin> {
    let _ = collation;
    match (name, arguments) {
        // What `LIKE … ESCAPE …` is printed as.
        ("like_escape", [Ty::Text, Ty::Text]) => Some(strict(Ty::Text, true, |a| {
            let pattern = like::escaped(text(a, 0)?, text(a, 1)?)?;
            Ok(Some(Datum::Text(pattern.into())))
        })),
        _ => None,
    }
}

fn insensitive(collation: &Collation) -> Case {
    match collation {
        Collation::C => Case::Ascii,
        _ => Case::Unknown,
    }
}

fn like(case: Case, negated: bool) -> Builtin {
    strict(Ty::Bool, true, move |a| {
        let (subject, pattern) = (text(a, 0)?, text(a, 1)?);
        let matched = match case {
            Case::Exact => like::matches(subject, pattern)?,
            Case::Ascii => like::matches(&subject.to_ascii_lowercase(), &pattern.to_ascii_lowercase())?,
            Case::Unknown => like::matches_insensitively(subject, pattern)?,
        };
        Ok(Some(Datum::Bool(matched != negated)))
    })
}

/// A pattern with what it was compiled to.
type Kept = (Arc<str>, Arc<Result<Regular, Stop>>);

fn regular(case: Case, collation: &Collation, negated: bool) -> Builtin {
    let classes_are_ascii = *collation == Collation::C;
    // Patterns are constants almost always: the last one is kept as it was compiled.
    let last: Mutex<Option<Kept>> = Mutex::new(None);
    strict(Ty::Bool, true, move |a| {
        let (subject, pattern) = (text(a, 0)?, text(a, 1)?);
        let known = last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .filter(|(kept, _)| **kept == *pattern)
            .map(|(_, compiled)| Arc::clone(compiled));
        let compiled = known.unwrap_or_else(|| {
            let compiled = Arc::new(Regular::new(pattern, case, classes_are_ascii));
            let kept = Some((Arc::from(pattern), Arc::clone(&compiled)));
            *last.lock().unwrap_or_else(PoisonError::into_inner) = kept;
            compiled
        });
        match &*compiled {
            Ok(regular) => Ok(Some(Datum::Bool(regular.matches(subject)? != negated))),
            Err(stop) => Err(stop.clone()),
        }
    })
}

#[cfg(test)]
mod tests;
