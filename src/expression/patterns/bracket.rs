//! Sets of characters in regular expressions.

use std::fmt::Write;

use super::regular::{Fold, unknown};
use crate::expression::Stop;

/// A set of characters: any of ASCII, single ones beyond it.
#[derive(Clone, Default)]
pub(super) struct Set {
    /// One bit each.
    ascii: u128,
    beyond: Vec<char>,
    /// All but these.
    negated: bool,
    /// A class is in it, such as `\w`, that has members beyond ASCII.
    pub(super) classes: bool,
    /// A class is in it of one case only.
    cased: bool,
}

impl Set {
    /// One character.
    pub(super) fn of(c: char) -> Self {
        let mut set = Self::default();
        set.add(c);
        set
    }

    fn add(&mut self, c: char) {
        if c.is_ascii() {
            self.ascii |= 1 << u32::from(c);
        } else {
            self.beyond.push(c);
        }
    }

    fn add_all(&mut self, wanted: impl Fn(&u8) -> bool) {
        for byte in (0..128).filter(wanted) {
            self.ascii |= 1 << byte;
        }
    }

    /// Appends it in the words of the `regex` crate.
    ///
    /// # Errors
    /// [`Stop::Ask`] for classes of one case where cases are folded.
    pub(super) fn write(&self, fold: Fold, out: &mut String) -> Result<(), Stop> {
        if self.cased && fold != Fold::None {
            return Err(unknown());
        }
        out.push_str(if self.negated { "[^" } else { "[" });
        let ascii = self.folded(fold);
        let members = (0..128u8)
            .filter(|byte| ascii >> byte & 1 == 1)
            .map(char::from)
            .chain(self.beyond.iter().copied());
        for c in members {
            write!(out, "\\x{{{:x}}}", u32::from(c)).map_err(|_| unknown())?;
        }
        out.push(']');
        Ok(())
    }

    fn folded(&self, fold: Fold) -> u128 {
        let mut folded = self.ascii;
        for upper in b'A'..=b'Z' {
            let apart = fold == Fold::None || (fold == Fold::Turkic && upper == b'I');
            let both = 1 << upper | 1 << upper.to_ascii_lowercase();
            if !apart && folded & both != 0 {
                folded |= both;
            }
        }
        folded
    }
}

/// `\d`, `\w`, `\s` and their opposites.
pub(super) fn class_escape(letter: char) -> Option<Set> {
    let mut set = Set {
        classes: true,
        negated: letter.is_ascii_uppercase(),
        ..Set::default()
    };
    match letter {
        'd' | 'D' => set.add_all(u8::is_ascii_digit),
        'w' | 'W' => set.add_all(|b| b.is_ascii_alphanumeric() || *b == b'_'),
        's' | 'S' => set.add_all(is_space),
        _ => return None,
    }
    Some(set)
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

/// Reads what stands behind `[` up to its `]`.
///
/// # Errors
/// [`Stop::Ask`] for collating elements, unusual ranges and what may be invalid.
pub(super) fn read(rest: &mut &str) -> Result<Set, Stop> {
    let mut set = Set::default();
    if let Some(behind) = rest.strip_prefix('^') {
        set.negated = true;
        *rest = behind;
    }
    let mut first = true;
    loop {
        let mut characters = rest.chars();
        let c = characters.next().ok_or_else(unknown)?;
        let behind = characters.as_str();
        *rest = match c {
            ']' if !first => {
                *rest = behind;
                return Ok(set);
            }
            '[' if behind.starts_with([':', '.', '=']) => class(&mut set, behind)?,
            '\\' => escape(&mut set, behind)?,
            '-' if !first && !behind.starts_with(']') => return Err(unknown()),
            c => single_or_range(&mut set, c, behind)?,
        };
        first = false;
    }
}

/// A character, or a range that begins with it.
fn single_or_range<'p>(set: &mut Set, c: char, behind: &'p str) -> Result<&'p str, Stop> {
    let Some(last) = behind.strip_prefix('-').filter(|last| !last.starts_with(']')) else {
        set.add(c);
        return Ok(behind);
    };
    let mut characters = last.chars();
    let last = characters.next().ok_or_else(unknown)?;
    let plain = |c: char| c.is_ascii() && !matches!(c, '[' | '\\' | '-');
    if !plain(c) || !plain(last) || c > last {
        return Err(unknown());
    }
    let rest = characters.as_str();
    // `a-c-e` is refused.
    if rest.starts_with('-') && !rest.starts_with("-]") {
        return Err(unknown());
    }
    (c..=last).for_each(|c| set.add(c));
    Ok(rest)
}

fn escape<'p>(set: &mut Set, behind: &'p str) -> Result<&'p str, Stop> {
    let mut characters = behind.chars();
    let c = characters.next().ok_or_else(unknown)?;
    let rest = characters.as_str();
    // Not as the beginning of a range.
    if rest.starts_with('-') && !rest.starts_with("-]") {
        return Err(unknown());
    }
    match class_escape(c) {
        Some(class) if !class.negated => {
            set.ascii |= class.ascii;
            set.classes = true;
        }
        None if c.is_ascii_punctuation() => set.add(c),
        _ => return Err(unknown()),
    }
    Ok(rest)
}

/// `[:name:]`
fn class<'p>(set: &mut Set, behind: &'p str) -> Result<&'p str, Stop> {
    let named = behind.strip_prefix(':').ok_or_else(unknown)?;
    let (name, rest) = named.split_once(":]").ok_or_else(unknown)?;
    match name {
        "alpha" => set.add_all(u8::is_ascii_alphabetic),
        "digit" => set.add_all(u8::is_ascii_digit),
        "alnum" => set.add_all(u8::is_ascii_alphanumeric),
        "space" => set.add_all(is_space),
        "xdigit" => set.add_all(u8::is_ascii_hexdigit),
        "upper" => set.add_all(u8::is_ascii_uppercase),
        "lower" => set.add_all(u8::is_ascii_lowercase),
        _ => return Err(unknown()),
    }
    set.cased |= matches!(name, "upper" | "lower");
    set.classes = true;
    if rest.starts_with('-') && !rest.starts_with("-]") {
        return Err(unknown());
    }
    Ok(rest)
}
