use super::Server;
use crate::protocol::errors::FieldError;

/// What stands before a topic in frames, bytes.
pub(super) const PREFIX: usize = "realtime:".len();

/// The longest topic that can be joined, without what stands before it.
pub(super) fn longest_topic(server: &Server) -> usize {
    server.context.limits.topic_bytes.saturating_sub(PREFIX)
}

/// A name of a topic or an event: there has to be something in it, of at most `limit` bytes, and nothing that Postgres cannot
/// hold.
pub(super) fn check(name: &str, limit: usize) -> Result<(), FieldError> {
    if name.trim().is_empty() {
        Err(FieldError::Blank)
    } else if name.contains('\0') {
        Err(FieldError::Invalid)
    } else if name.len() > limit {
        Err(FieldError::TooLong { limit })
    } else {
        Ok(())
    }
}
