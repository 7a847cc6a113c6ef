//! How much of something may happen in a time: token buckets. No task and no clock of its own: the time comes in.

mod rolling;
mod traffic;

pub use rolling::Rolling;
pub use traffic::Traffic;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A rate that many share, as a token bucket: `per_second` on average, bursts of twice as many.
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
        self.per_second == 0 || self.bucket().take(self.per_second, now)
    }

    /// Counts so many although they may be more than are left: what has happened cannot be refused any more, and whoever
    /// asks next waits for it. Beyond one second's worth the debt does not grow.
    pub fn spend(&self, amount: u64, now: Instant) {
        if self.per_second > 0 && amount > 0 {
            self.bucket().spend(amount, self.per_second, now);
        }
    }

    /// Whether there is none left. Counts nothing.
    pub fn is_exhausted(&self, now: Instant) -> bool {
        self.per_second > 0 && !self.bucket().refill(self.per_second, now)
    }

    /// The rate; 0 for no limit.
    pub fn per_second(&self) -> u32 {
        self.per_second
    }

    /// How many are left.
    pub fn left(&self, now: Instant) -> u64 {
        if self.per_second == 0 {
            return u64::MAX;
        }
        self.bucket().left(self.per_second, now)
    }

    fn bucket(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left of a rate. The default is a full bucket.
#[derive(Debug, Default)]
pub struct Bucket {
    used: f64,
    at: Option<Instant>,
}

impl Bucket {
    /// Takes one if there is one; always, for a rate of 0.
    pub fn take(&mut self, per_second: u32, now: Instant) -> bool {
        let allowed = self.refill(per_second, now);
        if allowed && per_second > 0 {
            self.used += 1.0;
        }
        allowed
    }

    /// As [`SharedRate::spend`].
    pub fn spend(&mut self, amount: u64, per_second: u32, now: Instant) {
        self.refill(per_second, now);
        // Counts are far below 2^53, where f64 is exact.
        self.used = (self.used + amount as f64).min(f64::from(per_second) * 3.0);
    }

    /// How long until there is one again; zero if there is one, or for a rate of 0.
    pub fn wait(&mut self, per_second: u32, now: Instant) -> Duration {
        if per_second == 0 || self.refill(per_second, now) {
            return Duration::ZERO;
        }
        let rate = f64::from(per_second);
        Duration::from_secs_f64(((self.used + 1.0 - rate * 2.0) / rate).max(0.0))
    }

    fn left(&mut self, per_second: u32, now: Instant) -> u64 {
        self.refill(per_second, now);
        // Not negative, and far below 2^53.
        (f64::from(per_second) * 2.0 - self.used).max(0.0) as u64
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

    #[test]
    fn what_was_spent_beyond_the_rate_is_waited_for() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.wait(10, start), Duration::ZERO);
        bucket.spend(25, 10, start);
        assert!(!bucket.take(10, start));
        assert_eq!(bucket.wait(10, start), Duration::from_millis(600));
        bucket.spend(1_000_000, 10, start);
        assert!(
            bucket.wait(10, start) <= Duration::from_millis(1_100),
            "the debt is bounded"
        );
        assert!(bucket.take(10, start + Duration::from_millis(1_100)));
    }
}
