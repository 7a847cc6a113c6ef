//! Every text and close code that tells a client of trouble or of a change of state.
//!
//! Clients and their users match on these, so they are spelled here and nowhere else, a file for each place where they
//! come up; `docs/ERRORS.md` explains each, and a test holds the two together. Not in here: when something is refused.

mod close;
mod connect;
mod join;
mod notice;
mod push;
mod requests;

pub use close::Close;
pub use connect::ConnectError;
pub use join::{JoinError, join_status};
pub use notice::Notice;
pub use push::{PAYLOAD_SIZE_EXCEEDED, PersistError, PushError};
pub use requests::{FieldError, Invalid, RequestError, RowsError};

use super::server::push_json_string;

/// `{"<key>":"<text>"}`.
fn object(key: &str, text: &str) -> String {
    let mut out = format!("{{\"{key}\":");
    push_json_string(&mut out, text);
    out.push('}');
    out
}

#[cfg(test)]
#[path = "errors_tests.rs"]
mod tests;
