use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::{Rolling, SharedRate};

/// What the broadcasts of all connections and requests count against together.
#[derive(Debug)]
pub struct Traffic {
    events: SharedRate,
    bytes: SharedRate,
    rolling: Mutex<Rolling>,
}

impl Traffic {
    /// As many events and bytes per second, with bursts of twice as many; 0 for no limit.
    pub fn new(events_per_second: u32, bytes_per_second: u32) -> Self {
        Self {
            events: SharedRate::new(events_per_second),
            bytes: SharedRate::new(bytes_per_second),
            rolling: Mutex::default(),
        }
    }

    /// Counts what was said: an event for each time that it was said and one for everybody who got it, and the bytes of those
    /// who said it.
    pub fn count(&self, events: u64, bytes: u64, now: Instant) {
        self.events.spend(events, now);
        self.bytes.spend(bytes, now);
        self.rolling().add(events, now);
    }

    /// The events.
    pub fn events(&self) -> &SharedRate {
        &self.events
    }

    /// The bytes.
    pub fn bytes(&self) -> &SharedRate {
        &self.bytes
    }

    /// Events per second in the last minute.
    pub fn events_per_second(&self, now: Instant) -> u64 {
        self.rolling().per_second(now)
    }

    fn rolling(&self) -> std::sync::MutexGuard<'_, Rolling> {
        self.rolling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_bytes_run_out_each_by_themselves() {
        let now = Instant::now();
        let traffic = Traffic::new(10, 100);
        traffic.count(20, 50, now);
        assert!(traffic.events().is_exhausted(now) && !traffic.bytes().is_exhausted(now));
        assert_eq!(traffic.events_per_second(now), 4);
        let traffic = Traffic::new(0, 100);
        traffic.count(1_000_000, 200, now);
        assert!(!traffic.events().is_exhausted(now) && traffic.bytes().is_exhausted(now));
    }
}
