//! Policies from files: their expressions as Postgres would have stored them, and their place in the catalog.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::error::ErrorPosition;
use tokio_postgres::{Client, Transaction};

use super::policies;
use super::print::{HEAD, print};
use super::settings::Settings;
use super::tokens::{is_enclosed, tokens};
use super::whole_row::mentions_whole_row;
use super::{Policy, Table};
use crate::change::TableName;
use crate::postgres::{SqlError, quote_table};

/// One policy of a file: `CREATE POLICY … FOR SELECT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePolicy {
    /// The table it is on.
    pub table: TableName,
    /// Its name.
    pub name: String,
    /// PERMISSIVE (true) or RESTRICTIVE (false).
    pub permissive: bool,
    /// Names of the roles it is for; `public` is everybody.
    pub roles: Vec<String>,
    /// Its expression as it is written. Names are looked up under the session's `search_path`.
    pub using: String,
}

/// Something to be said of one [`FilePolicy`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFinding {
    /// Which one, as index into what [`super::Loader::set_files`] was given.
    pub policy: usize,
    /// What it is.
    pub problem: FileProblem,
}

/// What can be wrong with a policy from a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileProblem {
    /// It waits for its table. All others are errors. (The table of channels need not be published.)
    #[error("the table is not published, so the policy has nothing to do")]
    NotPublished,
    /// A role does not exist.
    #[error("there is no role {0}")]
    UnknownRole(String),
    /// The text is not one expression, or has constants with escapes.
    #[error("this is not one expression, or it has a constant with escapes (E'…', U&'…')")]
    NotOneExpression,
    /// Postgres does not take the expression.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Refused {
        /// What Postgres says.
        message: String,
        /// Its code.
        sqlstate: String,
        /// Where in the expression, in characters from 1.
        position: Option<usize>,
    },
    /// Postgres could not be asked, or its answer was not understood.
    #[error("postgres could not be asked for the expression's meaning: {0}")]
    NotAsked(String),
}

impl FileProblem {
    /// The policy is right, and only its table is not there yet.
    pub fn is_warning(&self) -> bool {
        *self == Self::NotPublished
    }
}

/// An expression as Postgres stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Using {
    /// As [`Policy::using`].
    pub text: String,
    /// As [`Policy::columns`].
    pub columns: Vec<i16>,
    /// As [`Policy::whole_row`].
    pub whole_row: bool,
    /// As [`Policy::relations`].
    pub relations: Vec<u32>,
    /// As [`Policy::functions`].
    pub functions: Vec<u32>,
}

/// Has Postgres say what an expression over a table's rows means, as it would for a policy on that table. Nothing of
/// it is run.
///
/// # Errors
/// Postgres does not take it as a condition, or could not be asked.
pub async fn normalise_using(
    client: &mut Client,
    table: &Table,
    expression: &str,
) -> Result<Using, FileProblem> {
    let enclosed = |text: &str| tokens(text).is_some_and(|tokens| is_enclosed(&tokens));
    if !enclosed(expression) {
        return Err(FileProblem::NotOneExpression);
    }
    let head = format!("select 1 as x from {} where (", quote_table(&table.name));
    // A comment at the end must not take our parenthesis with it.
    let view = format!("{head}{expression}\n)");
    let printed = print(client, None, &view, table.oid)
        .await
        .map_err(|error| refused(error, &head))?;
    let name = printed.relation.unwrap_or_default();
    let text = printed
        .text
        .strip_prefix(&format!(" SELECT 1 AS x\n   FROM {name}\n  WHERE "))
        .and_then(|text| text.trim_end().strip_suffix(';'))
        .filter(|text| enclosed(text))
        .ok_or_else(|| FileProblem::NotAsked("it was printed in a way that is not known here".to_owned()))?;
    Ok(Using {
        columns: printed
            .columns
            .iter()
            .filter_map(|attnum| i16::try_from(*attnum).ok())
            .filter(|attnum| *attnum > 0)
            .collect(),
        whole_row: mentions_whole_row(text) || printed.columns.iter().any(|attnum| *attnum < 0),
        relations: policies::relations(printed.relations, table.oid, &name, Some(text)),
        functions: printed.functions,
        text: text.to_owned(),
    })
}

fn refused(error: tokio_postgres::Error, head: &str) -> FileProblem {
    let error_kind = SqlError::during("asking postgres");
    let Some(db) = error.as_db_error() else {
        return FileProblem::NotAsked(error_kind(error).chain());
    };
    let position = match db.position() {
        Some(ErrorPosition::Original(at)) => usize::try_from(*at)
            .ok()
            .and_then(|at| at.checked_sub(HEAD.chars().count() + head.chars().count())),
        _ => None,
    };
    // What is the matter with the session is not the expression's fault. The text of the file is no secret.
    let code = db.code().code();
    if ["08", "25", "53", "55", "57"]
        .iter()
        .any(|class| code.starts_with(class))
    {
        return FileProblem::NotAsked(error_kind(error).chain());
    }
    FileProblem::Refused {
        message: db.message().replace("argument of WHERE", "the expression"),
        sqlstate: code.to_owned(),
        position,
    }
}

