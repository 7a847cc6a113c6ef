use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// A rate that all connections share, as a token bucket: `per_second` on average, bursts of twice as many.
#[derive(Debug)]
pub struct SharedRate {
    per_second: u32,
    bucket: Mutex<Bucket>,
}

impl SharedRate {
    /// A full bucket. 0 means no limit.
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second,
            bucket: Mutex::default(),
        }
    }

    /// Counts one, if there is one left.
    pub fn take(&self, now: Instant) -> bool {
        self.bucket().take(self.per_second, now)
    }

    /// Whether there is none left. Counts nothing.
    pub fn is_exhausted(&self, now: Instant) -> bool {
        !self.bucket().refill(self.per_second, now)
    }

    fn bucket(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left of a rate. The default is a full bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    used: f64,
    at: Option<Instant>,
}

impl Bucket {
    /// Takes one if there is one; always, for a rate of 0.
    pub(super) fn take(&mut self, per_second: u32, now: Instant) -> bool {
        let allowed = self.refill(per_second, now);
        if allowed && per_second > 0 {
            self.used += 1.0;
        }
        allowed
    }

    fn refill(&mut self, per_second: u32, now: Instant) -> bool {
        let rate = f64::from(per_second);
        let elapsed = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.used = (self.used - elapsed.as_secs_f64() * rate).max(0.0);
        self.at = Some(now);
        per_second == 0 || self.used + 1.0 <= rate * 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_two_seconds_then_the_rate() {
        let rate = SharedRate::new(10);
        let start = Instant::now();
        assert_eq!((0..50).filter(|_| rate.take(start)).count(), 20);
        assert!(rate.is_exhausted(start));
        let later = start + Duration::from_millis(500);
        assert!(!rate.is_exhausted(later));
        assert_eq!((0..50).filter(|_| rate.take(later)).count(), 5);
    }

    #[test]
    fn zero_is_no_limit() {
        let rate = SharedRate::new(0);
        let now = Instant::now();
        assert!((0..1000).all(|_| rate.take(now)));
        assert!(!rate.is_exhausted(now));
    }
}
