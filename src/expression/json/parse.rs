//! JSON text to `jsonb`.

use std::borrow::Cow;
use std::sync::Arc;

use super::lexer::{Escapes, Lexer, Token, deeper, invalid};
use super::{Json, number, order};
use crate::expression::Stop;

/// What `text::jsonb` is.
///
/// # Errors
/// 22P02 for what is not JSON, 22P05 for `\u0000`; [`Stop::Ask`] for what is too long, deep or of too many digits.
pub(in crate::expression) fn parse(text: &str) -> Result<Json, Stop> {
    let mut lexer = Lexer::new(text, Escapes::Replace)?;
    let token = lexer.next()?;
    let json = value(&mut lexer, token, 0)?;
    lexer.end()?;
    Ok(json)
}

fn value<'a>(lexer: &mut Lexer<'a>, token: Token<'a>, depth: usize) -> Result<Json, Stop> {
    let depth = deeper(depth)?;
    Ok(match token {
        Token::Null => Json::Null,
        Token::Bool(value) => Json::Bool(value),
        Token::Number(text) => Json::Number(number::parse(text)?),
        Token::String(text) => Json::String(shared(text)),
        Token::ArrayStart => {
            let mut elements = Vec::new();
            lexer.array(|lexer, token| {
                elements.push(Arc::new(value(lexer, token, depth)?));
                Ok(())
            })?;
            Json::Array(elements)
        }
        Token::ObjectStart => {
            let mut members = Vec::new();
            lexer.object(|lexer, key, token| {
                members.push((shared(key), Arc::new(value(lexer, token, depth)?)));
                Ok(())
            })?;
            Json::Object(unique(members))
        }
        _ => return Err(invalid()),
    })
}

fn shared(text: Cow<'_, str>) -> Arc<str> {
    Arc::from(text.as_ref())
}

/// Members in the order of `jsonb`, each key once: the last one of equal keys stays.
fn unique(mut members: Vec<(Arc<str>, Arc<Json>)>) -> Vec<(Arc<str>, Arc<Json>)> {
    // A stable sort keeps equal keys in the order they were written.
    members.sort_by(|(a, _), (b, _)| order::keys(a, b));
    members.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            std::mem::swap(later, kept);
        }
        same
    });
    members
}
