//! Which messages answer which request. No socket and no clock.
//!
//! Every batch has a number, which is part of the token that the client is given with it and comes back with its next
//! request. So a request says what has been read: whoever repeats one (a browser, or a proxy, whose connection broke before
//! the answer was there) is given the same batch again, and whoever goes on never is. Phoenix' own server keeps nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::hub::Frame;

/// A batch ends with the message that makes it this large, in bytes: clients give up on a request after 20 s, whatever of
/// its answer has come by then.
const BATCH: usize = 1 << 20;

/// What a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// These, which are the batch of that number.
    Messages { number: u64, batch: Arc<[Frame]> },
    /// There was nothing; that number was the last.
    Nothing { number: u64 },
    /// There is no such session, or not any more.
    Gone,
}

/// What has been read by one client, and what waits for it. `W` is how a request is answered.
#[derive(Debug)]
pub(super) struct Exchange<W> {
    /// Of the last batch that was handed out; 0 if none was.
    number: u64,
    /// That batch, until a request says that it has come.
    unread: Option<Arc<[Frame]>>,
    /// What comes behind it.
    queued: VecDeque<Frame>,
    /// How many messages were pushed.
    pushed: u64,
    /// The request that waits for something; then nothing is queued.
    waiting: Option<W>,
}

impl<W> Exchange<W> {
    pub(super) fn new() -> Self {
        Self {
            number: 0,
            unread: None,
            queued: VecDeque::new(),
            pushed: 0,
            waiting: None,
        }
    }

    /// A request by who has read all up to batch `seen`: whom to answer now. One that waits already is over.
    pub(super) fn poll(&mut self, seen: u64, request: W) -> Vec<(W, Reply)> {
        let reply = match &self.unread {
            Some(batch) if seen.checked_add(1) == Some(self.number) => Reply::Messages {
                number: self.number,
                batch: Arc::clone(batch),
            },
            _ if seen == self.number => {
                self.unread = None;
                self.next_batch()
            }
            // Neither the last token nor the one before: an old request that got lost on its way, or none of ours.
            _ => return vec![(request, Reply::Gone)],
        };
        let mut answers = Vec::new();
        answers.extend(self.expire());
        match reply {
            Reply::Nothing { .. } => self.waiting = Some(request),
            reply => answers.push((request, reply)),
        }
        answers
    }

    /// Who shows this token has read all up to batch `seen`.
    pub(super) fn has_read(&mut self, seen: u64) {
        if seen == self.number {
            self.unread = None;
        }
    }

    /// Takes messages, which have to be text: whom to answer now.
    pub(super) fn push(&mut self, frames: VecDeque<Frame>) -> Option<(W, Reply)> {
        self.pushed += as_u64(frames.len());
        self.queued.extend(frames);
        if self.queued.is_empty() {
            return None;
        }
        let waiting = self.waiting.take()?;
        Some((waiting, self.next_batch()))
    }

    /// What waits has waited for long enough.
    pub(super) fn expire(&mut self) -> Option<(W, Reply)> {
        let nothing = Reply::Nothing { number: self.number };
        Some((self.waiting.take()?, nothing))
    }

    /// The request that waits.
    pub(super) fn waiting(&mut self) -> Option<&mut W> {
        self.waiting.as_mut()
    }

    /// Whether a request waits.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// How many messages were pushed.
    pub(super) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// How many of them have been read: the first so many.
    pub(super) fn read(&self) -> u64 {
        let unread = self.unread.as_ref().map_or(0, |batch| batch.len());
        self.pushed
            .saturating_sub(as_u64(unread.saturating_add(self.queued.len())))
    }

    /// Whether all that was pushed has been read.
    pub(super) fn is_read(&self) -> bool {
        self.read() == self.pushed
    }