/// Expressions that were asked about, by table and text.
#[derive(Debug, Default)]
pub(super) struct Usings(HashMap<(u32, String), Result<Using, FileProblem>>);

impl Usings {
    /// Asks about these.
    pub(super) async fn find(&mut self, client: &mut Client, wanted: &[(Arc<Table>, String)]) {
        for (table, expression) in wanted {
            let found = normalise_using(client, table, expression).await;
            self.0.insert((table.oid, expression.clone()), found);
        }
    }

    /// Forgets what could not be asked, so that it is asked again.
    pub(super) fn forget_failures(&mut self) {
        self.0
            .retain(|_, found| !matches!(found, Err(FileProblem::NotAsked(_))));
    }
}

/// What came of putting policies into tables.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) findings: Vec<FileFinding>,
    /// Expressions that have not been asked about.
    pub(super) unknown: Vec<(Arc<Table>, String)>,
}

/// Puts the policies into their tables. One that something is wrong with lets nothing through, for nobody. A table may be
/// among `tables` more than once.
pub(super) async fn apply(
    transaction: &Transaction<'_>,
    files: &[FilePolicy],
    usings: &Usings,
    settings: &Settings,
    tables: impl Iterator<Item = &mut Table>,
) -> Result<Applied, SqlError> {
    let mut applied = Applied::default();
    if files.is_empty() {
        return Ok(applied);
    }
    let roles = roles(transaction, files).await?;
    let mut by_name: HashMap<TableName, Vec<&mut Table>> = HashMap::new();
    for table in tables {
        by_name.entry(table.name.clone()).or_default().push(table);
    }
    for (i, file) in files.iter().enumerate() {
        let mut finding = |problem| applied.findings.push(FileFinding { policy: i, problem });
        let Some((table, found)) = by_name
            .get_mut(&file.table)
            .and_then(|found| Some((found.first().map(|table| (**table).clone())?, found)))
        else {
            finding(FileProblem::NotPublished);
            continue;
        };
        let using = match usings.0.get(&(table.oid, file.using.clone())) {
            Some(using) => using.clone(),
            None => {
                if settings.can_print {
                    applied.unknown.push((Arc::new(table), file.using.clone()));
                }
                Err(FileProblem::NotAsked(
                    "the session cannot make temporary views (TEMPORARY on the database, no standby)"
                        .to_owned(),
                ))
            }
        };
        let policy = match using.and_then(|using| Ok((using, oids(file, &roles)?))) {
            Ok((using, roles)) => policy(file, roles, using),
            Err(problem) => {
                finding(problem);
                closed(file)
            }
        };
        for table in found {
            table.file_policies.push(policy.clone());
        }
    }
    Ok(applied)
}

async fn roles(
    transaction: &Transaction<'_>,
    files: &[FilePolicy],
) -> Result<HashMap<String, u32>, SqlError> {
    let doing = SqlError::during("looking up the roles of policy files");
    let names: Vec<&str> = files
        .iter()
        .flat_map(|file| file.roles.iter().map(String::as_str))
        .collect();
    let rows = transaction
        .query(
            "SELECT rolname::text AS name, oid FROM pg_catalog.pg_roles WHERE rolname::text = ANY ($1::text[])",
            &[&names],
        )
        .await
        .map_err(&doing)?;
    rows.iter()
        .map(|row| Ok((row.try_get("name")?, row.try_get("oid")?)))
        .collect::<Result<_, tokio_postgres::Error>>()
        .map_err(doing)
}

fn oids(file: &FilePolicy, roles: &HashMap<String, u32>) -> Result<Vec<u32>, FileProblem> {
    let oid = |name: &String| match name.as_str() {
        // No role can have this name.
        "public" => Ok(0),
        name => roles
            .get(name)
            .copied()
            .ok_or_else(|| FileProblem::UnknownRole(name.to_owned())),
    };
    file.roles.iter().map(oid).collect()
}

fn policy(file: &FilePolicy, roles: Vec<u32>, using: Using) -> Policy {
    Policy {
        name: file.name.clone(),
        permissive: file.permissive,
        roles,
        using: Some(using.text),
        columns: using.columns,
        whole_row: using.whole_row,
        relations: using.relations,
        functions: using.functions,
    }
}

/// A restrictive one stops everybody; a permissive one helps nobody, and its table stays one with policies.
fn closed(file: &FilePolicy) -> Policy {
    Policy {
        name: file.name.clone(),
        permissive: file.permissive,
        roles: vec![0],
        using: Some("false".to_owned()),
        columns: Vec::new(),
        whole_row: false,
        relations: Vec::new(),
        functions: Vec::new(),
    }
}
