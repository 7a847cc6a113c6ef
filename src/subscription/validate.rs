use std::sync::Arc;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::resolve::{exception, meant, readable_column};
use super::{Filter, RawCondition, Refusal};
use crate::postgres::catalog::{Catalog, Column, RoleAccess, Table, Types};
use crate::predicate::{Condition, Is, Operator, operator_symbol};
use crate::protocol::Binding;

/// Why the conditions of a binding could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum Unchecked {
    /// They are wrong.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Postgres did not answer.
    #[error("the database did not check the filter")]
    Database(#[source] tokio_postgres::Error),
}

/// Checks a binding's filter against the columns and against Postgres itself, so that nothing that a client wrote can
/// first fail when a row comes by: every value is cast to its column's type and every operator tried. An `in` list may
/// have `max_in_values` values.
///
/// # Errors
/// See [`Unchecked`].
pub async fn conditions(
    binding: &Binding,
    catalog: &Catalog,
    access: &RoleAccess,
    client: &Client,
    max_in_values: usize,
) -> Result<Arc<Filter>, Unchecked> {
    let meant = meant(binding, catalog)?;
    let wrong = |text: String| exception(binding, text);
    if meant.conditions.len() > MOST_CONDITIONS {
        return Err(wrong(format!("too many conditions. Maximum {MOST_CONDITIONS}")).into());
    }
    // A filter names exactly one table.
    let Some(table) = meant.tables.first() else {
        return Ok(Arc::default());
    };
    let mut filter = Vec::with_capacity(meant.conditions.len());
    for raw in &meant.conditions {
        let Some(index) = readable_column(table, access.tables.get(&table.oid), &raw.column) else {
            return Err(wrong(format!("invalid column for filter {}", raw.column)).into());
        };
        if raw.operator == Operator::In && raw.values.len() > max_in_values {
            let text = format!("too many values for `in` filter. Maximum {max_in_values}");
            return Err(wrong(text).into());
        }
        let is = match raw.operator {
            Operator::Is => Some(is_what(raw, &table.columns[index], &catalog.types).map_err(wrong)?),
            _ => None,
        };
        let values = if is.is_some() {
            Vec::new()
        } else {
            raw.values.clone()
        };
        filter.push(Condition {
            column: index,
            operator: raw.operator,
            negate: raw.negate,
            values,
            is,
            canonical: Vec::new(),
        });
    }
    for alike in alike(&filter, table) {
        match check(&mut filter, &alike, table, &catalog.types, client).await {
            Ok(()) => {}
            Err(Problem::Wrong(text)) => return Err(wrong(text).into()),
            Err(Problem::Database(error)) => return Err(Unchecked::Database(error)),
        }
    }
    Ok(Arc::new(filter))
}

/// Most conditions of one filter: all of them may have to be looked at for each change.
const MOST_CONDITIONS: usize = 100;

enum Problem {
    Wrong(String),
    Database(tokio_postgres::Error),
}

fn is_what(raw: &RawCondition, column: &Column, types: &Types) -> Result<Is, String> {
    let word = raw.values.first().and_then(Option::as_deref).unwrap_or_default();
    let Some(is) = Is::parse(word) else {
        return Err("invalid value for is filter: must be null, true, false, or unknown".to_owned());
    };
    if is != Is::Null && types.base(column.type_oid) != BOOL {
        return Err(format!(
            "is {} filter requires a boolean column, got {}",
            word.to_lowercase(),
            column.type_name
        ));
    }
    Ok(is)
}

/// The conditions that one query checks, by their numbers: those with one operator on one type, so that a filter with many costs
/// about as much as one.
fn alike(filter: &[Condition], table: &Table) -> Vec<Vec<usize>> {
    let key = |condition: &Condition| {
        let column = &table.columns[condition.column];
        (condition.operator, column.type_oid, &column.collation)
    };
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (number, condition) in filter
        .iter()
        .enumerate()
        .filter(|(_, condition)| condition.is.is_none())
    {
        let same = |group: &&mut Vec<usize>| {
            group
                .first()
                .is_some_and(|&first| key(&filter[first]) == key(condition))
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(number),
            None => groups.push(vec![number]),
        }
    }
    groups
}

/// Has Postgres check conditions that are alike, and notes their values as it prints them.
async fn check(
    filter: &mut [Condition],
    alike: &[usize],
    table: &Table,
    types: &Types,
    client: &Client,
) -> Result<(), Problem> {
    let Some(&first) = alike.first() else {
        return Ok(());
    };
    let (column, operator) = (&table.columns[filter[first].column], filter[first].operator);
    let Some(sql) = types.0.get(&column.type_oid).map(|t| &t.sql) else {
        return Err(Problem::Wrong(format!(
            "failed to lookup type for column {}",
            column.name
        )));
    };
    // Some collations do not support every operator.
    let collate = column
        .collation
        .as_ref()
        .map_or_else(String::new, |name| format!(" collate {name}"));
    let symbol = operator_symbol(operator).unwrap_or("=");
    // The cast gives the value as Postgres prints it; the comparison proves that the operator exists and, against a
    // value that is not NULL, that it does not raise (a regular expression is compiled only when it is used).
    let query = format!(
        "select case when v is null then null else pg_catalog.format('%s', v::{sql}) end,
                (v::{sql}{collate} {symbol} v::{sql}) is null
           from pg_catalog.unnest($1::text[]) with ordinality as u(v, n) order by n"
    );
    let values: Vec<&Option<String>> = alike.iter().flat_map(|&number| &filter[number].values).collect();
    let rows = client.query(&query, &[&values]).await;
    let rows = rows.map_err(|error| problem(error, operator, column))?;
    let mut canonical = rows.iter().map(|row| row.get::<_, Option<String>>(0));
    for &number in alike {
        let condition = &mut filter[number];
        condition.canonical = canonical.by_ref().take(condition.values.len()).collect();
    }
    Ok(())
}

const BOOL: u32 = 16;

fn problem(error: tokio_postgres::Error, operator: Operator, column: &Column) -> Problem {
    let Some(db) = error.as_db_error() else {
        return Problem::Database(error);
    };
    let name = operator.name();
    let textual = matches!(
        operator,
        Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch
    );
    let code = db.code();
    let operational = ["08", "53", "57", "58", "XX"]
        .iter()
        .any(|class| code.code().starts_with(class));
    if operational {
        return Problem::Database(error);
    }
    Problem::Wrong(if *code == SqlState::UNDEFINED_FUNCTION && textual {
        format!(
            "operator {name} requires a text-compatible column type, got {}",
            column.type_name
        )
    } else if *code == SqlState::INVALID_REGULAR_EXPRESSION {
        format!("invalid regular expression for {name} filter: {}", db.message())
    } else {
        db.message().to_owned()
    })
}
