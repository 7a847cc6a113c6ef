//! The types that columns reach: elements of arrays, bases of domains, fields of composites, bounds of ranges.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::{Row, Transaction};

use super::{Type, TypeKind};
use crate::postgres::SqlError;

/// What `to_jsonb` asks of a type, it asks the catalog in these words: a true array is one that is subscripted as an
/// array, and a cast function to `json` counts only for types that users made (`json_categorize_type`). User objects
/// have oids from 16384 on.
const QUERY: &str = "
WITH RECURSIVE reached(oid) AS (
    SELECT pg_catalog.unnest($1::oid[])
  UNION
    SELECT next.oid
      FROM reached r
      JOIN pg_catalog.pg_type t ON t.oid = r.oid
     CROSS JOIN LATERAL (
            SELECT t.typelem AS oid
             WHERE t.typelem <> 0 AND t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
         UNION ALL
            SELECT t.typbasetype WHERE t.typtype = 'd'
         UNION ALL
            SELECT a.atttypid FROM pg_catalog.pg_attribute a
             WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
         UNION ALL
            SELECT CASE t.oid WHEN g.rngtypid THEN g.rngsubtype ELSE g.rngtypid END
              FROM pg_catalog.pg_range g WHERE t.typtype IN ('r', 'm') AND t.oid IN (g.rngtypid, g.rngmultitypid)
     ) AS next
)
SELECT t.oid, t.typname::text AS name, t.typtype::text AS typtype, t.typbasetype,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname) AS sql,
       CASE WHEN t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc THEN t.typelem ELSE 0 END AS element,
       coalesce(e.typdelim::text, ',') AS delimiter,
       t.oid >= 16384 AND EXISTS (
           SELECT FROM pg_catalog.pg_cast k
            WHERE k.castsource = t.oid AND k.casttarget = 'pg_catalog.json'::regtype AND k.castmethod = 'f'
       ) AS json_cast,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
              WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
              ORDER BY a.attnum) AS field_names,
       ARRAY(SELECT a.atttypid FROM pg_catalog.pg_attribute a
              WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
              ORDER BY a.attnum) AS field_types,
       ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum l
              WHERE t.typtype = 'e' AND l.enumtypid = t.oid ORDER BY l.enumsortorder) AS labels
  FROM reached r
  JOIN pg_catalog.pg_type t ON t.oid = r.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem";

/// Reads these types and every type that they reach.
pub(super) async fn read(
    transaction: &Transaction<'_>,
    mut wanted: Vec<u32>,
) -> Result<HashMap<u32, Type>, SqlError> {
    let doing = SqlError::during("reading the column types");
    wanted.sort_unstable();
    wanted.dedup();
    let rows = transaction.query(QUERY, &[&wanted]).await.map_err(&doing)?;
    rows.iter()
        .map(|row| type_of(row).map(|found| (found.oid, found)))
        .collect::<Result<_, _>>()
        .map_err(doing)
}

fn type_of(row: &Row) -> Result<Type, tokio_postgres::Error> {
    let element: u32 = row.try_get("element")?;
    let kind = match row.try_get("typtype")? {
        "d" => TypeKind::Domain {
            base: row.try_get("typbasetype")?,
        },
        "e" => TypeKind::Enum {
            labels: row
                .try_get::<_, Vec<&str>>("labels")?
                .into_iter()
                .map(Arc::from)
                .collect(),
        },
        "r" | "m" => TypeKind::Range,
        "c" => TypeKind::Composite { fields: fields(row)? },
        _ if element != 0 => TypeKind::Array {
            element,
            delimiter: row.try_get::<_, &str>("delimiter")?.chars().next().unwrap_or(','),
        },
        _ => TypeKind::Base,
    };
    // A composite or array is taken apart before a cast is looked for, a domain is its base.
    let may_cast = matches!(kind, TypeKind::Base | TypeKind::Enum { .. } | TypeKind::Range);
    Ok(Type {
        oid: row.try_get("oid")?,
        name: row.try_get::<_, &str>("name")?.into(),
        sql: row.try_get::<_, &str>("sql")?.into(),
        json_cast: may_cast && row.try_get("json_cast")?,
        kind,
    })
}

fn fields(row: &Row) -> Result<Vec<(Arc<str>, u32)>, tokio_postgres::Error> {
    let names: Vec<&str> = row.try_get("field_names")?;
    let types: Vec<u32> = row.try_get("field_types")?;
    Ok(names.into_iter().map(Arc::from).zip(types).collect())
}
