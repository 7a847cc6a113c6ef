//! Logical messages (manual, "System Administration Functions", `pg_logical_emit_message`) that are broadcasts. They take the
//! shape of a row of `realtime.messages` that nobody stored, and so go the way of one.

use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::{Builder, Uuid};

use crate::change::{Action, Change, Layout, LayoutColumn, Lsn, RowBuilder, TableName, Transaction};

/// The prefix of such messages.
pub const LOGICAL_PREFIX: &str = "rowcast.broadcast";

/// Why a logical message is no broadcast. Never carries what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not the JSON that is asked for.
    #[error("it is not an object with topic, event, payload and private, at column {0}")]
    Shape(usize),
    /// Nowhere to say it.
    #[error("its topic is empty")]
    Topic,
    /// Longer than a broadcast may be.
    #[error("its payload is longer than {limit} bytes")]
    TooLarge {
        /// Most bytes of a payload.
        limit: usize,
    },
    /// It belongs to no transaction.
    #[error("it is not transactional")]
    Loose,
}

/// What such a message says.
#[derive(Debug, Deserialize)]
struct Content {
    topic: String,
    event: String,
    payload: Option<Box<RawValue>>,
    /// As for `realtime.send`, what does not say so is not public.
    private: Option<bool>,
}

const BOOL: u32 = 16;
const TEXT: u32 = 25;
const JSONB: u32 = 3802;
const UUID: u32 = 2950;

/// No table has this name: Postgres knows no schema without one.
static TABLE: LazyLock<TableName> = LazyLock::new(|| TableName::new("", LOGICAL_PREFIX));

static LAYOUT: LazyLock<Arc<Layout>> = LazyLock::new(|| {
    let columns = [
        ("topic", TEXT),
        ("event", TEXT),
        ("payload", JSONB),
        ("private", BOOL),
        ("extension", TEXT),
        ("inserted_at", TEXT),
        ("id", UUID),
    ];
    let columns = columns.map(|(name, type_oid)| LayoutColumn {
        name: Arc::from(name),
        type_oid,
    });
    Arc::new(Layout {
        columns: columns.into(),
    })
});

/// Whether a change is what [`logical`] made of a message.
pub fn is_logical(table: &TableName) -> bool {
    *table == *TABLE
}

/// A message of a transaction as the row that it would be, if its payload has at most `limit` bytes. Its id is the same
/// whenever it is read.
///
/// # Errors
/// See [`Malformed`].
pub fn logical(
    content: &str,
    lsn: Lsn,
    transaction: &Transaction,
    limit: usize,
) -> Result<Change, Malformed> {
    let said: Content = serde_json::from_str(content).map_err(|error| Malformed::Shape(error.column()))?;
    if said.topic.is_empty() {
        return Err(Malformed::Topic);
    }
    let payload = said.payload.as_deref().map_or("{}", RawValue::get);
    if payload.len() > limit {
        return Err(Malformed::TooLarge { limit });
    }
    let mut row = RowBuilder::with_capacity(LAYOUT.columns.len(), content.len() + 64);
    row.text(&said.topic);
    row.text(&said.event);
    row.text(payload);
    row.text(if said.private == Some(false) { "f" } else { "t" });
    row.text("broadcast");
    row.text("now");
    row.text(&id(content, lsn, transaction).to_string());
    Ok(Change {
        lsn,
        ordinal: 0,
        action: Action::Insert,
        table: TABLE.clone(),
        new: Some(row.finish(Arc::clone(&LAYOUT))),
        old: None,
        wire_bytes: content.len(),
    })
}

/// FNV-1a of where and when the message was written, and of what it says.
fn id(content: &str, lsn: Lsn, transaction: &Transaction) -> Uuid {
    let place = [lsn.0.to_be_bytes(), transaction.place().0.to_be_bytes()];
    let time = transaction.commit_micros.to_be_bytes();
    let bytes = place
        .iter()
        .flatten()
        .chain(&time)
        .copied()
        .chain(content.bytes());
    let hash = bytes.fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Message, message};
    use crate::protocol;

    const TRANSACTION: Transaction = Transaction {
        xid: 7,
        commit_lsn: Lsn(99),
        end_lsn: Lsn(100),
        commit_micros: 1,
    };

    fn read(content: &str) -> Result<Option<Message>, Malformed> {
        let change = logical(content, Lsn(90), &TRANSACTION, 20)?;
        assert!(is_logical(&change.table));
        Ok(message(&change, 20))
    }

    #[test]
    fn says_what_a_row_would() {
        let content = r#"{"topic":"room","event":"ev","payload":{"a": "\u00e9"},"private":false,"x":1}"#;
        let said = read(content).expect("a broadcast").expect("one to be sent");
        assert_eq!((&*said.topic, said.private), ("room", false));
        let protocol::Content::Json { event, payload, meta } = said.broadcast.content else {
            panic!("not JSON");
        };
        assert_eq!((&*event, &*payload), ("ev", r#"{"a": "\u00e9"}"#));
        let id = said.broadcast.id.expect("an id");
        assert_eq!(meta.as_deref(), Some(&*format!("{{\"id\":\"{id}\"}}")));
        let again = read(content).expect("a broadcast").expect("one to be sent");
        assert_eq!(again.broadcast.id, Some(id), "the same id when it is read again");
    }

    #[test]
    fn is_private_and_empty_unless_it_says_so() {
        let said = read(r#"{"topic":"room","event":"ev"}"#)
            .expect("a broadcast")
            .expect("one");
        let protocol::Content::Json { payload, .. } = said.broadcast.content else {
            panic!("not JSON");
        };
        assert_eq!((said.private, &*payload), (true, "{}"));
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        for content in [
            "",
            "1",
            "null",
            "[]",
            "{}",
            r#"{"topic":"room"}"#,
            r#"{"topic":1,"event":"ev"}"#,
            r#"{"topic":"room","event":"ev","private":"true"}"#,
            r#"{"topic":"room","event":"ev","payload":}"#,
            r#"{"topic":"room","event":"ev"} x"#,
            "{\"topic\":\"\u{fffd}",
        ] {
            assert!(matches!(read(content), Err(Malformed::Shape(_))), "{content}");
        }
        assert_eq!(read(r#"{"topic":"","event":"ev"}"#), Err(Malformed::Topic));
        let long = format!(
            r#"{{"topic":"room","event":"ev","payload":"{}"}}"#,
            "x".repeat(19)
        );
        assert_eq!(read(&long), Err(Malformed::TooLarge { limit: 20 }));
    }
}
