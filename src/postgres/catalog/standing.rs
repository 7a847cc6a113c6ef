//! What a role is and may do, as far as subqueries of policies find other rows by it.

use tokio_postgres::Client;

use super::Catalog;
use crate::postgres::SqlError;

/// Roles and their memberships fire no event trigger, nor does REASSIGN OWNED, and where there is none nothing tells of
/// a grant: a digest tells whether any of it changed. Memberships are rows whose columns depend on the version.
const QUERY: &str = "
WITH RECURSIVE acting(oid) AS (
    SELECT oid FROM pg_catalog.pg_roles WHERE rolname::text = ANY ($1::text[])
  UNION
    SELECT m.roleid FROM acting a JOIN pg_catalog.pg_auth_members m ON m.member = a.oid
), facts(fact) AS (
    SELECT pg_catalog.concat_ws(' ', 'role', r.oid, r.rolsuper, r.rolinherit, r.rolbypassrls)
      FROM acting a JOIN pg_catalog.pg_roles r ON r.oid = a.oid
  UNION ALL
    SELECT pg_catalog.concat_ws(' ', 'member', m::text)
      FROM acting a JOIN pg_catalog.pg_auth_members m ON m.member = a.oid
  UNION ALL
    SELECT pg_catalog.concat_ws(' ', 'table', c.oid, c.relowner, c.relacl::text)
      FROM pg_catalog.pg_class c WHERE c.oid = ANY ($2::oid[])
  UNION ALL
    SELECT pg_catalog.concat_ws(' ', 'column', a.attrelid, a.attnum, a.attacl::text)
      FROM pg_catalog.pg_attribute a WHERE a.attrelid = ANY ($2::oid[]) AND a.attacl IS NOT NULL
  UNION ALL
    SELECT pg_catalog.concat_ws(' ', 'function', p.oid, p.proowner, p.proacl::text)
      FROM pg_catalog.pg_proc p WHERE p.oid = ANY ($3::oid[])
  UNION ALL
    SELECT pg_catalog.concat_ws(' ', 'schema', n.oid, n.nspowner, n.nspacl::text)
      FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_(toast_)?temp_'
)
SELECT coalesce(pg_catalog.sum(pg_catalog.hashtextextended(fact, 0)) % 9223372036854775807, 0)::int8 FROM facts";

/// The digest for a role and those in whose place its subqueries read (owners of SECURITY DEFINER functions).
pub(super) async fn read(client: &Client, role: &str, catalog: &Catalog) -> Result<i64, SqlError> {
    let doing = SqlError::during("reading what a role is");
    let owners = catalog
        .functions
        .values()
        .filter(|function| function.security_definer);
    let readers: Vec<&str> = owners.map(|function| &*function.owner).chain([role]).collect();
    let published = catalog.tables.values().map(|table| table.oid);
    let tables: Vec<u32> = catalog.others.keys().copied().chain(published).collect();
    let functions: Vec<u32> = catalog.functions.keys().copied().collect();
    let row = client
        .query_one(QUERY, &[&readers, &tables, &functions])
        .await
        .map_err(&doing)?;
    row.try_get(0).map_err(doing)
}
