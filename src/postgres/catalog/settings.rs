//! What decides how names in a body are read: the session's settings and the state of the schema. And what else decides
//! who may read what: the state of the roles.

use tokio_postgres::Transaction;

use crate::postgres::SqlError;

/// As of one reading. What was found out under equal settings still holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// `search_path` as it is set for the session.
    pub(super) path: String,
    /// A digest of everything that has a name, with its owner and its grants.
    pub(super) schema: String,
    /// Temporary views can be made, and strings are read as we read them.
    pub(super) can_print: bool,
}

/// Every change of a catalog's row gives it another `xmin`. Temporary objects come and go, and are not named.
const QUERY: &str = "
WITH space AS (
    SELECT oid, xmin FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_' AND nspname <> 'pg_toast'
), named(class, oid, place, version) AS (
    SELECT 1, oid, 0, xmin FROM space
  UNION ALL
    SELECT 2, p.oid, 0, p.xmin FROM pg_catalog.pg_proc p JOIN space s ON s.oid = p.pronamespace
  UNION ALL
    SELECT 3, t.oid, 0, t.xmin FROM pg_catalog.pg_type t JOIN space s ON s.oid = t.typnamespace
  UNION ALL
    SELECT 4, o.oid, 0, o.xmin FROM pg_catalog.pg_operator o JOIN space s ON s.oid = o.oprnamespace
  UNION ALL
    SELECT 5, c.oid, 0, c.xmin FROM pg_catalog.pg_class c JOIN space s ON s.oid = c.relnamespace
     WHERE c.relkind <> 'i'
  UNION ALL
    SELECT 6, c.oid, a.attnum, a.xmin FROM pg_catalog.pg_class c JOIN space s ON s.oid = c.relnamespace
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
     WHERE c.relkind <> 'i' AND a.attnum > 0
  UNION ALL
    SELECT 7, oid, 0, xmin FROM pg_catalog.pg_cast
  UNION ALL
    SELECT 8, oid, 0, xmin FROM pg_catalog.pg_collation
)
SELECT pg_catalog.current_setting('search_path') AS path,
       (SELECT pg_catalog.count(*) || ' ' || pg_catalog.sum(pg_catalog.hashtextextended(
                   pg_catalog.concat_ws(' ', class, oid, place, version), 0)) FROM named) AS schema,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')
           AND NOT pg_catalog.pg_is_in_recovery()
           AND pg_catalog.current_setting('standard_conforming_strings') = 'on' AS can_print";

pub(super) async fn read(transaction: &Transaction<'_>) -> Result<Settings, SqlError> {
    let doing = SqlError::during("reading the session's settings");
    let row = transaction.query_one(QUERY, &[]).await.map_err(&doing)?;
    let settings = || {
        Ok(Settings {
            path: row.try_get("path")?,
            schema: row.try_get("schema")?,
            can_print: row.try_get("can_print")?,
        })
    };
    settings().map_err(doing)
}

/// The view does not show a row's `xmin`, so what it shows stands for the row.
const ROLES: &str = "
SELECT pg_catalog.concat_ws(' ',
    (SELECT pg_catalog.sum(pg_catalog.hashtextextended(
                pg_catalog.concat_ws(' ', oid, rolname, rolsuper, rolinherit, rolbypassrls), 0))
       FROM pg_catalog.pg_roles),
    (SELECT pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', roleid, member, xmin), 0))
       FROM pg_catalog.pg_auth_members))";

/// A digest of all roles and their memberships.
pub(super) async fn roles(transaction: &Transaction<'_>) -> Result<String, SqlError> {
    let doing = SqlError::during("reading the roles");
    let row = transaction.query_one(ROLES, &[]).await.map_err(&doing)?;
    row.try_get(0).map_err(doing)
}
