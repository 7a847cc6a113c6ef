//! SQL text cut into tokens, as Postgres' scanner does it under `standard_conforming_strings` (manual, "Lexical
//! Structure"). Enough to tell names from literals and comments; what it is not sure of, it refuses.

use std::ops::Range;

/// One token that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A key word or a name: folded to lower case, or without its quotes.
    Name(String),
    /// A string constant, without quotes.
    Text(String),
    /// `$1`
    Parameter(usize),
    /// Any other character.
    Symbol(char),
}

/// The tokens and where they stand in the text. `None` for a text that ends inside a token or has one that is not
/// understood here: constants with escapes.
pub(super) fn tokens(text: &str) -> Option<Vec<(Range<usize>, Token)>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text.get(at..)?.chars().next() {
        let rest = text.get(at..)?;
        let (length, token) = if c.is_ascii_whitespace() {
            (1, None)
        } else if rest.starts_with("--") {
            (rest.find(['\n', '\r']).unwrap_or(rest.len()), None)
        } else if rest.starts_with("/*") {
            (comment(rest)?, None)
        } else if c == '\'' {
            let (length, inside) = quoted(rest, '\'')?;
            (length, Some(Token::Text(inside)))
        } else if c == '"' {
            let (length, inside) = quoted(rest, '"')?;
            (length, Some(Token::Name(inside)))
        } else if c == '$' {
            let (length, token) = dollar(rest)?;
            (length, Some(token))
        } else if begins_name(c) {
            let (length, token) = word(rest)?;
            (length, Some(token))
        } else if c.is_ascii_digit() {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'));
            (end.unwrap_or(rest.len()), Some(Token::Symbol('0')))
        } else {
            (c.len_utf8(), Some(Token::Symbol(c)))
        };
        if let Some(token) = token {
            found.push((at..at + length, token));
        }
        at += length;
    }
    Some(found)
}

/// Whether the text is one piece that parentheses around it keep together: none is closed that it did not open, none
/// stays open, and no semicolon stands outside a literal.
pub(super) fn is_enclosed(tokens: &[(Range<usize>, Token)]) -> bool {
    let mut depth = 0_u32;
    for (_, token) in tokens {
        match token {
            Token::Symbol('(' | '[') => depth += 1,
            Token::Symbol(')' | ']') => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            Token::Symbol(';') => return false,
            _ => {}
        }
    }
    depth == 0
}

fn begins_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn goes_on(c: char) -> bool {
    begins_name(c) || c.is_ascii_digit() || c == '$'
}

/// A name, unless a constant with a prefix begins here. `B''` and `X''` are a name and a text, which does no harm.
fn word(rest: &str) -> Option<(usize, Token)> {
    let length = rest.find(|c: char| !goes_on(c)).unwrap_or(rest.len());
    let (name, behind) = rest.split_at_checked(length)?;
    if name.eq_ignore_ascii_case("e") && behind.starts_with('\'') {
        let (inside_length, inside) = quoted(behind, '\'')?;
        return (!inside.contains('\\')).then_some((length + inside_length, Token::Text(inside)));
    }
    if name.eq_ignore_ascii_case("u") && (behind.starts_with("&'") || behind.starts_with("&\"")) {
        return None;
    }
    Some((length, Token::Name(name.to_ascii_lowercase())))
}

/// Length and inside of what stands in quotes; a doubled quote is one.
fn quoted(rest: &str, quote: char) -> Option<(usize, String)> {
    let mut inside = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c != quote {
            inside.push(c);
        } else if characters.next_if(|(_, next)| *next == quote).is_some() {
            inside.push(quote);
        } else {
            return Some((at + 1, inside));
        }
    }
    None
}

/// `$1`, or a constant between two `$tag$`.
fn dollar(rest: &str) -> Option<(usize, Token)> {
    let behind = rest.get(1..)?;
    let digits = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
    if digits > 0 {
        let number = behind.get(..digits)?.parse().ok()?;
        return Some((1 + digits, Token::Parameter(number)));
    }
    let tag = behind.find('$')?;
    let name = behind.get(..tag)?;
    let is_tag =
        name.is_empty() || (name.starts_with(begins_name) && name.chars().all(|c| goes_on(c) && c != '$'));
    if !is_tag {
        return None;
    }
    let fence = rest.get(..tag + 2)?;
    let inside = rest.get(fence.len()..)?;
    let end = inside.find(fence)?;
    let text = inside.get(..end)?.to_owned();
    Some((fence.len() * 2 + end, Token::Text(text)))
}

/// Length of a comment, which may hold others.
fn comment(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let (mut at, mut depth) = (0, 0_u32);
    while at < bytes.len() {
        if bytes.get(at..)?.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes.get(at..)?.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(text: &str) -> Option<Vec<Token>> {
        tokens(text).map(|found| found.into_iter().map(|(_, token)| token).collect())
    }

    fn name(text: &str) -> Token {
        Token::Name(text.into())
    }

    fn text(text: &str) -> Token {
        Token::Text(text.into())
    }

    #[test]
    fn names_texts_and_comments_are_told_apart() {
        assert_eq!(
            kinds(
                "Select \"A\"\"b\".$1 -- $2 '\n /* a /* ' */ $3 */ || 'it''s $4' $$ $5 $$ $t$ $$ $t$ E'x' é$1"
            ),
            Some(vec![
                name("select"),
                name("A\"b"),
                Token::Symbol('.'),
                Token::Parameter(1),
                Token::Symbol('|'),
                Token::Symbol('|'),
                text("it's $4"),
                text(" $5 "),
                text(" $$ "),
                text("x"),
                name("é$1"),
            ])
        );
        for open in [
            "'a", "\"a", "$$ a", "/* /* */", "$a", "E'\\n'", "U&'a'", "u&\"a\"", "$-$",
        ] {
            assert_eq!(kinds(open), None, "{open}");
        }
    }

    #[test]
    fn what_leaves_its_parentheses_is_seen() {
        let enclosed = |text: &str| is_enclosed(&tokens(text).expect("tokens"));
        assert!(enclosed("(a) and (b = ')') -- )"));
        for open in ["a)", "(a", "a) or (b", "a; b", "a ; "] {
            assert!(!enclosed(open), "{open}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_covers_in_order(text in "\\PC{0,60}") {
            let mut end = 0;
            for (range, _) in tokens(&text).unwrap_or_default() {
                prop_assert!(range.start >= end && range.end > range.start);
                prop_assert!(text.get(range.clone()).is_some());
                end = range.end;
            }
        }
    }
}
