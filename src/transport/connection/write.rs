//! What leaves through the socket.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{error::Elapsed, sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};

use super::{CLOSE_TIMEOUT, Connection, Ending};
use crate::hub::{Drained, Frame};
use crate::protocol::errors::Close;
use crate::shutdown::Drain;

impl Connection {
    /// Writes a batch.
    pub(super) async fn write(&mut self, frames: VecDeque<Frame>) -> Result<(), Ending> {
        let count = u64::try_from(frames.len()).unwrap_or_default();
        let bytes = u64::try_from(frames.iter().map(Frame::len).sum::<usize>()).unwrap_or_default();
        self.socket.queue(frames);
        while !self.socket.is_written() {
            match self.socket.write_some().now_or_never() {
                Some(outcome) => outcome.map_err(|_| Ending::Error)?,
                // Boxed: most sockets take all of it at once, and this would make every connection larger.
                None => Box::pin(self.write_patiently()).await?,
            }
        }
        self.driver.server.metrics.frames_sent.inc_by(count);
        self.driver.server.metrics.bytes_sent.inc_by(bytes);
        Ok(())
    }

    /// Writes the rest to a socket that is full. Given up, and the rest freed, as soon as the outbox overflows behind it:
    /// a client that takes nothing must not hold two outboxes for the length of the write timeout.
    async fn write_patiently(&mut self) -> Result<(), Ending> {
        let limit = self.driver.server.settings.write_timeout;
        let stopping = patience(&self.driver.server.drain, Duration::MAX);
        let (outbox, socket) = (&self.driver.outbox, &mut self.socket);
        let writing = async {
            while !socket.is_written() {
                written(timeout(limit, socket.write_some()).await)?;
            }
            Ok(())
        };
        tokio::select! {
            biased;
            () = outbox.overflowed() => {
                self.driver.server.metrics.outbox_overflows.inc();
                self.socket.forget();
                self.driver.outbox.forgot(self.socket.unwritten());
                Err(Ending::Close(Close::SlowConsumer))
            }
            result = writing => result,
            () = stopping => Err(Ending::WriteTimeout),
        }
    }

    /// Sends what is queued and a close frame, then reads until the client has closed too: a socket dropped with unread
    /// data would reset the connection, and the client would never see the code.
    pub(super) async fn say_goodbye(&mut self, close: Close) {
        let limit = match close {
            // It does not read now, so it needs longer to find out why it lost its rows.
            Close::SlowConsumer => self.driver.server.settings.write_timeout.max(CLOSE_TIMEOUT),
            _ => CLOSE_TIMEOUT,
        };
        let enough = patience(&self.driver.server.drain, limit);
        let goodbye = async {
            if let Some(Drained::Frames(frames)) = self.driver.outbox.drain().now_or_never() {
                self.write(frames).await.ok()?;
            }
            let frame = CloseFrame {
                code: close.code().into(),
                reason: Utf8Bytes::from_static(close.reason()),
            };
            self.socket.close(frame).await.ok()?;
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

/// Ends after `limit`, or the time for a close after the last client's turn to leave, whichever is first: one that takes
/// nothing has no turn of its own.
pub(super) fn patience(drain: &Drain, limit: Duration) -> impl Future<Output = ()> + use<> {
    let drain = drain.clone();
    async move {
        let stopped = async {
            drain.begun().await;
            sleep(drain.span() + CLOSE_TIMEOUT).await;
        };
        // That either is over is all there is to know.
        let _ = timeout(limit, stopped).await;
    }
}

pub(super) fn written(outcome: Result<Result<(), Error>, Elapsed>) -> Result<(), Ending> {
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ending::Error),
        Err(_) => Err(Ending::WriteTimeout),
    }
}
