//! What the feed is told by whoever starts it.

use std::time::Duration;

use super::snapshot::Settings as SnapshotSettings;
use crate::history;

/// What the pump needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The publication whose tables are followed.
    pub publication: String,
    /// How often the catalog is read again when nothing said that it changed.
    pub catalog_refresh: Duration,
    /// A change whose replication message is larger than this loses its large fields (`Error 413`). Bytes.
    pub max_record_bytes: usize,
    /// A row of `realtime.messages` with a longer payload is not sent. Bytes.
    pub max_broadcast_bytes: usize,
    /// Logical messages with the prefix `rowcast.broadcast` are broadcasts.
    pub logical_broadcasts: bool,
    /// How many values an `in` list may have.
    pub max_in_values: usize,
    /// What becomes of a DELETE under row-level security whose old row does not carry what the policies read.
    pub unjudged_deletes: UnjudgedDeletes,
    /// Tables with neither row-level security nor a policy file are shown only to roles above row-level security.
    pub policies_required: bool,
    /// Policies are decided in memory where that is possible.
    pub in_memory: bool,
    /// How much may be read for snapshots.
    pub snapshot: SnapshotSettings,
    /// How often the rights on private channels are judged again where nothing says that they changed; zero for never.
    pub channel_recheck: Duration,
    /// How much of the past can be gone on from.
    pub window: history::Bounds,
}

/// See [`Settings::unjudged_deletes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnjudgedDeletes {
    /// The primary key goes to the table's subscribers, as clients of this protocol expect.
    Key,
    /// Nobody is told.
    Deny,
}
