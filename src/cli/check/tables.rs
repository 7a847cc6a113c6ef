//! The published tables and what each role could see of them.

use tokio_postgres::Client;

use super::report::{RoleView, TableView};
use super::{CheckOptions, Level, Report, channels};
use crate::policy::listing;
use crate::postgres::catalog::{self, Access, Policy, ReplicaIdentity, RoleAccess, RowAccess, Table};
use crate::postgres::{SqlError, quote_identifier, quote_table};

/// Adds a view per table, and a finding where one needs attention.
pub(super) async fn views(
    client: &mut Client,
    options: &CheckOptions,
    report: &mut Report,
) -> Result<(), SqlError> {
    let catalog = super::files::catalog(client, options, report).await?;
    let exists = catalog::publication(client, &options.publication)
        .await?
        .is_some();
    let name = &options.publication;
    match catalog.tables.len() {
        0 if exists => report.add(
            Level::Warning,
            "tables",
            format!("{name} has no tables, so nothing will be sent"),
            format!(
                "ALTER PUBLICATION {} ADD TABLE public.your_table;",
                quote_identifier(name)
            ),
        ),
        0 => {}
        1 => report.add(Level::Ok, "tables", format!("1 in {name}"), None),
        n => report.add(Level::Ok, "tables", format!("{n} in {name}"), None),
    }
    let mut roles = Vec::new();
    for role in &options.roles {
        if let Some(mut access) = catalog::role_access(client, role, &catalog).await? {
            if options.policies_required {
                access.require_policies(&catalog);
            }
            roles.push((role.as_str(), access));
        }
    }
    let mut tables: Vec<_> = catalog.tables.values().collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    let listing = listing::read(client, &catalog).await?;
    for (table, listed) in tables.into_iter().zip(listing.tables) {
        judge(table, &roles, options, report);
        report.tables.push(TableView {
            name: table.name.to_string(),
            traits: traits(table),
            policies: listed
                .policies
                .into_iter()
                .map(|policy| (policy.name, policy.judged))
                .collect(),
            roles: roles
                .iter()
                .filter_map(|(role, access)| {
                    Some(RoleView {
                        role: (*role).to_owned(),
                        sees: sees(table, access.tables.get(&table.oid)?),
                    })
                })
                .collect(),
        });
    }
    if let (Some(channels), Some(listed)) = (&catalog.channels, listing.channels) {
        channels::judge(channels, &roles, options, report);
        report.channels = Some(channels::view(channels, listed, &roles));
    }
    Ok(())
}

fn judge(table: &Table, roles: &[(&str, RoleAccess)], options: &CheckOptions, report: &mut Report) {
    let (name, quoted) = (&table.name, quote_table(&table.name));
    if table.primary_key.is_empty() {
        report.add(
            Level::Warning,
            "primary key",
            format!("{name} has none; subscribers get error 400 instead of new and changed rows"),
            format!("ALTER TABLE {quoted} ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;"),
        );
    }
    let identified = match table.replica_identity {
        ReplicaIdentity::Default => !table.primary_key.is_empty(),
        ReplicaIdentity::Nothing => false,
        ReplicaIdentity::Index | ReplicaIdentity::Full => true,
    };
    if !identified && (table.published.update || table.published.delete) {
        report.add(
            Level::Warning,
            "replica identity",
            format!("{name} has none; postgres refuses its updates and deletes while they are published"),
            format!("ALTER TABLE {quoted} REPLICA IDENTITY FULL;"),
        );
    }
    let enable = format!("ALTER TABLE {quoted} ENABLE ROW LEVEL SECURITY;");
    if table.has_no_policies() && options.policies_required {
        report.add(
            Level::Warning,
            "row security",
            format!(
                "{name} has no row-level security and no policy file; policy.required shows it to nobody"
            ),
            enable,
        );
        return;
    }
    // A role that is above row security anyway says nothing about the table.
    let open_to: Vec<&str> = roles
        .iter()
        .filter(|(role, access)| {
            *role != "service_role"
                && access
                    .tables
                    .get(&table.oid)
                    .is_some_and(|access| access.columns.contains(&true))
        })
        .map(|(role, _)| *role)
        .collect();
    if table.has_no_policies() && !open_to.is_empty() {
        report.add(
            Level::Warning,
            "row security",
            format!(
                "{name} has it off and no policy file; every row goes to {}",
                open_to.join(" and ")
            ),
            enable,
        );
    }
}

fn traits(table: &Table) -> String {
    let key: Vec<&str> = table
        .primary_key
        .iter()
        .filter_map(|i| Some(&*table.columns.get(*i)?.name))
        .collect();
    let key = if key.is_empty() {
        "no primary key".to_owned()
    } else {
        format!("key ({})", key.join(", "))
    };
    let identity = match table.replica_identity {
        ReplicaIdentity::Default => "default",
        ReplicaIdentity::Index => "index",
        ReplicaIdentity::Full => "full",
        ReplicaIdentity::Nothing => "nothing",
    };
    let security = match (table.rls, table.force_rls) {
        (false, _) => "off",
        (true, false) => "on",
        (true, true) => "forced",
    };
    let partitions = match (table.partitioned, table.stored_in.len()) {
        (false, _) => String::new(),
        (true, 1) => "1 partition, ".to_owned(),
        (true, n) => format!("{n} partitions, "),
    };
    format!("{partitions}{key}, replica identity {identity}, row security {security}")
}

fn sees(table: &Table, access: &Access) -> String {
    let hidden: Vec<&str> = table
        .columns
        .iter()
        .zip(&access.columns)
        .filter(|(_, readable)| !**readable)
        .map(|(column, _)| &*column.name)
        .collect();
    if hidden.len() == table.columns.len() {
        return "nothing: it may not select".to_owned();
    }
    let mut text = rows(&table.policies, &access.rows);
    if access.files != RowAccess::Unrestricted {
        text.push_str("; policy files: ");
        text.push_str(&rows(&table.file_policies, &access.files));
    }
    if hidden.is_empty() {
        return text;
    }
    text.push_str("; hidden columns: ");
    text.push_str(&hidden.join(", "));
    let key_hidden = table
        .primary_key
        .iter()
        .any(|i| access.columns.get(*i) == Some(&false));
    if key_hidden {
        text.push_str("; error 401 instead of rows, as the key is among them");
    }
    text
}

pub(super) fn rows(policies: &[Policy], rows: &RowAccess) -> String {
    let (permissive, restrictive) = match rows {
        RowAccess::Unrestricted => return "all rows".to_owned(),
        RowAccess::Policies { permissive, .. } if permissive.is_empty() => {
            return "no rows: no policy lets it".to_owned();
        }
        RowAccess::Policies {
            permissive,
            restrictive,
        } => (permissive, restrictive),
    };
    let names = |indexes: &[usize]| {
        let names: Vec<&str> = indexes
            .iter()
            .filter_map(|i| Some(policies.get(*i)?.name.as_str()))
            .collect();
        names.join(", ")
    };
    let count = permissive.len() + restrictive.len();
    let mut text = format!(
        "rows by {count} polic{} ({}",
        if count == 1 { "y" } else { "ies" },
        names(permissive)
    );
    if !restrictive.is_empty() {
        text.push_str("; narrowed by ");
        text.push_str(&names(restrictive));
    }
    text.push(')');
    text
}
