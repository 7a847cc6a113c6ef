//! What the adapters are told by whoever starts them.

use std::time::Duration;

use crate::hub::Bounds;
use crate::secret::Secret;

/// Limits of the server and of its sockets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// WebSocket connections open at once. Default 100,000.
    pub connections: usize,
    /// Joins per second of all connections together, with bursts of twice as many; 0 for no limit. Default 5,000.
    pub joins_per_second: u32,
    /// Broadcasts per second of all connections together, each with its deliveries; 0 for no limit, the default.
    pub events_per_second: u32,
    /// Bytes of broadcasts per second of all connections together; 0 for no limit, the default.
    pub bytes_per_second: u32,
    /// Calls of `track` and `untrack` per second of all connections together; 0 for no limit. Default 10,000.
    pub presence_per_second: u32,
    /// How long a refused connection waits for its answer. Default 2 s.
    pub connect_error_delay: Duration,
    /// Largest message from a client, in bytes. Default 5,000,000.
    pub message_bytes: usize,
    /// Body of an HTTP request, in bytes. Default 8,000,000.
    pub request_bytes: usize,
    /// What may wait for one connection. Default 8,192 frames and 8 MiB. A transaction's changes arrive together, so
    /// this is also the largest transaction a client can follow without reading meanwhile.
    pub outbox: Bounds,
    /// What may wait for all connections together, in bytes. Default 1 GiB.
    pub outboxes_bytes: usize,
    /// A connection whose socket takes nothing for this long is closed. Default 15 s.
    pub write_timeout: Duration,
    /// How often a client with a session id is asked how far it has come, while there is something to ask about. Default 1 s.
    pub acknowledge: Duration,
    /// How long what was missed can be had. Default 2 min.
    pub window: Duration,
    /// A stream of events that has nothing to say says so this often. Default 15 s.
    pub keep_alive: Duration,
    /// Longest wait of a poll. Default 25 s.
    pub poll_wait: Duration,
    /// The cookie that streams and polls take a token from, if there is one. Default: none.
    pub cookie: Option<String>,
    /// Whether they take one from the query. Default true.
    pub query_token: bool,
    /// A session of long polling that nobody polls for this long ends. Default 30 s.
    pub poll_patience: Duration,
    /// If set, `/metrics` wants `Authorization: Bearer` with this token. Default: open.
    pub metrics_token: Option<Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 100_000,
            joins_per_second: 5_000,
            events_per_second: 0,
            bytes_per_second: 0,
            presence_per_second: 10_000,
            connect_error_delay: Duration::from_secs(2),
            message_bytes: 5_000_000,
            request_bytes: 8_000_000,
            outbox: Bounds {
                frames: 8_192,
                bytes: 8 << 20,
            },
            outboxes_bytes: 1 << 30,
            write_timeout: Duration::from_secs(15),
            acknowledge: Duration::from_secs(1),
            window: Duration::from_secs(120),
            keep_alive: Duration::from_secs(15),
            poll_wait: Duration::from_secs(25),
            cookie: None,
            query_token: true,
            poll_patience: Duration::from_secs(30),
            metrics_token: None,
        }
    }
}
