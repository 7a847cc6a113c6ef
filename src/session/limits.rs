use std::time::Duration;

/// What one connection may do, and how long things take. The defaults suit self-hosting: a client has to misbehave to
/// meet them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Channels joined or joining at once. Default 100.
    pub channels_per_connection: usize,
    /// `postgres_changes` entries of one channel. Default 100.
    pub bindings_per_channel: usize,
    /// Bytes of a join's payload. Default 65,536.
    pub join_payload_bytes: usize,
    /// Bytes of a topic. Default 1,024.
    pub topic_bytes: usize,
    /// Joins one connection may make per second, with bursts of twice as many; 0 for no limit. Default 100, so that
    /// one client in a loop is stopped before it uses up what all may do together.
    pub joins_per_second: u32,
    /// Messages of one connection per second, with bursts of twice as many; 0 for no limit. Default 1,000.
    pub messages_per_second: u32,
    /// Bytes of one connection per second, likewise. Default 10 MiB.
    pub bytes_per_second: u32,
    /// Bytes of a broadcast. Default 3,000,500.
    pub payload_bytes: usize,
    /// Bytes of what is tracked. It stays in memory, and goes to everybody who comes. Default 65,536.
    pub presence_bytes: usize,
    /// Calls of `track` and `untrack` of one channel within `presence_window`. Default 100.
    pub presence_calls: usize,
    /// Default 30 s.
    pub presence_window: Duration,
    /// Public channels are refused. Default false.
    pub private_only: bool,
    /// The state of presence goes to those who did not ask for it, too. Default false.
    pub presence_enabled: bool,
    /// How long before its token runs out a channel is told so; zero for never. Default 60 s.
    pub expiry_warning: Duration,
    /// How long an error reply to a join is held back. Below 8 s, or clients time out first. Default 5 s.
    pub join_error_delay: Duration,
    /// How long the ok reply to a join waits for its row subscription to be live. Below 8 s. Default 4 s.
    pub reply_wait: Duration,
    /// `postgres_changes_options.timeout` where the client gives none. Default 15 s.
    pub subscribe_wait: Duration,
    /// The longest `postgres_changes_options.timeout` granted. Default 20 s.
    pub subscribe_wait_max: Duration,
    /// After this long, and up to as long again, a subscription that could not be served is tried again. Default 5 s.
    pub subscribe_retry: Duration,
    /// A connection from which nothing is heard for this long is closed. Default 60 s; clients beat every 25 s.
    pub idle_timeout: Duration,
    /// A connection that had channels and has had none for this long is closed. Default 10 min.
    pub no_channel_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            channels_per_connection: 100,
            bindings_per_channel: 100,
            join_payload_bytes: 65_536,
            topic_bytes: 1_024,
            joins_per_second: 100,
            messages_per_second: 1_000,
            bytes_per_second: 10 << 20,
            payload_bytes: 3_000_500,
            presence_bytes: 65_536,
            presence_calls: 100,
            presence_window: Duration::from_secs(30),
            private_only: false,
            presence_enabled: false,
            expiry_warning: Duration::from_secs(60),
            join_error_delay: Duration::from_secs(5),
            reply_wait: Duration::from_secs(4),
            subscribe_wait: Duration::from_secs(15),
            subscribe_wait_max: Duration::from_secs(20),
            subscribe_retry: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            no_channel_timeout: Duration::from_secs(600),
        }
    }
}
