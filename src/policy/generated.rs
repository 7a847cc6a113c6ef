//! Virtual generated columns (PostgreSQL 18): Postgres computes them when they are read, so no WAL has them. What policies,
//! filters and clients read of them is computed here, over the row version that came.

use std::sync::Arc;

use super::program::compile_value;
use crate::change::{Layout, LayoutColumn, Row, RowBuilder, Value};
use crate::expression::{ColumnTypes, Expr, RowView, Ty, column_types};
use crate::postgres::catalog::{Catalog, Generated, Table};

/// The virtual columns of a table.
#[derive(Debug)]
pub struct VirtualColumns {
    table: Arc<Table>,
    types: ColumnTypes,
    columns: Vec<Virtual>,
}

#[derive(Debug)]
struct Virtual {
    column: LayoutColumn,
    /// Nothing where only Postgres can compute it.
    computed: Option<(Expr, Ty)>,
}

impl VirtualColumns {
    /// Those of this table, if it has any.
    pub fn of(table: &Arc<Table>, catalog: &Catalog) -> Option<Self> {
        let columns: Vec<Virtual> = table
            .columns
            .iter()
            .filter_map(|column| match &column.generated {
                Some(Generated::Virtual(expression)) => Some(Virtual {
                    column: LayoutColumn {
                        name: Arc::clone(&column.name),
                        type_oid: column.type_oid,
                    },
                    computed: Ty::of(column.type_oid, &catalog.types).and_then(|ty| {
                        let expr = compile_value(expression, table, catalog)?;
                        (expr.ty == ty).then_some((expr, ty))
                    }),
                }),
                _ => None,
            })
            .collect();
        (!columns.is_empty()).then(|| Self {
            types: column_types(table, &catalog.types),
            table: Arc::clone(table),
            columns,
        })
    }

    /// The row with those of them that can be computed from it, and without the others, whatever the plugin says of them:
    /// who needs one that is not there gets no row.
    #[must_use]
    pub fn complete(&self, row: &Row) -> Row {
        let view = RowView::new(&self.table, &self.types, row);
        let is_virtual = |name: &str| self.columns.iter().any(|virtual_| *virtual_.column.name == *name);
        let mut columns = Vec::with_capacity(self.table.columns.len());
        let mut values = RowBuilder::with_capacity(self.table.columns.len(), row.text_bytes() + 64);
        for (column, value) in row.iter().filter(|(column, _)| !is_virtual(&column.name)) {
            columns.push(column.clone());
            match value {
                Value::Null => values.null(),
                Value::Unchanged => values.unchanged(),
                Value::Text(text) => values.text(text),
            }
        }
        // An old row that is only a key stays that.
        let computed: &[Virtual] = if self.is_key(&columns) { &[] } else { &self.columns };
        for Virtual { column, computed } in computed {
            let Some((expr, ty)) = computed else { continue };
            match expr.evaluate(&view) {
                Ok(None) => values.null(),
                Ok(Some(value)) => match value.print(ty) {
                    Ok(text) => values.text(&text),
                    Err(_) => continue,
                },
                // It raises, or reads what the row does not carry.
                Err(_) => continue,
            }
            columns.push(column.clone());
        }
        values.finish(Arc::new(Layout { columns }))
    }

    /// Whether these are no more than the primary key, of a table that has more.
    fn is_key(&self, columns: &[LayoutColumn]) -> bool {
        let in_key = |column: &LayoutColumn| {
            let index = self.table.column(&column.name);
            index.is_some_and(|index| self.table.primary_key.contains(&index))
        };
        let stored = self.table.columns.len() - self.columns.len();
        columns.len() < stored && columns.iter().all(in_key)
    }
}
