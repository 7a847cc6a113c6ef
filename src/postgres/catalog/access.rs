//! What one role may read of the published tables, by the rules of Postgres itself.

use std::collections::{HashMap, HashSet};

use tokio_postgres::{Client, Row};

use super::{Access, Catalog, Policy, RoleAccess, RowAccess, Table, callable};
use crate::postgres::SqlError;

/// One row per table; a role without tables gives one row of NULLs, no role gives none. `has_…_privilege` answers NULL
/// for what has been dropped meanwhile, which counts as no.
///
/// Row security is lifted as `check_enable_rls` lifts it: for a superuser and a BYPASSRLS role itself, and for whoever
/// has the owner's privileges unless it is forced. A policy is for a role as `check_role_for_policy` says: for PUBLIC,
/// or for a role whose privileges this one has by inheritance.
const QUERY: &str = "
WITH role AS (
    SELECT oid, rolsuper OR rolbypassrls AS above_rls FROM pg_catalog.pg_roles WHERE rolname = $1::text
), granted AS (
    SELECT u.relid, pg_catalog.array_agg(
               coalesce(pg_catalog.has_column_privilege(r.oid, u.relid, u.attnum, 'SELECT'), false) ORDER BY u.place
           ) AS columns
      FROM ROWS FROM (unnest($2::oid[]), unnest($3::int2[])) WITH ORDINALITY AS u(relid, attnum, place)
     CROSS JOIN role r
     GROUP BY u.relid
)
SELECT r.above_rls, c.oid AS relid, g.columns,
       coalesce(pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'USAGE'), false) AS schema_usage,
       coalesce(pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'), false) AS owns,
       ARRAY(SELECT p.oid FROM unnest($4::oid[]) AS p(oid)
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
    let (mut relids, mut attnums, mut policy_roles) = (Vec::new(), Vec::new(), HashSet::new());
    for table in catalog.tables.values() {
        for column in &table.columns {
            relids.push(table.oid);
            attnums.push(column.attnum);
        }
        let policies = table.policies.iter().chain(&table.file_policies);
        policy_roles.extend(policies.flat_map(|policy| &policy.roles));
    }
    let policy_roles: Vec<u32> = policy_roles.into_iter().filter(|oid| *oid != 0).collect();
    let rows = client
        .query(QUERY, &[&role, &relids, &attnums, &policy_roles])
        .await
        .map_err(&doing)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut found: HashMap<u32, Rights> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let relid: Option<u32> = row.try_get("relid").map_err(&doing)?;
        if let Some(relid) = relid {
            found.insert(relid, Rights::read(row).map_err(&doing)?);
        }
    }
    let tables = catalog
        .tables
        .values()
        .map(|table| {
            (
                table.oid,
                found
                    .get(&table.oid)
                    .map_or_else(|| nothing(table), |r| r.on(table)),
            )
        })
        .collect();
    let functions = callable::read(client, role, catalog).await?;
    let above_rls = rows
        .first()
        .map_or(Ok(false), |row| row.try_get("above_rls"))
        .map_err(&doing)?;
    Ok(Some(RoleAccess {
        tables,
        functions,
        above_rls,
        channels: None,
    }))
}

impl RoleAccess {
    /// Shows the role no row of a table that has neither row-level security nor a policy from a file, unless it is above
    /// row-level security.
    pub fn require_policies(&mut self, catalog: &Catalog) {
        if self.above_rls {
            return;
        }
        for table in catalog.tables.values().filter(|table| table.has_no_policies()) {
            if let Some(access) = self.tables.get_mut(&table.oid) {
                access.rows = none();
            }
        }
    }
}

/// One row of the answer.
struct Rights {
    above_rls: bool,
    schema_usage: bool,
    owns: bool,
    columns: Vec<bool>,
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

    fn on(&self, table: &Table) -> Access {
        let columns = (0..table.columns.len())
            .map(|i| self.schema_usage && self.columns.get(i).copied().unwrap_or(false))
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
