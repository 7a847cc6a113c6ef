//! What one role may read of the published tables, and do on private channels, by the rules of Postgres itself.

use std::collections::{HashMap, HashSet};

use tokio_postgres::{Client, Row};

use super::{Access, Catalog, ChannelAccess, Channels, Policy, RoleAccess, RowAccess, Table, callable};
use crate::postgres::SqlError;

/// One row per table and privilege that is asked for; a role without tables gives one row of NULLs, no role gives none. `has_…_privilege` answers NULL
/// for what has been dropped meanwhile, which counts as no, and is told.
///
/// Row security is lifted as `check_enable_rls` lifts it: for a superuser and a BYPASSRLS role itself, and for whoever
/// has the owner's privileges unless it is forced. A policy is for a role as `check_role_for_policy` says: for PUBLIC,
/// or for a role whose privileges this one has by inheritance.
const QUERY: &str = "
WITH role AS (
    SELECT oid, rolsuper OR rolbypassrls AS above_rls FROM pg_catalog.pg_roles WHERE rolname = $1::text
), granted AS (
    SELECT u.asked, u.relid, pg_catalog.array_agg(
               pg_catalog.has_column_privilege(r.oid, u.relid, u.attnum, u.privilege) ORDER BY u.place
           ) AS columns
      FROM ROWS FROM (unnest($2::int4[]), unnest($3::oid[]), unnest($4::int2[]), unnest($5::text[]))
           WITH ORDINALITY AS u(asked, relid, attnum, privilege, place)
     CROSS JOIN role r
     GROUP BY u.asked, u.relid
)
SELECT r.above_rls, CASE WHEN c.oid IS NOT NULL THEN g.asked END AS asked, g.columns,
       coalesce(pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'USAGE'), false) AS schema_usage,
       coalesce(pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'), false) AS owns,
       ARRAY(SELECT p.oid FROM unnest($6::oid[]) AS p(oid)
              WHERE pg_catalog.pg_has_role(r.oid, p.oid, 'USAGE')) AS acts_as
  FROM role r
  LEFT JOIN granted g ON true
  LEFT JOIN pg_catalog.pg_class c ON c.oid = g.relid";

/// Reads what a role may see, for every table of the catalog, in one query. `None` if there is no such role.
///
/// # Errors
/// The database did not answer.
pub async fn role_access(
    client: &Client,
    role: &str,
    catalog: &Catalog,
) -> Result<Option<RoleAccess>, SqlError> {
    let doing = SqlError::during("reading what a role may see");
    let mut asked = Asked::default();
    for table in catalog.tables.values() {
        asked.add(table, SELECT);
    }
    if let Some(channels) = &catalog.channels {
        asked.add(&channels.read, SELECT);
        asked.add(&channels.write, INSERT);
    }
    let policy_roles: Vec<u32> = asked
        .policy_roles
        .iter()
        .copied()
        .filter(|oid| *oid != 0)
        .collect();
    let rows = client
        .query(
            QUERY,
            &[
                &role,
                &asked.numbers,
                &asked.relids,
                &asked.attnums,
                &asked.privileges,
                &policy_roles,
            ],
        )
        .await
        .map_err(&doing)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut found: HashMap<(u32, &str), Rights> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let number: Option<i32> = row.try_get("asked").map_err(&doing)?;
        let key = number.and_then(|number| asked.keys.get(usize::try_from(number).ok()?));
        if let Some(key) = key {
            found.insert(*key, Rights::read(row).map_err(&doing)?);
        }
    }
    let gone = |key| found.get(key).is_none_or(Rights::lack_a_column);
    let outdated = asked.keys.iter().any(gone);
    let access = |table: &Table, privilege| match found.get(&(table.oid, privilege)) {
        Some(rights) => rights.on(table),
        None => nothing(table),
    };
    let tables = catalog
        .tables
        .values()
        .map(|table| (table.oid, access(table, SELECT)))
        .collect();
    let channels = catalog.channels.as_ref().map(|channels| ChannelAccess {
        read: only_with(Channels::SELECTED, &channels.read, access(&channels.read, SELECT)),
        write: only_with(
            Channels::INSERTED,
            &channels.write,
            access(&channels.write, INSERT),
        ),
    });
    let functions = callable::read(client, role, catalog).await?;
    let above_rls = rows
        .first()
        .map_or(Ok(false), |row| row.try_get("above_rls"))
        .map_err(&doing)?;
    Ok(Some(RoleAccess {
        tables,
        functions,
        above_rls,
        channels,
        outdated,
    }))
}

