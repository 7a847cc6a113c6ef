//! The row that rights are judged by: a message as somebody would read or send it on a private channel.

use std::sync::Arc;

use chrono::DateTime;
use uuid::Uuid;

use crate::change::{Layout, LayoutColumn, Row, RowBuilder};
use crate::policy::Rights;
use crate::postgres::catalog::{Access, Column, Table};

/// 2000-01-01 in microseconds since 1970-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// A row of `realtime.messages` of this topic, with the extension that a single right is about, inserted `now` (microseconds
/// since 2000-01-01 UTC). What it would say is NULL, as is every column that the table has beside its own.
pub(super) fn row(table: &Table, topic: &str, right: Rights, now: i64) -> Row {
    let now = DateTime::from_timestamp_micros(now.saturating_add(POSTGRES_EPOCH)).unwrap_or_default();
    let now = now.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    let id = Uuid::new_v4().to_string();
    let mut row = RowBuilder::with_capacity(table.columns.len(), 128);
    for column in &table.columns {
        match &*column.name {
            "topic" => row.text(topic),
            "extension" => row.text(right.extension()),
            "private" => row.text("t"),
            "id" => row.text(&id),
            "inserted_at" | "updated_at" => row.text(&now),
            _ => row.null(),
        }
    }
    let column = |column: &Column| LayoutColumn {
        name: Arc::clone(&column.name),
        type_oid: column.type_oid,
    };
    row.finish(Arc::new(Layout {
        columns: table.columns.iter().map(column).collect(),
    }))
}

/// Whether a role has the privilege on what makes a message one: its topic and extension.
pub(super) fn privileged(table: &Table, access: &Access) -> bool {
    ["topic", "extension"].into_iter().all(|name| {
        let column = table.column(name).and_then(|i| access.columns.get(i));
        column.copied().unwrap_or(false)
    })
}
