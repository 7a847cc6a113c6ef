use std::collections::HashSet;
use std::sync::Arc;

use super::{Filter, RawCondition, Refusal, parse_filter};
use crate::change::TableName;
use crate::postgres::catalog::{Access, Catalog, Column, ReplicaIdentity, RoleAccess, Table};
use crate::postgres::quote_table;
use crate::protocol::{Binding, EventFilter, Select, Shaping, Snapshot, Switch};

/// A binding, settled on the tables it means today.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The id its client knows it by.
    pub binding: i64,
    /// Which actions it wants.
    pub event: EventFilter,
    /// It is told when a row comes into or goes out of what it shows.
    pub transitions: bool,
    /// It is told of TRUNCATE.
    pub truncates: bool,
    /// The tables; more than one, or none yet, only for wildcards.
    pub targets: Vec<Target>,
}

/// One table of a [`Resolved`] binding.
#[derive(Clone, Debug)]
pub struct Target {
    /// `Table::oid`.
    pub table: u32,
    /// Its filter.
    pub filter: Arc<Filter>,
    /// Which of its columns are sent.
    pub columns: Arc<[bool]>,
}

/// Tables a binding means, with the conditions that still have to be checked against the column types.
pub(super) struct Meant<'a> {
    pub(super) tables: Vec<&'a Arc<Table>>,
    pub(super) conditions: Vec<RawCondition>,
}

/// Finds the published tables of a binding. `filter` is given already checked (see [`super::conditions`]), so that
/// the same call serves when a binding is made and when the catalog has changed since.
///
/// # Errors
/// A [`Refusal`] for parameters that make no sense for this catalog or that this role cannot read.
pub fn resolve(
    binding: &Binding,
    filter: &Arc<Filter>,
    catalog: &Catalog,
    access: &RoleAccess,
) -> Result<Resolved, Refusal> {
    let meant = meant(binding, catalog)?;
    let targets = meant
        .tables
        .into_iter()
        .map(|table| {
            let access = access.tables.get(&table.oid);
            readable(binding, &meant.conditions, table, access)?;
            has_policies(binding, table, access)?;
            let columns = columns(binding, table, access)?;
            comparable(binding, &meant.conditions, table, access)?;
            readable_first(binding, table, &columns)?;
            Ok(Target {
                table: table.oid,
                filter: Arc::clone(filter),
                columns,
            })
        })
        .collect::<Result<_, Refusal>>()?;
    Ok(Resolved {
        binding: binding.id,
        event: binding.event,
        transitions: binding.transitions == Switch::On,
        truncates: binding.truncate == Switch::On || binding.event == EventFilter::Truncate,
        targets,
    })
}

pub(super) fn meant<'a>(binding: &Binding, catalog: &'a Catalog) -> Result<Meant<'a>, Refusal> {
    let conditions = match &binding.filter {
        Some(text) => parse_filter(text)?,
        None => Vec::new(),
    };
    if binding.select == Select::Invalid {
        return Err(Refusal::Select);
    }
    if binding.transitions == Switch::Invalid {
        return Err(Refusal::Transitions);
    }
    if binding.truncate == Switch::Invalid {
        return Err(Refusal::Truncate);
    }
    match binding.shaping {
        Shaping::InvalidRate => return Err(Refusal::MaxRate),
        Shaping::InvalidConflate => return Err(Refusal::Conflate),
        Shaping::On(_) | Shaping::Off => {}
    }
    if binding.snapshot == Snapshot::Invalid {
        return Err(Refusal::Snapshot);
    }
    let (schema, table) = match (binding.schema.as_deref(), binding.table.as_deref()) {
        (None, None) => return Err(Refusal::NoParams(binding.source.clone())),
        (Some(schema), None) => (schema, "*"),
        (None, Some(table)) => ("public", table),
        (Some(schema), Some(table)) => (schema, table),
    };
    let wildcard = schema == "*" || table == "*";
    if wildcard && matches!(binding.select, Select::Columns(_)) {
        return Err(Refusal::SelectWildcard);
    }
    if wildcard && binding.snapshot == Snapshot::On {
        return Err(Refusal::SnapshotWildcard);
    }
    if !conditions.is_empty() && (binding.schema.is_none() || binding.table.is_none()) {
        return Err(exception(
            binding,
            "filter requires both a schema and a table".to_owned(),
        ));
    }
    if wildcard && !conditions.is_empty() {
        return Err(exception(
            binding,
            "filter is not supported for wildcard subscriptions".to_owned(),
        ));
    }
    let tables: Vec<_> = if wildcard {
        topmost(
            catalog
                .tables
                .values()
                .filter(|t| {
                    (schema == "*" || &*t.name.schema == schema) && (table == "*" || &*t.name.table == table)
                })
                .collect(),
        )
    } else {
        catalog
            .tables
            .get(&TableName::new(schema, table))
            .into_iter()
            .collect()
    };
    // A wildcard may come before its first table does, but a schema or table nobody has published is a mistake.
    if tables.is_empty() && !(schema == "*" && table == "*") {
        return Err(Refusal::NotPublished(params(binding)));
    }
    Ok(Meant { tables, conditions })
}

/// Leaves out partitions of what is among the tables as well: each change is told once, as one of the table above.
fn topmost(mut tables: Vec<&Arc<Table>>) -> Vec<&Arc<Table>> {
    let partitioned: HashSet<u32> = tables.iter().filter(|t| t.partitioned).map(|t| t.oid).collect();
    tables.retain(|table| table.ancestors.iter().all(|oid| !partitioned.contains(oid)));
    tables
}

