use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::{Kept, Late, Names, sql};
use crate::change::{Lsn, TableName};
use crate::postgres::{SqlError, quote_identifier, quote_table};

const READING: &str = "reading the publications";

/// The first version that can publish stored generated columns, where it is asked to.
const PUBLISHES_GENERATED: i32 = 180_000;

/// One of the two.
struct Publication {
    name: String,
    /// Whether we may alter it.
    ours: bool,
    /// Whether it publishes what it should.
    right: bool,
    members: BTreeSet<TableName>,
    /// What is to be in it.
    targets: BTreeSet<TableName>,
}

/// See [`super::Publications::keep`].
pub(super) async fn keep(
    client: &Client,
    names: &Names,
    wanted: &BTreeSet<TableName>,
    late: &Late,
) -> Result<Kept, SqlError> {
    let (mut publications, made) = ensure(client, names).await?;
    let known: Vec<String> = publications.iter().map(|p| p.name.clone()).collect();
    let schemas: Vec<&str> = wanted.iter().map(|table| &*table.schema).collect();
    let tables: Vec<&str> = wanted.iter().map(|table| &*table.table).collect();
    for member in rows(client, sql::MEMBERS, &[&known]).await? {
        let name: String = get(&member, "publication")?;
        if let Some(found) = publications.iter_mut().find(|p| p.name == name) {
            found.members.insert(table(&member)?);
        }
    }
    for target in rows(client, sql::TARGETS, &[&schemas, &tables, &known]).await? {
        let name = match get(&target, "identity")? {
            true => &names.all,
            false => &names.inserts,
        };
        if let Some(found) = publications.iter_mut().find(|p| p.name == *name) {
            found.targets.insert(table(&target)?);
        }
    }
    let parameters: [&(dyn ToSql + Sync); 3] = [&schemas, &tables, &known];
    let lacking = || rows(client, sql::MISSING, &parameters);
    let mut added = lacking()
        .await?
        .iter()
        .map(table)
        .collect::<Result<BTreeSet<_>, _>>()?;
    let all = publications
        .iter()
        .find(|publication| publication.name == names.all);
    added.extend(
        all.iter()
            .flat_map(|all| all.targets.difference(&all.members).cloned()),
    );
    late.note(&added);
    let reasons = alter(client, &publications).await;
    let mut missing = BTreeMap::new();
    for row in lacking().await? {
        let table = table(&row)?;
        let reason = reasons.get(&table).cloned();
        let reason =
            reason.unwrap_or_else(|| match publications.iter().all(|publication| publication.ours) {
                true => "the table that it is a partition of cannot be added".to_owned(),
                false => "the publication is not ours to alter".to_owned(),
            });
        missing.insert(table, reason);
    }
    late.forget(missing.keys().cloned());
    Ok(Kept {
        names: known,
        missing,
        position: position(client).await?,
        made,
    })
}

/// Those of the two that exist, made where they did not and set right where they publish something else; whether the first
/// was made.
async fn ensure(client: &Client, names: &Names) -> Result<(Vec<Publication>, bool), SqlError> {
    let mut found = look(client, names).await?;
    let mut made = false;
    for (name, publish) in [
        (&names.all, "insert, update, delete, truncate"),
        (&names.inserts, "insert, truncate"),
    ] {
        let before = found.iter().find(|publication| publication.name == *name);
        if before.is_some_and(|publication| publication.right) {
            continue;
        }
        let version = rows(
            client,
            "SELECT pg_catalog.current_setting('server_version_num')::int",
            &[],
        )
        .await?;
        let version: i32 = version.first().map_or(Ok(0), |row| get(row, "current_setting"))?;
        let generated = match version >= PUBLISHES_GENERATED {
            true => ", publish_generated_columns = stored",
            false => "",
        };
        let options = format!("publish = '{publish}', publish_via_partition_root = false{generated}");
        let quoted = quote_identifier(name);
        let statement = match before {
            Some(_) => format!("ALTER PUBLICATION {quoted} SET ({options})"),
            None => format!("CREATE PUBLICATION {quoted} WITH ({options})"),
        };
        let done = client.batch_execute(&statement).await;
        // Without the second one, tables without a replica identity are missing; that is said of each.
        if *name == names.all {
            done.map_err(|e| SqlError::new(statement, e))?;
            made |= before.is_none();
        }
    }
    if made || found.len() < 2 || found.iter().any(|publication| !publication.right) {
        found = look(client, names).await?;
    }
    Ok((found, made))
}

async fn look(client: &Client, names: &Names) -> Result<Vec<Publication>, SqlError> {
    let both: [&str; 2] = [&names.all, &names.inserts];
    let found = rows(client, sql::PUBLICATIONS, &[&both.as_slice(), &names.all]).await?;
    let publication = |row: &Row| {
        Ok(Publication {
            name: get(row, "name")?,
            ours: get(row, "ours")?,
            right: get(row, "is_right")?,
            members: BTreeSet::new(),
            targets: BTreeSet::new(),
        })
    };
    found.iter().map(publication).collect()
}

/// Puts in what is to be in them and takes out what is not. Why what could not.
async fn alter(client: &Client, publications: &[Publication]) -> BTreeMap<TableName, String> {
    let mut reasons = BTreeMap::new();
    // First in, then out: what moves from one to the other is always in one.
    for (verb, wanted) in [("ADD", true), ("DROP", false)] {
        for publication in publications.iter().filter(|publication| publication.ours) {
            let (members, targets) = (&publication.members, &publication.targets);
            let tables: Vec<&TableName> = match wanted {
                true => targets.difference(members).collect(),
                false => members.difference(targets).collect(),
            };
            for (table, error) in change(client, &publication.name, verb, &tables).await {
                if wanted {
                    reasons.insert(table.clone(), error.chain());
                }
            }
        }
    }
    reasons
}

/// All at once, or where that is refused each by itself.
async fn change<'a>(
    client: &Client,
    publication: &str,
    verb: &str,
    tables: &[&'a TableName],
) -> Vec<(&'a TableName, SqlError)> {
    let statement = |tables: &[&TableName]| {
        let names: Vec<String> = tables.iter().map(|table| quote_table(table)).collect();
        let publication = quote_identifier(publication);
        format!(
            "ALTER PUBLICATION {publication} {verb} TABLE {}",
            names.join(", ")
        )
    };
    let mut refused = Vec::new();
    if tables.is_empty() {
        return refused;
    }
    if client.batch_execute(&statement(tables)).await.is_ok() {
        return refused;
    }
    for table in tables {
        let statement = statement(&[table]);
        if let Err(error) = client.batch_execute(&statement).await {
            refused.push((*table, SqlError::new(statement, error)));
        }
    }
    refused
}

/// Where the WAL stands: what was altered so far is before it, since our sessions wait for their commits to be written. (The
/// position of inserts may be one that a quiet server's stream never reaches.)
async fn position(client: &Client) -> Result<Lsn, SqlError> {
    let found = rows(
        client,
        "SELECT pg_catalog.pg_current_wal_flush_lsn()::text AS position",
        &[],
    )
    .await?;
    let position: Option<String> = found.first().map(|row| get(row, "position")).transpose()?;
    Ok(position.and_then(|text| text.parse().ok()).unwrap_or_default())
}

async fn rows(client: &Client, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, SqlError> {
    client
        .query(sql, parameters)
        .await
        .map_err(SqlError::during(READING))
}

fn get<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, SqlError> {
    row.try_get(column).map_err(SqlError::during(READING))
}

fn table(row: &Row) -> Result<TableName, SqlError> {
    Ok(TableName::new(get(row, "schema")?, get(row, "name")?))
}
