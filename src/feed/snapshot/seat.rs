//! Those who get the rows of a snapshot: channels, by their outboxes, and bodies of requests.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::change::Since;
use crate::feed::notice;
use crate::feed::{SubscribeError, Subscriber};
use crate::hub::{Frame, HeldFrame, Overflow};
use crate::protocol::SnapshotReply;
use crate::protocol::errors::Notice;

/// Somebody who waits for a snapshot.
#[derive(Debug)]
pub(in crate::feed) struct Seat {
    pub(super) out: Out,
    /// The binding of each item.
    pub(super) ids: Vec<i64>,
    taken: Option<oneshot::Sender<Result<Since, SubscribeError>>>,
    done: Option<oneshot::Sender<End>>,
    /// How long others have waited for it.
    pub(super) held_up: Duration,
}

#[derive(Debug)]
pub(in crate::feed) enum Out {
    Lane {
        subscriber: Subscriber,
        /// The reply to the join, if it has not gone out yet, and what it says then.
        reply: Option<(HeldFrame, SnapshotReply)>,
        /// Rows have come before, which do not count any more for this reason.
        again: Option<String>,
    },
    /// Records as JSON objects, some at a time, each followed by a comma but the last.
    Body(mpsc::Sender<Bytes>),
}

/// How it ended.
#[derive(Debug)]
pub(in crate::feed) enum End {
    /// All rows are there.
    Complete,
    /// Others could wait no longer. Nobody has to wait for who asks again by itself.
    Late,
    /// It failed.
    Failed(SubscribeError),
}

/// The other ends of a seat.
#[derive(Debug)]
pub(in crate::feed) struct Ticket {
    pub(super) taken: oneshot::Receiver<Result<Since, SubscribeError>>,
    pub(super) done: oneshot::Receiver<End>,
}

impl Seat {
    pub(in crate::feed) fn new(out: Out, ids: Vec<i64>) -> (Self, Ticket) {
        let (taken, when_taken) = oneshot::channel();
        let (done, when_done) = oneshot::channel();
        let seat = Self {
            out,
            ids,
            taken: Some(taken),
            done: Some(done),
            held_up: Duration::ZERO,
        };
        let ticket = Ticket {
            taken: when_taken,
            done: when_done,
        };
        (seat, ticket)
    }

    /// Nobody is there any more.
    pub(super) fn is_empty(&self) -> bool {
        match &self.out {
            _ if self.done.as_ref().is_none_or(oneshot::Sender::is_closed) => true,
            Out::Lane { subscriber, .. } => !subscriber.outbox.outbox().is_open(),
            Out::Body(body) => body.is_closed(),
        }
    }

    /// The snapshot is taken: rows follow.
    pub(super) fn begin(&mut self, since: &Since) {
        if let Out::Lane {
            subscriber,
            reply,
            again,
        } = &mut self.out
        {
            if let Some((held, reply)) = reply.take()
                && held.replace(Frame::Text(reply.frame(since).into()))
            {
                held.send(subscriber.outbox.outbox());
            }
            let begins = Notice::SnapshotBegins { again: again.take() };
            let _ = subscriber.outbox.push(notice(subscriber, &begins, None));
        }
        if let Some(taken) = self.taken.take() {
            // Who has gone is noticed by `is_empty`.
            let _ = taken.send(Ok(since.clone()));
        }
    }

    /// Whether it has to be waited for.
    pub(super) fn is_pressed(&self) -> bool {
        !self.is_empty()
            && match &self.out {
                Out::Lane { subscriber, .. } => subscriber.outbox.outbox().is_pressed(),
                Out::Body(body) => body.capacity() == 0,
            }
    }

    /// Queues a row. One that does not fit ends the connection, as everywhere.
    pub(super) fn push(&self, frame: Frame) -> Result<(), Overflow> {
        match &self.out {
            Out::Lane { subscriber, .. } => subscriber.outbox.push(frame),
            Out::Body(_) => Ok(()),
        }
    }

    /// All rows have been queued.
    pub(super) fn complete(mut self, rows: u64) {
        if let Out::Lane { subscriber, .. } = &self.out {
            let _ = subscriber
                .outbox
                .push(notice(subscriber, &Notice::Snapshot { rows }, None));
        }
        self.end(End::Complete);
    }

    pub(super) fn fail(mut self, error: &SubscribeError) {
        match self.taken.take() {
            Some(taken) => drop(taken.send(Err(error.clone()))),
            None => self.end(End::Failed(error.clone())),
        }
    }

    pub(super) fn late(mut self) {
        self.end(End::Late);
    }

    fn end(&mut self, end: End) {
        if let Some(done) = self.done.take() {
            let _ = done.send(end);
        }
    }
}
