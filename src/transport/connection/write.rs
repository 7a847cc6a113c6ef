//! What leaves through the socket.

use std::collections::VecDeque;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::time::{error::Elapsed, timeout};

use super::{CLOSE_TIMEOUT, Connection, Ending};
use crate::hub::{Drained, Frame};
use crate::protocol::errors::Close;

impl<S> Connection<S>
where
    S: Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> + Unpin,
{
    /// Writes a batch and flushes once.
    pub(super) async fn write(&mut self, frames: VecDeque<Frame>) -> Result<(), Ending> {
        let limit = self.server.settings.write_timeout;
        let (mut count, mut bytes) = (0, 0);
        for frame in frames {
            if !self.outbox.is_open() {
                self.server.metrics.outbox_overflows.inc();
                return Err(Ending::Close(Close::SlowConsumer));
            }
            count += 1;
            bytes += u64::try_from(frame.len()).unwrap_or_default();
            written(timeout(limit, self.socket.feed(message_of(frame))).await)?;
        }
        written(timeout(limit, self.socket.flush()).await)?;
        self.server.metrics.frames_sent.inc_by(count);
        self.server.metrics.bytes_sent.inc_by(bytes);
        Ok(())
    }

    /// Sends what is queued and a close frame, then reads until the client has closed too: a socket dropped with unread
    /// data would reset the connection, and the client would never see the code.
    pub(super) async fn say_goodbye(&mut self, close: Close) {
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
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
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
