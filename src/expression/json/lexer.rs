//! JSON text to tokens, as `json_lex` in `src/common/jsonapi.c` of Postgres does it.

use std::borrow::Cow;

use super::{MAX_DEPTH, MAX_LENGTH};
use crate::expression::Stop;

/// What becomes of escapes in strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::expression) enum Escapes {
    /// They are replaced, and have to be characters that text can hold: what `jsonb` and most operators do.
    Replace,
    /// Only their form is checked, strings stay as they are written: what reading `json` does.
    Keep,
}

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    Comma,
    Colon,
    String(Cow<'a, str>),
    Number(&'a str),
    Bool(bool),
    Null,
    End,
}

/// `invalid_text_representation`: not JSON.
pub(in crate::expression) const fn invalid() -> Stop {
    Stop::Raise("22P02")
}

/// `untranslatable_character`: `\u0000` in what has to become text.
const UNTRANSLATABLE: Stop = Stop::Raise("22P05");

/// Reads tokens off a text.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Where the last token began.
    pub(super) start: usize,
    escapes: Escapes,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, escapes: Escapes) -> Result<Self, Stop> {
        if text.len() > MAX_LENGTH {
            return Err(Stop::ask("a long json value"));
        }
        Ok(Self {
            text,
            at: 0,
            start: 0,
            escapes,
        })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// From the start of a token to where the last one ended.
    pub(super) fn since(&self, start: usize) -> Result<&'a str, Stop> {
        self.text.get(start..self.at).ok_or_else(invalid)
    }

    pub(super) fn next(&mut self) -> Result<Token<'a>, Stop> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.start = self.at;
        let Some(byte) = self.peek() else {
            return Ok(Token::End);
        };
        let single = match byte {
            b'{' => Token::ObjectStart,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayStart,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => return self.number(),
            _ => return self.word(),
        };
        self.at += 1;
        Ok(single)
    }

    fn word(&mut self) -> Result<Token<'a>, Stop> {
        self.skip_while(is_word);
        match self.since(self.start)? {
            "true" => Ok(Token::Bool(true)),
            "false" => Ok(Token::Bool(false)),
            "null" => Ok(Token::Null),
            _ => Err(invalid()),
        }
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) -> usize {
        let from = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
        self.at - from
    }

    fn number(&mut self) -> Result<Token<'a>, Stop> {
        let digits = |lexer: &mut Self| match lexer.skip_while(|b| b.is_ascii_digit()) {
            0 => Err(invalid()),
            _ => Ok(()),
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        // A zero stands alone; digits behind it are found below to be what may not follow.
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            digits(self)?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self)?;
        }
        if self.peek().is_some_and(is_word) {
            return Err(invalid());
        }
        self.since(self.start).map(Token::Number)
    }

    fn string(&mut self) -> Result<Token<'a>, Stop> {
        self.at += 1;
        let first = self.at;
        let mut replaced: Option<String> = None;
        let mut plain_from = first;
        loop {
            match self.peek() {
                None | Some(0..=31) => return Err(invalid()),
                Some(b'"') => break,
                Some(b'\\') => {
                    let plain = self.since(plain_from)?;
                    let decoded = self.escape()?;
                    if let Some(decoded) = decoded {
                        let text = replaced.get_or_insert_with(String::new);
                        text.push_str(plain);
                        text.push(decoded);
                        plain_from = self.at;
                    }
                }
                Some(_) => self.at += 1,
            }
        }
        let rest = self.since(plain_from)?;
        self.at += 1;
        Ok(Token::String(match replaced {
            None => Cow::Borrowed(rest),
            Some(text) => Cow::Owned(text + rest),
        }))
    }

    /// What an escape stands for; `None` where escapes are kept.
    fn escape(&mut self) -> Result<Option<char>, Stop> {
        self.at += 1;
        let kind = self.peek().ok_or_else(invalid)?;
        self.at += 1;
        let decoded = match kind {
            b'u' => return self.unicode(),
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            _ => return Err(invalid()),
        };
        Ok((self.escapes == Escapes::Replace).then_some(decoded))
    }

    fn unicode(&mut self) -> Result<Option<char>, Stop> {
        let code = self.hexadecimal()?;
        if self.escapes == Escapes::Keep {
            return Ok(None);
        }
        match code {
            0 => Err(UNTRANSLATABLE),
            // The second half has to follow at once.
            0xd800..=0xdbff => {
                if self.peek() != Some(b'\\') {
                    return Err(invalid());
                }
                self.at += 1;
                if self.peek() != Some(b'u') {
                    return Err(invalid());
                }
                self.at += 1;
                let low = self.hexadecimal()?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return Err(invalid());
                }
                let joined = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                char::from_u32(joined).ok_or_else(invalid).map(Some)
            }
            code => char::from_u32(code).ok_or_else(invalid).map(Some),
        }
    }

    fn hexadecimal(&mut self) -> Result<u32, Stop> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.ok_or_else(invalid)?;
        self.at += 4;
        digits.iter().try_fold(0, |code, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or_else(invalid)?;
            Ok(code * 16 + digit)
        })
    }

    /// Reads the rest of an array whose `[` was read: calls `each` with the first token of every element, whose
    /// rest it reads.
    pub(super) fn array(
        &mut self,
        mut each: impl FnMut(&mut Self, Token<'a>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut token = self.next()?;
        if token == Token::ArrayEnd {
            return Ok(());
        }
        loop {
            each(self, token)?;
            match self.next()? {
                Token::Comma => token = self.next()?,
                Token::ArrayEnd => return Ok(()),
                _ => return Err(invalid()),
            }
        }
    }

    /// Reads the rest of an object whose `{` was read: calls `each` with every key and the first token of its value.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Cow<'a, str>, Token<'a>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut token = self.next()?;
        if token == Token::ObjectEnd {
            return Ok(());
        }
        loop {
            let Token::String(key) = token else {
                return Err(invalid());
            };
            if self.next()? != Token::Colon {
                return Err(invalid());
            }
            let value = self.next()?;
            each(self, key, value)?;
            match self.next()? {
                Token::Comma => token = self.next()?,
                Token::ObjectEnd => return Ok(()),
                _ => return Err(invalid()),
            }
        }
    }

    /// Reads the rest of a value that begins with `token`.
    pub(super) fn skip(&mut self, token: Token<'a>, depth: usize) -> Result<(), Stop> {
        let depth = deeper(depth)?;
        match token {
            Token::ObjectStart => self.object(|lexer, _, value| lexer.skip(value, depth)),
            Token::ArrayStart => self.array(|lexer, value| lexer.skip(value, depth)),
            Token::String(_) | Token::Number(_) | Token::Bool(_) | Token::Null => Ok(()),
            _ => Err(invalid()),
        }
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<(), Stop> {
        match self.next()? {
            Token::End => Ok(()),
            _ => Err(invalid()),
        }
    }
}

/// One level below `depth`.
pub(super) fn deeper(depth: usize) -> Result<usize, Stop> {
    if depth >= MAX_DEPTH {
        return Err(Stop::ask("a deeply nested json value"));
    }
    Ok(depth + 1)
}

/// What belongs to the same word for Postgres, so that `1a` is no number followed by a word.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}