    /// Hands out what is queued, as far as it makes one batch. What was handed out before has been read.
    fn next_batch(&mut self) -> Reply {
        let (mut count, mut bytes) = (0, 0);
        for frame in &self.queued {
            if bytes >= BATCH {
                break;
            }
            (count, bytes) = (count + 1, bytes + frame.len());
        }
        if count == 0 {
            return Reply::Nothing { number: self.number };
        }
        let batch: Arc<[Frame]> = self.queued.drain(..count).collect();
        if self.queued.is_empty() {
            // Between two batches it holds no memory.
            self.queued = VecDeque::new();
        }
        self.number += 1;
        self.unread = Some(Arc::clone(&batch));
        Reply::Messages {
            number: self.number,
            batch,
        }
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(texts: &[&str]) -> VecDeque<Frame> {
        let frame = |text: &&str| Frame::Text((*text).to_owned().into());
        texts.iter().map(frame).collect()
    }

    fn batch(number: u64, texts: &[&str]) -> Reply {
        let batch = frames(texts).into_iter().collect();
        Reply::Messages { number, batch }
    }

    #[test]
    fn who_goes_on_gets_everything_once() {
        let mut exchange = Exchange::new();
        assert_eq!(exchange.push(frames(&["a", "b"])), None);
        assert_eq!(exchange.poll(0, 'x'), [('x', batch(1, &["a", "b"]))]);
        assert!(exchange.poll(1, 'y').is_empty() && exchange.is_waiting());
        assert_eq!(exchange.push(frames(&["c"])), Some(('y', batch(2, &["c"]))));
        assert_eq!(exchange.push(frames(&["d"])), None, "nobody waits");
        assert!(!exchange.is_waiting() && !exchange.is_read());
        assert_eq!((exchange.pushed(), exchange.read()), (4, 2));
        assert_eq!(exchange.poll(2, 'z'), [('z', batch(3, &["d"]))]);
        assert!(exchange.poll(3, 'z').is_empty() && exchange.is_read());
        assert_eq!(exchange.expire(), Some(('z', Reply::Nothing { number: 3 })));
        assert_eq!(exchange.expire(), None);
    }

    #[test]
    fn who_asks_again_gets_the_same_again_and_then_what_follows() {
        let mut exchange = Exchange::new();
        exchange.push(frames(&["a"]));
        exchange.poll(0, 'x');
        exchange.push(frames(&["b"]));
        for _ in 0..3 {
            assert_eq!(exchange.poll(0, 'x'), [('x', batch(1, &["a"]))]);
        }
        assert_eq!(exchange.poll(1, 'x'), [('x', batch(2, &["b"]))]);
        exchange.has_read(1);
        assert!(!exchange.is_read(), "that was the one before");
        assert_eq!(exchange.poll(1, 'x'), [('x', batch(2, &["b"]))]);
        exchange.has_read(2);
        assert!(exchange.is_read());
        assert_eq!(exchange.poll(1, 'x'), [('x', Reply::Gone)], "it had been read");
    }

    #[test]
    fn of_two_requests_the_later_one_waits() {
        let mut exchange = Exchange::new();
        assert!(exchange.poll(0, 'x').is_empty());
        assert_eq!(exchange.poll(0, 'y'), [('x', Reply::Nothing { number: 0 })]);
        assert_eq!(exchange.push(frames(&["a"])), Some(('y', batch(1, &["a"]))));
        assert!(exchange.poll(1, 'z').is_empty());
        for lost in [0, 2, 7, u64::MAX] {
            assert_eq!(exchange.poll(lost, 'l'), [('l', Reply::Gone)]);
        }
        assert!(exchange.is_waiting(), "what is lost ends nothing");
    }

    #[test]
    fn a_batch_ends_where_it_is_large_and_is_never_empty() {
        let large = "x".repeat(BATCH + 1);
        let mut exchange = Exchange::new();
        exchange.push(frames(&["a", &large, "b", "c"]));
        assert_eq!(exchange.poll(0, 'x'), [('x', batch(1, &["a", &large]))]);
        assert_eq!(exchange.poll(1, 'x'), [('x', batch(2, &["b", "c"]))]);
        assert!(exchange.poll(2, 'x').is_empty());
    }

    #[test]
    fn nobody_is_answered_with_nothing_by_a_push_of_nothing() {
        let mut exchange = Exchange::new();
        exchange.poll(0, 'x');
        assert_eq!(exchange.push(frames(&[])), None);
        assert!(exchange.is_waiting());
    }
}
