//! Topic names: `realtime:` and the part that users choose.

/// What every topic starts with.
pub const PREFIX: &str = "realtime:";

/// The part after `realtime:`, or `None` for a topic that is not ours (`phoenix`, rubbish).
pub fn sub_topic(topic: &str) -> Option<&str> {
    topic.strip_prefix(PREFIX)
}
