//! Regular expressions: the part of Postgres' advanced ones that means the same everywhere, for the `regex` crate.
//!
//! Whether something matches does not depend on which match is preferred, so that greedy or not, first or longest, is
//! all one. Manual: "POSIX Regular Expressions".

use std::fmt::Write;

use regex::{Regex, RegexBuilder};

use super::bracket;
use crate::expression::Stop;

/// Longer patterns are left to Postgres, in bytes; so are ones that repeat more atoms than this altogether.
const MAX_SIZE: usize = 1000;

/// Longer texts are left to Postgres, in bytes.
const MAX_SUBJECT: usize = 1 << 20;

/// How deep groups may nest.
const MAX_DEPTH: usize = 20;

/// The upper bound of `{m,n}` in Postgres (`DUPMAX`).
const MAX_REPEAT: usize = 255;

/// Of a compiled pattern, in bytes.
const MAX_COMPILED: usize = 2 << 20;

/// Which letters are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// None but themselves.
    Exact,
    /// Those of ASCII, and no others.
    Ascii,
    /// As a collation says that is not known here.
    Unknown,
}

/// How letters of ASCII fold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    /// Not at all.
    None,
    /// `i` and `I` are the same.
    Usual,
    /// `i` and `I` are different letters: Turkic languages.
    Turkic,
}

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Regular {
    usual: Regex,
    /// The same under the other folding, where it is not known which one holds.
    turkic: Option<Regex>,
    /// Known only for texts of these characters: see [`is_plain`].
    plain_only: bool,
}

impl Regular {
    /// Compiles a pattern. `ascii_classes`: `\w` and its like are of ASCII alone, as under the collation `C`.
    ///
    /// # Errors
    /// [`Stop::Ask`] for what may be invalid or mean something else to Postgres.
    pub(super) fn new(pattern: &str, case: Case, ascii_classes: bool) -> Result<Self, Stop> {
        let fold = match case {
            Case::Exact => Fold::None,
            Case::Ascii | Case::Unknown => Fold::Usual,
        };
        if case == Case::Unknown && !pattern.is_ascii() {
            return Err(Stop::ask("a case-insensitive pattern beyond ASCII"));
        }
        let (usual, classes) = compiled(pattern, fold)?;
        let turkic = match case {
            Case::Unknown if pattern.contains(['i', 'I']) || pattern.contains('[') => {
                Some(compiled(pattern, Fold::Turkic)?.0)
            }
            _ => None,
        };
        Ok(Self {
            usual,
            turkic,
            plain_only: case == Case::Unknown || (classes && !ascii_classes),
        })
    }

    /// Whether some part of the subject matches.
    ///
    /// # Errors
    /// [`Stop::Ask`] where that depends on the collation, and for a long text.
    pub(super) fn matches(&self, subject: &str) -> Result<bool, Stop> {
        if self.plain_only && !is_plain(subject) {
            return Err(Stop::ask("a regular expression on text beyond ASCII"));
        }
        if subject.len() > MAX_SUBJECT {
            return Err(Stop::ask("a regular expression on a long text"));
        }
        let matched = self.usual.is_match(subject);
        match &self.turkic {
            Some(turkic) if turkic.is_match(subject) != matched => {
                Err(Stop::ask("a regular expression on the letter I"))
            }
            _ => Ok(matched),
        }
    }
}

/// ASCII without the control characters that some libraries call blanks and others do not.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'\t'..=b'\r' | b' '..=b'~'))
}

/// A pattern, and whether classes occur in it.
fn compiled(pattern: &str, fold: Fold) -> Result<(Regex, bool), Stop> {
    if pattern.len() > MAX_SIZE {
        return Err(unknown());
    }
    // A director, or options.
    if pattern.starts_with("***") {
        return Err(unknown());
    }
    let mut translator = Translator {
        rest: pattern,
        out: String::new(),
        classes: false,
        fold,
    };
    let size = translator.alternatives(0)?.size;
    if !translator.rest.is_empty() || size > MAX_SIZE {
        return Err(unknown());
    }
    let regex = RegexBuilder::new(&translator.out)
        .size_limit(MAX_COMPILED)
        .build()
        .map_err(|_| unknown())?;
    Ok((regex, translator.classes))
}

/// Not known to be valid, or to mean the same here.
pub(super) fn unknown() -> Stop {
    Stop::ask("this regular expression")
}

/// What a part of a pattern is like.
struct Part {
    /// Atoms, as often as they are repeated.
    size: usize,
    /// `^` or `$` is in it.
    anchored: bool,
}

struct Translator<'p> {
    rest: &'p str,
    out: String,
    classes: bool,
    fold: Fold,
}

