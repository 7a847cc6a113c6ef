//! The replication stream: from the database's WAL to [`crate::change::Event`]s, in commit order, without loss.
//!
//! [`run`] keeps one walsender connection to a permanent logical slot (manual, "Streaming Replication Protocol" and
//! "Logical Decoding"), decodes what the output plugin prints, hands it on in bounded batches and confirms to the slot what
//! the feed says may be confirmed. Where wal2json is missing, Postgres' own pgoutput takes its place. It survives every
//! interruption and says what an operator has to do about it.
//!
//! In here: the wire, the slot and who owns it (`guard`), what Postgres keeps for it (`watcher`), our publications, the
//! decoding, and what "passed on already" means. Not in here: who wants a change, how far back the replay window reaches, the
//! catalog, and any SQL beyond what a slot and its publications need.

mod backoff;
mod connection;
mod failure;
mod feedback;
mod frames;
mod guard;
mod intake;
#[cfg(test)]
mod live_tests;
mod login;
mod message;
pub mod pgoutput;
mod progress;
mod publication;
mod pump;
mod slot;
mod socket;
mod stream;
mod tables;
mod timeline;
mod unprintable;
pub mod wal2json;
mod walsender;
mod watcher;

pub use backoff::Backoff;
pub use failure::{Failure, ServerError};
pub use message::Message;
pub use publication::own_publications;
pub use slot::{PGOUTPUT, SlotSettings, WAL2JSON};
pub use stream::{Settings, Signals, run};
pub use watcher::{SlotHealth, WalStatus, WatchSettings, Watched, watch};
