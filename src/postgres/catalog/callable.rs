//! Which functions a role may call with the outcome that their bodies say.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Client;

use super::path::USER;
use super::{Catalog, Lookup};
use crate::postgres::SqlError;

/// Rights of some roles on some functions and schemas.
#[derive(Debug, Default)]
struct Rights {
    /// Role and function that it may execute.
    execute: HashSet<(String, u32)>,
    /// Role and schema: whether the role may enter it. A schema that does not exist is not here.
    enter: HashMap<(String, String), bool>,
}

/// Reads which of the catalog's functions a role may call, see [`super::RoleAccess::functions`].
pub(super) async fn read(client: &Client, role: &str, catalog: &Catalog) -> Result<HashSet<u32>, SqlError> {
    if catalog.functions.is_empty() {
        return Ok(HashSet::new());
    }
    let rights = Rights::read(client, role, catalog).await?;
    let callable = |oid: &u32| rights.reaches(catalog, role, *oid, &mut Vec::new());
    Ok(catalog
        .functions
        .keys()
        .copied()
        .filter(|oid| callable(oid))
        .collect())
}

impl Rights {
    async fn read(client: &Client, role: &str, catalog: &Catalog) -> Result<Self, SqlError> {
        let doing = SqlError::during("reading which functions a role may call");
        let mut roles: Vec<&str> = catalog
            .functions
            .values()
            .filter(|function| function.security_definer)
            .map(|function| &*function.owner)
            .chain([role])
            .collect();
        roles.sort_unstable();
        roles.dedup();
        let functions: Vec<u32> = catalog.functions.keys().copied().collect();
        let mut schemas: Vec<&str> = catalog
            .lookups
            .values()
            .flat_map(|lookup| lookup.path.iter().chain(&lookup.schemas))
            .map(|schema| &**schema)
            .chain(roles.iter().copied())
            .collect();
        schemas.sort_unstable();
        schemas.dedup();
        let rows = client
            .query(
                "SELECT r.rolname::text AS role,
                        ARRAY(SELECT f.oid FROM pg_catalog.unnest($2::oid[]) AS f(oid)
                               WHERE pg_catalog.has_function_privilege(r.oid, f.oid, 'EXECUTE')) AS functions,
                        ARRAY(SELECT n.nspname::text FROM pg_catalog.pg_namespace n
                               WHERE n.nspname::text = ANY ($3::text[])
                                 AND pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')) AS open,
                        ARRAY(SELECT n.nspname::text FROM pg_catalog.pg_namespace n
                               WHERE n.nspname::text = ANY ($3::text[])
                                 AND NOT pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')) AS closed
                   FROM pg_catalog.pg_roles r WHERE r.rolname::text = ANY ($1::text[])",
                &[&roles, &functions, &schemas],
            )
            .await
            .map_err(&doing)?;
        let mut rights = Self::default();
        for row in &rows {
            rights.add(row).map_err(&doing)?;
        }
        Ok(rights)
    }

    fn add(&mut self, row: &tokio_postgres::Row) -> Result<(), tokio_postgres::Error> {
        let role: String = row.try_get("role")?;
        let functions: Vec<u32> = row.try_get("functions")?;
        self.execute
            .extend(functions.into_iter().map(|oid| (role.clone(), oid)));
        for (column, open) in [("open", true), ("closed", false)] {
            let schemas: Vec<String> = row.try_get(column)?;
            self.enter
                .extend(schemas.into_iter().map(|schema| ((role.clone(), schema), open)));
        }
        Ok(())
    }

    /// Whether a call has the outcome of the bodies, all the way down. Not for one that calls itself.
    fn reaches(&self, catalog: &Catalog, role: &str, oid: u32, above: &mut Vec<u32>) -> bool {
        let Some(function) = catalog.functions.get(&oid) else {
            return false;
        };
        if above.contains(&oid) || !self.execute.contains(&(role.to_owned(), oid)) {
            return false;
        }
        let role = if function.security_definer {
            &*function.owner
        } else {
            role
        };
        if !catalog
            .lookups
            .get(&oid)
            .is_none_or(|lookup| self.finds(lookup, role))
        {
            return false;
        }
        let called = function.body.iter().flat_map(|body| &body.functions);
        above.push(oid);
        let reaches = called
            .copied()
            .all(|called| self.reaches(catalog, role, called, above));
        above.pop();
        reaches
    }

    /// Whether the role finds under its names what the body means by them: no schema of the path is passed over, and
    /// none of the role's own comes in between.
    fn finds(&self, lookup: &Lookup, role: &str) -> bool {
        let entered = |schema: &str| self.enter.get(&(role.to_owned(), schema.to_owned())).copied();
        let in_path = |schema: &str| match schema {
            USER => entered(role).is_none(),
            schema => entered(schema).unwrap_or(true),
        };
        lookup.path.iter().all(|schema| in_path(schema))
            && lookup.schemas.iter().all(|schema| entered(schema) == Some(true))
    }
}
