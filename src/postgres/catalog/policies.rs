//! Row-level policies, as `pg_policy` has them.

use std::collections::HashMap;

use tokio_postgres::{Row, Transaction};

use super::whole_row::mentions_whole_row;
use super::{Policy, Table};
use crate::postgres::SqlError;

/// What is done to a row that policies are asked about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    /// By USING of the policies FOR SELECT and FOR ALL.
    Select,
    /// By WITH CHECK of the policies FOR INSERT and FOR ALL, or USING of one FOR ALL that has no other (`QUAL_FOR_WCO`
    /// of `add_with_check_options`, which passes over a policy without either).
    Insert,
}

impl Command {
    /// `pg_policy.polcmd`
    fn code(self) -> &'static str {
        match self {
            Self::Select => "r",
            Self::Insert => "a",
        }
    }
}

/// Of tables ($1) for a command ($2), or one of them alone ($3). Without its text ($4) a policy is like one that lets nothing
/// through.
const POLICIES: &str = "SELECT p.oid, p.polrelid, p.polname::text AS name, p.polpermissive, p.polroles,
        CASE WHEN $4::bool THEN pg_catalog.pg_get_expr(e.tree, p.polrelid) END AS using,
        e.tree IS NOT NULL AS has_using,
        ARRAY(SELECT DISTINCT d.refobjsubid
                FROM pg_catalog.pg_depend d
               WHERE d.classid = 'pg_catalog.pg_policy'::regclass AND d.objid = p.oid
                 AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = p.polrelid
                 AND d.refobjsubid <> 0
               ORDER BY 1) AS columns,
        ARRAY(SELECT d.refobjid
                FROM pg_catalog.pg_depend d
               WHERE d.classid = 'pg_catalog.pg_policy'::regclass AND d.objid = p.oid
                 AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> p.polrelid
              UNION
              SELECT found[1]::oid
                FROM pg_catalog.regexp_matches(e.tree::text, ':relid (\\d+)', 'g') AS found
               WHERE found[1] <> '0'
               ORDER BY 1) AS relations,
        ARRAY(SELECT DISTINCT f.oid
                FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc f ON f.oid = d.refobjid
               WHERE d.classid = 'pg_catalog.pg_policy'::regclass AND d.objid = p.oid
                 AND d.refclassid = 'pg_catalog.pg_proc'::regclass
                 AND f.pronamespace <> 'pg_catalog'::regnamespace
               ORDER BY 1) AS functions,
        pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS own_name
   FROM pg_catalog.pg_policy p
   JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  CROSS JOIN LATERAL (
      SELECT CASE WHEN $2::text = 'a' THEN coalesce(p.polwithcheck, p.polqual) ELSE p.polqual END AS tree
  ) e
  WHERE p.polrelid = ANY ($1::oid[]) AND p.polcmd::text IN ($2::text, '*') AND coalesce(p.oid = $3::oid, true)
  ORDER BY p.polrelid, p.polname";

/// `statement_too_complex`: an expression may be nested so deep that Postgres can take it in, and not print it.
const TOO_COMPLEX: &str = "54001";

/// Reads the policies for a command on these tables into them.
///
/// What subqueries read is taken from the expression's tree as well: `pg_depend` is silent about the system's catalogs.
pub(super) async fn read(
    transaction: &Transaction<'_>,
    tables: &mut HashMap<u32, Table>,
    command: Command,
) -> Result<(), SqlError> {
    let doing = SqlError::during("reading the row-level policies");
    let asking = Asking {
        transaction,
        oids: tables.keys().copied().collect(),
        command,
    };
    for row in &asking.all().await? {
        let policy = policy(row).map_err(&doing)?;
        let oid: u32 = row.try_get("polrelid").map_err(&doing)?;
        if let Some(table) = tables.get_mut(&oid) {
            table.policies.push(policy);
        }
    }
    Ok(())
}

/// A policy that cannot be printed must not keep the others from being read.
struct Asking<'a> {
    transaction: &'a Transaction<'a>,
    oids: Vec<u32>,
    command: Command,
}

impl Asking<'_> {
    async fn all(&self) -> Result<Vec<Row>, SqlError> {
        if let Some(rows) = self.printed(None).await? {
            return Ok(rows);
        }
        let mut rows = self.ask(None, false).await?;
        for row in &mut rows {
            let oid: u32 = row.try_get("oid").map_err(SqlError::during("reading a policy"))?;
            match self.printed(Some(oid)).await? {
                Some(printed) => {
                    if let Some(printed) = printed.into_iter().next() {
                        *row = printed;
                    }
                }
                None => {
                    let name: Option<&str> = row.try_get("name").ok();
                    let table: Option<&str> = row.try_get("own_name").ok();
                    tracing::warn!(
                        policy = name,
                        table,
                        "the policy is too complex for Postgres to print (max_stack_depth): it lets nothing through"
                    );
                }
            }
        }
        Ok(rows)
    }

    /// `None` if one of them cannot be.
    async fn printed(&self, one: Option<u32>) -> Result<Option<Vec<Row>>, SqlError> {
        let doing = SqlError::during("reading the row-level policies");
        let then = |statement| self.transaction.batch_execute(statement);
        then("SAVEPOINT policies").await.map_err(&doing)?;
        match self.ask(one, true).await {
            Ok(rows) => {
                then("RELEASE policies").await.map_err(&doing)?;
                Ok(Some(rows))
            }
            Err(error) if error.sqlstate() == Some(TOO_COMPLEX) => {
                then("ROLLBACK TO policies; RELEASE policies")
                    .await
                    .map_err(&doing)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, one: Option<u32>, printed: bool) -> Result<Vec<Row>, SqlError> {
        self.transaction
            .query(POLICIES, &[&self.oids, &self.command.code(), &one, &printed])
            .await
            .map_err(SqlError::during("reading the row-level policies"))
    }
}

fn policy(row: &Row) -> Result<Policy, tokio_postgres::Error> {
    let using: Option<String> = row.try_get("using")?;
    let has_using: bool = row.try_get("has_using")?;
    // An expression whose text could not be had must not read as the absence of one.
    let using = using.or_else(|| has_using.then(|| "false".to_owned()));
    let read: Vec<i32> = row.try_get("columns")?;
    let relations = relations(
        row.try_get("relations")?,
        row.try_get("polrelid")?,
        row.try_get("own_name")?,
        using.as_deref(),
    );
    // System columns are recorded under their negative numbers; a reference to the row as a whole is not recorded.
    let system = read.iter().any(|attnum| *attnum < 0);
    Ok(Policy {
        name: row.try_get("name")?,
        permissive: row.try_get("polpermissive")?,
        roles: row.try_get("polroles")?,
        columns: read
            .iter()
            .filter_map(|attnum| i16::try_from(*attnum).ok())
            .filter(|attnum| *attnum > 0)
            .collect(),
        whole_row: system || using.as_deref().is_some_and(mentions_whole_row),
        using,
        relations,
        functions: row.try_get("functions")?,
    })
}

/// `pg_depend` does not tell a table that a subquery reads again from the table the policy is on; its qualified name,
/// which stands nowhere else in the text, does. A literal that says the same makes it one relation more, which is harmless.
pub(super) fn relations(others: Vec<u32>, own: u32, own_name: &str, using: Option<&str>) -> Vec<u32> {
    let mut relations = others;
    relations.retain(|oid| *oid != own);
    if using.is_some_and(|using| using.contains(own_name)) {
        relations.push(own);
    }
    relations
}
