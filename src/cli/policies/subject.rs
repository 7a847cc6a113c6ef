//! The database and the policy files that are looked at, and what each way of deciding says to one row.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::auth::Claims;
use crate::change::{Row, TableName};
use crate::cli::Failure;
use crate::config::Config;
use crate::policy::{Compiled, Question, Rehearsal, Unsaid, Verdict};
use crate::policy_files::{FilePolicy, Problem};
use crate::postgres::catalog::{
    self, Access, Catalog, FileFinding, FileProblem, Loaded, Loader, RoleAccess, Table,
};
use crate::postgres::{Connection, Session, connect};
use crate::server;

/// Longest time for one statement.
const STATEMENT: Duration = Duration::from_secs(10);

/// A database with its policy files.
pub(super) struct Subject {
    pub(super) connection: Connection,
    pub(super) catalog: Catalog,
    /// The directory of policy files, if there is one.
    pub(super) directory: Option<PathBuf>,
    /// By name, those that were asked for and exist.
    roles: HashMap<String, RoleAccess>,
    required: bool,
}

/// Somebody and a row.
pub(super) struct Pair<'a> {
    pub(super) table: &'a Table,
    pub(super) claims: Arc<Claims>,
    pub(super) access: &'a Access,
    /// Functions that policies call and the role may call.
    pub(super) callable: &'a HashSet<u32>,
    pub(super) row: Row,
}

/// What one way of deciding says.
pub(super) struct Answer {
    pub(super) by: &'static str,
    pub(super) says: Says,
}

/// Whether the row is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Visible,
    Hidden,
    /// It is not shown because that could not be decided.
    Failed(String),
    /// It is for Postgres to say; why.
    Asks(String),
}

impl Subject {
    /// Reads policy files and catalog.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        let directory = server::policy_directory(config);
        let files = directory
            .as_ref()
            .map(|directory| directory.read()?.policies())
            .transpose();
        let files = files.map_err(problems)?.unwrap_or_default();
        let mut session = Session::new("rowcast policies");
        session.statement_timeout = Some(STATEMENT);
        let mut connection = connect(&server::connect_settings(config), &session)
            .await
            .map_err(Failure::failed)?;
        let mut loader = Loader::default();
        loader.set_files(files.iter().map(|file| file.policy.clone()).collect());
        let loaded = loader
            .load(&mut connection, &config.replication.publication)
            .await;
        let Loaded {
            catalog,
            files: findings,
            ..
        } = loaded.map_err(Failure::failed)?;
        refuse(&files, &findings)?;
        Ok(Self {
            connection,
            catalog,
            directory: directory.map(|directory| directory.path().to_owned()),
            roles: HashMap::new(),
            required: config.policy.required,
        })
    }

    /// Reads what these roles may see.
    pub(super) async fn meet(&mut self, roles: BTreeSet<String>) -> Result<(), Failure> {
        for role in roles {
            let access = catalog::role_access(&self.connection, &role, &self.catalog).await;
            if let Some(mut access) = access.map_err(Failure::failed)? {
                if self.required {
                    access.require_policies(&self.catalog);
                }
                self.roles.insert(role, access);
            }
        }
        Ok(())
    }
}

/// As `serve` would refuse them at its start. What waits for its table is said and goes on.
fn refuse(files: &[FilePolicy], findings: &[FileFinding]) -> Result<(), Failure> {
    let (mut wrong, mut unasked) = (Vec::new(), false);
    for found in findings {
        let Some(file) = files.get(found.policy) else {
            continue;
        };
        let problem = file.problem(&found.problem);
        if found.problem.is_warning() {
            tracing::warn!("{problem}");
        } else {
            unasked |= matches!(found.problem, FileProblem::NotAsked(_));
            wrong.push(problem);
        }
    }
    match (wrong.is_empty(), unasked, problems(wrong)) {
        (true, ..) => Ok(()),
        // That says nothing of the files.
        (false, true, Failure::Usage(error)) => Err(Failure::Failed(error)),
        (false, _, failure) => Err(failure),
    }
}

/// A published table by its name.
pub(super) fn table<'a>(catalog: &'a Catalog, name: &TableName) -> Result<&'a Arc<Table>, String> {
    catalog
        .tables
        .get(name)
        .ok_or_else(|| format!("{name} is no published table; rowcast policies list names them"))
}