/// Where policies are required, a table without any is shown to nobody. Who asks for it by name is told; a wildcard has
/// other tables.
fn has_policies(binding: &Binding, table: &Table, access: Option<&Access>) -> Result<(), Refusal> {
    let named =
        binding.table.as_deref().is_some_and(|name| name != "*") && binding.schema.as_deref() != Some("*");
    let denied = access.is_some_and(|access| access.restrictions(table).any(|by| by.denies_all()));
    if named && denied && table.has_no_policies() {
        return Err(exception(
            binding,
            format!(
                "table {} has no row-level security and no policy file",
                table.name
            ),
        ));
    }
    Ok(())
}

/// The role must be able to read what it filters on: a filter tells whether a value matches.
fn readable(
    binding: &Binding,
    conditions: &[RawCondition],
    table: &Table,
    access: Option<&Access>,
) -> Result<(), Refusal> {
    for condition in conditions {
        if readable_column(table, access, &condition.column).is_none() {
            return Err(exception(
                binding,
                format!("invalid column for filter {}", condition.column),
            ));
        }
    }
    Ok(())
}

/// Transitions compare what the old row showed with what the new one shows, so the old one must carry whatever decides.
fn comparable(
    binding: &Binding,
    conditions: &[RawCondition],
    table: &Table,
    access: Option<&Access>,
) -> Result<(), Refusal> {
    if binding.transitions != Switch::On || table.replica_identity == ReplicaIdentity::Full {
        return Ok(());
    }
    let carried =
        |i: usize| table.replica_identity == ReplicaIdentity::Default && table.primary_key.contains(&i);
    let decides = |column: &Column| {
        let policies = access.into_iter().flat_map(|access| access.restrictions(table));
        conditions
            .iter()
            .any(|condition| *condition.column == *column.name)
            || policies
                .flat_map(|by| by.permissive().chain(by.restrictive()))
                .any(|policy| policy.is_none_or(|policy| policy.reads(column)))
    };
    let missing = table
        .columns
        .iter()
        .enumerate()
        .find(|(i, column)| !carried(*i) && decides(column));
    match missing {
        None => Ok(()),
        Some((_, column)) => Err(exception(
            binding,
            format!(
                "transitions need the old value of column {}: ALTER TABLE {} REPLICA IDENTITY FULL",
                column.name,
                quote_table(&table.name)
            ),
        )),
    }
}

/// The rows of a snapshot are INSERTs that clients keep by their keys.
fn readable_first(binding: &Binding, table: &Table, columns: &[bool]) -> Result<(), Refusal> {
    if binding.snapshot != Snapshot::On {
        return Ok(());
    }
    let wrong = |text: String| Err(exception(binding, text));
    if matches!(binding.event, EventFilter::Update | EventFilter::Delete) {
        return wrong("a snapshot consists of INSERT events, which were not asked for".to_owned());
    }
    if table.primary_key.is_empty() {
        return wrong(format!("a snapshot of table {} needs a primary key", table.name));
    }
    let sent = |i: &usize| columns.get(*i) == Some(&true);
    if !table.primary_key.iter().all(sent) {
        return wrong(format!(
            "permission denied for the primary key of table {}",
            table.name
        ));
    }
    Ok(())
}

pub(super) fn readable_column(table: &Table, access: Option<&Access>, name: &str) -> Option<usize> {
    let column = table.column(name)?;
    access?
        .columns
        .get(column)
        .copied()
        .unwrap_or(false)
        .then_some(column)
}

/// Readable columns, narrowed by `select`; the primary key always stays.
fn columns(binding: &Binding, table: &Table, access: Option<&Access>) -> Result<Arc<[bool]>, Refusal> {
    let readable = |i: usize| access.is_some_and(|access| access.columns.get(i).copied().unwrap_or(false));
    let mut sent: Vec<bool> = (0..table.columns.len()).map(readable).collect();
    if let Select::Columns(names) = &binding.select {
        for name in names {
            if readable_column(table, access, name).is_none() {
                return Err(exception(binding, format!("invalid column for select {name}")));
            }
        }
        for (i, column) in table.columns.iter().enumerate() {
            let selected = names.iter().any(|name| **name == *column.name) || table.primary_key.contains(&i);
            sent[i] = sent[i] && selected;
        }
    }
    Ok(sent.into())
}

/// The refusal of parameters that are not possible, with what is wrong with them.
pub fn exception(binding: &Binding, exception: String) -> Refusal {
    Refusal::Exception {
        params: params(binding),
        exception,
    }
}

/// The parameters as clients have always been shown them.
fn params(binding: &Binding) -> String {
    let event = match binding.event {
        EventFilter::All => "*",
        EventFilter::Insert => "INSERT",
        EventFilter::Update => "UPDATE",
        EventFilter::Delete => "DELETE",
        EventFilter::Truncate => "TRUNCATE",
    };
    let filters: Vec<String> = binding
        .filter
        .as_deref()
        .and_then(|text| parse_filter(text).ok())
        .unwrap_or_default()
        .into_iter()
        .map(|condition| {
            let values: Vec<_> = condition
                .values
                .into_iter()
                .map(|v| v.unwrap_or_else(|| "null".to_owned()))
                .collect();
            let not = if condition.negate { "not." } else { "" };
            format!(
                "{{{:?}, \"{not}{}\", {:?}}}",
                condition.column,
                condition.operator.name(),
                values.join(",")
            )
        })
        .collect();
    let select = match &binding.select {
        Select::Columns(names) => format!("{names:?}"),
        Select::All | Select::Invalid => "nil".to_owned(),
    };
    format!(
        "[event: {event}, schema: {}, table: {}, filters: [{}], select: {select}]",
        binding
            .schema
            .as_deref()
            .unwrap_or(if binding.table.is_some() { "public" } else { "*" }),
        binding.table.as_deref().unwrap_or("*"),
        filters.join(", "),
    )
}
