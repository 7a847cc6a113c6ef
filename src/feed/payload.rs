//! A change as clients read it (protocol c.6): rendered once, column by column, then put together once per set of
//! columns that somebody may see.

use std::fmt::Write;
use std::ops::Range;

use chrono::{DateTime, SecondsFormat, Utc};

use super::convert::Converted;
use super::shaper::Columns;
use crate::change::{Action, Change, Row, Value};
use crate::postgres::catalog::{Column, Table, Types};
use crate::postgres::jsonb::{self, write_string};

/// How much of the old row goes into `old_record`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Old {
    /// All that the WAL carries.
    Carried,
    /// The primary key.
    Key,
    /// Those columns of the primary key that the new row shows anyway.
    UnchangedKey,
}

/// Why a change arrives without its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Problem {
    /// The table has no primary key.
    NoPrimaryKey,
    /// The role may not read the primary key.
    Unauthorized,
    /// A policy or filter raised, or reads what the change does not carry.
    Policy,
    /// The policy could not be evaluated in time, or at all.
    Unavailable,
}

impl Problem {
    /// The text in `errors` (docs/ERRORS.md).
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::NoPrimaryKey => "Error 400: Bad Request, no primary key",
            Self::Unauthorized => "Error 401: Unauthorized",
            Self::Policy => "Error 500: Policy evaluation failed",
            Self::Unavailable => "Error 503: Policy evaluation unavailable",
        }
    }
}

/// Values of a change that is too large are not rendered where their text is longer than this. Bytes; far more than what is
/// kept, as JSON may be shorter than the text that it is made of.
const NOT_RENDERED_BYTES: usize = 64 * 1024;

/// Stands for what was not rendered: too long to be kept.
const LEFT_OUT: &str = concat!(
    "                                ",
    "                                ",
    " "
);

const TOO_LARGE: &str = "Error 413: Payload Too Large";

/// Fields whose JSON is longer than this are left out of a change that is too large. Bytes.
const KEPT_FIELD_BYTES: usize = 64;

/// A change with every column rendered.
pub(super) struct Payload<'a> {
    change: &'a Change,
    table: &'a Table,
    commit_micros: i64,
    too_large: bool,
    text: String,
    new: Vec<Option<Range<usize>>>,
    old: Vec<Option<Range<usize>>>,
}

impl<'a> Payload<'a> {
    pub(super) fn render(
        change: &'a Change,
        table: &'a Table,
        types: &Types,
        commit_micros: i64,
        max_record_bytes: usize,
        converted: &Converted,
    ) -> Self {
        let too_large = change.wire_bytes > max_record_bytes;
        let mut text = String::with_capacity(change.wire_bytes.min(max_record_bytes));
        let mut rendered = |row: &Option<Row>| match row {
            Some(row) => columns(row, table, (types, converted), too_large, &mut text),
            None => Vec::new(),
        };
        let (new, old) = (rendered(&change.new), rendered(&change.old));
        Self {
            change,
            table,
            commit_micros,
            too_large,
            text,
            new,
            old,
        }
    }

    /// The `data` object for those who may see `visible` columns.
    pub(super) fn data(&self, visible: &[bool], old: Old) -> String {
        let sees = |i: usize| visible.get(i).copied().unwrap_or(false);
        let mut out = self.head(self.change.action);
        self.columns(&mut out, |i| {
            sees(i) && piece(&self.new, i).or(piece(&self.old, i)).is_some()
        });
        if self.change.new.is_some() {
            self.object(&mut out, "record", &self.new, sees);
            self.unchanged(&mut out, sees);
        }
        if self.change.new.is_none() || self.change.action == Action::Update {
            let key = |i: usize| self.table.primary_key.contains(&i);
            self.object(&mut out, "old_record", &self.old, |i| {
                sees(i)
                    && match old {
                        Old::Carried => true,
                        Old::Key => key(i),
                        Old::UnchangedKey => key(i) && self.shown(&self.new, i) == self.shown(&self.old, i),
                    }
            });
        }
        self.foot(out)
    }

    /// The row of a snapshot: it has been there before.
    pub(super) fn snapshot(&self, visible: &[bool]) -> String {
        let sees = |i: usize| visible.get(i).copied().unwrap_or(false);
        let mut out = self.head(Action::Insert);
        self.columns(&mut out, |i| sees(i) && piece(&self.new, i).is_some());
        self.object(&mut out, "record", &self.new, sees);
        out.push_str(",\"snapshot\":true");
        self.foot(out)
    }

