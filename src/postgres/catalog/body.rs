//! What a function in SQL does, in Postgres' own words: its SELECT beside a table of its arguments, printed.

use std::ops::Range;
use std::sync::Arc;

use sqlparser::ast::{SetExpr, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use tokio_postgres::Client;

use super::path::Path;
use super::print::{Printed, print};
use super::tokens::{Token, is_enclosed, tokens};
use super::{Body, Lookup};
use crate::postgres::quote_identifier;

/// A function in SQL as the catalog has it, when it may be one whose body can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) name: String,
    /// `prosrc`, or what `pg_get_function_sqlbody` printed.
    pub(super) text: String,
    /// The body was parsed when the function was made: its names need no looking up.
    pub(super) parsed: bool,
    /// The `search_path` it runs under, as that setting is written.
    pub(super) path: String,
    /// Name (none is empty) and SQL type of each argument.
    pub(super) arguments: Vec<(String, String)>,
    pub(super) returns: u32,
    /// SQL type of the result.
    pub(super) returns_sql: String,
    /// Types that an assignment makes into the type of the result.
    pub(super) assignable: Vec<u32>,
}

/// What stands behind the arguments in the printed text, up to the body.
const BEFORE: &str = ") \"rowcast arguments\",\n    LATERAL (";
/// What stands behind the body.
const AFTER: &str = ") \"rowcast body\"(x);";
/// No name of a body may begin like ours.
const OURS: &str = "rowcast";
/// Texts that a date or time type reads as the present moment, and a printed constant would keep.
const MOMENTS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// The body, and where its names are looked up. `None` if it is not one SELECT whose meaning is certain.
///
/// # Errors
/// Postgres did not take it.
pub(super) async fn normalise(
    client: &mut Client,
    source: &Source,
) -> Result<Option<(Body, Lookup)>, tokio_postgres::Error> {
    let Some(select) = select(source) else {
        return Ok(None);
    };
    let path = Path::parse(&source.path);
    if !enters(client, &path).await? {
        return Ok(None);
    }
    let read = view(source, &select);
    let mut printed = print(client, Some(&path.without_user()), &read, 0).await?;
    if printed.column_type != source.returns {
        if !source.assignable.contains(&printed.column_type) {
            return Ok(None);
        }
        let cast = format!(
            "select (\"rowcast result\".x)::{} as x from ({select}\n) as \"rowcast result\"(x)",
            source.returns_sql
        );
        printed = print(client, Some(&path.without_user()), &view(source, &cast), 0).await?;
    }
    Ok(body(source, &path, printed))
}

/// Whether no schema of the path is closed to us: its names would be looked for in the next one.
async fn enters(client: &Client, path: &Path) -> Result<bool, tokio_postgres::Error> {
    let names: Vec<String> = path.schemas().iter().map(ToString::to_string).collect();
    let row = client
        .query_one(
            "SELECT NOT EXISTS (
                 SELECT FROM pg_catalog.pg_namespace
                  WHERE nspname::text = ANY ($1::text[]) AND NOT pg_catalog.has_schema_privilege(oid, 'USAGE'))",
            &[&names],
        )
        .await?;
    row.try_get(0)
}

fn view(source: &Source, select: &str) -> String {
    let arguments: Vec<String> = parameters(source)
        .iter()
        .zip(&source.arguments)
        .map(|(name, (_, ty))| format!("null::{ty} as {}", quote_identifier(name)))
        .collect();
    // A comment at the end of the body must not take our parenthesis with it.
    format!(
        "select \"rowcast body\".x from (select {}) as \"{}\", lateral ({select}\n) as \"rowcast body\"(x)",
        arguments.join(", "),
        Body::ALIAS
    )
}

/// The names of the columns that stand for the arguments: their own, `$1` for one that has none.
fn parameters(source: &Source) -> Vec<String> {
    let name = |(i, (name, _)): (usize, &(String, String))| match name.as_str() {
        "" => format!("${}", i + 1),
        name => name.to_owned(),
    };
    source.arguments.iter().enumerate().map(name).collect()
}

/// The SELECT of the body with references to arguments that a table cannot take made into references to columns.
fn select(source: &Source) -> Option<String> {
    let text = if source.parsed {
        unwrapped(&source.text)?
    } else {
        source.text.clone()
    };
    if text.contains(OURS) || parameters(source).iter().any(|name| name.contains(OURS)) {
        return None;
    }
    let mut found = tokens(&text)?;
    let end = match found.last() {
        Some((range, Token::Symbol(';'))) => {
            let end = range.start;
            found.pop();
            end
        }
        _ => text.len(),
    };
    if !is_enclosed(&found) || !is_lasting(&found) || !is_one_select(&text) {
        return None;
    }
    let mut changed = String::with_capacity(text.len());
    let mut at = 0;
    for (range, column) in references(source, &found)? {
        changed.push_str(text.get(at..range.start)?);
        changed.push_str(&column);
        at = range.end;
    }
    changed.push_str(text.get(at..end)?);
    Some(changed)
}

/// The SELECT of a body in standard SQL: `RETURN …`, or one statement between `BEGIN ATOMIC` and `END`.
fn unwrapped(text: &str) -> Option<String> {
    let text = text.trim();
    if let Some(value) = text.strip_prefix("RETURN ") {
        return Some(format!("SELECT {value}"));
    }
    let inside = text.strip_prefix("BEGIN ATOMIC")?.strip_suffix("END")?;
    Some(inside.trim().to_owned())
}

