//! One row judged by Postgres in a transaction that is rolled back: for cases and explanations, where nothing may stay.

mod compiled;

use serde_json::{Map, Value, json};
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Transaction};

use super::identity::Identity;
use super::plan::{self, Plan};
use super::question::{Failure, Question, Verdict};
use crate::change::{Layout, LayoutColumn, Row, RowBuilder};
use crate::postgres::catalog::{Table, Types};
use crate::postgres::{SqlError, quote_identifier, quote_table};

pub use compiled::{Compiled, Unsaid};

/// What the judge consists of, for databases that no server was installed in yet. They are gone with the transaction.
const OBJECTS: [&str; 4] = [
    include_str!("../../sql/rowcast/schema.sql"),
    include_str!("../../sql/rowcast/is_visible.sql"),
    include_str!("../../sql/rowcast/evaluate.sql"),
    include_str!("../../sql/rowcast/judge.sql"),
];

/// A transaction that is never committed.
pub struct Rehearsal<'c> {
    transaction: Transaction<'c>,
}

/// Why a rehearsal cannot go on. `Display` has Postgres' own words: what it is about was typed by the reader.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The row has a value for a column that the table does not have.
    #[error("{table} has no column {column}")]
    UnknownColumn {
        /// The table.
        table: String,
        /// What was named.
        column: String,
    },
    /// Postgres does not take a statement or a value.
    #[error("{what}: {words}")]
    Refused {
        /// What it was asked to do.
        what: &'static str,
        /// What it says.
        words: String,
    },
    /// The database did not answer.
    #[error(transparent)]
    Database(#[from] SqlError),
}

impl<'c> Rehearsal<'c> {
    /// Begins, with the judge's functions in place.
    ///
    /// # Errors
    /// The database did not answer, or does not let the functions be made where they are missing.
    pub async fn begin(client: &'c mut Client) -> Result<Self, RehearsalError> {
        let doing = SqlError::during("beginning a transaction");
        let transaction = client.transaction().await.map_err(&doing)?;
        let row = transaction
            .query_one(
                "select pg_catalog.to_regprocedure('rowcast.judge(text[],json,json[],bigint[])') is not null",
                &[],
            )
            .await
            .map_err(&doing)?;
        if !row.try_get::<_, bool>(0).map_err(&doing)? {
            for object in OBJECTS {
                let made = transaction.batch_execute(object).await;
                made.map_err(|error| {
                    refused("the functions of the schema rowcast are not installed", &error)
                })?;
            }
        }
        Ok(Self { transaction })
    }

    /// Runs these statements as the preparation of one rehearsed row; [`Rehearsal::reset`] undoes them. From here on
    /// the transaction only reads. Statements that would end the transaction are refused.
    ///
    /// # Errors
    /// A statement that fails.
    pub async fn prepare(&self, statements: &[String]) -> Result<(), RehearsalError> {
        let doing = SqlError::during("preparing a row");
        self.transaction
            .batch_execute("savepoint rowcast_rehearsal")
            .await
            .map_err(&doing)?;
        for statement in statements {
            // The extended protocol takes one statement at a time, whatever is in the text.
            let done = self.transaction.execute(statement, &[]).await;
            done.map_err(|error| refused("setup", &error))?;
        }
        self.transaction
            .batch_execute("set local transaction_read_only = on")
            .await
            .map_err(doing)
            .map_err(Into::into)
    }

    /// Undoes everything since [`Rehearsal::prepare`].
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn reset(&self) -> Result<(), RehearsalError> {
        let undone = self
            .transaction
            .batch_execute("rollback to savepoint rowcast_rehearsal; release savepoint rowcast_rehearsal")
            .await;
        Ok(undone.map_err(SqlError::during("undoing the preparation of a row"))?)
    }

    /// The row that these values make, each in its column's text output form; what is not given is NULL.
    ///
    /// # Errors
    /// An unknown column, or a value that its column cannot hold.
    pub async fn row(&self, table: &Table, values: &Map<String, Value>) -> Result<Row, RehearsalError> {
        if let Some(column) = values.keys().find(|name| table.column(name).is_none()) {
            return Err(RehearsalError::UnknownColumn {
                table: table.name.to_string(),
                column: column.clone(),
            });
        }
        // `format` uses the output function, where a cast to text may be another thing (of bool, char(n), inet).
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| {
                let name = format!("made.{}", quote_identifier(&column.name));
                format!("case when {name} is distinct from null then pg_catalog.format('%s', {name}) end")
            })
            .collect();
        let query = format!(
            "select {} from pg_catalog.json_populate_record(null::{}, $1) as made",
            columns.join(", "),
            quote_table(&table.name),
        );
        let found = self.transaction.query_one(&query, &[&Json(values)]).await;
        let found = found.map_err(|error| refused("the row", &error))?;
        let mut row = RowBuilder::default();
        for i in 0..table.columns.len() {
            let value: Option<&str> = found.try_get(i).map_err(SqlError::during("reading a row"))?;
            match value {
                Some(text) => row.text(text),
                None => row.null(),
            }
        }
        Ok(row.finish(layout(table).into()))
    }

    /// What Postgres says to a question without a filter.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn judge(&self, question: &Question<'_>, types: &Types) -> Result<Verdict, RehearsalError> {
        let query = match plan::plan(question, types) {
            Plan::Decided(verdict) => return Ok(verdict),
            Plan::Ask(query) => query,
        };
        let Identity {
            role,
            claims,
            sub,
            email,
            topic,
            headers,
        } = Identity::of(question.claims);
        let item = json!([{
            "q": 1,
            "role": role,
            "claims": claims,
            "sub": sub,
            "email": email,
            "topic": topic,
            "headers": headers,
            "values": [],
            "rows": [1],
        }]);
        let rows = [Json(super::judge::row_json(question.row))];
        let doing = SqlError::during("judging a row");
        let answer = self
            .transaction
            .query_one(
                "select pg_catalog.cardinality(allowed) > 0, state from rowcast.judge($1, $2, $3, '{}')",
                &[&[query].as_slice(), &Json(item), &rows.as_slice()],
            )
            .await
            .map_err(&doing)?;
        let state: Option<String> = answer.try_get(1).map_err(&doing)?;
        Ok(match (answer.try_get(0).map_err(&doing)?, state) {
            (true, _) => Verdict::Allow,
            (false, Some(state)) => Verdict::Failed(Failure::Raised(state)),
            (false, None) => Verdict::Deny,
        })
    }
}

fn layout(table: &Table) -> Layout {
    let column = |column: &crate::postgres::catalog::Column| LayoutColumn {
        name: std::sync::Arc::clone(&column.name),
        type_oid: column.type_oid,
    };
    Layout {
        columns: table.columns.iter().map(column).collect(),
    }
}

fn refused(what: &'static str, error: &tokio_postgres::Error) -> RehearsalError {
    let words = error
        .as_db_error()
        .map_or_else(|| error.to_string(), |error| error.message().to_owned());
    RehearsalError::Refused { what, words }
}

#[cfg(test)]
mod tests;
