//! `LIKE`: `MatchText` in `src/backend/utils/adt/like_match.c` of Postgres.

use crate::expression::Stop;

/// `invalid_escape_sequence`
const ESCAPE: Stop = Stop::Raise("22025");

/// Each `%` is one call deeper; more of them are left to Postgres.
const MAX_WILDCARDS: usize = 100;

/// The work grows with the product of both lengths; beyond this many bytes squared it is left to Postgres.
const MAX_WORK: usize = 1 << 26;

/// How a try ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    True,
    False,
    /// The text came to its end: starting further behind is in vain.
    Abort,
}

/// `subject LIKE pattern` under any deterministic collation.
///
/// # Errors
/// 22025 where matching comes upon an escape at the pattern's end; [`Stop::Ask`] for too much work.
pub(super) fn matches(subject: &str, pattern: &str) -> Result<bool, Stop> {
    if pattern.bytes().filter(|b| *b == b'%').count() > MAX_WILDCARDS {
        return Err(Stop::ask("LIKE with many wildcards"));
    }
    if subject.len().saturating_mul(pattern.len()) > MAX_WORK {
        return Err(Stop::ask("LIKE of a long text"));
    }
    Ok(tried(subject.as_bytes(), pattern.as_bytes())? == Tried::True)
}

/// `subject ILIKE pattern` where it is not known how the collation lowers letters.
///
/// Postgres lowers both sides. Of ASCII letters only `I` has two lower forms, the other one without its dot in Turkic
/// languages: if that makes no difference, neither does the collation.
///
/// # Errors
/// As [`matches`], and [`Stop::Ask`] where it takes the collation.
pub(super) fn matches_insensitively(subject: &str, pattern: &str) -> Result<bool, Stop> {
    if !subject.is_ascii() || !pattern.is_ascii() {
        return Err(Stop::ask("ILIKE of letters beyond ASCII"));
    }
    let dotless = |text: &str| text.replace('I', "ı").to_ascii_lowercase();
    let usual = matches(&subject.to_ascii_lowercase(), &pattern.to_ascii_lowercase());
    if subject.contains('I') || pattern.contains('I') {
        let turkic = matches(&dotless(subject), &dotless(pattern));
        if turkic != usual {
            return Err(Stop::ask("ILIKE of the letter I"));
        }
    }
    usual
}

/// Text and pattern go on byte by byte, except behind a wildcard: there by characters.
fn tried(mut text: &[u8], mut pattern: &[u8]) -> Result<Tried, Stop> {
    while let (Some((&byte, text_rest)), Some((&wanted, rest))) = (text.split_first(), pattern.split_first())
    {
        match wanted {
            b'\\' => {
                let (&literal, rest) = rest.split_first().ok_or(ESCAPE)?;
                if literal != byte {
                    return Ok(Tried::False);
                }
                (text, pattern) = (text_rest, rest);
            }
            b'%' => return search(text, rest),
            b'_' => (text, pattern) = (next_char(text), rest),
            literal if literal == byte => (text, pattern) = (text_rest, rest),
            _ => return Ok(Tried::False),
        }
    }
    Ok(if !text.is_empty() {
        Tried::False
    } else if pattern.iter().all(|b| *b == b'%') {
        Tried::True
    } else {
        Tried::Abort
    })
}

/// The rest of a pattern behind a `%`, tried at every place of the text.
fn search(mut text: &[u8], mut pattern: &[u8]) -> Result<Tried, Stop> {
    let first = loop {
        match pattern.split_first() {
            None => return Ok(Tried::True),
            Some((b'%', rest)) => pattern = rest,
            Some((b'_', _)) if text.is_empty() => return Ok(Tried::Abort),
            Some((b'_', rest)) => (text, pattern) = (next_char(text), rest),
            Some((b'\\', rest)) => break *rest.first().ok_or(ESCAPE)?,
            Some((literal, _)) => break *literal,
        }
    };
    while let Some(byte) = text.first() {
        if *byte == first {
            let tried = tried(text, pattern)?;
            if tried != Tried::False {
                return Ok(tried);
            }
        }
        text = next_char(text);
    }
    Ok(Tried::Abort)
}

/// Behind the first character of UTF-8 text.
fn next_char(text: &[u8]) -> &[u8] {
    let continued = text.iter().skip(1).take_while(|b| **b & 0xc0 == 0x80).count();
    text.get(1 + continued..).unwrap_or_default()
}

/// `like_escape(pattern, escape)`: the pattern with a backslash as its escape; an empty `escape` means none.
///
/// # Errors
/// 22025 for an escape of more than one character.
pub(super) fn escaped(pattern: &str, escape: &str) -> Result<String, Stop> {
    let mut characters = escape.chars();
    let Some(escape) = characters.next() else {
        return Ok(pattern.replace('\\', "\\\\"));
    };
    if characters.next().is_some() {
        return Err(ESCAPE);
    }
    if escape == '\\' {
        return Ok(pattern.to_owned());
    }
    let mut out = String::with_capacity(pattern.len());
    let mut after = false;
    for c in pattern.chars() {
        if c == escape && !after {
            out.push('\\');
            after = true;
            continue;
        }
        if c == '\\' && !after {
            out.push('\\');
        }
        out.push(c);
        after = false;
    }
    Ok(out)
}
