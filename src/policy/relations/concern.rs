//! Which relations a change may concern.

use std::collections::{HashMap, HashSet};

use super::RelationId;
use crate::change::{Action, Change, Row, Value};
use crate::expression::{Datum, Key, Ty};
use crate::policy::relation::{ParamKey, Probe, RelationQuery, RelationRequest};
use crate::postgres::catalog::Table;

/// Relations by what they read.
#[derive(Debug, Default)]
pub(super) struct Concerns(HashMap<u32, Readers>);

/// The relations that read one table.
#[derive(Debug, Default)]
struct Readers {
    /// Whatever row changes.
    any: Everybody,
    /// Those that only read rows with some value in a column.
    probes: Vec<Probed>,
}

#[derive(Debug)]
struct Probed {
    column: usize,
    ty: Ty,
    by_key: HashMap<Key, HashSet<RelationId>>,
    /// The reading after which all of them were found.
    swept: Option<u64>,
}

/// Relations that are found together. Many rows of one transaction find the same ones: until one of them has been read
/// again, finding them once is enough.
#[derive(Debug, Default)]
struct Everybody {
    ids: HashSet<RelationId>,
    /// The reading after which they were found.
    swept: Option<u64>,
}

/// Which of the relations with a probe a row concerns.
#[derive(Debug, PartialEq)]
enum Of {
    Nobody,
    Key(Key),
    Everybody,
}

impl Concerns {
    pub(super) fn insert(&mut self, id: RelationId, request: &RelationRequest) {
        for table in whole(&request.query) {
            self.0.entry(*table).or_default().any.ids.insert(id);
        }
        let Some(probe) = &request.query.probe else { return };
        let readers = self.0.entry(probe.table).or_default();
        match value(request, probe) {
            Of::Nobody => {}
            Of::Everybody => {
                readers.any.ids.insert(id);
            }
            Of::Key(key) => {
                let probed = readers.probed(probe);
                probed.by_key.entry(key).or_default().insert(id);
            }
        }
    }

    pub(super) fn remove(&mut self, id: RelationId, request: &RelationRequest) {
        let probe = request.query.probe.as_ref();
        for table in whole(&request.query).chain(probe.map(|probe| &probe.table)) {
            let Some(readers) = self.0.get_mut(table) else {
                continue;
            };
            readers.any.ids.remove(&id);
            if let Some(probe) = probe.filter(|probe| probe.table == *table)
                && let Of::Key(key) = value(request, probe)
            {
                readers.forget(probe, &key, id);
            }
            if readers.any.ids.is_empty() && readers.probes.is_empty() {
                self.0.remove(table);
            }
        }
    }

    /// Every relation that may not be what it was after the last reading, the one with this number. Those that were
    /// found since by another change may be left out.
    pub(super) fn of(&mut self, table: &Table, change: &Change, reading: u64) -> Vec<RelationId> {
        let mut found = Vec::new();
        let Some(readers) = self.0.get_mut(&table.oid) else {
            return found;
        };
        if readers.any.swept.replace(reading) != Some(reading) {
            found.extend(&readers.any.ids);
        }
        for probed in &mut readers.probes {
            probed.find(table, change, reading, &mut found);
        }
        found
    }
}

impl Readers {
    fn probed(&mut self, probe: &Probe) -> &mut Probed {
        let is = |p: &Probed| p.column == probe.column && p.ty == probe.ty;
        let found = self.probes.iter().position(is).unwrap_or_else(|| {
            self.probes.push(Probed {
                column: probe.column,
                ty: probe.ty.clone(),
                by_key: HashMap::new(),
                swept: None,
            });
            self.probes.len() - 1
        });
        &mut self.probes[found]
    }

    fn forget(&mut self, probe: &Probe, key: &Key, id: RelationId) {
        let probed = self.probed(probe);
        if let Some(ids) = probed.by_key.get_mut(key) {
            ids.remove(&id);
            if ids.is_empty() {
                probed.by_key.remove(key);
            }
        }
        self.probes.retain(|probed| !probed.by_key.is_empty());
    }
}

impl Probed {
    fn find(&mut self, table: &Table, change: &Change, reading: u64, found: &mut Vec<RelationId>) {
        if self.swept == Some(reading) {
            return;
        }
        let keys = self.keys(table, change);
        for of in &keys {
            match of {
                Some(Of::Nobody) => {}
                Some(Of::Key(key)) => found.extend(self.by_key.get(key).into_iter().flatten()),
                // A value that is not known could be anybody's.
                Some(Of::Everybody) | None => {
                    self.swept = Some(reading);
                    return found.extend(self.by_key.values().flatten());
                }
            }
        }
    }

    /// The values that the row had and has; `None` for one that is not known.
    fn keys(&self, table: &Table, change: &Change) -> [Option<Of>; 2] {
        let Some(column) = table.columns.get(self.column).filter(|c| c.deterministic) else {
            return [None, None];
        };
        let row = |row: &Option<Row>| row.as_ref().and_then(|row| of(row.get(&column.name)?, &self.ty));
        let (old, new) = (row(&change.old), row(&change.new));
        match change.action {
            Action::Insert => [new, Some(Of::Nobody)],
            Action::Delete => [old, Some(Of::Nobody)],
            // What a new row does not carry has not changed.
            Action::Update => [new.or(old.is_some().then_some(Of::Nobody)), old],
            Action::Truncate => [None, None],
        }
    }
}

/// The tables of which any change counts.
fn whole(query: &RelationQuery) -> impl Iterator<Item = &u32> {
    let probed = query.probe.as_ref().map(|probe| probe.table);
    query.reads.iter().filter(move |table| Some(**table) != probed)
}

/// The value that a relation's rows have in the probed column.
fn value(request: &RelationRequest, probe: &Probe) -> Of {
    let param = request
        .query
        .params
        .iter()
        .position(|param| *param == probe.param);
    match param.and_then(|i| request.params.get(i)) {
        Some(ParamKey::Text(text)) => text_key(text, &probe.ty),
        // Nothing equals NULL.
        Some(ParamKey::Null) => Of::Nobody,
        Some(ParamKey::Stop(_) | ParamKey::Unknown(_)) | None => Of::Everybody,
    }
}

/// Whom a column's value concerns; `None` if the row does not say.
fn of(value: Value<'_>, ty: &Ty) -> Option<Of> {
    match value {
        Value::Text(text) => Some(text_key(text, ty)),
        // The plugin prints what is no number as null.
        Value::Null if *ty == Ty::Numeric => Some(Of::Everybody),
        Value::Null => Some(Of::Nobody),
        Value::Unchanged => None,
    }
}

/// Column and parameter may be of other types than the one they are compared in: only where their text forms say the
/// same in all of those, a value is told from another.
fn text_key(text: &str, ty: &Ty) -> Of {
    let text = match ty {
        Ty::Bool
        | Ty::Int2
        | Ty::Int4
        | Ty::Int8
        | Ty::Oid
        | Ty::Numeric
        | Ty::Uuid
        | Ty::Date
        | Ty::Enum(_) => text,
        // Blanks at the end may or may not count.
        Ty::Text | Ty::Varchar | Ty::Bpchar | Ty::Name => text.trim_end_matches(' '),
        _ => return Of::Everybody,
    };
    Datum::parse(text, ty)
        .and_then(|datum| datum.key(ty))
        .map_or(Of::Everybody, Of::Key)
}
