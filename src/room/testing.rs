//! Members for the tests of those who speak into rooms.

use super::{Entry, Hears};
use crate::hub::{Lane, Outbox};
use crate::protocol::Version;

/// Somebody of wire version 1 who hears broadcasts and nothing else.
pub(crate) fn listener(outbox: &Outbox) -> Entry {
    Entry {
        lane: Lane::new(outbox),
        version: Version::V1,
        join_ref: None,
        hears: Hears {
            broadcasts: true,
            presence: false,
        },
        wants_state: false,
        own: false,
        key: "key".into(),
        reply: None,
        replayed: None,
        returns: None,
    }
}
