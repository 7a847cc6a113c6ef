//! The table that private channels are authorised by, if the database has it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Transaction;

use super::policies::{self, Command};
use super::{Channels, Table, tables};
use crate::change::TableName;
use crate::postgres::SqlError;

/// The table twice, see [`Channels`]; both empty if it is not there. By oid, as all tables are while they are read.
#[derive(Debug, Default)]
pub(super) struct Sides {
    pub(super) read: HashMap<u32, Table>,
    pub(super) write: HashMap<u32, Table>,
}

/// Reads `realtime.messages`. A view or foreign table of that name authorises nobody.
pub(super) async fn read(transaction: &Transaction<'_>) -> Result<Sides, SqlError> {
    let mut read = tables::named(transaction, &TableName::new("realtime", "messages")).await?;
    let mut write = read.clone();
    policies::read(transaction, &mut read, Command::Select).await?;
    policies::read(transaction, &mut write, Command::Insert).await?;
    Ok(Sides { read, write })
}

impl Sides {
    pub(super) fn into_channels(self) -> Option<Channels> {
        Some(Channels {
            read: Arc::new(self.read.into_values().next()?),
            write: Arc::new(self.write.into_values().next()?),
        })
    }
}
