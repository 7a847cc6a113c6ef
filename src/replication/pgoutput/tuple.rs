use std::sync::Arc;

use super::bytes::Bytes;
use super::decoder::DecodeError;
use super::relation::{Key, Relation};
use crate::change::{Row, RowBuilder};

/// A value as it came.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'a> {
    Null,
    Unchanged,
    Text(&'a [u8]),
}

/// The values of a row (manual, "TupleData"), known to be whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuple<'a> {
    columns: usize,
    cells: Bytes<'a>,
    /// Bytes of all texts together.
    text: usize,
}

impl<'a> Tuple<'a> {
    /// Takes a row off the message.
    pub(super) fn read(message: &mut Bytes<'a>) -> Result<Self, DecodeError> {
        let columns = usize::from(message.u16()?);
        let cells = *message;
        let mut text = 0;
        for _ in 0..columns {
            if let Cell::Text(value) = cell(message)? {
                text += value.len();
            }
        }
        Ok(Self { columns, cells, text })
    }

    fn cells(&self) -> impl Iterator<Item = Result<Cell<'a>, DecodeError>> + use<'a> {
        let mut rest = self.cells;
        (0..self.columns).map(move |_| cell(&mut rest))
    }

    fn check(&self, relation: &Relation) -> Result<(), DecodeError> {
        match self.columns == relation.whole.columns.len() {
            true => Ok(()),
            false => Err(DecodeError::Columns),
        }
    }

    /// The whole row.
    pub(super) fn whole(&self, relation: &Relation) -> Result<Row, DecodeError> {
        self.check(relation)?;
        let mut row = RowBuilder::with_capacity(self.columns, self.text);
        for cell in self.cells() {
            push(&mut row, cell?)?;
        }
        Ok(row.finish(Arc::clone(&relation.whole)))
    }

    /// The whole row, with what an UPDATE did not touch from the whole row before it.
    pub(super) fn filled(&self, old: &Tuple<'a>, relation: &Relation) -> Result<Row, DecodeError> {
        self.check(relation)?;
        old.check(relation)?;
        let mut row = RowBuilder::with_capacity(self.columns, self.text.max(old.text));
        for (new, old) in self.cells().zip(old.cells()) {
            match new? {
                Cell::Unchanged => push(&mut row, old?)?,
                cell => push(&mut row, cell)?,
            }
        }
        Ok(row.finish(Arc::clone(&relation.whole)))
    }

    /// The key columns alone.
    pub(super) fn key(&self, key: &Key, relation: &Relation) -> Result<Row, DecodeError> {
        self.check(relation)?;
        let columns = key.layout.columns.len();
        let mut row = RowBuilder::with_capacity(columns, self.text.min(columns * KEY_TEXT));
        for (cell, is_key) in self.cells().zip(&key.columns) {
            if *is_key {
                push(&mut row, cell?)?;
            }
        }
        Ok(row.finish(Arc::clone(&key.layout)))
    }
}

/// Bytes that a key column usually needs at most: a uuid.
const KEY_TEXT: usize = 36;

fn cell<'a>(bytes: &mut Bytes<'a>) -> Result<Cell<'a>, DecodeError> {
    match bytes.u8()? {
        b'n' => Ok(Cell::Null),
        b'u' => Ok(Cell::Unchanged),
        b't' => bytes.counted().map(Cell::Text),
        // Binary values were not asked for.
        _ => Err(DecodeError::Value),
    }
}

fn push(row: &mut RowBuilder, cell: Cell<'_>) -> Result<(), DecodeError> {
    match cell {
        Cell::Null => row.null(),
        Cell::Unchanged => row.unchanged(),
        Cell::Text(text) => row.text(std::str::from_utf8(text).map_err(|_| DecodeError::Encoding)?),
    }
    Ok(())
}