    /// The new row alone.
    pub(super) fn record(&self, visible: &[bool]) -> String {
        let sees = |i: usize| visible.get(i).copied().unwrap_or(false);
        let mut out = String::with_capacity(self.text.len() + 64);
        self.members(&mut out, &self.new, sees);
        out
    }

    /// The new row of an UPDATE as if it had been inserted: since it could not be seen before.
    pub(super) fn entered(&self, visible: &[bool]) -> String {
        self.as_insert(visible, ",\"transition\":\"enter\"")
    }

    /// The new row of an UPDATE as if it had been inserted: since what inserted it was left out.
    pub(super) fn inserted(&self, visible: &[bool]) -> String {
        self.as_insert(visible, "")
    }

    fn as_insert(&self, visible: &[bool], transition: &str) -> String {
        let sees = |i: usize| visible.get(i).copied().unwrap_or(false);
        let mut out = self.head(Action::Insert);
        self.columns(&mut out, |i| sees(i) && piece(&self.new, i).is_some());
        self.object(&mut out, "record", &self.new, sees);
        out.push_str(transition);
        self.foot(out)
    }

    /// Which columns `record` has for those who may see `visible` ones.
    pub(super) fn shown_columns(&self, visible: &[bool]) -> Columns {
        let sees = |i: usize| visible.get(i).copied().unwrap_or(false);
        let all = 0..self.table.columns.len();
        Columns::of(all.map(|i| (sees(i), sees(i) && self.value(&self.new, i).is_some())))
    }

    /// The key of the old row of an UPDATE as if it had been deleted.
    pub(super) fn left(&self, visible: &[bool]) -> String {
        let sees = |i: usize| visible.get(i).copied().unwrap_or(false) && self.table.primary_key.contains(&i);
        let mut out = self.head(Action::Delete);
        self.columns(&mut out, |i| sees(i) && piece(&self.old, i).is_some());
        self.object(&mut out, "old_record", &self.old, sees);
        out.push_str(",\"transition\":\"leave\"");
        self.foot(out)
    }

    /// A TRUNCATE, and of which partition if not of the whole table.
    pub(super) fn truncated(&self) -> String {
        let mut out = self.head(Action::Truncate);
        out.push_str(",\"columns\":[]");
        let emptied = &self.change.table;
        if *emptied != self.table.name {
            out.push_str(",\"partition\":{\"schema\":");
            write_string(&emptied.schema, &mut out);
            out.push_str(",\"table\":");
            write_string(&emptied.table, &mut out);
            out.push('}');
        }
        self.foot(out)
    }

    /// Names the columns of an UPDATE that the new row lacks: TOASTed values that it did not touch are not in the WAL.
    fn unchanged(&self, out: &mut String, include: impl Fn(usize) -> bool) {
        if self.change.action != Action::Update || !self.new.contains(&None) {
            return;
        }
        // A generated column that is not in the stream may have changed.
        let said = |column: &Column| {
            let row = self.change.new.as_ref();
            column.generated.is_none() || row.is_some_and(|row| row.get(&column.name).is_some())
        };
        let missing =
            |(i, column): &(usize, &Column)| include(*i) && piece(&self.new, *i).is_none() && said(column);
        let mut open = ",\"unchanged\":[";
        for (_, column) in self.table.columns.iter().enumerate().filter(missing) {
            out.push_str(open);
            write_string(&column.name, out);
            open = ",";
        }
        if open == "," {
            out.push(']');
        }
    }

    fn columns(&self, out: &mut String, include: impl Fn(usize) -> bool) {
        out.push_str(",\"columns\":[");
        for (_, column) in self.table.columns.iter().enumerate().filter(|(i, _)| include(*i)) {
            separate(out, '[');
            out.push_str("{\"name\":");
            write_string(&column.name, out);
            out.push_str(",\"type\":");
            write_string(&column.type_name, out);
            out.push('}');
        }
        out.push(']');
    }

    fn foot(&self, mut out: String) -> String {
        let _ = write!(out, ",\"commit_timestamp\":\"{}\"", timestamp(self.commit_micros));
        if self.too_large {
            let _ = write!(out, ",\"errors\":[\"{TOO_LARGE}\"]}}");
        } else {
            out.push_str(",\"errors\":null}");
        }
        out
    }

