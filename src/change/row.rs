use std::sync::Arc;

/// Names and type oids of a row's columns, in the order they came. Shared by the rows that look alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The columns, in wire order (attribute order, with unsent columns left out).
    pub columns: Vec<LayoutColumn>,
}

impl Layout {
    /// Index of a column by its exact name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }
}

/// One column of a [`Layout`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutColumn {
    /// Attribute name, unquoted.
    pub name: Arc<str>,
    /// The attribute's type oid (`pg_attribute.atttypid`): a domain is itself, not its base.
    pub type_oid: u32,
}

/// A column's value in Postgres' text output form: `t`/`f` for bool, `\x…` for bytea, `{1,NULL}` for arrays, with
/// `DateStyle = ISO`, `TimeZone = UTC`, `IntervalStyle = postgres`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// A TOASTed value that the update did not touch and the WAL therefore does not carry.
    Unchanged,
    /// The text output form.
    Text(&'a str),
}

/// One row version: a layout, one text buffer, and where each value lies in it. Two allocations, whatever its width.
#[derive(Clone, Debug)]
pub struct Row {
    layout: Arc<Layout>,
    text: Box<str>,
    cells: Box<[Cell]>,
}

#[derive(Clone, Copy, Debug)]
enum Cell {
    Null,
    Unchanged,
    Text { start: u32, end: u32 },
}

impl Row {
    /// Names and types of the columns.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The value at a layout index, `None` past the end.
    pub fn at(&self, index: usize) -> Option<Value<'_>> {
        Some(match *self.cells.get(index)? {
            Cell::Null => Value::Null,
            Cell::Unchanged => Value::Unchanged,
            Cell::Text { start, end } => Value::Text(self.text.get(start as usize..end as usize)?),
        })
    }

    /// The value of a column by name; `None` if this row does not carry the column at all.
    pub fn get(&self, name: &str) -> Option<Value<'_>> {
        self.at(self.layout.position(name)?)
    }

    /// Every column that this row carries, in layout order.
    pub fn iter(&self) -> impl Iterator<Item = (&LayoutColumn, Value<'_>)> {
        self.layout
            .columns
            .iter()
            .enumerate()
            .filter_map(|(i, column)| Some((column, self.at(i)?)))
    }

    /// Bytes of text this row holds.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }
}

/// Collects one row. Reusable text buffers are not worth it: the row keeps what it builds.
#[derive(Debug, Default)]
pub struct RowBuilder {
    text: String,
    cells: Vec<Cell>,
}

impl RowBuilder {
    /// A builder with room for `columns` values of `bytes` bytes of text together.
    pub fn with_capacity(columns: usize, bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            cells: Vec::with_capacity(columns),
        }
    }

    /// Appends SQL NULL.
    pub fn null(&mut self) {
        self.cells.push(Cell::Null);
    }

    /// Appends an unchanged TOAST value.
    pub fn unchanged(&mut self) {
        self.cells.push(Cell::Unchanged);
    }

    /// Appends a value in text output form.
    pub fn text(&mut self, value: &str) {
        self.text_with(|text| text.push_str(value));
    }

    /// Appends a value that `write` adds to the buffer it is given; it must only append.
    pub fn text_with(&mut self, write: impl FnOnce(&mut String)) {
        let start = self.text.len();
        write(&mut self.text);
        // Postgres bounds a row at 1 GiB, far below u32; a value past it would be cut to NULL by `at`, never misread.
        let bound = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.cells.push(Cell::Text {
            start: bound(start),
            end: bound(self.text.len()),
        });
    }

    /// How many values have been appended.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether nothing has been appended.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The finished row. Values past the layout are dropped; columns without a value are as if not sent.
    pub fn finish(mut self, layout: Arc<Layout>) -> Row {
        self.cells.truncate(layout.columns.len());
        Row {
            layout,
            text: self.text.into_boxed_str(),
            cells: self.cells.into_boxed_slice(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(names: &[&str]) -> Arc<Layout> {
        Arc::new(Layout {
            columns: names
                .iter()
                .map(|n| LayoutColumn {
                    name: Arc::from(*n),
                    type_oid: 25,
                })
                .collect(),
        })
    }

    #[test]
    fn values_come_back_as_they_went_in() {
        let mut row = RowBuilder::with_capacity(4, 16);
        row.text("a");
        row.null();
        row.unchanged();
        row.text("");
        let row = row.finish(layout(&["w", "x", "y", "z"]));
        assert_eq!(row.get("w"), Some(Value::Text("a")));
        assert_eq!(row.get("x"), Some(Value::Null));
        assert_eq!(row.get("y"), Some(Value::Unchanged));
        assert_eq!(row.get("z"), Some(Value::Text("")));
        assert_eq!(row.get("none"), None);
        assert_eq!(row.iter().count(), 4);
    }

    #[test]
    fn a_short_row_lacks_the_rest() {
        let mut row = RowBuilder::default();
        row.text("a");
        let row = row.finish(layout(&["x", "y"]));
        assert_eq!(row.get("y"), None);
        assert_eq!(row.iter().count(), 1);
    }
}
