//! `jsonb` to text.

use super::{Json, number};
use crate::expression::Stop;

/// What `jsonb::text` is: one space after each colon and comma.
///
/// # Errors
/// [`Stop::Ask`] for a number that is none, which `jsonb` does not hold.
pub(in crate::expression) fn print(json: &Json) -> Result<String, Stop> {
    let mut out = String::new();
    write(json, &mut |number| number::print(number), &mut out)?;
    Ok(out)
}

/// As [`print`], with digits as `number` prints them.
pub(super) fn write(
    json: &Json,
    number: &mut impl FnMut(&crate::expression::Numeric) -> Result<String, Stop>,
    out: &mut String,
) -> Result<(), Stop> {
    match json {
        Json::Null => out.push_str("null"),
        Json::Bool(true) => out.push_str("true"),
        Json::Bool(false) => out.push_str("false"),
        Json::Number(value) => out.push_str(&number(value)?),
        Json::String(text) => string(text, out),
        Json::Array(elements) => {
            out.push('[');
            for (i, element) in elements.iter().enumerate() {
                separate(i, out);
                write(element, number, out)?;
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (i, (key, value)) in members.iter().enumerate() {
                separate(i, out);
                string(key, out);
                out.push_str(": ");
                write(value, number, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn separate(index: usize, out: &mut String) {
    if index > 0 {
        out.push_str(", ");
    }
}

/// `escape_json` of Postgres.
fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}
