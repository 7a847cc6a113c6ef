//! A row's values, each read at most once however many expressions look at it.

use std::cell::OnceCell;
use std::sync::Arc;

use super::{Context, Datum, Evaluated, Relation, Stop, Ty};
use crate::change::{Row, Value};
use crate::postgres::catalog::{Table, Types};

/// The types of a table's columns; `None` for one that is not computed with here.
pub type ColumnTypes = Arc<[Option<Ty>]>;

/// The types of a table's columns.
pub fn column_types(table: &Table, types: &Types) -> ColumnTypes {
    table
        .columns
        .iter()
        .map(|column| Ty::of(column.type_oid, types))
        .collect()
}

/// A row of a table.
#[derive(Debug)]
pub struct RowView<'a> {
    table: &'a Table,
    types: &'a [Option<Ty>],
    row: &'a Row,
    cells: Box<[OnceCell<Evaluated>]>,
}

impl<'a> RowView<'a> {
    /// `types` are those of [`column_types`].
    pub fn new(table: &'a Table, types: &'a [Option<Ty>], row: &'a Row) -> Self {
        Self {
            table,
            types,
            row,
            cells: vec![OnceCell::new(); table.columns.len()].into(),
        }
    }

    /// The row as it came.
    pub fn row(&self) -> &'a Row {
        self.row
    }

    /// The value of a column.
    ///
    /// # Errors
    /// [`Stop::Missing`], or [`Stop::Ask`] for what is not understood here.
    pub fn value(&self, index: usize) -> Evaluated {
        match self.cells.get(index) {
            Some(cell) => cell.get_or_init(|| self.read(index)).clone(),
            None => Err(Stop::Missing(index)),
        }
    }

    fn read(&self, index: usize) -> Evaluated {
        let column = self.table.columns.get(index).ok_or(Stop::Missing(index))?;
        let text = match self.row.get(&column.name) {
            None | Some(Value::Unchanged) => return Err(Stop::Missing(index)),
            Some(Value::Null) => return Ok(None),
            Some(Value::Text(text)) => text,
        };
        match self.types.get(index) {
            Some(Some(ty)) => Datum::parse(text, ty).map(Some),
            _ => Err(Stop::ask(format!(
                "column {} is of a type that is not known here",
                column.name
            ))),
        }
    }
}

/// What reads nothing but the row.
impl Context for RowView<'_> {
    fn column(&self, index: usize) -> Evaluated {
        self.value(index)
    }

    fn param(&self, _: usize) -> Evaluated {
        Err(Stop::ask("claims"))
    }

    fn relation(&self, _: usize) -> Result<&Relation, Stop> {
        Err(Stop::ask("a subquery"))
    }

    /// Nobody asks: what reads the clock is not looked up by.
    fn now(&self) -> i64 {
        0
    }
}