/// What a role may see of a table, and the functions of policies that it may call.
pub(super) fn access<'a>(
    roles: &'a HashMap<String, RoleAccess>,
    role: &str,
    table: &Table,
) -> Result<(&'a Access, &'a HashSet<u32>), String> {
    let role = roles
        .get(role)
        .ok_or_else(|| format!("role {role} does not exist"))?;
    let access = role.tables.get(&table.oid);
    let access = access.ok_or_else(|| format!("{} went away meanwhile", table.name))?;
    Ok((access, &role.functions))
}

impl Subject {
    /// The connection and, beside it, what was read.
    pub(super) fn parts(&mut self) -> (&mut Connection, &Catalog, &HashMap<String, RoleAccess>) {
        (&mut self.connection, &self.catalog, &self.roles)
    }
}

/// Claims as a verified token has them.
pub(super) fn claims(object: &Map<String, Value>) -> Result<Claims, String> {
    let role = object
        .get("role")
        .and_then(Value::as_str)
        .ok_or("the claims have no role")?;
    Ok(Claims {
        role: role.into(),
        sub: object.get("sub").and_then(Value::as_str).map(Arc::from),
        exp: i64::MAX,
        scope: None,
        json: Value::Object(object.clone()).to_string().into(),
    })
}

/// What every way of deciding says.
pub(super) async fn answers(
    rehearsal: &Rehearsal<'_>,
    catalog: &Catalog,
    pair: &Pair<'_>,
) -> Result<Vec<Answer>, String> {
    let compiled = compiled(rehearsal, catalog, pair, pair.access).await?;
    let verdict = postgres(rehearsal, catalog, pair, pair.access).await?;
    let compiled = match compiled.says {
        Ok(true) => says(&Verdict::Allow, pair.access),
        Ok(false) => Says::Hidden,
        Err(Unsaid::Raises(what)) => Says::Failed(format!("it {what}")),
        Err(Unsaid::Asks(why)) => Says::Asks(why),
    };
    Ok(vec![
        Answer {
            by: "compiled",
            says: compiled,
        },
        Answer {
            by: "Postgres",
            says: says(&verdict, pair.access),
        },
    ])
}

/// What Postgres says, if `access` were what restricts the row.
pub(super) async fn postgres(
    rehearsal: &Rehearsal<'_>,
    catalog: &Catalog,
    pair: &Pair<'_>,
    access: &Access,
) -> Result<Verdict, String> {
    let verdict = rehearsal.judge(&question(pair, access), &catalog.types).await;
    verdict.map_err(|error| error.to_string())
}

/// What the compiled policies say, if `access` were what restricts the row.
pub(super) async fn compiled(
    rehearsal: &Rehearsal<'_>,
    catalog: &Catalog,
    pair: &Pair<'_>,
    access: &Access,
) -> Result<Compiled, String> {
    let compiled = rehearsal
        .compiled(&question(pair, access), pair.callable, catalog)
        .await;
    compiled.map_err(|error| error.to_string())
}

fn question<'a>(pair: &'a Pair<'_>, access: &'a Access) -> Question<'a> {
    Question {
        claims: &pair.claims,
        access,
        table: pair.table,
        row: &pair.row,
        transaction: None,
        residual: Vec::new(),
    }
}

/// A row of which nothing may be read is not shown, whatever policies say.
fn says(verdict: &Verdict, access: &Access) -> Says {
    match verdict {
        Verdict::Allow if access.columns.contains(&true) => Says::Visible,
        Verdict::Allow | Verdict::Deny => Says::Hidden,
        Verdict::Failed(failure) => Says::Failed(failure.to_string()),
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.says {
            Says::Asks(why) => write!(f, "{} {why}", self.by),
            says => write!(f, "{} says {says}", self.by),
        }
    }
}

impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Visible => f.write_str("visible"),
            Self::Hidden => f.write_str("hidden"),
            Self::Failed(why) => write!(f, "hidden, as {why}"),
            Self::Asks(why) => f.write_str(why),
        }
    }
}

/// All that is wrong with files, as one error.
pub(super) fn problems(problems: Vec<Problem>) -> Failure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Failure::usage(lines.join("; "))
}
