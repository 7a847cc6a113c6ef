//! `rowcast policies explain`.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::ArgMatches;
use serde_json::{Map, Value};

use super::subject::{self, Pair, Subject};
use crate::change::TableName;
use crate::cli::{Failure, block_on, print};
use crate::config::Config;
use crate::policy::{Rehearsal, Step, Verdict};
use crate::policy_files::table_name;
use crate::postgres::catalog::{Access, Catalog, Policy, RowAccess, Table};

/// What was typed.
struct Asked {
    table: TableName,
    claims: Map<String, Value>,
    row: Map<String, Value>,
}

pub(super) fn run(config: &Config, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let given = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let object = |name: &str| {
        serde_json::from_str(given(name))
            .map_err(|error| Failure::usage(format!("--{name}: expected a JSON object ({error})")))
    };
    let asked = Asked {
        table: table_name(given("table")).map_err(|error| Failure::usage(format!("--table: {error}")))?,
        claims: object("claims")?,
        row: object("row")?,
    };
    print(&block_on(explain(config, &asked))??);
    Ok(ExitCode::SUCCESS)
}

async fn explain(config: &Config, asked: &Asked) -> Result<String, Failure> {
    let mut subject = Subject::open(config).await?;
    let claims = subject::claims(&asked.claims).map_err(Failure::usage)?;
    subject.meet([claims.role.to_string()].into()).await?;
    let (connection, catalog, roles) = subject.parts();
    let table = subject::table(catalog, &asked.table).map_err(Failure::failed)?;
    let found = subject::access(roles, &claims.role, table);
    let (access, callable) = found.map_err(Failure::failed)?;
    let rehearsal = Rehearsal::begin(connection).await.map_err(Failure::failed)?;
    rehearsal.prepare(&[]).await.map_err(Failure::failed)?;
    let row = rehearsal.row(table, &asked.row).await.map_err(Failure::failed)?;
    let pair = Pair {
        table,
        claims: claims.into(),
        access,
        callable,
        row,
    };
    let explanation = Explanation {
        rehearsal: &rehearsal,
        catalog,
        pair: &pair,
        text: String::new(),
    };
    explanation.write().await.map_err(Failure::failed)
}

struct Explanation<'a> {
    rehearsal: &'a Rehearsal<'a>,
    catalog: &'a Catalog,
    pair: &'a Pair<'a>,
    text: String,
}

impl Explanation<'_> {
    async fn write(mut self) -> Result<String, String> {
        let Pair { table, access, .. } = self.pair;
        self.line(0, format!("role {}", self.pair.claims.role));
        self.line(0, grants(table, access));
        let of_database = Source {
            title: "row-level security",
            rows: &access.rows,
            policies: &table.policies,
            lifted: if table.rls {
                "does not apply to this role"
            } else {
                "is off"
            },
        };
        self.source(&of_database, |rows| Access {
            rows,
            ..unrestricted(access)
        })
        .await?;
        let of_files = Source {
            title: "policy files",
            rows: &access.files,
            policies: &table.file_policies,
            lifted: if table.file_policies.is_empty() {
                "say nothing of this table"
            } else {
                "do not apply to this role"
            },
        };
        self.source(&of_files, |rows| Access {
            files: rows,
            ..unrestricted(access)
        })
        .await?;
        self.text.push('\n');
        for answer in subject::answers(self.rehearsal, self.catalog, self.pair).await? {
            self.line(0, answer.to_string());
        }
        Ok(self.text)
    }

    /// One source of policies. `only` restricts by nothing else.
    async fn source(
        &mut self,
        source: &Source<'_>,
        only: impl Fn(RowAccess) -> Access,
    ) -> Result<(), String> {
        let RowAccess::Policies {
            permissive,
            restrictive,
        } = source.rows
        else {
            self.line(0, format!("{} {}", source.title, source.lifted));
            return Ok(());
        };
        self.line(0, source.title);
        if permissive.is_empty() {
            self.line(1, "no permissive policy is for this role, so it sees no row");
        }
        for (indexes, kind) in [(permissive, "permissive"), (restrictive, "restrictive")] {
            for index in indexes {
                let Some(policy) = source.policies.get(*index) else {
                    continue;
                };
                self.line(1, format!("{kind} policy {}", policy.name));
                self.policy(policy, &only(alone(*index))).await?;
            }
        }
        Ok(())
    }

    async fn policy(&mut self, policy: &Policy, alone: &Access) -> Result<(), String> {
        let using = policy.using.as_deref().unwrap_or("false");
        self.line(
            2,
            format!("using {}", using.split_whitespace().collect::<Vec<_>>().join(" ")),
        );
        let compiled = subject::compiled(self.rehearsal, self.catalog, self.pair, alone).await?;
        let how = compiled
            .policies
            .first()
            .map_or_else(String::new, |policy| policy.verdict.to_string());
        self.line(2, how);
        for Step { depth, text, value } in &compiled.steps {
            self.line(3 + depth, format!("{text}  →  {value}"));
        }
        let verdict = subject::postgres(self.rehearsal, self.catalog, self.pair, alone).await?;
        let said = match verdict {
            Verdict::Allow => "true".to_owned(),
            Verdict::Deny => "false or null".to_owned(),
            Verdict::Failed(failure) => failure.to_string(),
        };
        self.line(2, format!("Postgres: {said}"));
        Ok(())
    }

    fn line(&mut self, depth: usize, text: impl AsRef<str>) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{:1$}{2}", "", depth * 2, text.as_ref());
    }
}

/// Policies of one origin, and what to say where they do not restrict the role.
struct Source<'a> {
    title: &'static str,
    rows: &'a RowAccess,
    policies: &'a [Policy],
    lifted: &'static str,
}

/// Nothing but one policy decides. Of a restrictive one, too: what it says is what is asked.
fn alone(index: usize) -> RowAccess {
    RowAccess::Policies {
        permissive: vec![index],
        restrictive: Vec::new(),
    }
}

fn unrestricted(access: &Access) -> Access {
    Access {
        columns: access.columns.clone(),
        rows: RowAccess::Unrestricted,
        files: RowAccess::Unrestricted,
    }
}

fn grants(table: &Table, access: &Access) -> String {
    let readable: Vec<&str> = table
        .columns
        .iter()
        .zip(&access.columns)
        .filter(|(_, readable)| **readable)
        .map(|(column, _)| &*column.name)
        .collect();
    match readable.len() {
        0 => format!("may select nothing of {}", table.name),
        n if n == table.columns.len() => format!("may select every column of {}", table.name),
        _ => format!("may select of {}: {}", table.name, readable.join(", ")),
    }
}
