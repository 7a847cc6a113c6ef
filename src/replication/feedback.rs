//! When the server hears from us, and when its silence is too long. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use super::failure::Failure;
use super::frames::Status;
use crate::change::Lsn;

/// A confirmation waits this long for the next one, so that many small transactions do not cost a message each.
const CONFIRM: Duration = Duration::from_millis(100);
/// A received position that moved is told after this.
const RECEIVED: Duration = Duration::from_secs(1);
/// Nobody but a server that waits asks twice within this.
const DEMANDS: Duration = Duration::from_secs(1);
/// Longest time between two updates; shorter where `wal_sender_timeout` asks for it.
const IDLE: Duration = Duration::from_secs(10);

/// The two positions, when they were told, and when the server was last heard.
#[derive(Debug)]
pub(super) struct Feedback {
    received: Lsn,
    confirmed: Lsn,
    told: Status,
    told_at: Instant,
    heard_at: Instant,
    /// A reply was asked for since the server was last heard.
    asked: bool,
    /// When the server last asked for an answer, and where it was.
    demanded: Option<(Instant, Lsn)>,
    idle: Duration,
    peer_timeout: Duration,
}

impl Feedback {
    /// A connection that starts at `start`, with everything before `confirmed` confirmed already.
    pub(super) fn new(
        start: Lsn,
        confirmed: Lsn,
        sender_timeout_millis: u64,
        peer_timeout: Duration,
    ) -> Self {
        let idle = match sender_timeout_millis {
            0 => IDLE,
            millis => (Duration::from_millis(millis) / 4).min(IDLE),
        };
        let now = Instant::now();
        Self {
            received: start,
            confirmed,
            told: Status {
                written: Lsn(0),
                flushed: Lsn(0),
                reply: false,
            },
            told_at: now,
            heard_at: now,
            asked: false,
            demanded: None,
            idle,
            peer_timeout,
        }
    }

    pub(super) fn confirmed(&self) -> Lsn {
        self.confirmed
    }

    pub(super) fn receive(&mut self, position: Lsn) {
        self.received = self.received.max(position);
    }

    pub(super) fn confirm(&mut self, position: Lsn) {
        self.confirmed = self.confirmed.max(position);
    }

    /// The server, which has sent everything up to `at`, asks for an answer. Whether it waits for a confirmation that it will
    /// not get: a Postgres that shuts down asks again and again until everything has been confirmed (walsender.c,
    /// `WalSndDone`), and what the replay window holds is confirmed later.
    pub(super) fn waits_in_vain(&mut self, at: Lsn, now: Instant) -> bool {
        let again = self
            .demanded
            .is_some_and(|(before, place)| place == at && now.duration_since(before) < DEMANDS);
        self.demanded = Some((now, at));
        again && self.confirmed < at && self.received >= at
    }

    /// Bytes came, or we are the ones who do not read.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.asked = false;
    }

    /// The update to send now.
    pub(super) fn status(&mut self, reply: bool, now: Instant) -> Status {
        self.told = Status {
            written: self.received.max(self.confirmed),
            flushed: self.confirmed,
            reply,
        };
        self.told_at = now;
        self.asked |= reply;
        self.told
    }

    /// When [`Feedback::tick`] wants to be called.
    pub(super) fn due(&self) -> Instant {
        let silence = match self.asked {
            true => self.peer_timeout,
            false => self.peer_timeout / 2,
        };
        (self.told_at + self.patience()).min(self.heard_at + silence)
    }

    /// What is due: an update, perhaps asking for a reply, or giving up.
    pub(super) fn tick(&mut self, now: Instant) -> Result<Option<Status>, Failure> {
        let silence = now.duration_since(self.heard_at);
        if self.asked && silence >= self.peer_timeout {
            return Err(Failure::Silent(self.peer_timeout));
        }
        if !self.asked && silence >= self.peer_timeout / 2 {
            return Ok(Some(self.status(true, now)));
        }
        let late = now.duration_since(self.told_at) >= self.patience();
        Ok(late.then(|| self.status(false, now)))
    }

    fn patience(&self) -> Duration {
        let due = if self.confirmed > self.told.flushed {
            CONFIRM
        } else if self.received > self.told.written {
            RECEIVED
        } else {
            IDLE
        };
        due.min(self.idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feedback() -> (Feedback, Instant) {
        let mut feedback = Feedback::new(Lsn(5), Lsn(5), 60_000, Duration::from_secs(60));
        let start = Instant::now();
        feedback.heard(start);
        feedback.status(false, start);
        (feedback, start)
    }

    #[test]
    fn what_moved_is_told_soon_and_nothing_rarely() {
        let (mut feedback, start) = feedback();
        assert_eq!(feedback.due(), start + IDLE);
        feedback.receive(Lsn(7));
        assert_eq!(feedback.due(), start + RECEIVED);
        feedback.confirm(Lsn(6));
        assert_eq!(feedback.due(), start + CONFIRM);
        assert_eq!(feedback.tick(start).unwrap(), None);
        let told = feedback.tick(start + CONFIRM).unwrap().unwrap();
        assert_eq!((told.written, told.flushed, told.reply), (Lsn(7), Lsn(6), false));
        feedback.confirm(Lsn(1));
        assert_eq!(feedback.confirmed(), Lsn(6), "never backwards");
        assert_eq!(feedback.due(), start + CONFIRM + IDLE);
    }

    #[test]
    fn a_server_that_asks_again_and_again_waits_for_more_than_an_answer() {
        let (mut feedback, start) = feedback();
        feedback.receive(Lsn(9));
        let soon = start + Duration::from_millis(5);
        assert!(!feedback.waits_in_vain(Lsn(9), start));
        assert!(feedback.waits_in_vain(Lsn(9), soon));
        assert!(!feedback.waits_in_vain(Lsn(9), soon + Duration::from_secs(2)));
        assert!(!feedback.waits_in_vain(Lsn(10), soon + Duration::from_secs(2)));
        feedback.confirm(Lsn(9));
        assert!(!feedback.waits_in_vain(Lsn(9), soon) && !feedback.waits_in_vain(Lsn(9), soon));
    }

    #[test]
    fn a_short_sender_timeout_is_kept() {
        let mut feedback = Feedback::new(Lsn(0), Lsn(0), 2000, Duration::from_secs(60));
        let now = Instant::now();
        feedback.status(false, now);
        assert_eq!(feedback.due(), now + Duration::from_millis(500));
    }

    #[test]
    fn silence_is_asked_about_then_given_up_on() {
        let (mut feedback, start) = feedback();
        let half = start + Duration::from_secs(30);
        assert!(feedback.tick(half).unwrap().unwrap().reply);
        assert!(feedback.tick(start + Duration::from_secs(59)).is_ok());
        let late = feedback.tick(start + Duration::from_secs(60));
        assert!(matches!(late, Err(Failure::Silent(_))));
        feedback.heard(start + Duration::from_secs(60));
        assert!(feedback.tick(start + Duration::from_secs(60)).is_ok());
    }
}
