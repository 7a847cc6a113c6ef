//! What clients asked for: filter text to conditions, bindings to tables, and the index from a change to those who
//! could want it.
//!
//! Who may see a row is for `policy` to decide; here its predicates are looked up. Holds no socket; members are ids.

mod filter;
mod index;
mod resolve;
mod validate;

pub use filter::{FilterError, RawCondition, parse as parse_filter};
pub use index::{Filter, Index, Member, Place, Scope, Slot, TableIndex};
pub use resolve::{Resolved, Target, exception, resolve};
pub use validate::{Unchecked, conditions};

/// Identifies one channel's row subscriptions within a server. Unique for the server's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriberId(pub u64);

/// Why a binding cannot be subscribed to. `Display` is the text clients see (protocol c.3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The filter text does not parse.
    #[error("Error parsing `filter` params: {0}")]
    Filter(#[from] FilterError),
    /// `select` is not a list of strings.
    #[error(
        "Error parsing `select` params: expected a list of column name strings, e.g. select: [\"col1\", \"col2\"]"
    )]
    Select,
    /// `transitions` is neither true nor false.
    #[error("Error parsing `transitions` params: expected true or false")]
    Transitions,
    /// `max_rate` is no rate.
    #[error("Error parsing `max_rate` params: expected a number above 0 and up to 1000")]
    MaxRate,
    /// `conflate` is neither true nor false.
    #[error("Error parsing `conflate` params: expected true or false")]
    Conflate,
    /// `snapshot` is neither true nor false.
    #[error("Error parsing `snapshot` params: expected true or false")]
    Snapshot,
    /// `snapshot` with a wildcard.
    #[error(
        "Snapshots are not supported for wildcard subscriptions. Provide an explicit schema and table name."
    )]
    SnapshotWildcard,
    /// `truncate` is neither true nor false.
    #[error("Error parsing `truncate` params: expected true or false")]
    Truncate,
    /// `select` with a wildcard.
    #[error(
        "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name."
    )]
    SelectWildcard,
    /// Neither schema nor table.
    #[error(
        "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: {0}"
    )]
    NoParams(String),
    /// No published table of that name.
    #[error(
        "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: {0}"
    )]
    NotPublished(String),
    /// The parameters are not possible for this table, its types or this role.
    #[error(
        "Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: {params}. Exception: {exception}"
    )]
    Exception {
        /// The parameters as clients know them.
        params: String,
        /// What is wrong with them.
        exception: String,
    },
}
