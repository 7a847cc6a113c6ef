use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::bytes::Bytes;
use super::decoder::DecodeError;
use crate::change::{Layout, LayoutColumn, TableName};

/// Tables remembered over a reconnect before the memory starts over.
const MAX_RELATIONS: usize = 10_000;

/// A table as the server has described it last.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) name: TableName,
    /// Whether anybody wants its changes. The publication may hold more.
    pub(super) wanted: bool,
    /// Every column.
    pub(super) whole: Arc<Layout>,
    /// The columns of the replica identity, if there are any and they are not all.
    pub(super) key: Option<Key>,
}

/// Some of a table's columns.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) layout: Arc<Layout>,
    /// For each column of the table, whether it is one of them.
    pub(super) columns: Vec<bool>,
}

/// The tables described so far, by oid.
#[derive(Debug, Default)]
pub(super) struct Relations {
    wanted: Arc<BTreeSet<TableName>>,
    known: HashMap<u32, Relation>,
}

impl Relations {
    /// Another connection, which describes its tables anew, and perhaps other tables.
    pub(super) fn restart(&mut self, wanted: Arc<BTreeSet<TableName>>) {
        if self.known.len() > MAX_RELATIONS {
            self.known.clear();
        }
        for relation in self.known.values_mut() {
            relation.wanted = wanted.contains(&relation.name);
        }
        self.wanted = wanted;
    }

    pub(super) fn get(&self, oid: u32) -> Result<&Relation, DecodeError> {
        self.known.get(&oid).ok_or(DecodeError::Relation)
    }

    /// Takes in a description (manual, "Relation"). Layouts that stay the same stay shared.
    pub(super) fn describe(&mut self, message: &mut Bytes<'_>) -> Result<(), DecodeError> {
        let oid = message.u32()?;
        let schema = match message.text()? {
            "" => "pg_catalog",
            schema => schema,
        };
        let table = message.text()?;
        let full = message.u8()? == b'f';
        let before = self.known.remove(&oid);
        let name = match &before {
            Some(before) if *before.name.schema == *schema && *before.name.table == *table => {
                before.name.clone()
            }
            _ => TableName::new(schema, table),
        };
        let (columns, keys) = columns(message)?;
        let picked = columns.iter().zip(&keys).filter(|(_, key)| **key);
        let key: Vec<LayoutColumn> = picked.map(|(column, _)| column.clone()).collect();
        let shared = |columns: Vec<LayoutColumn>, before: Option<&Arc<Layout>>| match before {
            Some(before) if before.columns == columns => Arc::clone(before),
            _ => Arc::new(Layout { columns }),
        };
        let key_before = before
            .as_ref()
            .and_then(|before| before.key.as_ref())
            .map(|key| &key.layout);
        let key = (!full && !key.is_empty()).then(|| Key {
            layout: shared(key, key_before),
            columns: keys,
        });
        let relation = Relation {
            wanted: self.wanted.contains(&name),
            name,
            whole: shared(columns, before.as_ref().map(|before| &before.whole)),
            key,
        };
        self.known.insert(oid, relation);
        Ok(())
    }
}

/// The columns, and whether each belongs to the replica identity.
fn columns(message: &mut Bytes<'_>) -> Result<(Vec<LayoutColumn>, Vec<bool>), DecodeError> {
    let count = message.u16()?;
    let (mut columns, mut keys) = (Vec::new(), Vec::new());
    for _ in 0..count {
        keys.push(message.u8()? & 1 == 1);
        let name = Arc::from(message.text()?);
        let type_oid = message.u32()?;
        let _modifier = message.u32()?;
        columns.push(LayoutColumn { name, type_oid });
    }
    Ok((columns, keys))
}
