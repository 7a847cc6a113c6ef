//! The catalog against a real Postgres.

mod access;
mod announcements;
mod channels;
mod files;
mod load;
mod loader;
mod locale;
mod reached;
mod types;

use std::sync::Arc;

use super::{Catalog, Table};
use crate::change::TableName;
use crate::postgres::Connection;

/// Runs statements, then reads the publication `p` (of all tables, unless the statements created it).
async fn read(connection: &mut Connection, statements: &str) -> Catalog {
    connection
        .batch_execute(statements)
        .await
        .expect("the statements");
    if super::publication(connection, "p")
        .await
        .expect("an answer")
        .is_none()
    {
        connection
            .batch_execute("CREATE PUBLICATION p FOR ALL TABLES")
            .await
            .expect("a publication");
    }
    super::load(connection, "p").await.expect("a catalog")
}

fn table(catalog: &Catalog, schema: &str, name: &str) -> Arc<Table> {
    Arc::clone(&catalog.tables[&TableName::new(schema, name)])
}

fn column_names(table: &Table) -> Vec<&str> {
    table.columns.iter().map(|column| &*column.name).collect()
}
