use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long one bucket counts.
const TICK: Duration = Duration::from_secs(5);

/// How many buckets are kept: a minute.
const BUCKETS: usize = 12;

/// How often something has happened in the last minute. Says and limits nothing by itself.
#[derive(Debug, Default)]
pub struct Rolling {
    /// When the newest bucket began.
    began: Option<Instant>,
    /// Oldest first. Not empty once something was counted.
    buckets: VecDeque<u64>,
}

impl Rolling {
    /// Counts so many.
    pub fn add(&mut self, amount: u64, now: Instant) {
        self.advance(now);
        if let Some(newest) = self.buckets.back_mut() {
            *newest = newest.saturating_add(amount);
        }
    }

    /// How many per second on average, over the last minute or since the first.
    pub fn per_second(&mut self, now: Instant) -> u64 {
        self.advance(now);
        let sum = self
            .buckets
            .iter()
            .fold(0, |sum: u64, count| sum.saturating_add(*count));
        // Twelve at most.
        let seconds = TICK.as_secs() * self.buckets.len().max(1) as u64;
        sum / seconds
    }

    /// Begins the buckets that time has brought, and forgets as many.
    fn advance(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        if self.buckets.is_empty() {
            self.buckets.push_back(0);
        }
        let ticks = now.saturating_duration_since(began).as_secs() / TICK.as_secs();
        for _ in 0..ticks.min(BUCKETS as u64) {
            self.buckets.push_back(0);
            if self.buckets.len() > BUCKETS {
                self.buckets.pop_front();
            }
        }
        self.began = Some(began + Duration::from_secs(ticks * TICK.as_secs()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_counts_and_what_is_older_does_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rolling = Rolling::default();
        assert_eq!(rolling.per_second(start), 0);
        rolling.add(600, start);
        assert_eq!(rolling.per_second(start), 120, "there is one bucket yet");
        assert_eq!(rolling.per_second(at(4)), 120);
        assert_eq!(rolling.per_second(at(5)), 60);
        assert_eq!(rolling.per_second(at(59)), 10);
        rolling.add(600, at(59));
        assert_eq!(rolling.per_second(at(59)), 20);
        assert_eq!(rolling.per_second(at(60)), 10, "the first are a minute old");
        assert_eq!(rolling.per_second(at(114)), 10);
        assert_eq!(rolling.per_second(at(115)), 0);
        rolling.add(60, at(10_000));
        assert_eq!(rolling.per_second(at(10_000)), 1);
    }

    #[test]
    fn an_earlier_time_is_taken_for_the_latest() {
        let start = Instant::now();
        let mut rolling = Rolling::default();
        rolling.add(5, start + Duration::from_secs(5));
        rolling.add(5, start);
        assert_eq!(rolling.per_second(start), 2);
    }
}
