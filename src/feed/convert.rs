//! The few values whose JSON form only Postgres knows: types with a cast function to json, such as hstore.

use std::collections::HashMap;

use crate::postgres::Pool;

use crate::change::{Row, Value};
use crate::postgres::catalog::{Table, Types};
use crate::postgres::jsonb;

/// JSON forms by type oid and text form.
pub(super) type Converted = HashMap<(u32, String), String>;

/// Collects what has to be asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted(HashMap<u32, Vec<String>>);

impl Wanted {
    /// Notes the values of a row that only Postgres can convert.
    pub(super) fn note(&mut self, table: &Table, types: &Types, row: &Row) {
        for column in table
            .columns
            .iter()
            .filter(|column| jsonb::asks_postgres(types, column.type_oid))
        {
            if let Some(Value::Text(text)) = row.get(&column.name) {
                self.0.entry(column.type_oid).or_default().push(text.to_owned());
            }
        }
    }

    /// Asks, one query per type. What cannot be converted stays absent and goes out as its text.
    pub(super) async fn ask(self, pool: &Pool, types: &Types) -> Converted {
        let mut converted = Converted::new();
        for (oid, texts) in self.0 {
            let Some(ty) = types.0.get(&oid) else { continue };
            match ask(pool, &ty.sql, &texts).await {
                Ok(json) => {
                    converted.extend(
                        texts
                            .into_iter()
                            .zip(json)
                            .map(|(text, json)| ((oid, text), json)),
                    );
                }
                Err(error) => tracing::warn!(r#type = %ty.sql, %error, "values go out as text"),
            }
        }
        converted
    }
}

async fn ask(pool: &Pool, ty: &str, texts: &[String]) -> Result<Vec<String>, String> {
    let client = pool.get().await.map_err(|e| e.to_string())?;
    let query = format!(
        "select pg_catalog.to_jsonb(v::{ty})::text from pg_catalog.unnest($1::text[]) with ordinality as u(v, n) order by n"
    );
    let rows = client.query(&query, &[&texts]).await.map_err(|e| {
        // The message could hold a value; its code cannot.
        e.code().map_or_else(
            || "connection lost".to_owned(),
            |code| format!("SQLSTATE {}", code.code()),
        )
    })?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
