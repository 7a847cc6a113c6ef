//! Tables and other relations: columns, keys, and where their rows are.

use std::collections::HashMap;

use tokio_postgres::{Row, Transaction};

use super::{Column, Published, RelationKind, ReplicaIdentity, Table};
use crate::change::TableName;
use crate::postgres::SqlError;

/// What is read of each relation, and where from. Catalogs of the system are tables too, and do not come down the stream.
const FIELDS: &str =
    "c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relreplident::text AS identity,
                    c.relrowsecurity, c.relforcerowsecurity,
                    c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384 AS streams";

/// Reads the tables of a publication.
pub(super) async fn published(
    transaction: &Transaction<'_>,
    publication: &str,
) -> Result<HashMap<u32, Table>, SqlError> {
    let doing = SqlError::during("reading the published tables");
    let sql = format!(
        "SELECT {FIELDS}, p.pubinsert, p.pubupdate, p.pubdelete
           FROM pg_catalog.pg_publication p
           JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname
           JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
           JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
          WHERE p.pubname = $1::text"
    );
    let rows = transaction.query(&sql, &[&publication]).await.map_err(&doing)?;
    with_details(transaction, &rows, doing).await
}

/// Reads relations by oid, whatever they are; what is no relation, or gone, is left out.
pub(super) async fn others(
    transaction: &Transaction<'_>,
    oids: &[u32],
) -> Result<HashMap<u32, Table>, SqlError> {
    let doing = SqlError::during("reading the tables that policies read");
    let sql = format!(
        "SELECT {FIELDS}, false AS pubinsert, false AS pubupdate, false AS pubdelete
           FROM pg_catalog.pg_class c
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE c.oid = ANY ($1::oid[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
    );
    let rows = transaction.query(&sql, &[&oids]).await.map_err(&doing)?;
    with_details(transaction, &rows, doing).await
}

/// Reads an ordinary or partitioned table by its name; nothing if there is none.
pub(super) async fn named(
    transaction: &Transaction<'_>,
    name: &TableName,
) -> Result<HashMap<u32, Table>, SqlError> {
    let doing = SqlError::during("reading a table");
    let sql = format!(
        "SELECT {FIELDS}, false AS pubinsert, false AS pubupdate, false AS pubdelete
           FROM pg_catalog.pg_class c
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname::text = $1 AND c.relname::text = $2 AND c.relkind IN ('r', 'p')"
    );
    let rows = transaction
        .query(&sql, &[&&*name.schema, &&*name.table])
        .await
        .map_err(&doing)?;
    with_details(transaction, &rows, doing).await
}

async fn with_details(
    transaction: &Transaction<'_>,
    rows: &[Row],
    doing: impl Fn(tokio_postgres::Error) -> SqlError,
) -> Result<HashMap<u32, Table>, SqlError> {
    let mut tables: HashMap<u32, Table> = rows
        .iter()
        .map(|row| table(row).map(|table| (table.oid, table)))
        .collect::<Result<_, _>>()
        .map_err(doing)?;
    let oids: Vec<u32> = tables.keys().copied().collect();
    read_columns(transaction, &oids, &mut tables).await?;
    read_storage(transaction, &oids, &mut tables).await?;
    Ok(tables)
}

/// Rows of a partitioned table are in its partitions, those of another one in itself and in what inherits from it. If
/// any of these does not come down the stream, the table as a whole does not: the plugin leaves out every UPDATE and
/// DELETE of a relation that has no replica identity (manual, "ALTER TABLE", `REPLICA IDENTITY`), in silence.
async fn read_storage(
    transaction: &Transaction<'_>,
    oids: &[u32],
    tables: &mut HashMap<u32, Table>,
) -> Result<(), SqlError> {
    let doing = SqlError::during("reading the partitions");
    let rows = transaction
        .query(
            "WITH RECURSIVE below(root, oid) AS (
                 SELECT oid, oid FROM pg_catalog.unnest($1::oid[]) AS r(oid)
               UNION
                 SELECT b.root, i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid
             )
             SELECT b.root, n.nspname::text AS schema, c.relname::text AS name,
                    c.relkind = 'r' AND c.relpersistence = 'p' AND (c.relreplident = 'f' OR EXISTS (
                        SELECT FROM pg_catalog.pg_index x
                         WHERE x.indrelid = c.oid AND x.indisvalid AND x.indimmediate
                           AND CASE c.relreplident WHEN 'd' THEN x.indisprimary
                                                   WHEN 'i' THEN x.indisreplident END)) AS streams
               FROM below b
               JOIN pg_catalog.pg_class c ON c.oid = b.oid
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind <> 'p'
              ORDER BY b.root, b.root <> b.oid, schema, name",
            &[&oids],
        )
        .await
        .map_err(&doing)?;
    for row in &rows {
        let root: u32 = row.try_get("root").map_err(&doing)?;
        let streams: bool = row.try_get("streams").map_err(&doing)?;
        let name = |column| row.try_get::<_, &str>(column).map_err(&doing);
        if let Some(table) = tables.get_mut(&root) {
            table
                .stored_in
                .push(TableName::new(name("schema")?, name("name")?));
            if !streams {
                table.kind = RelationKind::Other;
            }
        }
    }
    Ok(())
}

fn table(row: &Row) -> Result<Table, tokio_postgres::Error> {
    Ok(Table {
        oid: row.try_get("oid")?,
        name: TableName::new(row.try_get("schema")?, row.try_get("name")?),
        columns: Vec::new(),
        primary_key: Vec::new(),
        replica_identity: match row.try_get("identity")? {
            "f" => ReplicaIdentity::Full,
            "i" => ReplicaIdentity::Index,
            "n" => ReplicaIdentity::Nothing,
            _ => ReplicaIdentity::Default,
        },
        rls: row.try_get("relrowsecurity")?,
        force_rls: row.try_get("relforcerowsecurity")?,
        published: Published {
            insert: row.try_get("pubinsert")?,
            update: row.try_get("pubupdate")?,
            delete: row.try_get("pubdelete")?,
        },
        policies: Vec::new(),
        file_policies: Vec::new(),
        kind: if row.try_get("streams")? {
            RelationKind::Table
        } else {
            RelationKind::Other
        },
        stored_in: Vec::new(),
    })
}

async fn read_columns(
    transaction: &Transaction<'_>,
    oids: &[u32],
    tables: &mut HashMap<u32, Table>,
) -> Result<(), SqlError> {
    let doing = SqlError::during("reading the columns");
    // The key columns of an index come first in indkey (an int2vector, so counted from 0); INCLUDE columns follow.
    let rows = transaction
        .query(
            "SELECT a.attrelid, a.attnum, a.attname::text AS name, a.atttypid, t.typname::text AS type_name,
                    a.attnotnull, coalesce(l.collisdeterministic, true) AS deterministic,
                    CASE WHEN a.attcollation <> t.typcollation
                         THEN pg_catalog.quote_ident(ln.nspname) || '.' || pg_catalog.quote_ident(l.collname)
                    END AS collation,
                    coalesce(a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]), false) AS in_key
               FROM pg_catalog.pg_attribute a
               JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
               LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
               LEFT JOIN pg_catalog.pg_namespace ln ON ln.oid = l.collnamespace
               LEFT JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
              WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
              ORDER BY a.attrelid, a.attnum",
            &[&oids],
        )
        .await
        .map_err(&doing)?;
    for row in &rows {
        let (column, in_key) = column(row).map_err(&doing)?;
        let oid: u32 = row.try_get("attrelid").map_err(&doing)?;
        if let Some(table) = tables.get_mut(&oid) {
            if in_key {
                table.primary_key.push(table.columns.len());
            }
            table.columns.push(column);
        }
    }
    Ok(())
}

fn column(row: &Row) -> Result<(Column, bool), tokio_postgres::Error> {
    let column = Column {
        attnum: row.try_get("attnum")?,
        name: row.try_get::<_, &str>("name")?.into(),
        type_oid: row.try_get("atttypid")?,
        type_name: row.try_get::<_, &str>("type_name")?.into(),
        collation: row.try_get::<_, Option<&str>>("collation")?.map(Into::into),
        deterministic: row.try_get("deterministic")?,
        not_null: row.try_get("attnotnull")?,
    };
    Ok((column, row.try_get("in_key")?))
}
