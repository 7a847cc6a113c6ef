use std::collections::BTreeSet;
use std::sync::Arc;

use super::bytes::Bytes;
use super::relation::{Relation, Relations};
use super::tuple::Tuple;
use crate::change::{Action, Change, Lsn, Row, TableName, Transaction};
use crate::replication::Message;
use crate::replication::frames::POSTGRES_EPOCH_MICROS;

/// Logical messages with another prefix stay here: the plugin sends all.
const MESSAGE_PREFIX: &str = "rowcast";

/// Why a message could not be decoded. Never carries a value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends too early.
    #[error("the message is too short")]
    Short,
    /// A name or value is not UTF-8.
    #[error("a text is not UTF-8")]
    Encoding,
    /// A kind of message that was not asked for.
    #[error("unknown kind of message")]
    Kind,
    /// A row of a table that was not described.
    #[error("a row of a table that was not described")]
    Relation,
    /// A row with more or fewer values than its table has columns.
    #[error("a row does not fit its table's description")]
    Columns,
    /// A value in a form that was not asked for.
    #[error("a value is not in text format")]
    Value,
    /// The part of a change that must come now is another one.
    #[error("a row is missing")]
    Row,
}

/// Decodes messages and remembers the tables that they speak of.
#[derive(Debug, Default)]
pub struct Decoder {
    relations: Relations,
    /// The transaction that was begun last.
    xid: u32,
}

impl Decoder {
    /// A new connection begins, which carries these tables: what comes of others is left out.
    pub fn restart(&mut self, tables: Arc<BTreeSet<TableName>>) {
        self.relations.restart(tables);
    }

    /// Decodes one message, `start` being its position on the stream.
    ///
    /// # Errors
    /// See [`DecodeError`]. The decoder stays usable.
    pub fn decode(&mut self, start: Lsn, message: &[u8]) -> Result<Message, DecodeError> {
        let mut bytes = Bytes(message);
        match bytes.u8()? {
            b'I' => self.change(Action::Insert, &mut bytes, start, message.len()),
            b'U' => self.change(Action::Update, &mut bytes, start, message.len()),
            b'D' => self.change(Action::Delete, &mut bytes, start, message.len()),
            b'T' => self.truncate(&mut bytes, start, message.len()),
            b'B' => self.begin(&mut bytes).map(Message::Begin),
            b'C' => self.commit(&mut bytes).map(Message::Commit),
            b'M' => logical_message(&mut bytes),
            b'R' => self.relations.describe(&mut bytes).map(|()| Message::Nothing),
            // The names of types, and where a transaction came from.
            b'Y' | b'O' => Ok(Message::Nothing),
            _ => Err(DecodeError::Kind),
        }
    }

    fn begin(&mut self, bytes: &mut Bytes<'_>) -> Result<Transaction, DecodeError> {
        let (commit_lsn, time, xid) = (bytes.u64()?, bytes.i64()?, bytes.u32()?);
        self.xid = xid;
        Ok(Transaction {
            xid,
            commit_lsn: Lsn(commit_lsn),
            end_lsn: Lsn(0),
            commit_micros: time.saturating_add(POSTGRES_EPOCH_MICROS),
        })
    }

    fn commit(&mut self, bytes: &mut Bytes<'_>) -> Result<Transaction, DecodeError> {
        let _flags = bytes.u8()?;
        let (commit_lsn, end_lsn, time) = (bytes.u64()?, bytes.u64()?, bytes.i64()?);
        Ok(Transaction {
            xid: self.xid,
            commit_lsn: Lsn(commit_lsn),
            end_lsn: Lsn(end_lsn),
            commit_micros: time.saturating_add(POSTGRES_EPOCH_MICROS),
        })
    }

    /// The table that a change is of, if anybody wants it.
    fn wanted(&self, bytes: &mut Bytes<'_>) -> Result<Option<&Relation>, DecodeError> {
        let relation = self.relations.get(bytes.u32()?)?;
        Ok(relation.wanted.then_some(relation))
    }

