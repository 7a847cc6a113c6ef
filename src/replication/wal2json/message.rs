use std::borrow::Cow;

use serde::Deserialize;

use super::layouts::Layouts;
use super::row::{Column, Text, row};
use super::timestamp;
use crate::change::{Action, Change, Lsn, Transaction};
use crate::replication::Message;

/// Why a message could not be decoded. Never carries a value of a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not UTF-8: wal2json prints in the database's encoding.
    #[error("not UTF-8 at byte {0}")]
    Encoding(usize),
    /// Not the JSON that wal2json prints.
    #[error("not a wal2json message: broken at column {0}")]
    Json(usize),
    /// `action` is none that is known.
    #[error("unknown action")]
    Action,
    /// A field that this kind of message must have is missing.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// `lsn` or `nextlsn` is not a WAL position.
    #[error("field {0} is not a WAL position")]
    Position(&'static str),
    /// `timestamp` is not one.
    #[error("field timestamp is not a timestamp")]
    Timestamp,
    /// `typeoid` is not an oid.
    #[error("a column's typeoid is not an oid")]
    TypeOid,
    /// A column's value is not a JSON scalar.
    #[error("a column's value is not a scalar")]
    Value,
}

/// Every field any message has. Those that never need escapes are plain `&str`.
#[derive(Debug, Deserialize)]
struct Fields<'a> {
    action: &'a str,
    xid: Option<u32>,
    timestamp: Option<&'a str>,
    lsn: Option<&'a str>,
    nextlsn: Option<&'a str>,
    #[serde(borrow)]
    schema: Option<Text<'a>>,
    #[serde(borrow)]
    table: Option<Text<'a>>,
    #[serde(borrow)]
    columns: Option<Vec<Column<'a>>>,
    #[serde(borrow)]
    identity: Option<Vec<Column<'a>>>,
    transactional: Option<bool>,
    #[serde(borrow)]
    prefix: Option<Text<'a>>,
    #[serde(borrow)]
    content: Option<Text<'a>>,
}

/// How the plugin begins a logical message.
const LOGICAL_MESSAGE: &[u8] = br#"{"action":"M""#;

/// Decodes messages and remembers the names they share.
#[derive(Debug, Default)]
pub struct Decoder {
    layouts: Layouts,
}

impl Decoder {
    /// A decoder that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes one message.
    ///
    /// # Errors
    /// See [`DecodeError`]. The decoder stays usable.
    pub fn decode(&mut self, message: &[u8]) -> Result<Message, DecodeError> {
        let text = match std::str::from_utf8(message) {
            Ok(text) => Cow::Borrowed(text),
            // Bytes in no encoding, which anybody may write: nothing of a table is missing without them.
            Err(_) if message.starts_with(LOGICAL_MESSAGE) => String::from_utf8_lossy(message),
            Err(error) => return Err(DecodeError::Encoding(error.valid_up_to())),
        };
        let fields: Fields<'_> = serde_json::from_str(&text).map_err(|e| DecodeError::Json(e.column()))?;
        match fields.action {
            "I" => self.change(Action::Insert, &fields, message.len()),
            "U" => self.change(Action::Update, &fields, message.len()),
            "D" => self.change(Action::Delete, &fields, message.len()),
            "T" => self.change(Action::Truncate, &fields, message.len()),
            "B" => transaction(&fields).map(Message::Begin),
            "C" => transaction(&fields).map(Message::Commit),
            "M" => logical_message(fields),
            _ => Err(DecodeError::Action),
        }
    }

    fn change(&mut self, action: Action, fields: &Fields<'_>, bytes: usize) -> Result<Message, DecodeError> {
        let schema = fields.schema.as_ref().ok_or(DecodeError::Missing("schema"))?;
        let name = fields.table.as_ref().ok_or(DecodeError::Missing("table"))?;
        let table = self.layouts.table(schema, name);
        let mut new = match action {
            Action::Insert | Action::Update => {
                let columns = fields.columns.as_ref().ok_or(DecodeError::Missing("columns"))?;
                Some(row(columns, &mut table.columns)?)
            }
            Action::Delete | Action::Truncate => None,
        };
        let old = match (action, &fields.identity) {
            (Action::Update | Action::Delete, Some(columns)) => Some(row(columns, &mut table.columns)?),
            _ => None,
        };
        if let (Some(row), Some(old)) = (new.take_if(|_| old.is_some()), &old) {
            new = Some(table.fill(row, old));
        }
        Ok(Message::Change(Change {
            lsn: position(fields.lsn, "lsn")?,
            // The receiver counts.
            ordinal: 0,
            action,
            table: table.name.clone(),
            new,
            old,
            wire_bytes: bytes,
        }))
    }
}

fn transaction(fields: &Fields<'_>) -> Result<Transaction, DecodeError> {
    let timestamp = fields.timestamp.ok_or(DecodeError::Missing("timestamp"))?;
    Ok(Transaction {
        xid: fields.xid.ok_or(DecodeError::Missing("xid"))?,
        commit_lsn: position(fields.lsn, "lsn")?,
        end_lsn: position(fields.nextlsn, "nextlsn")?,
        commit_micros: timestamp::micros(timestamp).ok_or(DecodeError::Timestamp)?,
    })
}

fn logical_message(fields: Fields<'_>) -> Result<Message, DecodeError> {
    Ok(Message::Message {
        transactional: fields
            .transactional
            .ok_or(DecodeError::Missing("transactional"))?,
        lsn: position(fields.lsn, "lsn")?,
        prefix: fields
            .prefix
            .ok_or(DecodeError::Missing("prefix"))?
            .0
            .into_owned(),
        content: fields
            .content
            .ok_or(DecodeError::Missing("content"))?
            .0
            .into_owned(),
    })
}

fn position(text: Option<&str>, field: &'static str) -> Result<Lsn, DecodeError> {
    let text = text.ok_or(DecodeError::Missing(field))?;
    text.parse().map_err(|_| DecodeError::Position(field))
}
