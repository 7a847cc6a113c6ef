//! The transaction that a snapshot is read in: repeatable read, read only, as the user.

use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use tokio_postgres::{Client, IsolationLevel, SimpleQueryMessage, Transaction};

use super::plan::{Item, Plan};
use crate::change::{Layout, Row, RowBuilder, Seen};
use crate::policy;
use crate::postgres::{ErrorKind, SqlError};

/// A snapshot with a cursor on every item of its plan.
pub(super) struct Snapshot<'c> {
    transaction: Transaction<'c>,
    /// What it sees.
    pub(super) seen: Seen,
    /// When it was taken, in microseconds since the Unix epoch.
    pub(super) micros: i64,
}

/// What a fetch brings.
pub(super) enum Fetched {
    Row(Row),
    /// The fetch is over; it brought so many.
    End(u64),
}

/// Rows of one fetch: what a round trip costs is nothing beside them.
pub(super) const FETCH: u64 = 1000;

/// Opened by PL/pgSQL, since only there a cursor is planned with its parameters, and nothing a client wrote is part of a
/// statement, which might be logged. It stays open until the transaction ends.
fn opening(item: usize) -> String {
    format!(
        "do $rowcast$
         declare
             rows pg_catalog.refcursor := 'rowcast_snapshot_{item}';
         begin
             open rows no scroll for execute pg_catalog.current_setting('rowcast.query')
                 using pg_catalog.current_setting('rowcast.bound')::pg_catalog.text[];
         end
         $rowcast$"
    )
}

impl<'c> Snapshot<'c> {
    /// Begins, and opens everything: what the role may not do fails here.
    ///
    /// # Errors
    /// Whatever Postgres says.
    pub(super) async fn take(client: &'c mut Client, plan: &Plan) -> Result<Self, SqlError> {
        let doing = SqlError::during("taking a snapshot");
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await
            .map_err(&doing)?;
        // All of it is read, so that a plan that brings the first rows early is no better.
        let look = "select pg_catalog.pg_current_snapshot()::text,
                           (extract(epoch from pg_catalog.statement_timestamp()) * 1000000)::int8,
                           pg_catalog.pg_is_in_recovery(),
                           pg_catalog.set_config('cursor_tuple_fraction', '1', true)";
        let row = transaction.query_one(look, &[]).await.map_err(&doing)?;
        let unreadable = || SqlError::of_kind("taking a snapshot", ErrorKind::Other, None);
        let seen: String = row.try_get(0).map_err(&doing)?;
        let mut seen: Seen = seen.parse().map_err(|_| unreadable())?;
        if row.try_get(2).map_err(&doing)? {
            // A standby does not list what is running. What it may not see then comes, some of it a second time.
            seen.xmax = seen.xmin;
            seen.running.clear();
        }
        let micros = row.try_get(1).map_err(&doing)?;
        policy::assume(&transaction, &plan.claims).await?;
        for (number, item) in plan.items.iter().enumerate() {
            open(&transaction, number, item).await?;
        }
        Ok(Self {
            transaction,
            seen,
            micros,
        })
    }

    /// The next rows of an item.
    ///
    /// # Errors
    /// Whatever Postgres says.
    pub(super) async fn fetch(
        &self,
        number: usize,
        layout: &Arc<Layout>,
    ) -> Result<impl Stream<Item = Result<Fetched, SqlError>>, SqlError> {
        // The simple protocol, whose values are in text output form, as those in the stream are.
        let fetch = format!("fetch forward {FETCH} from rowcast_snapshot_{number}");
        let doing = SqlError::during("reading a snapshot");
        let messages = self.transaction.client().simple_query_raw(&fetch).await;
        let layout = Arc::clone(layout);
        Ok(messages
            .map_err(&doing)?
            .map_err(doing)
            .try_filter_map(move |message| {
                let fetched = match message {
                    SimpleQueryMessage::Row(row) => {
                        let mut built = RowBuilder::with_capacity(row.len(), 64);
                        for i in 0..layout.columns.len() {
                            match row.get(i) {
                                Some(text) => built.text(text),
                                None => built.null(),
                            }
                        }
                        Some(Fetched::Row(built.finish(Arc::clone(&layout))))
                    }
                    SimpleQueryMessage::CommandComplete(rows) => Some(Fetched::End(rows)),
                    _ => None,
                };
                std::future::ready(Ok(fetched))
            }))
    }

    /// Lets go of it.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(super) async fn end(self) -> Result<(), SqlError> {
        let ended = self.transaction.rollback().await;
        ended.map_err(SqlError::during("ending a snapshot"))
    }
}

async fn open(transaction: &Transaction<'_>, number: usize, item: &Item) -> Result<(), SqlError> {
    let doing = SqlError::during("opening a snapshot");
    let bind = "select pg_catalog.set_config('rowcast.query', $1, true),
                       pg_catalog.set_config('rowcast.bound', ($2::pg_catalog.text[])::pg_catalog.text, true)";
    transaction
        .query_one(bind, &[&item.query, &item.values])
        .await
        .map_err(&doing)?;
    transaction.batch_execute(&opening(number)).await.map_err(doing)
}
