//! What a snapshot reads: for every binding that asks for it, a table, a filter and columns, as one user.

use std::fmt::Write;
use std::sync::Arc;

use crate::auth::Claims;
use crate::change::{Layout, LayoutColumn};
use crate::feed::SubscribeError;
use crate::feed::keeper::Snapshot as Rules;
use crate::feed::roster::Bound;
use crate::policy::{ClassKey, Rule};
use crate::postgres::catalog::{Access, Policy, RoleAccess, Table, Types};
use crate::postgres::{quote_identifier, quote_table};
use crate::protocol::Snapshot;
use crate::subscription::{self, Filter};

/// Everything that one transaction is to read.
#[derive(Debug)]
pub(in crate::feed) struct Plan {
    /// As whom. Whoever shares the plan sees the same by them.
    pub(super) claims: Arc<Claims>,
    /// What it was made by.
    pub(super) rules: Arc<Rules>,
    pub(super) items: Vec<Item>,
}

/// The rows of one binding.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) table: Arc<Table>,
    /// Which columns are shown.
    pub(super) columns: Arc<[bool]>,
    pub(super) filter: Arc<Filter>,
    /// What policy files say; the table's own policies are applied by Postgres.
    pub(super) files: Option<Arc<Rule>>,
    /// The columns that are read: those shown, and those that decide.
    pub(super) layout: Arc<Layout>,
    /// The query, with the values of the filter as `$1`.
    pub(super) query: String,
    /// Those values.
    pub(super) values: Vec<Option<String>>,
    class: ClassKey,
}

/// Plans with the same key read the same rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    generation: u64,
    items: Vec<ItemKey>,
    /// Sets apart what is to be read by itself.
    apart: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ItemKey {
    table: u32,
    columns: Arc<[bool]>,
    filter: Arc<Filter>,
    class: ClassKey,
}

impl Plan {
    /// What these bindings ask for, and the ids that their client knows them by; `None` if they ask for no rows.
    ///
    /// # Errors
    /// The role may not read what is needed.
    pub(in crate::feed) fn of(
        bindings: &[Bound],
        claims: &Arc<Claims>,
        rules: &Arc<Rules>,
    ) -> Result<Option<(Self, Vec<i64>)>, SubscribeError> {
        let Some(access) = rules.roles.get(&claims.role) else {
            return Ok(None);
        };
        let (mut items, mut ids) = (Vec::new(), Vec::new());
        for bound in bindings {
            // Equal bindings have equal ids, and get one row for all of them.
            if bound.binding.snapshot != Snapshot::On || ids.contains(&bound.binding.id) {
                continue;
            }
            let resolved = subscription::resolve(&bound.binding, &bound.filter, &rules.catalog, access)
                .map_err(|refusal| SubscribeError::Refused(refusal.to_string()))?;
            for target in &resolved.targets {
                let table = rules.table(target.table);
                let item = table.map(|table| Item::new(table, target, claims, access, rules));
                items.extend(item.transpose().map_err(SubscribeError::Refused)?);
                ids.push(bound.binding.id);
            }
        }
        let plan = Self {
            claims: Arc::clone(claims),
            rules: Arc::clone(rules),
            items,
        };
        Ok((!plan.items.is_empty()).then_some((plan, ids)))
    }

    /// `apart` makes it unlike any other.
    pub(super) fn key(&self, apart: Option<u64>) -> Key {
        let item = |item: &Item| ItemKey {
            table: item.table.oid,
            columns: Arc::clone(&item.columns),
            filter: Arc::clone(&item.filter),
            class: item.class.clone(),
        };
        Key {
            generation: self.rules.generation,
            items: self.items.iter().map(item).collect(),
            apart,
        }
    }
}

impl Item {
    fn new(
        table: &Arc<Table>,
        target: &subscription::Target,
        claims: &Arc<Claims>,
        access: &RoleAccess,
        rules: &Rules,
    ) -> Result<Self, String> {
        let denied = || format!("permission denied for table {}", table.name);
        let (role, catalog) = (&claims.role, &rules.catalog);
        let rule = rules.rules.rule(table, role, access, catalog);
        let rule = rule.ok_or_else(denied)?;
        let files = rules.rules.files(table, role, access, catalog);
        let mut read: Vec<bool> = target.columns.to_vec();
        for condition in target.filter.iter() {
            if let Some(column) = read.get_mut(condition.column) {
                *column = true;
            }
        }
        if let Some(files) = &files {
            decide_by(&files.access, table, &mut read)?;
        }
        let read: Vec<usize> = (0..table.columns.len())
            .filter(|i| read.get(*i) == Some(&true))
            .collect();
        let types = &catalog.types;
        let unknown = || format!("a column of table {} is of an unknown type", table.name);
        let query = query(table, &read, &target.filter, types).ok_or_else(unknown)?;
        Ok(Self {
            layout: Arc::new(layout(table, &read)),
            query,
            values: target.filter.iter().flat_map(|c| c.values.clone()).collect(),
            class: ClassKey::of(&rule, claims).0,
            table: Arc::clone(table),
            columns: Arc::clone(&target.columns),
            filter: Arc::clone(&target.filter),
            files,
        })
    }
}

/// Adds the columns that policy files read. The rows are read as the user, who has to be allowed to.
fn decide_by(access: &Access, table: &Table, read: &mut [bool]) -> Result<(), String> {
    let policies: Vec<&Policy> = access
        .restrictions(table)
        .flat_map(|by| by.permissive().chain(by.restrictive()))
        .flatten()
        .collect();
    for ((i, column), read) in table.columns.iter().enumerate().zip(read) {
        if !policies.iter().any(|policy| policy.reads(column)) {
            continue;
        }
        if access.columns.get(i) != Some(&true) {
            return Err(format!(
                "a policy file reads column {} of table {}, which the role may not select: a snapshot cannot be judged",
                column.name, table.name
            ));
        }
        *read = true;
    }
    Ok(())
}

/// `None` if the catalog does not know a type.
fn query(table: &Table, read: &[usize], filter: &Filter, types: &Types) -> Option<String> {
    let mut query = String::from("select ");
    for (n, i) in read.iter().enumerate() {
        let column = table.columns.get(*i)?;
        // The type that is rendered, also if the column has got another one in this very moment.
        let ty = &types.0.get(&column.type_oid)?.sql;
        let comma = if n == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(query, "{comma}{}::{ty}", quote_identifier(&column.name));
    }
    // Changes of what inherits from a table are changes of other tables in the stream.
    let only = if table.stored_in.contains(&table.name) {
        "only "
    } else {
        ""
    };
    let _ = write!(query, " from {only}{}", quote_table(&table.name));
    let (mut first, mut and) = (1, " where ");
    for condition in filter {
        query.push_str(std::mem::replace(&mut and, " and "));
        query.push_str(&condition.sql(table, types, "$1", first)?);
        first += condition.values.len();
    }
    Some(query)
}

fn layout(table: &Table, read: &[usize]) -> Layout {
    let columns = read.iter().filter_map(|i| table.columns.get(*i));
    let column = |column: &crate::postgres::catalog::Column| LayoutColumn {
        name: Arc::clone(&column.name),
        type_oid: column.type_oid,
    };
    Layout {
        columns: columns.map(column).collect(),
    }
}
