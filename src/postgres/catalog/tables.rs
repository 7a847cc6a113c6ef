//! Tables and other relations: columns, keys, and where their rows are.

use std::collections::HashMap;

use tokio_postgres::{Row, Transaction};

use super::{Column, Generated, Published, RelationKind, ReplicaIdentity, Table};
use crate::change::TableName;
use crate::postgres::SqlError;

/// What is read of each relation, and where from. Catalogs of the system are tables too, and do not come down the stream.
const FIELDS: &str =
    "c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relreplident::text AS identity,
                    c.relrowsecurity, c.relforcerowsecurity, c.relkind = 'p' AS partitioned,
                    c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384 AS streams,
                    ARRAY(WITH RECURSIVE above(oid, distance) AS (
                              SELECT i.inhparent, 1 FROM pg_catalog.pg_inherits i
                               WHERE c.relispartition AND i.inhrelid = c.oid
                            UNION ALL
                              SELECT i.inhparent, a.distance + 1
                                FROM above a
                                JOIN pg_catalog.pg_class r ON r.oid = a.oid AND r.relispartition
                                JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.oid
                          ) SELECT a.oid FROM above a ORDER BY a.distance) AS ancestors";

/// Reads the tables of a publication: those of `pg_publication_tables`, and the partitioned ones whose partitions these are.
/// A publication that publishes by the root names just that; any other one names the partitions alone, although what
/// was added to it is a table above them.
pub(super) async fn published(
    transaction: &Transaction<'_>,
    publication: &str,
) -> Result<HashMap<u32, Table>, SqlError> {
    let doing = SqlError::during("reading the published tables");
    let in_schema = match has_published_schemas(transaction).await.map_err(&doing)? {
        true => {
            "OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s
                         WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)"
        }
        false => "",
    };
    let sql = format!(
        "WITH RECURSIVE publication AS (
             SELECT * FROM pg_catalog.pg_publication WHERE pubname = $1::text
         ), partitioned(oid) AS (
             SELECT c.oid FROM publication p, pg_catalog.pg_class c
              WHERE NOT p.pubviaroot AND c.relkind = 'p' AND c.relpersistence = 'p' AND c.oid >= 16384
                AND (p.puballtables {in_schema} OR EXISTS (
                        SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid))
           UNION
             SELECT c.oid FROM partitioned above
               JOIN pg_catalog.pg_inherits i ON i.inhparent = above.oid
               JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relkind = 'p'
         ), listed(oid) AS (
             SELECT c.oid FROM publication p
               JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname
               JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
               JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
           UNION
             SELECT oid FROM partitioned
         )
         SELECT {FIELDS}, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate
           FROM publication p, listed l
           JOIN pg_catalog.pg_class c ON c.oid = l.oid
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    );
    let rows = transaction.query(&sql, &[&publication]).await.map_err(&doing)?;
    with_details(transaction, &rows, doing).await
}

/// Whole schemas can be published since PostgreSQL 15.
async fn has_published_schemas(transaction: &Transaction<'_>) -> Result<bool, tokio_postgres::Error> {
    let sql = "SELECT pg_catalog.to_regclass('pg_catalog.pg_publication_namespace') IS NOT NULL";
    transaction.query_one(sql, &[]).await?.try_get(0)
}

/// Reads relations by oid, whatever they are; what is no relation, or gone, is left out.
pub(super) async fn others(
    transaction: &Transaction<'_>,
    oids: &[u32],
) -> Result<HashMap<u32, Table>, SqlError> {
    let doing = SqlError::during("reading the tables that policies read");
    let sql = format!(
        "SELECT {FIELDS}, false AS pubinsert, false AS pubupdate, false AS pubdelete, false AS pubtruncate
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
        "SELECT {FIELDS}, false AS pubinsert, false AS pubupdate, false AS pubdelete, false AS pubtruncate
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
/// DELETE of a relation that has no replica identity (manual, "ALTER TABLE", `REPLICA IDENTITY`), in silence. With virtual
/// generated columns `FULL` is none: Postgres refuses to publish updates without them.
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
             SELECT b.root, n.nspname::text AS schema, c.relname::text AS name, c.relreplident::text AS identity,
                    c.relkind = 'r' AND c.relpersistence = 'p' AND CASE c.relreplident
                        WHEN 'f' THEN NOT EXISTS (
                            SELECT FROM pg_catalog.pg_attribute a
                             WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped)
                        ELSE EXISTS (
                            SELECT FROM pg_catalog.pg_index x
                             WHERE x.indrelid = c.oid AND x.indisvalid AND x.indimmediate
                               AND CASE c.relreplident WHEN 'd' THEN x.indisprimary
                                                       WHEN 'i' THEN x.indisreplident END) END AS streams
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
            if table.partitioned {
                let one = identity(name("identity")?);
                let first = table.stored_in.len() == 1;
                table.replica_identity = match table.replica_identity {
                    _ if first => one,
                    all => common(all, one),
                };
            }
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
        replica_identity: identity(row.try_get("identity")?),
        rls: row.try_get("relrowsecurity")?,
        force_rls: row.try_get("relforcerowsecurity")?,
        published: Published {
            insert: row.try_get("pubinsert")?,
            update: row.try_get("pubupdate")?,
            delete: row.try_get("pubdelete")?,
            truncate: row.try_get("pubtruncate")?,
        },
        policies: Vec::new(),
        file_policies: Vec::new(),
        kind: if row.try_get("streams")? {
            RelationKind::Table
        } else {
            RelationKind::Other
        },
        stored_in: Vec::new(),
        partitioned: row.try_get("partitioned")?,
        ancestors: row.try_get("ancestors")?,
    })
}

fn identity(relreplident: &str) -> ReplicaIdentity {
    match relreplident {
        "f" => ReplicaIdentity::Full,
        "i" => ReplicaIdentity::Index,
        "n" => ReplicaIdentity::Nothing,
        _ => ReplicaIdentity::Default,
    }
}

/// What can be relied on of rows that leave the one or the other.
fn common(one: ReplicaIdentity, other: ReplicaIdentity) -> ReplicaIdentity {
    use ReplicaIdentity as R;
    match (one, other) {
        (R::Full, other) => other,
        (one, R::Full) => one,
        (R::Nothing, _) | (_, R::Nothing) => R::Nothing,
        (R::Index, _) | (_, R::Index) => R::Index,
        (R::Default, R::Default) => R::Default,
    }
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
                    a.attnotnull, a.attgenerated <> '' AS generated,
                    CASE a.attgenerated WHEN 'v' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END AS virtual,
                    coalesce(l.collisdeterministic, true) AS deterministic,
                    CASE WHEN a.attcollation <> t.typcollation
                         THEN pg_catalog.quote_ident(ln.nspname) || '.' || pg_catalog.quote_ident(l.collname)
                    END AS collation,
                    coalesce(a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]), false) AS in_key
               FROM pg_catalog.pg_attribute a
               JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
               LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
               LEFT JOIN pg_catalog.pg_namespace ln ON ln.oid = l.collnamespace
               LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
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
        generated: match row.try_get::<_, Option<&str>>("virtual")? {
            Some(expression) => Some(Generated::Virtual(expression.into())),
            None => row.try_get::<_, bool>("generated")?.then_some(Generated::Stored),
        },
    };
    Ok((column, row.try_get("in_key")?))
}
