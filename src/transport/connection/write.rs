//! What leaves through the socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::time::{error::Elapsed, sleep, timeout};

use super::{CLOSE_TIMEOUT, Connection, Ending};
use crate::hub::{Drained, Frame};
use crate::protocol::errors::Close;
use crate::shutdown::Shutdown;

impl<S> Connection<S>
where
    S: Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> + Unpin,
{
    /// Writes a batch and flushes once. Given up, and the rest of the batch freed, as soon as the outbox overflows
    /// behind it: a client that takes nothing must not hold two outboxes for the length of the write timeout.
    pub(super) async fn write(&mut self, frames: VecDeque<Frame>) -> Result<(), Ending> {
        let limit = self.server.settings.write_timeout;
        let metrics = Arc::clone(&self.server.metrics);
        let stopping = patience(&self.server.shutdown, Duration::MAX);
        let (outbox, socket) = (&self.outbox, &mut self.socket);
        let (mut count, mut bytes) = (0, 0);
        let writing = async {
            for frame in frames {
                count += 1;
                bytes += u64::try_from(frame.len()).unwrap_or_default();
                written(timeout(limit, socket.feed(message_of(frame))).await)?;
            }
            written(timeout(limit, socket.flush()).await)
        };
        tokio::select! {
            biased;
            () = outbox.overflowed() => {
                metrics.outbox_overflows.inc();
                return Err(Ending::Close(Close::SlowConsumer));
            }
            result = writing => result?,
            () = stopping => return Err(Ending::WriteTimeout),
        }
        metrics.frames_sent.inc_by(count);
        metrics.bytes_sent.inc_by(bytes);
        Ok(())
    }

    /// Sends what is queued and a close frame, then reads until the client has closed too: a socket dropped with unread
    /// data would reset the connection, and the client would never see the code.
    pub(super) async fn say_goodbye(&mut self, close: Close) {
        let limit = match close {
            // It does not read now, so it needs longer to find out why it lost its rows.
            Close::SlowConsumer => self.server.settings.write_timeout.max(CLOSE_TIMEOUT),
            _ => CLOSE_TIMEOUT,
        };
        let enough = patience(&self.server.shutdown, limit);
        let goodbye = async {
            if let Some(Drained::Frames(frames)) = self.outbox.drain().now_or_never() {
                self.write(frames).await.ok()?;
            }
            let frame = CloseFrame {
                code: close.code(),
                reason: Utf8Bytes::from_static(close.reason()),
            };
            self.socket.send(Message::Close(Some(frame))).await.ok()?;
            while let Some(Ok(_)) = self.socket.next().await {}
            Some(())
        };
        // Whether it took the news or not, it is over.
        tokio::select! {
            _ = goodbye => {}
            () = enough => {}
        }
    }
}

/// Ends after `limit`, or the time for a close after the server has begun to stop, whichever is first.
fn patience(shutdown: &Shutdown, limit: Duration) -> impl Future<Output = ()> + use<> {
    let shutdown = shutdown.clone();
    async move {
        let stopped = async {
            shutdown.cancelled().await;
            sleep(CLOSE_TIMEOUT).await;
        };
        // That either is over is all there is to know.
        let _ = timeout(limit, stopped).await;
    }
}

fn written(outcome: Result<Result<(), axum::Error>, Elapsed>) -> Result<(), Ending> {
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ending::Error),
        Err(_) => Err(Ending::WriteTimeout),
    }
}

fn message_of(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::Text(text),
        Frame::Binary(bytes) => Message::Binary(bytes),
    }
}
