//! The text form of arrays (`array_out`, manual section 8.15.6).

use std::fmt::Write as _;

use crate::expression::{Array, Datum, Stop, Ty};

/// `MAXDIM`
const MAX_DIMENSIONS: usize = 6;

/// Reads the output form. `element` reads an element's text.
pub(in crate::expression) fn parse(
    text: &str,
    element: &dyn Fn(&str) -> Result<Option<Datum>, Stop>,
) -> Result<Array, Stop> {
    let (bounds, body) = match text.strip_prefix('[') {
        None => (None, text),
        Some(_) => {
            let (bounds, body) = text.split_once('=').ok_or_else(malformed)?;
            (Some(lower_bounds(bounds).ok_or_else(malformed)?), body)
        }
    };
    if body == "{}" && bounds.is_none() {
        return Ok(Array {
            dimensions: Vec::new(),
            elements: Vec::new(),
        });
    }
    let depth = body.bytes().take_while(|byte| *byte == b'{').count();
    if depth == 0 || depth > MAX_DIMENSIONS {
        return Err(malformed());
    }
    let mut reader = Reader {
        rest: body,
        lengths: vec![None; depth],
        elements: Vec::new(),
        element,
    };
    reader.level(0)?;
    let lengths: Option<Vec<usize>> = reader.lengths.iter().copied().collect();
    let lengths = lengths.filter(|_| reader.rest.is_empty()).ok_or_else(malformed)?;
    let dimensions = match bounds {
        None => lengths.into_iter().map(|length| (length, 1)).collect(),
        Some(bounds) if bounds.iter().map(|(length, _)| length).eq(&lengths) => bounds,
        Some(_) => return Err(malformed()),
    };
    Ok(Array {
        dimensions,
        elements: reader.elements,
    })
}

fn malformed() -> Stop {
    Stop::ask("the text of an array")
}

/// `[2:3][1:4]` to lengths and lower bounds.
fn lower_bounds(text: &str) -> Option<Vec<(usize, i32)>> {
    text.strip_prefix('[')?
        .strip_suffix(']')?
        .split("][")
        .map(|range| {
            let (lower, upper) = range.split_once(':')?;
            let (lower, upper): (i32, i32) = (lower.parse().ok()?, upper.parse().ok()?);
            let length = usize::try_from(i64::from(upper) - i64::from(lower) + 1).ok()?;
            Some((length, lower))
        })
        .collect()
}

struct Reader<'a> {
    rest: &'a str,
    /// Length of each dimension, as soon as one of its arrays was read.
    lengths: Vec<Option<usize>>,
    elements: Vec<Option<Datum>>,
    element: &'a dyn Fn(&str) -> Result<Option<Datum>, Stop>,
}

impl Reader<'_> {
    /// One pair of braces of the given depth with what is inside.
    fn level(&mut self, depth: usize) -> Result<(), Stop> {
        self.eat('{')?;
        let mut length = 0;
        loop {
            if depth + 1 < self.lengths.len() {
                self.level(depth + 1)?;
            } else {
                let element = self.element()?;
                self.elements.push(element);
            }
            length += 1;
            if self.rest.starts_with('}') {
                break;
            }
            self.eat(',')?;
        }
        self.eat('}')?;
        match self.lengths[depth].replace(length) {
            Some(other) if other != length => Err(malformed()),
            _ => Ok(()),
        }
    }

    fn eat(&mut self, expected: char) -> Result<(), Stop> {
        self.rest = self.rest.strip_prefix(expected).ok_or_else(malformed)?;
        Ok(())
    }

    fn element(&mut self) -> Result<Option<Datum>, Stop> {
        if let Some(rest) = self.rest.strip_prefix('"') {
            let (text, rest) = quoted(rest).ok_or_else(malformed)?;
            self.rest = rest;
            return (self.element)(&text);
        }
        let end = self.rest.find([',', '}']).ok_or_else(malformed)?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        match text {
            "NULL" => Ok(None),
            // Postgres never prints these without quotes.
            _ if needs_quotes(text) => Err(malformed()),
            _ => (self.element)(text),
        }
    }
}

/// The text up to the closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut unescaped = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((unescaped, &text[at + 1..])),
            '\\' => unescaped.push(characters.next()?.1),
            other => unescaped.push(other),
        }
    }
    None
}

/// The output form.
pub(in crate::expression) fn print(array: &Array, element: &Ty) -> Result<String, Stop> {
    if array.elements.is_empty() {
        return Ok("{}".into());
    }
    let mut text = String::new();
    if array.dimensions.iter().any(|(_, lower)| *lower != 1) {
        text.push_str(&print_bounds(array));
        text.push('=');
    }
    let mut elements = array.elements.iter();
    print_level(array, 0, element, &mut elements, &mut text)?;
    Ok(text)
}

/// `[1:2][1:3]` (`array_dims`).
pub(super) fn print_bounds(array: &Array) -> String {
    let mut text = String::new();
    for (length, lower) in &array.dimensions {
        let upper = i64::from(*lower) + i64::try_from(*length).unwrap_or(i64::MAX) - 1;
        let _ = write!(text, "[{lower}:{upper}]");
    }
    text
}

fn print_level<'a>(
    array: &Array,
    depth: usize,
    element: &Ty,
    elements: &mut impl Iterator<Item = &'a Option<Datum>>,
    text: &mut String,
) -> Result<(), Stop> {
    text.push('{');
    for index in 0..array.dimensions.get(depth).map_or(0, |(length, _)| *length) {
        if index > 0 {
            text.push(',');
        }
        if depth + 1 < array.dimensions.len() {
            print_level(array, depth + 1, element, elements, text)?;
            continue;
        }
        match elements.next().ok_or_else(malformed)? {
            None => text.push_str("NULL"),
            Some(datum) => print_element(&datum.print(element)?, text),
        }
    }
    text.push('}');
    Ok(())
}

fn print_element(element: &str, text: &mut String) {
    if !needs_quotes(element) {
        text.push_str(element);
        return;
    }
    text.push('"');
    for character in element.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
}

fn needs_quotes(element: &str) -> bool {
    let special = |character| {
        matches!(
            character,
            '"' | '\\' | '{' | '}' | ',' | ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c'
        )
    };
    element.is_empty() || element.eq_ignore_ascii_case("null") || element.contains(special)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> Option<String> {
        let element = |text: &str| Datum::parse(text, &Ty::Text).map(Some);
        let array = parse(text, &element).ok()?;
        Some(print(&array, &Ty::Text).expect("text prints"))
    }

    #[test]
    fn reads_what_it_prints() {
        for text in [
            "{}",
            "{a,NULL,\"NULL\",\"\",\"a b\",\"q\\\"\\\\\",\"{\",\"x,y\"}",
            "{{a,b},{c,d}}",
            "[2:3]={a,b}",
            "[-1:0][5:6]={{a,b},{c,d}}",
            "{{{a}}}",
        ] {
            assert_eq!(round_trip(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn understands_nothing_else() {
        for text in [
            "",
            "{",
            "}",
            "{a",
            "{a}}",
            "{a}b",
            "{,a}",
            "{a,}",
            "{ a}",
            "{{a},{b,c}}",
            "{{a},b}",
            "{a,{b}}",
            "{\"a}",
            "[1:3]={a}",
            "[1:1]=a",
            "[1:0]={}",
            "{null}",
            "{a\\b}",
            "{{}}",
            "[2:1]={a}",
            "[x]={a}",
            "{\"a\"b}",
        ] {
            assert_eq!(round_trip(text), None, "{text}");
        }
    }
}
