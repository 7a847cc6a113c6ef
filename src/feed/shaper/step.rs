//! What a change means for whoever keeps rows by their primary key.

use std::fmt::Write;
use std::sync::Arc;

use super::{Columns, Form, Step};
use crate::change::{Action, Change, Row, Value};
use crate::feed::assess::Outcome;
use crate::feed::payload::Old;
use crate::postgres::catalog::Table;

/// The primary keys of the rows of a change, as texts; `None` where there is none or the WAL does not carry it whole.
#[derive(Clone, Debug, Default)]
pub(in crate::feed) struct Keys {
    new: Option<Arc<str>>,
    old: Option<Arc<str>>,
}

impl Keys {
    pub(in crate::feed) fn of(table: &Table, change: &Change) -> Self {
        Self {
            new: change.new.as_ref().and_then(|row| key(table, row)),
            old: change.old.as_ref().and_then(|row| key(table, row)),
        }
    }
}

/// Values of equal keys can have different texts (`1.0` and `1.00`). Those are told apart, which only leaves out less: each text
/// is the row's own as it is stored.
fn key(table: &Table, row: &Row) -> Option<Arc<str>> {
    let mut text = String::new();
    for column in &table.primary_key {
        match row.get(&table.columns.get(*column)?.name)? {
            Value::Text(value) => drop(write!(text, "{}:{value}", value.len())),
            Value::Null | Value::Unchanged => return None,
        }
    }
    (!table.primary_key.is_empty()).then(|| text.into())
}

/// What those are told who get this outcome of a change, with these columns of its new row.
pub(in crate::feed) fn step(
    action: Action,
    shown: Outcome,
    keys: &Keys,
    columns: impl FnOnce() -> Columns,
) -> Step {
    let put = |form| match &keys.new {
        Some(key) => Step::Put {
            key: Arc::clone(key),
            form,
            columns: columns(),
        },
        None => Step::Apart,
    };
    let gone = || match &keys.old {
        Some(key) => Step::Gone { key: Arc::clone(key) },
        None => Step::Apart,
    };
    match (shown, action) {
        (Outcome::Problem(problem), _) => Step::Unshown(problem),
        (Outcome::Entered, _) => put(Form::Enter),
        (Outcome::Left, _) | (Outcome::Row(_), Action::Delete) => gone(),
        (Outcome::Truncated, _) | (Outcome::Row(_), Action::Truncate) => Step::Emptied,
        (Outcome::Row(_), Action::Insert) => put(Form::Insert),
        (Outcome::Row(old), Action::Update) => {
            let moved = keys.old.is_some() && keys.old != keys.new;
            // Who is not told of the old key cannot drop it either.
            match moved && old != Old::UnchangedKey {
                true => Step::Apart,
                false => put(Form::Update),
            }
        }
    }
}
