use std::collections::BTreeSet;

use super::question::{Failure, Question, Verdict};
use crate::change::Value;
use crate::postgres::catalog::{Policy, Restriction, Table, Types};
use crate::postgres::{quote_identifier, quote_table};

/// What a question comes to before Postgres is asked.
pub(super) enum Plan {
    /// Nothing to ask.
    Decided(Verdict),
    /// Ask with this query (see `sql/rowcast/judge.sql` for its parameters).
    Ask(String),
}

/// Decides a question or writes the query that does.
pub(super) fn plan(question: &Question<'_>, types: &Types) -> Plan {
    let table = question.table;
    let policies = match policies(question) {
        Ok(policies) => policies,
        Err(verdict) => return Plan::Decided(verdict),
    };
    if policies.iter().all(Applied::is_empty) && question.residual.is_empty() {
        return Plan::Decided(Verdict::Allow);
    }
    let mut reads: BTreeSet<usize> = question
        .residual
        .iter()
        .map(|condition| condition.column)
        .collect();
    let mut whole_row = false;
    for applied in &policies {
        for policy in applied.permissive.iter().chain(&applied.restrictive) {
            whole_row |= policy.whole_row;
            let read = table
                .columns
                .iter()
                .enumerate()
                .filter(|(_, column)| policy.reads(column));
            reads.extend(read.map(|(i, _)| i));
        }
    }
    if whole_row {
        reads = (0..table.columns.len()).collect();
    }
    if let Some(missing) = missing(question, &reads) {
        return Plan::Decided(Verdict::Failed(Failure::MissingColumn(missing)));
    }
    let mut first = 1;
    let mut filter = Vec::new();
    for condition in &question.residual {
        // A type the catalog does not know cannot be named in SQL: fail closed.
        let Some(sql) = condition.sql(table, types, "$3", first) else {
            return Plan::Decided(Verdict::Deny);
        };
        filter.push(sql);
        first += condition.values.len();
    }
    let policy: Vec<String> = policies.iter().map(Applied::sql).collect();
    let policy = (!policy.is_empty()).then(|| policy.join(" and "));
    let source = if whole_row {
        populated(table, types)
    } else {
        picked(table, types, &reads)
    };
    match source {
        Ok(source) => Plan::Ask(query(&tested(policy, &filter, &source, table, whole_row))),
        Err(failure) => Plan::Decided(Verdict::Failed(failure)),
    }
}

struct Applied<'a> {
    permissive: Vec<&'a Policy>,
    restrictive: Vec<&'a Policy>,
}

impl Applied<'_> {
    /// All of them are constant true: nothing is left to evaluate.
    fn is_empty(&self) -> bool {
        let constant = |policy: &&Policy| policy.using.as_deref() == Some("true");
        self.permissive.iter().any(constant) && self.restrictive.iter().all(constant)
    }

    fn sql(&self) -> String {
        let using = |policy: &&Policy| format!("({})", policy.using.as_deref().unwrap_or("false"));
        let permissive: Vec<_> = self.permissive.iter().map(using).collect();
        let mut sql = format!("({})", permissive.join(" or "));
        for policy in &self.restrictive {
            sql.push_str(" and ");
            sql.push_str(&using(policy));
        }
        sql
    }
}

/// The policies that apply, each set of which must let the row through; none if nothing restricts the role. A verdict if
/// that already decides.
fn policies<'a>(question: &Question<'a>) -> Result<Vec<Applied<'a>>, Verdict> {
    let applied = |restriction: Restriction<'a>| {
        if restriction.denies_all() {
            return Err(Verdict::Deny);
        }
        let all = |policies: Vec<Option<&'a Policy>>| -> Result<Vec<&'a Policy>, Verdict> {
            policies
                .into_iter()
                .map(|policy| policy.ok_or(Verdict::Deny))
                .collect()
        };
        Ok(Applied {
            permissive: all(restriction.permissive().collect())?,
            restrictive: all(restriction.restrictive().collect())?,
        })
    };
    question
        .access
        .restrictions(question.table)
        .map(applied)
        .collect()
}

/// The first column that is read but not carried.
fn missing(question: &Question<'_>, reads: &BTreeSet<usize>) -> Option<String> {
    reads.iter().find_map(|i| {
        let column = question.table.columns.get(*i)?;
        let carried = !matches!(question.row.get(&column.name), None | Some(Value::Unchanged));
        (!carried).then(|| column.name.to_string())
    })
}

/// The columns that are read, under the table's own name.
fn picked(table: &Table, types: &Types, reads: &BTreeSet<usize>) -> Result<String, Failure> {
    let mut columns = Vec::with_capacity(reads.len());
    for i in reads {
        let name = table.columns.get(*i).map_or("", |column| &column.name);
        columns.push(format!(
            "{} as {}",
            cast(table, types, *i)?,
            quote_identifier(name)
        ));
    }
    Ok(format!("(select {})", columns.join(", ")))
}

/// The row as a value of the table's own type, for expressions that use it as a whole. The empty object changes
/// nothing: it is there because only a function's result keeps the type.
fn populated(table: &Table, types: &Types) -> Result<String, Failure> {
    let columns: Vec<String> = (0..table.columns.len())
        .map(|i| cast(table, types, i))
        .collect::<Result<_, _>>()?;
    Ok(format!(
        "pg_catalog.json_populate_record(row({})::{}, '{{}}')",
        columns.join(", "),
        quote_table(&table.name)
    ))
}

/// A column's value, cast from its text in the row. JSON's null and SQL's NULL stay apart this way, which
/// `json_populate_record` over the row itself would not do.
fn cast(table: &Table, types: &Types, column: usize) -> Result<String, Failure> {
    let unknown = |name: &str| Failure::MissingColumn(name.to_owned());
    let column = table.columns.get(column).ok_or_else(|| unknown("?"))?;
    let ty = types
        .0
        .get(&column.type_oid)
        .ok_or_else(|| unknown(&column.name))?;
    let mut sql = format!("($1[asked.n]->>{})::{}", literal(&column.name), ty.sql);
    if let Some(collation) = &column.collation {
        sql.push_str(" collate ");
        sql.push_str(collation);
    }
    Ok(sql)
}

/// True for a row that passes.
///
/// The filter is evaluated only where the policies say yes: a filter may raise, and that it did would tell its author
/// something of a row that is hidden. AND would not do, it goes on behind NULL.
///
/// The policies stand in a WHERE, as in a SELECT: Postgres leaves out of it what cannot matter and might raise. Over the
/// row as the result of a function it would also guess there how many rows pass, and raise on claims that nothing looks
/// at.
fn tested(policy: Option<String>, filter: &[String], source: &str, table: &Table, function: bool) -> String {
    let name = quote_identifier(&table.name.table);
    let filter = if filter.is_empty() {
        "true".to_owned()
    } else {
        filter.join(" and ")
    };
    match policy {
        None => format!("select {filter} from {source} as {name}"),
        Some(policy) if function => {
            format!("select case when {policy} then {filter} end from {source} as {name}")
        }
        Some(policy) => format!("select {filter} from {source} as {name} where {policy}"),
    }
}

fn query(tested: &str) -> String {
    format!(
        "select coalesce(pg_catalog.array_agg(asked.n), '{{}}') from pg_catalog.unnest($2) as asked(n) \
         where ({tested})"
    )
}

/// A string literal that reads the same under either setting of `standard_conforming_strings`.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}
