//! Patience with clients that read, but not as fast as a large transaction comes.
//!
//! The pump is faster than any socket. Without a pause, a transaction larger than an outbox would end every connection
//! that follows it. With an unlimited one, the slowest reader would set everybody's pace. So the pump waits while an
//! outbox is half full, but for no more than half of the time.

use std::time::{Duration, Instant};

use crate::hub::Lane;

/// The most that can be waited in one go, after a quiet time.
const MOST: Duration = Duration::from_secs(1);

/// Between two looks at the outboxes that are waited for.
const LOOK: Duration = Duration::from_millis(1);

/// How long the pump may still wait for readers.
#[derive(Debug)]
pub(super) struct Courtesy {
    credit: Duration,
    at: Instant,
}

impl Courtesy {
    pub(super) fn new() -> Self {
        Self {
            credit: MOST,
            at: Instant::now(),
        }
    }

    /// Waits until none of these is pressed, as far as the credit goes.
    pub(super) async fn wait(&mut self, mut pressed: Vec<Lane>) {
        let started = Instant::now();
        self.earn(started);
        pressed.retain(|lane| lane.outbox().is_pressed());
        while !pressed.is_empty() && started.elapsed() < self.credit {
            tokio::time::sleep(LOOK).await;
            pressed.retain(|lane| lane.outbox().is_pressed());
        }
        self.credit = self.credit.saturating_sub(started.elapsed());
        self.at = Instant::now();
    }

    /// A second of work earns a second of waiting.
    fn earn(&mut self, now: Instant) {
        self.credit = (self.credit + now.saturating_duration_since(self.at)).min(MOST);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Bounds, Frame, Outbox};

    fn pressed() -> Lane {
        let lane = Lane::new(&Outbox::new(Bounds {
            frames: 2,
            bytes: 1000,
        }));
        lane.push(Frame::Text("x".into())).unwrap();
        assert!(lane.outbox().is_pressed());
        lane
    }

    #[tokio::test]
    async fn who_reads_is_waited_for() {
        let lane = pressed();
        let mut courtesy = Courtesy::new();
        let reader = lane.clone();
        let reading = tokio::spawn(async move { reader.outbox().drain().await });
        courtesy.wait(vec![lane.clone()]).await;
        assert!(!lane.outbox().is_pressed());
        reading.await.unwrap();
    }

    #[tokio::test]
    async fn who_does_not_read_uses_up_the_credit() {
        let mut courtesy = Courtesy {
            credit: Duration::from_millis(5),
            at: Instant::now(),
        };
        courtesy.wait(vec![pressed()]).await;
        assert!(courtesy.credit < MOST);
    }
}
