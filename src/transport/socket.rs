//! A WebSocket over TCP or TLS. The library reads, answers pings and closes; frames are written from where they are:
//! many connections share a frame's bytes, and a buffer that it is copied to would stay as large as the largest one for as
//! long as the connection lives.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWrite;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::stream::Stream;
use crate::hub::Frame;

/// Frames that are together no larger than this are copied for one system call: that costs less than naming them one by
/// one. In bytes, with their headers.
const COPIED: usize = 8_192;

/// Longest header of a frame that is not masked.
const HEADER: usize = 10;

/// The server's end of a WebSocket.
pub(super) struct Socket {
    stream: WebSocketStream<Stream>,
    /// What is to be written, in order.
    frames: VecDeque<Frame>,
    /// How many bytes of the first one are out, with its header.
    begun: usize,
    /// The library has read everything that has come.
    is_read: bool,
    /// The library may have an answer to write.
    answers: bool,
}

impl Socket {
    /// Over a connection that has been upgraded, from which this was read already.
    pub(super) async fn new(stream: Stream, read: Bytes, config: WebSocketConfig) -> Self {
        let stream = match read.is_empty() {
            true => WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await,
            false => {
                WebSocketStream::from_partially_read(stream, read.to_vec(), Role::Server, Some(config)).await
            }
        };
        Self {
            stream,
            frames: VecDeque::new(),
            begun: 0,
            is_read: false,
            answers: false,
        }
    }

    /// The next message; `None` at the end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<Message, Error>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        // The library may answer what it reads, and that must not come in the middle of a frame.
        while self.begun > 0 {
            if let Err(error) = ready!(self.poll_write(cx)) {
                return Poll::Ready(Some(Err(error)));
            }
        }
        if self.answers && self.stream.poll_flush_unpin(cx).is_ready() {
            self.answers = false;
        }
        // Most of the time a connection is woken up for what it has to write.
        if self.is_read && self.stream.get_ref().poll_read_ready(cx).is_pending() {
            return Poll::Pending;
        }
        let next = self.stream.poll_next_unpin(cx);
        self.is_read = next.is_pending();
        self.answers |= matches!(next, Poll::Ready(Some(Ok(Message::Ping(_) | Message::Close(_)))));
        next
    }

    /// Puts these behind what is still to be written.
    pub(super) fn queue(&mut self, frames: VecDeque<Frame>) {
        match self.frames.is_empty() {
            true => self.frames = frames,
            false => self.frames.extend(frames),
        }
    }

    /// Whether everything that was queued has been written, and has gone out.
    pub(super) fn is_written(&self) -> bool {
        self.frames.is_empty() && !self.stream.get_ref().holds_back()
    }

    /// Bytes of the frames that have not been written whole.
    pub(super) fn unwritten(&self) -> usize {
        self.frames.iter().map(Frame::len).sum()
    }

    /// Waits until the connection has taken something. Cancel-safe.
    pub(super) async fn write_some(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_write(cx)).await
    }

    /// Drops what is still to be written, but for the rest of a frame that was begun.
    pub(super) fn forget(&mut self) {
        self.frames.truncate(usize::from(self.begun > 0));
        self.frames.shrink_to_fit();
    }

    /// Writes what was queued, and the answer to what was read.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        while !self.is_written() {
            self.write_some().await?;
        }
        self.stream.flush().await
    }

    /// Writes what was queued, and a ping.
    pub(super) async fn ping(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.flush().await?;
        let payload = Bytes::copy_from_slice(payload);
        self.stream.send(Message::Ping(payload)).await
    }

    /// Writes what was queued, and a close frame.
    pub(super) async fn close(&mut self, frame: CloseFrame) -> Result<(), Error> {
        self.flush().await?;
        self.stream.send(Message::Close(Some(frame))).await
    }

    /// Says that nothing more comes. What cannot be said at once is left unsaid.
    pub(super) fn hang_up(&mut self) {
        let stream = self.stream.get_mut();
        if stream.says_its_end() {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(stream).poll_shutdown(&mut cx);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.begun == 0 && self.answers {
            ready!(self.stream.poll_flush_unpin(cx))?;
            self.answers = false;
        }
        let stream = Pin::new(self.stream.get_mut());
        let Some(first) = self.frames.front() else {
            return match stream.holds_back() {
                true => stream.poll_flush(cx).map_err(Error::from),
                false => Poll::Ready(Ok(())),
            };
        };
        let copy = copy(&self.frames);
        let written = if copy.is_empty() {
            let header = Header::of(first);
            let mut parts = [IoSlice::new(header.bytes()), IoSlice::new(payload(first))];
            let mut rest = &mut parts[..];
            IoSlice::advance_slices(&mut rest, self.begun);
            ready!(stream.poll_write_vectored(cx, rest))?
        } else {
            ready!(stream.poll_write(cx, copy.get(self.begun..).unwrap_or_default()))?
        };
        if written == 0 {
            return Poll::Ready(Err(Error::ConnectionClosed));
        }
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    /// So many bytes more are out.
    fn advance(&mut self, written: usize) {
        self.begun += written;
        while let Some(frame) = self.frames.front() {
            let length = Header::of(frame).bytes().len() + frame.len();
            if self.begun < length {
                return;
            }
            self.begun -= length;
            self.frames.pop_front();
        }
        // Between two batches it holds no memory.
        self.frames = VecDeque::new();
    }
}

/// What goes in front of a frame's bytes.
#[derive(Clone, Copy, Default)]
struct Header {
    bytes: [u8; HEADER],
    length: usize,
}

impl Header {
    /// Of a whole message, not masked.
    fn of(frame: &Frame) -> Self {
        let kind = match frame {
            Frame::Text(_) => OpCode::Data(Data::Text),
            Frame::Binary(_) => OpCode::Data(Data::Binary),
        };
        let header = FrameHeader {
            opcode: kind,
            ..FrameHeader::default()
        };
        let mut bytes = [0; HEADER];
        let mut rest = &mut bytes[..];
        // It fits: only a mask would make it longer.
        let _ = header.format(u64::try_from(frame.len()).unwrap_or_default(), &mut rest);
        let length = HEADER - rest.len();
        Self { bytes, length }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// As many of the first frames as may be copied.
fn copy(frames: &VecDeque<Frame>) -> Vec<u8> {
    let (mut count, mut length) = (0, 0);
    for frame in frames {
        let longer = length + HEADER + frame.len();
        if longer > COPIED {
            break;
        }
        (count, length) = (count + 1, longer);
    }
    let mut bytes = Vec::with_capacity(length);
    for frame in frames.iter().take(count) {
        bytes.extend_from_slice(Header::of(frame).bytes());
        bytes.extend_from_slice(payload(frame));
    }
    bytes
}

fn payload(frame: &Frame) -> &[u8] {
    match frame {
        Frame::Text(text) => text.as_bytes(),
        Frame::Binary(bytes) => bytes,
    }
}
