//! A row of the stream as a broadcast. Its columns are known by their names: the table need not be ours.

use bytes::Bytes;
use uuid::Uuid;

use super::Message;
use crate::change::{Action, Change, Row, Value};
use crate::expression::from_hex;
use crate::protocol::{Broadcast, Content};

/// Why a row is no broadcast.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unsent {
    #[error("it has been sent already")]
    Skipped,
    #[error("its extension is another one")]
    Extension,
    #[error("its {0} is missing")]
    Missing(&'static str),
    #[error("its {0} is not what it should be")]
    Wrong(&'static str),
    #[error("its payload is longer than {limit} bytes")]
    TooLarge { limit: usize },
}

/// What `extension` says of a broadcast.
const EXTENSION: &str = "broadcast";

/// `pg_type.oid` of what a payload can be.
const JSON: [u32; 2] = [114, 3802];

/// What a row that was inserted says, if its payload has at most `limit` bytes; `None` for what is no broadcast (and why goes
/// to the log).
pub fn message(change: &Change, limit: usize) -> Option<Message> {
    if change.action != Action::Insert {
        return None;
    }
    match read(change.new.as_ref()?, limit) {
        Ok(message) => Some(message),
        Err(Unsent::Skipped) => None,
        Err(why @ Unsent::TooLarge { .. }) => {
            tracing::warn!(%why, lsn = %change.lsn, "a row of realtime.messages is not sent");
            None
        }
        Err(why) => {
            tracing::debug!(%why, lsn = %change.lsn, "a row of realtime.messages is not sent");
            None
        }
    }
}

fn read(row: &Row, limit: usize) -> Result<Message, Unsent> {
    if text(row, "skip_broadcast") == Some("t") {
        return Err(Unsent::Skipped);
    }
    let required = |column| text(row, column).ok_or(Unsent::Missing(column));
    // Policies tell extensions apart: who may insert another one has no right to broadcast by that.
    if required("extension")? != EXTENSION {
        return Err(Unsent::Extension);
    }
    let event: Box<str> = required("event")?.into();
    let topic = required("topic")?.into();
    let private = required("private")? == "t";
    let id = Uuid::parse_str(required("id")?).map_err(|_| Unsent::Wrong("id"))?;
    required("inserted_at")?;
    let meta = Some(format!("{{\"id\":\"{id}\"}}").into());
    let content = match bytes(row, limit)? {
        Some(payload) => Content::Binary { event, payload, meta },
        None => Content::Json {
            event,
            payload: json(row, limit)?.into(),
            meta,
        },
    };
    Ok(Message {
        topic,
        private,
        broadcast: Broadcast {
            content,
            id: Some(id),
        },
    })
}

/// The bytes, which go before JSON.
fn bytes(row: &Row, limit: usize) -> Result<Option<Bytes>, Unsent> {
    const COLUMN: &str = "binary_payload";
    let Some(value) = text(row, COLUMN) else {
        return Ok(None);
    };
    let digits = value.strip_prefix("\\x").ok_or(Unsent::Wrong(COLUMN))?;
    if digits.len() / 2 > limit {
        return Err(Unsent::TooLarge { limit });
    }
    let bytes = from_hex(digits).ok_or(Unsent::Wrong(COLUMN))?;
    Ok(Some(bytes.into()))
}

fn json(row: &Row, limit: usize) -> Result<&str, Unsent> {
    const COLUMN: &str = "payload";
    let value = text(row, COLUMN).ok_or(Unsent::Missing(COLUMN))?;
    let at = row.layout().position(COLUMN);
    let column = at.and_then(|at| row.layout().columns.get(at));
    // It goes out as it is: only of these types it is JSON for sure.
    if !column.is_some_and(|column| JSON.contains(&column.type_oid)) {
        return Err(Unsent::Wrong(COLUMN));
    }
    if value.len() > limit {
        return Err(Unsent::TooLarge { limit });
    }
    Ok(value)
}

fn text<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    match row.get(column)? {
        Value::Text(text) => Some(text),
        Value::Null | Value::Unchanged => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::change::{Layout, LayoutColumn, Lsn, RowBuilder, TableName};

    const ID: &str = "00000000-0000-0000-0000-000000000007";

    /// An insert with these columns in place of the usual ones, or beside them.
    fn insert(other: &[(&str, u32, Option<&str>)]) -> Change {
        let mut columns = vec![
            ("topic", 25, Some("room")),
            ("extension", 25, Some("broadcast")),
            ("payload", 3802, Some(r#"{"a": "é"}"#)),
            ("event", 25, Some("ev")),
            ("private", 16, Some("t")),
            ("inserted_at", 1114, Some("2026-01-01 00:00:00")),
            ("id", 2950, Some(ID)),
            ("binary_payload", 17, None),
        ];
        for new in other {
            columns.retain(|column| column.0 != new.0);
            columns.push(*new);
        }
        let mut row = RowBuilder::default();
        for (_, _, value) in &columns {
            match value {
                Some(value) => row.text(value),
                None => row.null(),
            }
        }
        let columns = columns.iter().map(|(name, type_oid, _)| LayoutColumn {
            name: (*name).into(),
            type_oid: *type_oid,
        });
        let layout = Arc::new(Layout {
            columns: columns.collect(),
        });
        Change {
            lsn: Lsn(1),
            ordinal: 0,
            action: Action::Insert,
            table: TableName::new("realtime", "messages_2026_01_01"),
            new: Some(row.finish(layout)),
            old: None,
            wire_bytes: 0,
        }
    }

    fn why(change: &Change) -> Unsent {
        assert_eq!(message(change, 100), None);
        read(change.new.as_ref().unwrap(), 100).unwrap_err()
    }

    #[test]
    fn a_row_says_its_payload() {
        let meta: Option<Box<str>> = Some(format!(r#"{{"id":"{ID}"}}"#).into());
        let expected = Message {
            topic: "room".into(),
            private: true,
            broadcast: Broadcast {
                content: Content::Json {
                    event: "ev".into(),
                    payload: r#"{"a": "é"}"#.into(),
                    meta: meta.clone(),
                },
                id: Uuid::parse_str(ID).ok(),
            },
        };
        assert_eq!(message(&insert(&[]), 100), Some(expected));
        // Bytes go before JSON.
        let public = insert(&[
            ("private", 16, Some("f")),
            ("binary_payload", 17, Some("\\x00ff")),
            ("skip_broadcast", 16, Some("f")),
        ]);
        let public = message(&public, 2).unwrap();
        assert!(!public.private);
        let bytes = Content::Binary {
            event: "ev".into(),
            payload: Bytes::from_static(&[0, 255]),
            meta,
        };
        assert_eq!(public.broadcast.content, bytes);
    }

    #[test]
    fn what_is_missing_or_wrong_is_not_sent() {
        for column in [
            "topic",
            "extension",
            "event",
            "private",
            "id",
            "inserted_at",
            "payload",
        ] {
            assert_eq!(why(&insert(&[(column, 25, None)])), Unsent::Missing(column));
        }
        for (column, oid, value) in [
            ("id", 25, "7"),
            ("payload", 25, "{"),
            ("binary_payload", 17, "\\x0"),
            ("binary_payload", 17, "00"),
        ] {
            assert_eq!(
                why(&insert(&[(column, oid, Some(value))])),
                Unsent::Wrong(column),
                "{value}"
            );
        }
    }

    #[test]
    fn another_extension_is_no_broadcast() {
        for other in ["presence", "postgres_changes", "persistence", "Broadcast", ""] {
            let row = insert(&[("extension", 25, Some(other))]);
            assert_eq!(why(&row), Unsent::Extension, "{other}");
        }
    }

    #[test]
    fn what_has_been_sent_is_not_sent_again() {
        let kept = insert(&[("skip_broadcast", 16, Some("t"))]);
        assert_eq!(why(&kept), Unsent::Skipped);
        let mut updated = insert(&[]);
        updated.action = Action::Update;
        assert_eq!(message(&updated, 100), None);
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        let long = format!("\"{}\"", "x".repeat(98));
        let fits = insert(&[("payload", 3802, Some(&long))]);
        assert!(message(&fits, 100).is_some());
        assert!(message(&fits, 99).is_none());
        let bytes = format!("\\x{}", "00".repeat(101));
        let long = insert(&[("binary_payload", 17, Some(&bytes))]);
        assert_eq!(why(&long), Unsent::TooLarge { limit: 100 });
    }
}