impl Translator<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let c = characters.next();
        self.rest = characters.as_str();
        c
    }

    /// Branches up to a closing parenthesis or the end.
    fn alternatives(&mut self, depth: usize) -> Result<Part, Stop> {
        if depth > MAX_DEPTH {
            return Err(unknown());
        }
        let mut whole = Part {
            size: 1,
            anchored: false,
        };
        loop {
            match self.peek() {
                None | Some(')') => return Ok(whole),
                Some('|') => {
                    self.take();
                    self.out.push('|');
                }
                Some(_) => {
                    let part = self.quantified(depth)?;
                    whole.size += part.size;
                    whole.anchored |= part.anchored;
                }
            }
        }
    }

    fn quantified(&mut self, depth: usize) -> Result<Part, Stop> {
        let from = self.out.len();
        let part = self.atom(depth)?;
        let Some((minimum, maximum)) = self.quantifier()? else {
            return Ok(part);
        };
        // Postgres has rules of its own for repeated anchors, and refuses two quantifiers in a row.
        if part.anchored || matches!(self.peek(), Some('*' | '+' | '?' | '{')) {
            return Err(unknown());
        }
        self.out.insert_str(from, "(?:");
        let written = match maximum {
            Some(maximum) => write!(self.out, "){{{minimum},{maximum}}}"),
            None => write!(self.out, "){{{minimum},}}"),
        };
        written.map_err(|_| unknown())?;
        let times = maximum.unwrap_or(minimum + 1).max(1);
        Ok(Part {
            size: part.size.saturating_mul(times),
            anchored: false,
        })
    }

    /// A quantifier with what makes it non-greedy.
    fn quantifier(&mut self) -> Result<Option<(usize, Option<usize>)>, Stop> {
        let bounds = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => return self.bounds().map(Some),
            _ => return Ok(None),
        };
        self.take();
        self.lazy();
        Ok(Some(bounds))
    }

    fn lazy(&mut self) {
        if self.peek() == Some('?') {
            self.take();
        }
    }

    /// `{m}`, `{m,}`, `{m,n}`
    fn bounds(&mut self) -> Result<(usize, Option<usize>), Stop> {
        let (inside, rest) = self
            .rest
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'))
            .ok_or_else(unknown)?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse().ok().filter(|n| digits && *n <= MAX_REPEAT);
            number.ok_or_else(unknown)
        };
        let bounds = match inside.split_once(',') {
            None => (number(inside)?, Some(number(inside)?)),
            Some((minimum, "")) => (number(minimum)?, None),
            Some((minimum, maximum)) => (number(minimum)?, Some(number(maximum)?)),
        };
        if bounds.1.is_some_and(|maximum| maximum < bounds.0) {
            return Err(unknown());
        }
        self.rest = rest;
        self.lazy();
        Ok(bounds)
    }

    fn atom(&mut self, depth: usize) -> Result<Part, Stop> {
        let mut anchored = false;
        match self.take().ok_or_else(unknown)? {
            '^' => {
                self.out.push_str(r"\A");
                anchored = true;
            }
            '$' => {
                self.out.push_str(r"\z");
                anchored = true;
            }
            '.' => self.out.push_str("(?s:.)"),
            '(' => return self.group(depth),
            '[' => {
                let set = bracket::read(&mut self.rest)?;
                self.classes |= set.classes;
                set.write(self.fold, &mut self.out)?;
            }
            '\\' => self.escape()?,
            // A quantifier of nothing is refused, and a brace is a literal only in front of what is no digit.
            '*' | '+' | '?' | '{' => return Err(unknown()),
            c => self.literal(c)?,
        }
        Ok(Part { size: 1, anchored })
    }

    fn group(&mut self, depth: usize) -> Result<Part, Stop> {
        if self.peek() == Some('?') {
            // Anything else behind a question mark is an option or looks around.
            self.rest = self.rest.strip_prefix("?:").ok_or_else(unknown)?;
        }
        self.out.push_str("(?:");
        let part = self.alternatives(depth + 1)?;
        if self.take() != Some(')') {
            return Err(unknown());
        }
        self.out.push(')');
        Ok(part)
    }

    fn escape(&mut self) -> Result<(), Stop> {
        let escaped = self.take().ok_or_else(unknown)?;
        if let Some(class) = bracket::class_escape(escaped) {
            self.classes = true;
            return class.write(self.fold, &mut self.out);
        }
        match escaped {
            'n' => self.literal('\n'),
            'r' => self.literal('\r'),
            't' => self.literal('\t'),
            c if c.is_ascii_punctuation() || c == ' ' => self.literal(c),
            _ => Err(unknown()),
        }
    }

    fn literal(&mut self, c: char) -> Result<(), Stop> {
        bracket::Set::of(c).write(self.fold, &mut self.out)
    }
}