/// Where `$n` and `function.argument` stand, and the column for each.
fn references(source: &Source, found: &[(Range<usize>, Token)]) -> Option<Vec<(Range<usize>, String)>> {
    let parameters = parameters(source);
    let column = |name: &str| format!("\"{}\".{}", Body::ALIAS, quote_identifier(name));
    let is = |at: usize, c: char| matches!(found.get(at), Some((_, Token::Symbol(s))) if *s == c);
    let (mut changes, mut other_uses, mut qualified) = (Vec::new(), false, false);
    for (i, (range, token)) in found.iter().enumerate() {
        match token {
            Token::Parameter(n) => {
                let name = parameters.get(n.checked_sub(1)?)?;
                changes.push((range.clone(), column(name)));
            }
            Token::Name(name) if *name == source.name => {
                let argument = match found.get(i + 2) {
                    Some((end, Token::Name(name)))
                        if is(i + 1, '.') && !is(i + 3, '.') && !is(i + 3, '(') =>
                    {
                        let known = source.arguments.iter().any(|(argument, _)| argument == name);
                        known.then(|| (range.start..end.end, column(name)))
                    }
                    _ => None,
                };
                match argument {
                    Some(change) if i == 0 || !is(i - 1, '.') => {
                        qualified = true;
                        changes.push(change);
                    }
                    _ => other_uses = true,
                }
            }
            _ => {}
        }
    }
    // A table or column of the function's name may be what is meant.
    (!(qualified && other_uses)).then_some(changes)
}

/// Whether no constant means another thing tomorrow. Two in a row may be one.
fn is_lasting(found: &[(Range<usize>, Token)]) -> bool {
    let text = |token: &Token| matches!(token, Token::Text(_));
    let moment = |token: &Token| match token {
        Token::Text(text) => text
            .split(|c: char| !c.is_ascii_alphabetic())
            .any(|word| MOMENTS.iter().any(|moment| word.eq_ignore_ascii_case(moment))),
        _ => false,
    };
    let in_a_row = found
        .windows(2)
        .any(|pair| pair.iter().all(|(_, token)| text(token)));
    !in_a_row && !found.iter().any(|(_, token)| moment(token))
}

/// Whether this is exactly one SELECT and nothing else.
fn is_one_select(text: &str) -> bool {
    let Ok(statements) = Parser::parse_sql(&PostgreSqlDialect {}, text) else {
        return false;
    };
    let [Statement::Query(query)] = statements.as_slice() else {
        return false;
    };
    let SetExpr::Select(select) = &*query.body else {
        return false;
    };
    query.locks.is_empty() && select.into.is_none()
}

fn body(source: &Source, path: &Path, printed: Printed) -> Option<(Body, Lookup)> {
    let parameters = parameters(source);
    // In a function a table comes before an argument of its name; beside the arguments it comes behind.
    if parameters.iter().any(|name| printed.aliases.contains(name)) {
        return None;
    }
    let (_, behind) = printed.text.split_once(BEFORE)?;
    let query = behind.trim_end().strip_suffix(AFTER)?.trim();
    if !is_enclosed(&tokens(query)?) || !is_one_select(query) {
        return None;
    }
    let body = Body {
        query: query.to_owned(),
        parameters: parameters.into_iter().map(Arc::from).collect(),
        relations: printed.relations,
        functions: printed.functions,
    };
    let lookup = if source.parsed {
        Lookup::default()
    } else {
        Lookup {
            path: path.schemas(),
            schemas: printed.schemas,
        }
    };
    Some((body, lookup))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            name: "f".into(),
            text: text.into(),
            parsed: false,
            path: "public".into(),
            arguments: vec![("a".into(), "int4".into()), (String::new(), "int4".into())],
            returns: 16,
            returns_sql: "bool".into(),
            assignable: Vec::new(),
        }
    }

    #[test]
    fn arguments_become_columns_outside_of_literals() {
        for (text, expected) in [
            ("select 1; -- done", "select 1"),
            (
                "select $2 = f.a and '$1 f.a' <> \"$1\"",
                "select \"rowcast arguments\".\"$2\" = \"rowcast arguments\".\"a\" and '$1 f.a' <> \"$1\"",
            ),
            (
                "select $$ $1 $$ || $1 /* $1; */",
                "select $$ $1 $$ || \"rowcast arguments\".\"a\" /* $1; */",
            ),
            ("select f from t", "select f from t"),
            ("select f.other from f", "select f.other from f"),
        ] {
            assert_eq!(select(&source(text)).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_one_lasting_select_is_refused() {
        for text in [
            "",
            "select 1; select 2",
            "select 1) as x; drop table y; --",
            "select 1) as \"body\"(x), lateral (select 2",
            "select $3",
            "select f.a from f",
            "select 'now'::timestamptz > at from t",
            "select at > 'TODAY' from t",
            "select 'to'\n'day'::date",
            "select E'\\x6eow'::date",
            "select 1 as \"rowcast body\"",
            "delete from t returning true",
            "select 1 into t",
            "select 1 from t for update",
            "select 1 union select 2",
        ] {
            assert_eq!(select(&source(text)), None, "{text}");
        }
    }
}
