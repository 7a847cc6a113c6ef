//! `bytea`, its textual forms, and digests.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest;

use super::super::arguments::{as_count, bytes, strict, text};
use super::{Builtin, Datum, Evaluated, Stop, Ty, as_text};

type Arguments<'a> = &'a [Option<Datum>];

pub(super) fn function(name: &str, types: &[Ty]) -> Option<Builtin> {
    use Ty::{Bytea, Int4, Text};
    let (returns, call): (_, fn(Arguments) -> Evaluated) = match (name, types) {
        ("length" | "octet_length", [Bytea]) => (Int4, |arguments| as_count(bytes(arguments, 0)?.len())),
        ("bit_length", [Bytea]) => (Int4, |arguments| as_count(bytes(arguments, 0)?.len() * 8)),
        ("md5", [Text]) => (Text, |arguments| {
            as_text(hex(&md5::Md5::digest(text(arguments, 0)?)))
        }),
        ("md5", [Bytea]) => (Text, |arguments| {
            as_text(hex(&md5::Md5::digest(bytes(arguments, 0)?)))
        }),
        ("sha256", [Bytea]) => (Bytea, |arguments| {
            let digest = sha2::Sha256::digest(bytes(arguments, 0)?);
            Ok(Some(Datum::Bytea(digest.as_slice().into())))
        }),
        ("encode", [Bytea, Text]) => (Text, encode),
        ("decode", [Text, Text]) => (Bytea, decode),
        _ => return None,
    };
    Some(strict(returns, true, call))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn encode(arguments: Arguments) -> Evaluated {
    let bytes = bytes(arguments, 0)?;
    match text(arguments, 1)? {
        "hex" => as_text(hex(bytes)),
        "base64" => as_text(base64_lines(bytes)),
        "escape" => as_text(escaped(bytes)),
        _ => Err(Stop::ask("an encoding of bytes")),
    }
}

/// A line feed behind every 76 characters that whole groups of three bytes fill, also at the very end.
fn base64_lines(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(57) {
        text.push_str(&STANDARD.encode(line));
        if line.len() == 57 {
            text.push('\n');
        }
    }
    text
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        match byte {
            b'\\' => text.push_str("\\\\"),
            0 | 0x80.. => {
                let _ = write!(text, "\\{byte:03o}");
            }
            _ => text.push(char::from(*byte)),
        }
        text
    })
}

/// Text that is clean in its encoding. Postgres forgives some things and raises for others; it is asked for those.
fn decode(arguments: Arguments) -> Evaluated {
    let unclear = || Stop::ask("text that is not clean in its encoding");
    let text = text(arguments, 0)?;
    let bytes = match super::super::arguments::text(arguments, 1)? {
        "hex" => unhex(text).ok_or_else(unclear)?,
        "base64" => STANDARD.decode(text).map_err(|_| unclear())?,
        "escape" if !text.contains('\\') => text.as_bytes().to_vec(),
        _ => return Err(unclear()),
    };
    Ok(Some(Datum::Bytea(bytes.into())))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}
