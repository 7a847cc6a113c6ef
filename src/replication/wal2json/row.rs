use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_json::value::RawValue;

use super::layouts::Columns;
use super::message::DecodeError;
use crate::change::{Row, RowBuilder};

const BYTEA: u32 = 17;

/// A JSON string that is borrowed unless it holds escapes. (`Option<Cow<str>>` would never borrow.)
#[derive(Debug)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowing)
    }
}

/// One element of `columns` or `identity`.
#[derive(Debug, Deserialize)]
pub(super) struct Column<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    /// Printed as a signed number, although oids are not.
    typeoid: i64,
    #[serde(borrow)]
    value: &'a RawValue,
}

impl Column<'_> {
    pub(super) fn type_oid(&self) -> Result<u32, DecodeError> {
        let oid = u32::try_from(self.typeoid).ok();
        // An oid past 2^31 comes out negative.
        oid.or_else(|| i32::try_from(self.typeoid).ok().map(i32::cast_unsigned))
            .ok_or(DecodeError::TypeOid)
    }
}

/// Builds the row; the layout comes from `layouts`, found or made.
pub(super) fn row(columns: &[Column<'_>], layouts: &mut Columns) -> Result<Row, DecodeError> {
    let layout = layouts.layout(columns)?;
    // Exact but for escapes, so that the row is rarely reallocated to its size.
    let bytes = columns.iter().map(|column| text_len(column.value.get())).sum();
    let mut row = RowBuilder::with_capacity(columns.len(), bytes);
    for (column, known) in columns.iter().zip(&layout.columns) {
        push(column.value.get(), known.type_oid, &mut row)?;
    }
    Ok(row.finish(layout))
}

/// Bytes of a value's text without escapes (a bytea takes two more).
fn text_len(json: &str) -> usize {
    match json.as_bytes().first() {
        Some(b'n') => 0,
        Some(b't' | b'f') => 1,
        Some(b'"') => json.len().saturating_sub(2),
        _ => json.len(),
    }
}

/// Appends a JSON value as Postgres' text output form.
fn push(json: &str, type_oid: u32, row: &mut RowBuilder) -> Result<(), DecodeError> {
    match json.as_bytes().first() {
        Some(b'n') => row.null(),
        Some(b't') => row.text("t"),
        Some(b'f') => row.text("f"),
        Some(b'0'..=b'9' | b'-') => row.text(json),
        Some(b'"') => return push_string(json, type_oid, row),
        _ => return Err(DecodeError::Value),
    }
    Ok(())
}

fn push_string(json: &str, type_oid: u32, row: &mut RowBuilder) -> Result<(), DecodeError> {
    let prefix = if type_oid == BYTEA { "\\x" } else { "" };
    let inner = json
        .get(1..json.len().saturating_sub(1))
        .ok_or(DecodeError::Value)?;
    if inner.contains('\\') {
        // serde_json unescapes; RawValue has only checked the syntax, so a lone surrogate can still fail here.
        let text: Text<'_> = serde_json::from_str(json).map_err(|_| DecodeError::Value)?;
        row.text_with(|buffer| {
            buffer.push_str(prefix);
            buffer.push_str(&text);
        });
    } else {
        row.text_with(|buffer| {
            buffer.push_str(prefix);
            buffer.push_str(inner);
        });
    }
    Ok(())
}
