//! Every policy of every published table and on private channels, for people and for tools.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use serde::Serialize;
use tokio_postgres::Client;

use super::Program;
use crate::postgres::SqlError;
use crate::postgres::catalog::{Access, Catalog, Channels, Policy, RowAccess, Table};

/// The published tables by name, each with its policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The tables.
    pub tables: Vec<TableListing>,
    /// Who may use private channels, if the table is there that says so.
    pub channels: Option<ChannelListing>,
}

/// The policies on `realtime.messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelListing {
    /// Row-level security is enabled.
    pub row_level_security: bool,
    /// Who may join and listen: for SELECT, by USING. Those of files narrow it.
    pub read: Vec<PolicyListing>,
    /// Who may send: for INSERT, by WITH CHECK.
    pub write: Vec<PolicyListing>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableListing {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Row-level security is enabled.
    pub row_level_security: bool,
    /// The database's, then those of files. While row-level security is off, those of the database restrict nobody.
    pub policies: Vec<PolicyListing>,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyListing {
    /// Its name.
    pub name: String,
    /// `database` or `file`.
    pub source: &'static str,
    /// PERMISSIVE (true) or RESTRICTIVE (false).
    pub permissive: bool,
    /// Names of the roles it is for; `public` is everybody.
    pub roles: Vec<String>,
    /// Its expression, as Postgres prints it (of one for INSERT, WITH CHECK).
    pub using: Option<String>,
    /// How it is judged, for a role that may call every function: `compiled`, or `asks Postgres` and why.
    pub judged: String,
}

/// Puts the list together, with the names of the roles.
///
/// # Errors
/// The database did not answer.
pub async fn read(client: &Client, catalog: &Catalog) -> Result<Listing, SqlError> {
    let doing = SqlError::during("reading the names of roles");
    let policies = |table: &Table| -> Vec<Policy> {
        let all = table.policies.iter().chain(&table.file_policies);
        all.cloned().collect()
    };
    let channels = catalog.channels.iter().flat_map(Channels::sides);
    let oids: Vec<u32> = catalog
        .tables
        .values()
        .chain(channels)
        .flat_map(|table| policies(table))
        .flat_map(|policy| policy.roles)
        .collect();
    let rows = client
        .query(
            "select oid, rolname::text from pg_catalog.pg_roles where oid = any ($1::oid[])",
            &[&oids],
        )
        .await
        .map_err(&doing)?;
    let mut names: HashMap<u32, String> = HashMap::from([(0, "public".to_owned())]);
    for row in &rows {
        names.insert(row.try_get(0).map_err(&doing)?, row.try_get(1).map_err(&doing)?);
    }
    Ok(Listing::new(catalog, &names))
}

impl Listing {
    fn new(catalog: &Catalog, roles: &HashMap<u32, String>) -> Self {
        let mut tables: Vec<_> = catalog.tables.values().collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        let tables = tables
            .into_iter()
            .map(|table| TableListing {
                schema: table.name.schema.to_string(),
                table: table.name.table.to_string(),
                row_level_security: table.rls,
                policies: of(table, catalog, roles),
            })
            .collect();
        let channels = catalog.channels.as_ref().map(|channels| ChannelListing {
            row_level_security: channels.read.rls,
            read: of(&channels.read, catalog, roles),
            write: of(&channels.write, catalog, roles),
        });
        Self { tables, channels }
    }

    /// For a terminal, with a line break at its end.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "{}.{}  row security {}, {}",
                table.schema,
                table.table,
                on(table.row_level_security),
                count(&table.policies)
            );
            for policy in &table.policies {
                policy.render("using", &mut text);
            }
        }
        if let Some(channels) = &self.channels {
            channels.render(&mut text);
        }
        text
    }
}

impl ChannelListing {
    fn render(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "private channels (realtime.messages)  row security {}, {} for reading, {} for writing",
            on(self.row_level_security),
            count(&self.read),
            count(&self.write)
        );
        for policy in &self.read {
            policy.render("read using", text);
        }
        for policy in &self.write {
            policy.render("write with check", text);
        }
    }
}

fn on(row_level_security: bool) -> &'static str {
    if row_level_security { "on" } else { "off" }
}

fn count(policies: &[PolicyListing]) -> String {
    match policies.len() {
        1 => "1 policy".to_owned(),
        n => format!("{n} policies"),
    }
}

impl PolicyListing {
    fn render(&self, clause: &str, text: &mut String) {
        let Self {
            name, source, judged, ..
        } = self;
        let kind = if self.permissive {
            "permissive"
        } else {
            "restrictive"
        };
        let using = self
            .using
            .as_deref()
            .unwrap_or("nothing: it lets nothing through and restricts nothing");
        let using = using.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "  {name} ({source}, {kind}, to {})", self.roles.join(", "));
        let _ = writeln!(text, "    {clause} {using}");
        let _ = writeln!(text, "    {judged}");
    }
}

fn of(table: &Table, catalog: &Catalog, roles: &HashMap<u32, String>) -> Vec<PolicyListing> {
    let callable: HashSet<u32> = catalog.functions.keys().copied().collect();
    let database = table.policies.iter().enumerate();
    let files = table.file_policies.iter().enumerate();
    let sources = database
        .map(|(i, policy)| ("database", policy, only(i), RowAccess::Unrestricted))
        .chain(files.map(|(i, policy)| ("file", policy, RowAccess::Unrestricted, only(i))));
    sources
        .map(|(source, policy, rows, files)| {
            let columns = Vec::new();
            let access = Access { columns, rows, files };
            let program = Program::new(table, &access, &callable, catalog);
            PolicyListing {
                name: policy.name.clone(),
                source,
                permissive: policy.permissive,
                roles: policy
                    .roles
                    .iter()
                    .map(|oid| roles.get(oid).cloned().unwrap_or_else(|| oid.to_string()))
                    .collect(),
                using: policy.using.clone(),
                judged: program
                    .policies()
                    .first()
                    .map_or_else(String::new, |policy| policy.verdict.to_string()),
            }
        })
        .collect()
}

/// Nothing but one policy applies.
fn only(index: usize) -> RowAccess {
    RowAccess::Policies {
        permissive: vec![index],
        restrictive: Vec::new(),
    }
}
