//! What the parser would stumble over is put in words that it knows, token by token.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::Opaque;

pub(super) static DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// Longer texts are not computed here.
const LONGEST: usize = 1 << 18;

/// The tokens of a text, without the space between them.
pub(super) fn of(text: &str) -> Result<Vec<Token>, Opaque> {
    if text.len() > LONGEST {
        return Err(Opaque("the expression is too long".into()));
    }
    let tokens = Tokenizer::new(&DIALECT, text).tokenize();
    let mut tokens = tokens.map_err(|_| Opaque("the expression is not understood".into()))?;
    tokens.retain(|token| !matches!(token, Token::Whitespace(_)));
    Ok(tokens)
}

/// With what `replace` says in parentheses in place of each `alias.name`.
pub(super) fn replaced(
    tokens: Vec<Token>,
    replace: &dyn Fn(&str, &str) -> Option<String>,
) -> Result<Vec<Token>, Opaque> {
    let mut kept = Vec::with_capacity(tokens.len());
    for token in tokens {
        kept.push(token);
        let [.., Token::Word(alias), Token::Period, Token::Word(name)] = kept.as_slice() else {
            continue;
        };
        if let Some(text) = replace(&alias.value, &name.value) {
            kept.truncate(kept.len() - 3);
            kept.push(Token::LParen);
            kept.extend(of(&text)?);
            kept.push(Token::RParen);
        }
    }
    Ok(kept)
}

/// The parser does not know `TRIM(BOTH FROM x)`, which means `TRIM(BOTH x)`, nor `x::text COLLATE y`, which Postgres
/// prints in parentheses of its own.
pub(super) fn readable(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut open = Vec::new();
    for token in tokens {
        if is(&token, &[Keyword::FROM]) && trims(&kept) {
            continue;
        }
        match &token {
            Token::LParen => open.push(kept.len()),
            Token::RParen => drop(open.pop()),
            _ if is(&token, &[Keyword::COLLATE]) => {
                if let Some(place) = open.last() {
                    kept.insert(place + 1, Token::LParen);
                    kept.push(Token::RParen);
                }
            }
            _ => {}
        }
        kept.push(token);
    }
    kept
}

fn is(token: &Token, keywords: &[Keyword]) -> bool {
    matches!(token, Token::Word(word) if keywords.contains(&word.keyword) && word.quote_style.is_none())
}

/// Ends with `TRIM(BOTH`.
fn trims(tokens: &[Token]) -> bool {
    match tokens {
        [.., trim, Token::LParen, side] => {
            is(trim, &[Keyword::TRIM]) && is(side, &[Keyword::BOTH, Keyword::LEADING, Keyword::TRAILING])
        }
        _ => false,
    }
}
