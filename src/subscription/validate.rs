use std::sync::Arc;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::resolve::{exception, meant, readable_column};
use super::{Filter, RawCondition, Refusal};
use crate::postgres::catalog::{Catalog, Column, RoleAccess, Types};
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
    let mut filter = Vec::with_capacity(meant.conditions.len());
    for raw in &meant.conditions {
        // A filter names exactly one table.
        let Some(table) = meant.tables.first() else {
            continue;
        };
        let Some(index) = readable_column(table, access.tables.get(&table.oid), &raw.column) else {
            return Err(exception(binding, format!("invalid column for filter {}", raw.column)).into());
        };
        if raw.operator == Operator::In && raw.values.len() > max_in_values {
            let text = format!("too many values for `in` filter. Maximum {max_in_values}");
            return Err(exception(binding, text).into());
        }
        let column = &table.columns[index];
        let (is, canonical) = match check(raw, column, &catalog.types, client).await {
            Ok(checked) => checked,
            Err(Problem::Wrong(text)) => return Err(exception(binding, text).into()),
            Err(Problem::Database(error)) => return Err(Unchecked::Database(error)),
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
            canonical,
        });
    }
    Ok(Arc::new(filter))
}

enum Problem {
    Wrong(String),
    Database(tokio_postgres::Error),
}

async fn check(
    raw: &RawCondition,
    column: &Column,
    types: &Types,
    client: &Client,
) -> Result<(Option<Is>, Vec<Option<String>>), Problem> {
    let wrong = |text: String| Err(Problem::Wrong(text));
    if raw.operator == Operator::Is {
        let Some(is) = raw.values.first().and_then(Option::as_deref).and_then(Is::parse) else {
            return wrong("invalid value for is filter: must be null, true, false, or unknown".to_owned());
        };
        if is != Is::Null && types.base(column.type_oid) != BOOL {
            let word = raw
                .values
                .first()
                .and_then(Option::as_deref)
                .unwrap_or_default()
                .to_lowercase();
            return wrong(format!(
                "is {word} filter requires a boolean column, got {}",
                column.type_name
            ));
        }
        return Ok((Some(is), Vec::new()));
    }
    let Some(sql) = types.0.get(&column.type_oid).map(|t| &t.sql) else {
        return wrong(format!("failed to lookup type for column {}", raw.column));
    };
    // Some collations do not support every operator.
    let collate = column
        .collation
        .as_ref()
        .map_or_else(String::new, |name| format!(" collate {name}"));
    let symbol = operator_symbol(raw.operator).unwrap_or("=");
    // The cast gives the value as Postgres prints it; the comparison proves that the operator exists and, against a
    // value that is not NULL, that it does not raise (a regular expression is compiled only when it is used).
    let query = format!(
        "select case when v is null then null else pg_catalog.format('%s', v::{sql}) end,
                (v::{sql}{collate} {symbol} v::{sql}) is null
           from pg_catalog.unnest($1::text[]) with ordinality as u(v, n) order by n"
    );
    let rows = match client.query(&query, &[&raw.values]).await {
        Ok(rows) => rows,
        Err(error) => return Err(problem(error, raw, column)),
    };
    let canonical = rows.iter().map(|row| row.get::<_, Option<String>>(0)).collect();
    Ok((None, canonical))
}

const BOOL: u32 = 16;

fn problem(error: tokio_postgres::Error, raw: &RawCondition, column: &Column) -> Problem {
    let Some(db) = error.as_db_error() else {
        return Problem::Database(error);
    };
    let name = raw.operator.name();
    let textual = matches!(
        raw.operator,
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
