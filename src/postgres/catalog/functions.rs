//! The functions that policies reach, as `pg_proc` has them.

use std::collections::HashMap;

use tokio_postgres::{Row, Transaction};

use super::body::Source;
use super::{Function, Volatility};
use crate::postgres::SqlError;

/// A view over the body can stand for the function only where all arguments are plain input, no type depends on the
/// call, and nothing but the `search_path` is set for it.
///
/// One thing in a body does run when it is parsed: the CHECK of a domain, for a constant of an array or a row of it. It
/// would run as us, so others' bodies are left alone where others have such domains.
const QUERY: &str = "
SELECT p.oid, n.nspname::text AS schema, p.proname::text AS name, p.proargtypes::oid[] AS arguments,
       p.prorettype AS returns, p.proretset AS returns_set, p.provolatile::text AS volatility,
       p.proisstrict AS strict, p.prosecdef AS security_definer, o.rolname::text AS owner,
       EXISTS (SELECT FROM pg_catalog.pg_cast k WHERE k.castfunc = p.oid) AS is_cast,
       l.lanname = 'sql' AND p.prokind = 'f'
           AND coalesce(p.proargmodes <@ '{i,t}'::\"char\"[], true)
           AND coalesce(pg_catalog.array_length(pg_catalog.array_positions(p.proargmodes, 't'::\"char\"), 1), 0) <= 1
           AND coalesce(pg_catalog.array_length(p.proconfig, 1) = 1 AND p.proconfig[1] LIKE 'search\\_path=%', true)
           AND r.typtype <> 'p' AND NOT EXISTS (
               SELECT FROM pg_catalog.pg_type t WHERE t.oid = ANY (p.proargtypes::oid[]) AND t.typtype = 'p')
           AND (o.rolsuper OR o.rolname = CURRENT_USER OR NOT EXISTS (
               SELECT FROM pg_catalog.pg_constraint k
                 JOIN pg_catalog.pg_type d ON d.oid = k.contypid
                 JOIN pg_catalog.pg_roles m ON m.oid = d.typowner
                WHERE k.contype = 'c' AND NOT m.rolsuper AND m.rolname <> CURRENT_USER))
           AS may_have_body,
       coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc) AS source,
       p.prosqlbody IS NOT NULL AS parsed,
       pg_catalog.substr(p.proconfig[1], 13) AS path,
       coalesce(p.proargnames[1:p.pronargs], pg_catalog.array_fill(''::text, ARRAY[p.pronargs::int])) AS argument_names,
       ARRAY(SELECT pg_catalog.quote_ident(tn.nspname) || '.' || pg_catalog.quote_ident(t.typname)
               FROM pg_catalog.unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a(oid, place)
               JOIN pg_catalog.pg_type t ON t.oid = a.oid
               JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
              ORDER BY a.place) AS argument_sql,
       pg_catalog.quote_ident(rn.nspname) || '.' || pg_catalog.quote_ident(r.typname) AS returns_sql,
       ARRAY(SELECT k.castsource FROM pg_catalog.pg_cast k
              WHERE k.casttarget = p.prorettype AND k.castcontext IN ('i', 'a')) AS assignable
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
  JOIN pg_catalog.pg_type r ON r.oid = p.prorettype
  JOIN pg_catalog.pg_namespace rn ON rn.oid = r.typnamespace
 WHERE p.oid = ANY ($1::oid[])";

/// Reads functions by oid, each with its source if its body may be had. `path` is what the session looks names up
/// under. No body is filled in.
pub(super) async fn read(
    transaction: &Transaction<'_>,
    oids: &[u32],
    path: &str,
) -> Result<HashMap<u32, (Function, Option<Source>)>, SqlError> {
    let doing = SqlError::during("reading the functions that policies call");
    let rows = transaction.query(QUERY, &[&oids]).await.map_err(&doing)?;
    rows.iter()
        .map(|row| {
            let function = function(row)?;
            let source = source(row, path)?;
            Ok((function.oid, (function, source)))
        })
        .collect::<Result<_, tokio_postgres::Error>>()
        .map_err(doing)
}

fn function(row: &Row) -> Result<Function, tokio_postgres::Error> {
    Ok(Function {
        oid: row.try_get("oid")?,
        schema: row.try_get::<_, &str>("schema")?.into(),
        name: row.try_get::<_, &str>("name")?.into(),
        arguments: row.try_get("arguments")?,
        returns: row.try_get("returns")?,
        returns_set: row.try_get("returns_set")?,
        volatility: match row.try_get("volatility")? {
            "i" => Volatility::Immutable,
            "s" => Volatility::Stable,
            _ => Volatility::Volatile,
        },
        strict: row.try_get("strict")?,
        security_definer: row.try_get("security_definer")?,
        owner: row.try_get::<_, &str>("owner")?.into(),
        is_cast: row.try_get("is_cast")?,
        body: None,
    })
}

fn source(row: &Row, path: &str) -> Result<Option<Source>, tokio_postgres::Error> {
    if !row.try_get::<_, bool>("may_have_body")? {
        return Ok(None);
    }
    let names: Vec<String> = row.try_get("argument_names")?;
    let types: Vec<String> = row.try_get("argument_sql")?;
    let parsed: bool = row.try_get("parsed")?;
    let own: Option<String> = row.try_get("path")?;
    Ok(Some(Source {
        name: row.try_get("name")?,
        text: row.try_get("source")?,
        parsed,
        path: match own {
            // Printed under an empty path, so that is what it is read under.
            _ if parsed => "\"\"".to_owned(),
            Some(own) => own,
            None => path.to_owned(),
        },
        arguments: names.into_iter().zip(types).collect(),
        returns: row.try_get("returns")?,
        returns_sql: row.try_get("returns_sql")?,
        assignable: row.try_get("assignable")?,
    }))
}
