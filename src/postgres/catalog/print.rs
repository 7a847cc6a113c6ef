//! Has Postgres print a SELECT in its own words: as a temporary view whose definition is read and rolled back.
//!
//! Making a view parses the SELECT and runs nothing of it. The text goes through the extended protocol, where one
//! message is one statement, whatever is in it.

use std::sync::Arc;

use tokio_postgres::{Client, Row};

/// Somebody who alters a table may make us wait; the catalog must not.
const LIMITS: &str = "SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '5s'; \
                      SET LOCAL standard_conforming_strings = on";

/// The view, in parts of this length: callers count positions from behind it.
pub(super) const HEAD: &str = "CREATE TEMPORARY VIEW pg_temp.rowcast_printed AS ";

/// What the view reads. `pg_depend` says nothing of what belongs to the system itself, so the tables are taken from the
/// rule's tree as well.
const QUERY: &str = "
WITH view AS (
    SELECT r.oid AS rule, r.ev_class, r.ev_action::text AS tree
      FROM pg_catalog.pg_rewrite r WHERE r.ev_class = 'pg_temp.rowcast_printed'::regclass
), reads AS (
    SELECT DISTINCT d.refclassid, d.refobjid, d.refobjsubid
      FROM view v
      JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = v.rule
     WHERE NOT (d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = v.ev_class)
)
SELECT pg_catalog.pg_get_viewdef(v.ev_class) AS text, a.atttypid AS column_type,
       ARRAY(SELECT refobjid FROM reads WHERE refclassid = 'pg_catalog.pg_class'::regclass
             UNION
             SELECT found[1]::oid FROM pg_catalog.regexp_matches(v.tree, ':relid (\\d+)', 'g') AS found
              WHERE found[1] <> '0' AND found[1]::oid <> v.ev_class
             ORDER BY 1) AS relations,
       ARRAY(SELECT DISTINCT p.oid FROM reads JOIN pg_catalog.pg_proc p ON p.oid = refobjid
              WHERE refclassid = 'pg_catalog.pg_proc'::regclass
                AND p.pronamespace <> 'pg_catalog'::regnamespace ORDER BY 1) AS functions,
       ARRAY(SELECT DISTINCT refobjsubid FROM reads
              WHERE refclassid = 'pg_catalog.pg_class'::regclass AND refobjid = $1::oid AND refobjsubid <> 0
              ORDER BY 1) AS columns,
       ARRAY(SELECT n.nspname::text FROM pg_catalog.pg_namespace n
              WHERE n.nspname <> 'pg_catalog' AND n.oid IN (
                    SELECT c.relnamespace FROM reads JOIN pg_catalog.pg_class c ON c.oid = refobjid
                     WHERE refclassid = 'pg_catalog.pg_class'::regclass
              UNION SELECT p.pronamespace FROM reads JOIN pg_catalog.pg_proc p ON p.oid = refobjid
                     WHERE refclassid = 'pg_catalog.pg_proc'::regclass
              UNION SELECT t.typnamespace FROM reads JOIN pg_catalog.pg_type t ON t.oid = refobjid
                     WHERE refclassid = 'pg_catalog.pg_type'::regclass
              UNION SELECT o.oprnamespace FROM reads JOIN pg_catalog.pg_operator o ON o.oid = refobjid
                     WHERE refclassid = 'pg_catalog.pg_operator'::regclass
              UNION SELECT l.collnamespace FROM reads JOIN pg_catalog.pg_collation l ON l.oid = refobjid
                     WHERE refclassid = 'pg_catalog.pg_collation'::regclass)
              ORDER BY 1) AS schemas,
       ARRAY(SELECT DISTINCT found[1] FROM pg_catalog.regexp_matches(v.tree, ':aliasname (\\S+)', 'g') AS found
              ORDER BY 1) AS aliases,
       (SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = $1::oid) AS relation
  FROM view v
  JOIN pg_catalog.pg_attribute a ON a.attrelid = v.ev_class AND a.attnum = 1";

/// A SELECT as Postgres prints it under an empty `search_path`, and what it reads.
#[derive(Debug)]
pub(super) struct Printed {
    pub(super) text: String,
    /// Type of its first column.
    pub(super) column_type: u32,
    pub(super) relations: Vec<u32>,
    /// Functions outside `pg_catalog`.
    pub(super) functions: Vec<u32>,
    /// Attribute numbers that it reads of the relation that was asked about.
    pub(super) columns: Vec<i32>,
    /// Schemas of all that it names.
    pub(super) schemas: Vec<Arc<str>>,
    /// Names that stand for a table somewhere in it.
    pub(super) aliases: Vec<String>,
    /// The name of the relation that was asked about, as it is printed.
    pub(super) relation: Option<String>,
}

/// Prints a SELECT whose names are looked up under this `search_path` (or the session's); `relation` is one whose columns are of interest.
///
/// # Errors
/// The SELECT is wrong, or the session cannot make temporary views.
pub(super) async fn print(
    client: &mut Client,
    path: Option<&str>,
    select: &str,
    relation: u32,
) -> Result<Printed, tokio_postgres::Error> {
    let transaction = client.build_transaction().read_only(false).start().await?;
    transaction.batch_execute(LIMITS).await?;
    if let Some(path) = path {
        transaction
            .execute("SELECT pg_catalog.set_config('search_path', $1, true)", &[&path])
            .await?;
    }
    transaction.execute(&format!("{HEAD}{select}"), &[]).await?;
    transaction.batch_execute("SET LOCAL search_path = ''").await?;
    let row = transaction.query_one(QUERY, &[&relation]).await?;
    let printed = printed(&row)?;
    transaction.rollback().await?;
    Ok(printed)
}

fn printed(row: &Row) -> Result<Printed, tokio_postgres::Error> {
    let schemas: Vec<&str> = row.try_get("schemas")?;
    let aliases: Vec<&str> = row.try_get("aliases")?;
    Ok(Printed {
        text: row.try_get("text")?,
        column_type: row.try_get("column_type")?,
        relations: row.try_get("relations")?,
        functions: row.try_get("functions")?,
        columns: row.try_get("columns")?,
        relation: row.try_get("relation")?,
        schemas: schemas.into_iter().map(Arc::from).collect(),
        // Node trees put a backslash before what would end a word.
        aliases: aliases.into_iter().map(|name| name.replace('\\', "")).collect(),
    })
}
