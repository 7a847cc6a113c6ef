//! Why a table that somebody names is not among the published ones, as far as that somebody may know of it.

use crate::change::TableName;
use crate::postgres::catalog::{Catalog, RoleAccess};
use crate::protocol::Binding;
use crate::subscription::{self, Refusal};
use deadpool_postgres::Object;

/// The relation if the role can select from it: for anybody else it is as if there were none.
const QUERY: &str = "
    SELECT c.relkind::text AS kind, c.relpersistence::text AS persistence
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1::text AND c.relname = $2::text
       AND pg_catalog.has_schema_privilege($3::text, n.oid, 'USAGE')
       AND pg_catalog.has_any_column_privilege($3::text, c.oid, 'SELECT')";

/// What more there is to say to the first of these bindings that names what is not published. `None` if nothing is known.
pub(super) async fn explain(
    client: &Object,
    bindings: &[Binding],
    catalog: &Catalog,
    (role, access): (&str, &RoleAccess),
) -> Option<Refusal> {
    let unpublished = |binding: &&Binding| {
        let resolved = subscription::resolve(binding, &Default::default(), catalog, access);
        matches!(resolved, Err(Refusal::NotPublished(_)))
    };
    let binding = bindings.iter().find(unpublished)?;
    let name = TableName::new(
        binding.schema.as_deref().unwrap_or("public"),
        binding.table.as_deref()?,
    );
    let row = client
        .query_opt(QUERY, &[&&*name.schema, &&*name.table, &role])
        .await;
    // Nothing depends on it but a text.
    let row = row.ok().flatten()?;
    let (kind, persistence): (String, String) = (row.try_get("kind").ok()?, row.try_get("persistence").ok()?);
    let why = match (kind.as_str(), persistence.as_str()) {
        ("v" | "m", _) => format!("{name} is a view: only tables have changes"),
        ("f", _) => format!("{name} is a foreign table: its changes are not in the WAL"),
        ("r" | "p", "u") => format!("{name} is unlogged: its changes are not in the WAL"),
        ("r" | "p", "t") => format!("{name} is temporary: its changes are not in the WAL"),
        ("r" | "p", _) => {
            let mut tables = catalog.tables.values();
            let root = tables.find(|table| table.partitioned && table.stored_in.contains(&name))?;
            format!("{name} is published under the name of {}", root.name)
        }
        _ => return None,
    };
    Some(subscription::exception(binding, why))
}