    fn change(
        &self,
        action: Action,
        bytes: &mut Bytes<'_>,
        lsn: Lsn,
        wire_bytes: usize,
    ) -> Result<Message, DecodeError> {
        let Some(relation) = self.wanted(bytes)? else {
            return Ok(Message::Nothing);
        };
        let (new, old) = match action {
            Action::Insert => (Some(new_tuple(bytes)?.whole(relation)?), None),
            Action::Update => updated(bytes, relation)?,
            Action::Delete => (None, deleted(bytes, relation)?),
            Action::Truncate => (None, None),
        };
        Ok(Message::Change(Change {
            new,
            old,
            ..bare(action, relation, lsn, wire_bytes)
        }))
    }

    fn truncate(&self, bytes: &mut Bytes<'_>, lsn: Lsn, wire_bytes: usize) -> Result<Message, DecodeError> {
        let tables = bytes.u32()?;
        let _options = bytes.u8()?;
        let mut changes = Vec::new();
        for _ in 0..tables {
            if let Some(relation) = self.wanted(bytes)? {
                changes.push(bare(Action::Truncate, relation, lsn, wire_bytes));
            }
        }
        Ok(Message::Truncate(changes))
    }
}

/// The new row of an UPDATE, and what there is of the old one.
fn updated(bytes: &mut Bytes<'_>, relation: &Relation) -> Result<(Option<Row>, Option<Row>), DecodeError> {
    let (new, old) = match bytes.0.first() {
        Some(b'O') => {
            let old = old_tuple(bytes)?;
            let new = new_tuple(bytes)?.filled(&old, relation)?;
            (new, Some(old.whole(relation)?))
        }
        Some(b'K') => {
            let old = old_tuple(bytes)?;
            let new = new_tuple(bytes)?.whole(relation)?;
            (new, key(&old, relation)?)
        }
        _ => {
            let tuple = new_tuple(bytes)?;
            (tuple.whole(relation)?, key(&tuple, relation)?)
        }
    };
    Ok((Some(new), old))
}

/// What there is of a row that was deleted.
fn deleted(bytes: &mut Bytes<'_>, relation: &Relation) -> Result<Option<Row>, DecodeError> {
    let whole = bytes.0.first() == Some(&b'O');
    let old = old_tuple(bytes)?;
    match whole {
        true => old.whole(relation).map(Some),
        false => key(&old, relation),
    }
}

fn bare(action: Action, relation: &Relation, lsn: Lsn, wire_bytes: usize) -> Change {
    Change {
        lsn,
        // The receiver counts.
        ordinal: 0,
        action,
        table: relation.name.clone(),
        new: None,
        old: None,
        wire_bytes,
    }
}

fn new_tuple<'a>(bytes: &mut Bytes<'a>) -> Result<Tuple<'a>, DecodeError> {
    match bytes.u8()? {
        b'N' => Tuple::read(bytes),
        _ => Err(DecodeError::Row),
    }
}

fn old_tuple<'a>(bytes: &mut Bytes<'a>) -> Result<Tuple<'a>, DecodeError> {
    match bytes.u8()? {
        b'K' | b'O' => Tuple::read(bytes),
        _ => Err(DecodeError::Row),
    }
}

fn key(tuple: &Tuple<'_>, relation: &Relation) -> Result<Option<Row>, DecodeError> {
    let key = relation.key.as_ref();
    key.map(|key| tuple.key(key, relation)).transpose()
}

fn logical_message(bytes: &mut Bytes<'_>) -> Result<Message, DecodeError> {
    let transactional = bytes.u8()? & 1 == 1;
    let lsn = Lsn(bytes.u64()?);
    let prefix = bytes.text()?;
    let content = bytes.counted()?;
    if !prefix.starts_with(MESSAGE_PREFIX) {
        return Ok(Message::Nothing);
    }
    Ok(Message::Message {
        transactional,
        lsn,
        prefix: prefix.to_owned(),
        // Its sender may have put any bytes there; what they say is for whoever reads it to judge.
        content: String::from_utf8_lossy(content).into_owned(),
    })
}