impl RoleAccess {
    /// Shows the role no row of a table that has neither row-level security nor a policy from a file, and lets it into no
    /// private channel if that is so of the table of channels, unless it is above row-level security.
    pub fn require_policies(&mut self, catalog: &Catalog) {
        if self.above_rls {
            return;
        }
        for table in catalog.tables.values().filter(|table| table.has_no_policies()) {
            if let Some(access) = self.tables.get_mut(&table.oid) {
                access.rows = none();
            }
        }
        let (Some(channels), Some(access)) = (&catalog.channels, &mut self.channels) else {
            return;
        };
        for (table, access) in [
            (&channels.read, &mut access.read),
            (&channels.write, &mut access.write),
        ] {
            if table.has_no_policies() {
                access.rows = none();
            }
        }
    }
}

/// The same if these columns are granted, and no row otherwise.
fn only_with(columns: &[&str], table: &Table, access: Access) -> Access {
    if access.grants(table, columns) {
        return access;
    }
    Access {
        rows: none(),
        ..access
    }
}

const SELECT: &str = "SELECT";
const INSERT: &str = "INSERT";

/// The parameters of the query. A table is asked about once for each privilege: the one of channels may be published
/// as well.
#[derive(Default)]
struct Asked<'a> {
    /// By number.
    keys: Vec<(u32, &'a str)>,
    seen: HashSet<(u32, &'a str)>,
    numbers: Vec<i32>,
    relids: Vec<u32>,
    attnums: Vec<i16>,
    privileges: Vec<&'a str>,
    policy_roles: HashSet<u32>,
}

impl<'a> Asked<'a> {
    fn add(&mut self, table: &Table, privilege: &'a str) {
        let policies = table.policies.iter().chain(&table.file_policies);
        self.policy_roles
            .extend(policies.flat_map(|policy| &policy.roles));
        if table.columns.is_empty() {
            return;
        }
        let key = (table.oid, privilege);
        // There are never as many.
        let Ok(number) = i32::try_from(self.keys.len()) else {
            return;
        };
        if !self.seen.insert(key) {
            return;
        }
        self.keys.push(key);
        for column in &table.columns {
            self.numbers.push(number);
            self.relids.push(table.oid);
            self.attnums.push(column.attnum);
            self.privileges.push(privilege);
        }
    }
}

/// One row of the answer.
struct Rights {
    above_rls: bool,
    schema_usage: bool,
    owns: bool,
    /// None for what is gone.
    columns: Vec<Option<bool>>,
    acts_as: Vec<u32>,
}

impl Rights {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            above_rls: row.try_get("above_rls")?,
            schema_usage: row.try_get("schema_usage")?,
            owns: row.try_get("owns")?,
            columns: row.try_get("columns")?,
            acts_as: row.try_get("acts_as")?,
        })
    }

    fn lack_a_column(&self) -> bool {
        self.columns.contains(&None)
    }

    fn on(&self, table: &Table) -> Access {
        let granted = |i| self.columns.get(i).copied().flatten().unwrap_or(false);
        let columns = (0..table.columns.len())
            .map(|i| self.schema_usage && granted(i))
            .collect();
        let lifted = !table.rls || self.above_rls || (self.owns && !table.force_rls);
        let rows = if lifted {
            RowAccess::Unrestricted
        } else {
            self.policies(&table.policies)
        };
        // Files narrow what the owner may see, too.
        let files = if table.file_policies.is_empty() || self.above_rls {
            RowAccess::Unrestricted
        } else {
            self.policies(&table.file_policies)
        };
        Access { columns, rows, files }
    }

    fn policies(&self, policies: &[Policy]) -> RowAccess {
        let applies = |roles: &[u32]| roles.iter().any(|oid| *oid == 0 || self.acts_as.contains(oid));
        let (mut permissive, mut restrictive) = (Vec::new(), Vec::new());
        for (i, policy) in policies.iter().enumerate() {
            // One without USING allows no row (`add_security_quals` passes over it), and restricts none.
            if policy.using.is_some() && applies(&policy.roles) {
                let list = if policy.permissive {
                    &mut permissive
                } else {
                    &mut restrictive
                };
                list.push(i);
            }
        }
        // What one of them raises is only seen where none that Postgres asks before it is true, and it asks them from
        // the last name to the first (`RelationBuildRowSecurity` puts each in front of those before it).
        permissive.reverse();
        RowAccess::Policies {
            permissive,
            restrictive,
        }
    }
}

/// For a table that is gone, or has no columns to read.
fn nothing(table: &Table) -> Access {
    Access {
        columns: vec![false; table.columns.len()],
        rows: none(),
        files: none(),
    }
}

fn none() -> RowAccess {
    RowAccess::Policies {
        permissive: Vec::new(),
        restrictive: Vec::new(),
    }
}
