//! Values of type `json`: looked into without losing how they are written.

use std::borrow::Cow;

use super::lexer::{Escapes, Lexer, Token, invalid};
use crate::expression::Stop;

/// One step into a document: by key in an object, by index in an array. Without one of them it leads nowhere there.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::expression) struct Step<'a> {
    pub(in crate::expression) key: Option<&'a str>,
    pub(in crate::expression) index: Option<i32>,
}

/// What a text begins with; see [`kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::expression) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// Reads the whole text.
///
/// # Errors
/// 22P02 for what is not JSON; 22P05 for `\u0000` if escapes are replaced; [`Stop::Ask`] for what is long or deep.
pub(in crate::expression) fn validate(text: &str, escapes: Escapes) -> Result<(), Stop> {
    let mut lexer = Lexer::new(text, escapes)?;
    let token = lexer.next()?;
    lexer.skip(token, 0)?;
    lexer.end()
}

/// The kind of a value, by its first token alone.
///
/// # Errors
/// 22P02 for what is not JSON.
pub(in crate::expression) fn kind(text: &str, escapes: Escapes) -> Result<Kind, Stop> {
    Ok(match Lexer::new(text, escapes)?.next()? {
        Token::ObjectStart => Kind::Object,
        Token::ArrayStart => Kind::Array,
        Token::String(_) => Kind::String,
        Token::Number(_) => Kind::Number,
        Token::Bool(_) => Kind::Bool,
        Token::Null => Kind::Null,
        _ => return Err(invalid()),
    })
}

/// Number of elements; `None` where this is no array.
///
/// # Errors
/// As [`validate`].
pub(in crate::expression) fn length(text: &str) -> Result<Option<usize>, Stop> {
    validate(text, Escapes::Keep)?;
    Ok(elements(text)?.map(|elements| elements.len()))
}

/// The elements of an array as they are written; `None` where this is no array.
///
/// # Errors
/// As [`validate`].
pub(in crate::expression) fn elements(text: &str) -> Result<Option<Vec<&str>>, Stop> {
    let mut lexer = Lexer::new(text, Escapes::Keep)?;
    if lexer.next()? != Token::ArrayStart {
        return Ok(None);
    }
    let mut found = Vec::new();
    lexer.array(|lexer, token| {
        found.push(written(lexer, token)?);
        Ok(())
    })?;
    Ok(Some(found))
}

/// The keys of an object in the order they are written, repeated ones too; `None` where this is no object.
///
/// # Errors
/// As [`validate`].
pub(in crate::expression) fn keys(text: &str) -> Result<Option<Vec<Cow<'_, str>>>, Stop> {
    let mut lexer = Lexer::new(text, Escapes::Replace)?;
    if lexer.next()? != Token::ObjectStart {
        return Ok(None);
    }
    let mut found = Vec::new();
    lexer.object(|lexer, key, token| {
        found.push(key);
        lexer.skip(token, 0)
    })?;
    Ok(Some(found))
}

/// What the steps lead to, as it is written. Where keys are repeated, the last place that all steps lead to.
///
/// # Errors
/// As [`validate`].
pub(in crate::expression) fn find<'a>(text: &'a str, steps: &[Step<'_>]) -> Result<Option<&'a str>, Stop> {
    let mut lexer = Lexer::new(text, Escapes::Replace)?;
    let token = lexer.next()?;
    let Some((step, rest)) = steps.split_first() else {
        return written(&mut lexer, token).map(Some);
    };
    let mut found = None;
    match (token, step) {
        (
            Token::ArrayStart,
            Step {
                index: Some(index), ..
            },
        ) => {
            let elements = elements(text)?.unwrap_or_default();
            if let Some(element) = at(elements.len(), *index).and_then(|at| elements.get(at)) {
                found = find(element, rest)?;
            }
        }
        (Token::ObjectStart, Step { key: Some(key), .. }) => lexer.object(|lexer, name, token| {
            let value = written(lexer, token)?;
            if name == *key {
                // The same key again hides what was found, unless it leads nowhere.
                found = find(value, rest)?.or(found);
            }
            Ok(())
        })?,
        _ => {}
    }
    Ok(found)
}

/// The position that an index means, counted from the end if it is negative.
pub(in crate::expression) fn at(length: usize, index: i32) -> Option<usize> {
    let distance = usize::try_from(index.unsigned_abs()).ok()?;
    if index < 0 {
        length.checked_sub(distance)
    } else {
        (distance < length).then_some(distance)
    }
}

/// Reads the rest of a value and gives it as it is written.
fn written<'a>(lexer: &mut Lexer<'a>, token: Token<'a>) -> Result<&'a str, Stop> {
    let start = lexer.start;
    lexer.skip(token, 0)?;
    lexer.since(start)
}

/// A value as text: a string without its quotes and escapes, `null` as SQL's NULL, others as they are written.
///
/// # Errors
/// As [`validate`].
pub(in crate::expression) fn unquoted(text: &str) -> Result<Option<Cow<'_, str>>, Stop> {
    Ok(match Lexer::new(text, Escapes::Replace)?.next()? {
        Token::String(text) => Some(text),
        Token::Null => None,
        _ => Some(Cow::Borrowed(text)),
    })
}
