use std::collections::HashMap;
use std::sync::Arc;

use super::message::DecodeError;
use super::row::Column;
use crate::change::{Layout, LayoutColumn, Row, RowBuilder, TableName, Value};

/// Tables remembered before the cache starts over: far more than one publication has, yet a bound.
const MAX_TABLES: usize = 10_000;
/// Layouts remembered per table: whole rows, keys, and the usual sets of unchanged TOAST columns.
const MAX_LAYOUTS: usize = 16;
/// (new, old) pairs of layouts remembered per table.
const MAX_PAIRS: usize = 16;

/// Names and layouts that rows share, so that a row allocates neither names nor a layout of its own.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    tables: Vec<Table>,
    /// Schema, then table, to an index into `tables`: two maps so that borrowed names find it.
    index: HashMap<Arc<str>, HashMap<Arc<str>, usize>>,
}

/// What is known of one table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: TableName,
    pub(super) columns: Columns,
    pairs: Vec<Pair>,
}

impl Layouts {
    /// The entry of a table, made when there is none.
    pub(super) fn table(&mut self, schema: &str, table: &str) -> &mut Table {
        let known = self.index.get(schema).and_then(|tables| tables.get(table));
        let index = match known {
            Some(index) => *index,
            None => self.insert(TableName::new(schema, table)),
        };
        &mut self.tables[index]
    }

    fn insert(&mut self, name: TableName) -> usize {
        if self.tables.len() >= MAX_TABLES {
            self.tables.clear();
            self.index.clear();
        }
        let index = self.tables.len();
        let tables = self.index.entry(Arc::clone(&name.schema)).or_default();
        tables.insert(Arc::clone(&name.table), index);
        self.tables.push(Table {
            name,
            columns: Columns::default(),
            pairs: Vec::new(),
        });
        index
    }
}

/// The layouts seen of one table, most recent first.
#[derive(Debug, Default)]
pub(super) struct Columns {
    layouts: Vec<Arc<Layout>>,
}

impl Columns {
    /// The shared layout of exactly these columns.
    pub(super) fn layout(&mut self, columns: &[Column<'_>]) -> Result<Arc<Layout>, DecodeError> {
        let found = self.layouts.iter().position(|layout| is_of(layout, columns));
        match found {
            Some(0) => {}
            Some(index) => self.layouts[..=index].rotate_right(1),
            None => {
                let layout = Layout {
                    columns: columns.iter().map(column).collect::<Result<_, _>>()?,
                };
                self.insert(Arc::new(layout));
            }
        }
        self.layouts.first().map(Arc::clone).ok_or(DecodeError::Value)
    }

    fn insert(&mut self, layout: Arc<Layout>) {
        self.layouts.truncate(MAX_LAYOUTS - 1);
        self.layouts.insert(0, layout);
    }
}

fn is_of(layout: &Layout, columns: &[Column<'_>]) -> bool {
    layout.columns.len() == columns.len()
        && columns
            .iter()
            .zip(&layout.columns)
            .all(|(column, known)| *column.name == *known.name && column.type_oid() == Ok(known.type_oid))
}

fn column(column: &Column<'_>) -> Result<LayoutColumn, DecodeError> {
    Ok(LayoutColumn {
        name: Arc::from(&*column.name),
        type_oid: column.type_oid()?,
    })
}

/// How a new row and its old row become one row without holes. `plan` is `None` where the new row has every column.
#[derive(Debug)]
struct Pair {
    new: Arc<Layout>,
    old: Arc<Layout>,
    plan: Option<Plan>,
}

#[derive(Debug)]
struct Plan {
    layout: Arc<Layout>,
    sources: Vec<Source>,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    New(usize),
    Old(usize),
}

impl Table {
    /// Fills what an UPDATE did not print (unchanged TOAST values) from the old row as far as that carries it.
    /// Attribute order is kept.
    pub(super) fn fill(&mut self, new: Row, old: &Row) -> Row {
        if Arc::ptr_eq(new.layout(), old.layout()) {
            return new;
        }
        match self.plan(new.layout(), old.layout()) {
            None => new,
            Some(plan) => plan.merge(&new, old),
        }
    }

    fn plan(&mut self, new: &Arc<Layout>, old: &Arc<Layout>) -> Option<&Plan> {
        let known = |pair: &Pair| Arc::ptr_eq(&pair.new, new) && Arc::ptr_eq(&pair.old, old);
        match self.pairs.iter().position(known) {
            Some(0) => {}
            Some(index) => self.pairs[..=index].rotate_right(1),
            None => {
                self.pairs.truncate(MAX_PAIRS - 1);
                let pair = Pair {
                    new: Arc::clone(new),
                    old: Arc::clone(old),
                    plan: Plan::make(new, old),
                };
                self.pairs.insert(0, pair);
            }
        }
        self.pairs.first()?.plan.as_ref()
    }
}

impl Plan {
    fn make(new: &Layout, old: &Layout) -> Option<Self> {
        let mut columns = Vec::new();
        let mut sources = Vec::new();
        let mut next = 0;
        let take_new = |columns: &mut Vec<_>, sources: &mut Vec<_>, range: std::ops::Range<usize>| {
            for index in range {
                columns.extend(new.columns.get(index).cloned());
                sources.push(Source::New(index));
            }
        };
        for (index, column) in old.columns.iter().enumerate() {
            match new.position(&column.name) {
                Some(at) if at >= next => {
                    take_new(&mut columns, &mut sources, next..at + 1);
                    next = at + 1;
                }
                Some(_) => {}
                None => {
                    columns.push(column.clone());
                    sources.push(Source::Old(index));
                }
            }
        }
        take_new(&mut columns, &mut sources, next..new.columns.len());
        (columns.len() > new.columns.len()).then(|| Self {
            layout: Arc::new(Layout { columns }),
            sources,
        })
    }

    fn merge(&self, new: &Row, old: &Row) -> Row {
        let mut row = RowBuilder::with_capacity(self.sources.len(), new.text_bytes() + old.text_bytes());
        for source in &self.sources {
            let value = match *source {
                Source::New(index) => new.at(index),
                Source::Old(index) => old.at(index),
            };
            match value {
                Some(Value::Text(text)) => row.text(text),
                Some(Value::Null) => row.null(),
                Some(Value::Unchanged) | None => row.unchanged(),
            }
        }
        row.finish(Arc::clone(&self.layout))
    }
}
