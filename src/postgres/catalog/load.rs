//! Reads a [`Catalog`] in one snapshot and a handful of queries, however many tables are published.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

use super::whole_row::mentions_whole_row;
use super::{
    Catalog, Column, DefaultCollation, Policy, Published, RelationKind, ReplicaIdentity, Table, Types, types,
};
use crate::change::TableName;
use crate::postgres::SqlError;

/// DDL that commits in the middle of a reading can make a name vanish between two queries; a second reading sees the
/// new state.
const ATTEMPTS: usize = 3;

/// What `pg_publication` says of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Which actions it publishes.
    pub published: Published,
    /// `FOR ALL TABLES`.
    pub all_tables: bool,
    /// `publish_via_partition_root`: changes of partitions are published under the name of their root.
    pub via_root: bool,
}

/// Looks a publication up by name; `None` if there is none.
///
/// # Errors
/// The database did not answer.
pub async fn publication(client: &Client, name: &str) -> Result<Option<Publication>, SqlError> {
    let doing = SqlError::during("reading the publication");
    let row = client
        .query_opt(
            "SELECT pubinsert, pubupdate, pubdelete, puballtables, pubviaroot
               FROM pg_catalog.pg_publication WHERE pubname = $1::text",
            &[&name],
        )
        .await
        .map_err(&doing)?;
    let Some(row) = row else { return Ok(None) };
    let publication = || {
        Ok(Publication {
            published: Published {
                insert: row.try_get("pubinsert")?,
                update: row.try_get("pubupdate")?,
                delete: row.try_get("pubdelete")?,
            },
            all_tables: row.try_get("puballtables")?,
            via_root: row.try_get("pubviaroot")?,
        })
    };
    publication().map(Some).map_err(doing)
}

/// Reads every table of a publication with its columns, keys and policies, and the types they reach.
///
/// Membership is that of `pg_publication_tables`: `FOR ALL TABLES`, `FOR TABLES IN SCHEMA` and partitions included.
/// Column lists and row filters of the publication are not applied. A publication that does not exist reads as one
/// without tables; [`publication`] tells the two apart.
///
/// # Errors
/// The database did not answer, or the role may not read the catalog.
pub async fn load(client: &mut Client, publication: &str) -> Result<Catalog, SqlError> {
    let mut attempt = 1;
    loop {
        match read(client, publication).await {
            Err(error) if attempt < ATTEMPTS && vanished(&error) => attempt += 1,
            outcome => return outcome,
        }
    }
}

/// Codes of a name or oid that was dropped while it was being read (`XX000` is "cache lookup failed").
fn vanished(error: &SqlError) -> bool {
    matches!(error.sqlstate(), Some("XX000" | "42P01" | "42703" | "42704"))
}

async fn read(client: &mut Client, publication: &str) -> Result<Catalog, SqlError> {
    let doing = SqlError::during("reading the catalog");
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .map_err(&doing)?;
    // With nothing on the path, pg_get_expr qualifies every name outside pg_catalog.
    transaction
        .batch_execute("SET LOCAL search_path = ''; SET LOCAL standard_conforming_strings = on")
        .await
        .map_err(&doing)?;
    let mut tables = read_tables(&transaction, publication).await?;
    let oids: Vec<u32> = tables.keys().copied().collect();
    read_columns(&transaction, &oids, &mut tables).await?;
    read_policies(&transaction, &oids, &mut tables).await?;
    let types = types::read(&transaction, tables.values()).await?;
    transaction.commit().await.map_err(&doing)?;
    Ok(Catalog {
        tables: tables
            .into_values()
            .map(|table| (table.name.clone(), Arc::new(table)))
            .collect(),
        types: Arc::new(Types(types)),
        others: HashMap::new(),
        functions: HashMap::new(),
        collation: DefaultCollation::default(),
    })
}

async fn read_tables(
    transaction: &Transaction<'_>,
    publication: &str,
) -> Result<HashMap<u32, Table>, SqlError> {
    let doing = SqlError::during("reading the published tables");
    let rows = transaction
        .query(
            "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relreplident::text AS identity,
                    c.relrowsecurity, c.relforcerowsecurity, p.pubinsert, p.pubupdate, p.pubdelete
               FROM pg_catalog.pg_publication p
               JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname
               JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
               JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
              WHERE p.pubname = $1::text",
            &[&publication],
        )
        .await
        .map_err(&doing)?;
    rows.iter()
        .map(|row| table(row).map(|table| (table.oid, table)))
        .collect::<Result<_, _>>()
        .map_err(doing)
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
        kind: RelationKind::Table,
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

async fn read_policies(
    transaction: &Transaction<'_>,
    oids: &[u32],
    tables: &mut HashMap<u32, Table>,
) -> Result<(), SqlError> {
    let doing = SqlError::during("reading the row-level policies");
    let rows = transaction
        .query(
            "SELECT p.polrelid, p.polname::text AS name, p.polpermissive, p.polroles,
                    pg_catalog.pg_get_expr(p.polqual, p.polrelid) AS using,
                    p.polqual IS NOT NULL AS has_using,
                    ARRAY(SELECT DISTINCT d.refobjsubid
                            FROM pg_catalog.pg_depend d
                           WHERE d.classid = 'pg_catalog.pg_policy'::regclass AND d.objid = p.oid
                             AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = p.polrelid
                             AND d.refobjsubid <> 0
                           ORDER BY 1) AS columns
               FROM pg_catalog.pg_policy p
              WHERE p.polrelid = ANY ($1::oid[]) AND p.polcmd IN ('r', '*')
              ORDER BY p.polrelid, p.polname",
            &[&oids],
        )
        .await
        .map_err(&doing)?;
    for row in &rows {
        let policy = policy(row).map_err(&doing)?;
        let oid: u32 = row.try_get("polrelid").map_err(&doing)?;
        if let Some(table) = tables.get_mut(&oid) {
            table.policies.push(policy);
        }
    }
    Ok(())
}

fn policy(row: &Row) -> Result<Policy, tokio_postgres::Error> {
    let using: Option<String> = row.try_get("using")?;
    let has_using: bool = row.try_get("has_using")?;
    // An expression whose text could not be had must not read as the absence of one.
    let using = using.or_else(|| has_using.then(|| "false".to_owned()));
    let read: Vec<i32> = row.try_get("columns")?;
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
        relations: Vec::new(),
        functions: Vec::new(),
    })
}
