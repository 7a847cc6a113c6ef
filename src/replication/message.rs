use crate::change::{Change, Lsn, Transaction};

/// One message of the plugin.
#[derive(Debug)]
pub enum Message {
    /// A committed transaction starts.
    Begin(Transaction),
    /// A row was inserted, updated or deleted, or a table truncated.
    Change(Change),
    /// Tables were truncated together.
    Truncate(Vec<Change>),
    /// A logical message.
    Message {
        /// Whether it belongs to the transaction that was begun last.
        transactional: bool,
        /// Position of its WAL record.
        lsn: Lsn,
        /// The prefix its sender gave it.
        prefix: String,
        /// Its content as text.
        content: String,
    },
    /// The transaction is complete.
    Commit(Transaction),
    /// Nothing that anybody is to hear of: names and types, or what nobody asked for.
    Nothing,
}
