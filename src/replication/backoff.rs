use std::time::Duration;

use rand::Rng;

/// First and longest wait between attempts.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that double from 100 ms to 5 s, each shortened at random by up to half so that many servers do not knock at
/// once.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The shortest wait comes first.
    pub fn new() -> Self {
        Self { next: FIRST }
    }

    /// After a stable period: start over.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }

    /// How long to wait before the next attempt.
    pub fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_its_bound_and_starts_over() {
        let mut backoff = Backoff::new();
        for expected in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let expected = Duration::from_millis(expected);
            let wait = backoff.wait();
            assert!(
                expected / 2 <= wait && wait <= expected,
                "{wait:?} of {expected:?}"
            );
        }
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
    }
}
