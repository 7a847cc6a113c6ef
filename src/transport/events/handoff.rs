//! Between the task that writes a stream and the body that the HTTP connection takes it from.
//!
//! One batch is on the way at a time: the task goes on when all of it has been taken, so what a client does not read stays in its
//! outbox, which has a bound.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::{Body, Frame};

use super::super::slots::Slot;

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    /// Nothing follows.
    ended: bool,
    /// Nobody takes anything any more.
    gone: bool,
    body: Option<Waker>,
    task: Option<Waker>,
    /// Of the connection: free once the HTTP server lets go of the stream, or nobody waits for that.
    slot: Option<Slot>,
}

type Shared = Arc<Mutex<State>>;

/// The task's end.
#[derive(Debug)]
pub(super) struct Writer(Shared);

/// The connection's end: an endless body.
#[derive(Debug)]
pub(super) struct Stream(Shared);

/// What has become of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// All of it is with the HTTP server.
    All,
    /// The client is gone.
    Gone,
}

/// Both ends.
pub(super) fn handoff(slot: Slot) -> (Writer, Stream) {
    let state = State {
        slot: Some(slot),
        ..State::default()
    };
    let shared = Shared::new(Mutex::new(state));
    (Writer(Arc::clone(&shared)), Stream(shared))
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    // The state is consistent after every statement.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Puts these behind what is on the way.
    pub(super) fn put(&self, chunks: impl IntoIterator<Item = Bytes>) {
        let mut state = lock(&self.0);
        state.chunks.extend(chunks);
        let waker = state.body.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Drops what is on the way: nobody waits for it any more.
    pub(super) fn abandon(&self) {
        let mut state = lock(&self.0);
        state.chunks = VecDeque::new();
        state.ended = true;
        state.slot = None;
    }

    /// Waits until the client is gone, or, where something `is_under_way`, until that has been taken. Cancel-safe.
    pub(super) async fn taken(&self, is_under_way: bool) -> Taken {
        poll_fn(|cx| {
            let mut state = lock(&self.0);
            if state.gone {
                return Poll::Ready(Taken::Gone);
            }
            if is_under_way && state.chunks.is_empty() {
                return Poll::Ready(Taken::All);
            }
            keep(&mut state.task, cx);
            Poll::Pending
        })
        .await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.ended = true;
        let waker = state.body.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut state = lock(&self.0);
        match state.chunks.pop_front() {
            Some(chunk) => {
                let waker = if state.chunks.is_empty() {
                    // Between two batches it holds no memory.
                    state.chunks = VecDeque::new();
                    state.task.take()
                } else {
                    None
                };
                drop(state);
                waker.into_iter().for_each(Waker::wake);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            None if state.ended => Poll::Ready(None),
            None => {
                keep(&mut state.body, cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.gone = true;
        state.chunks = VecDeque::new();
        state.slot = None;
        let waker = state.task.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

fn keep(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