    /// The `data` object for those who get no row.
    pub(super) fn problem(&self, problem: Problem) -> String {
        let mut out = self.head(self.change.action);
        out.push_str(",\"columns\":[]");
        if self.change.new.is_some() {
            out.push_str(",\"record\":{}");
        }
        if self.change.new.is_none() || self.change.old.is_some() {
            out.push_str(",\"old_record\":{}");
        }
        match problem {
            // Known to clients without a time.
            Problem::NoPrimaryKey | Problem::Unauthorized => out.push_str(",\"commit_timestamp\":null"),
            Problem::Policy | Problem::Unavailable => {
                let _ = write!(out, ",\"commit_timestamp\":\"{}\"", timestamp(self.commit_micros));
            }
        }
        let _ = write!(out, ",\"errors\":[\"{}\"]}}", problem.text());
        out
    }

    fn head(&self, action: Action) -> String {
        let mut out = String::with_capacity(self.text.len() + 256);
        out.push_str("{\"schema\":");
        write_string(&self.table.name.schema, &mut out);
        out.push_str(",\"table\":");
        write_string(&self.table.name.table, &mut out);
        out.push_str(",\"type\":\"");
        out.push_str(action.as_str());
        out.push('"');
        out
    }

    fn object(
        &self,
        out: &mut String,
        key: &str,
        pieces: &[Option<Range<usize>>],
        include: impl Fn(usize) -> bool,
    ) {
        let _ = write!(out, ",\"{key}\":");
        self.members(out, pieces, include);
    }

    fn members(&self, out: &mut String, pieces: &[Option<Range<usize>>], include: impl Fn(usize) -> bool) {
        out.push('{');
        for (i, column) in self.table.columns.iter().enumerate() {
            let Some(value) = self.value(pieces, i).filter(|_| include(i)) else {
                continue;
            };
            separate(out, '{');
            write_string(&column.name, out);
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
    }

    /// A field, unless it is what makes the change too large.
    fn value(&self, pieces: &[Option<Range<usize>>], column: usize) -> Option<&str> {
        let value = self.shown(pieces, column);
        value.filter(|value| !self.too_large || value.len() <= KEPT_FIELD_BYTES)
    }

    fn shown(&self, pieces: &[Option<Range<usize>>], column: usize) -> Option<&str> {
        self.text.get(piece(pieces, column)?)
    }
}

fn piece(pieces: &[Option<Range<usize>>], column: usize) -> Option<Range<usize>> {
    pieces.get(column).cloned().flatten()
}

fn separate(out: &mut String, open: char) {
    if !out.ends_with(open) {
        out.push(',');
    }
}

/// Renders a row's values into `text`; where each of the table's columns lies.
fn columns(
    row: &Row,
    table: &Table,
    (types, converted): (&Types, &Converted),
    too_large: bool,
    text: &mut String,
) -> Vec<Option<Range<usize>>> {
    let render = |(i, column): (usize, &Column)| {
        let layout = &row.layout().columns;
        let at = match layout.get(i) {
            // Rows mostly carry every column in order.
            Some(at) if at.name == column.name => i,
            _ => layout.iter().position(|at| at.name == column.name)?,
        };
        // A row that was written before the column had its type is of the type that it had.
        let oid = layout.get(at)?.type_oid;
        let start = text.len();
        match row.at(at)? {
            Value::Unchanged => return None,
            Value::Null => text.push_str("null"),
            Value::Text(value) if too_large && value.len() > NOT_RENDERED_BYTES => text.push_str(LEFT_OUT),
            Value::Text(value) if !converted.is_empty() => match converted.get(&(oid, value.to_owned())) {
                Some(json) => text.push_str(json),
                None => write_value(types, oid, value, text),
            },
            Value::Text(value) => write_value(types, oid, value, text),
        }
        Some(start..text.len())
    };
    table.columns.iter().enumerate().map(render).collect()
}

const BYTEA: u32 = 17;

fn write_value(types: &Types, oid: u32, value: &str, out: &mut String) {
    if types.base(oid) == BYTEA {
        // Clients of this protocol know bytea as bare hex.
        write_string(value.strip_prefix("\\x").unwrap_or(value), out);
    } else {
        jsonb::write(types, oid, value, out);
    }
}

fn timestamp(micros: i64) -> String {
    DateTime::<Utc>::from_timestamp_micros(micros)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_lists_what_rows_can_say() {
        let page = include_str!("../../docs/ERRORS.md");
        let problems = [
            Problem::NoPrimaryKey,
            Problem::Unauthorized,
            Problem::Policy,
            Problem::Unavailable,
        ];
        for text in problems.map(Problem::text).into_iter().chain([TOO_LARGE]) {
            assert!(page.contains(&format!("- `{text}`: ")), "{text}");
        }
    }
}
