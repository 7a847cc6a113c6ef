//! A socket that wakes its reader less often while a lot is coming in.
//!
//! A walsender flushes each message on its own, so a fast reader is woken once per message, which costs both sides
//! more than decoding does. When that happens, the socket leaves the runtime's poller and is looked at once a
//! millisecond instead; when a look finds nothing twice, it goes back. (`SO_RCVLOWAT` would serve too, but not on Unix
//! sockets, and not without unsafe code of ours.) Reads in a quiet stream are never delayed.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::TcpStream as StdTcp;
use std::os::unix::net::UnixStream as StdUnix;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep};

/// How long a resting socket is left alone.
const REST: Duration = Duration::from_millis(1);
/// Reads within one window that make it worth resting.
const BUSY_READS: u32 = 16;
/// What those reads are counted over.
const WINDOW: Duration = Duration::from_millis(1);
/// Rests in a row that found nothing before the poller takes over again.
const IDLE_RESTS: u32 = 2;

/// A TCP or Unix connection, see the module.
#[derive(Debug)]
pub(super) struct Socket {
    state: State,
    window: Window,
}

#[derive(Debug)]
enum State {
    Watched(Watched),
    Resting(Resting),
    /// Only between the two, or for good once moving between them has failed.
    Broken,
}

#[derive(Debug)]
enum Watched {
    Tcp(TcpStream),
    Unix(UnixStream),
}

#[derive(Debug)]
struct Resting {
    plain: Plain,
    alarm: Pin<Box<Sleep>>,
    idle: u32,
}

#[derive(Debug)]
enum Plain {
    Tcp(StdTcp),
    Unix(StdUnix),
}

/// Reads since a moment.
#[derive(Debug)]
struct Window {
    start: Instant,
    reads: u32,
}

impl Window {
    fn count(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.start) > WINDOW {
            self.start = now;
            self.reads = 0;
        }
        self.reads += 1;
    }

    fn busy(&self) -> bool {
        self.reads >= BUSY_READS && self.start.elapsed() <= WINDOW
    }
}

impl Socket {
    pub(super) fn tcp(stream: TcpStream) -> Self {
        Self::new(Watched::Tcp(stream))
    }

    pub(super) fn unix(stream: UnixStream) -> Self {
        Self::new(Watched::Unix(stream))
    }

    fn new(watched: Watched) -> Self {
        Self {
            state: State::Watched(watched),
            window: Window {
                start: Instant::now(),
                reads: 0,
            },
        }
    }

    fn rest(&mut self) -> io::Result<()> {
        let plain = match std::mem::replace(&mut self.state, State::Broken) {
            State::Watched(Watched::Tcp(stream)) => Plain::Tcp(stream.into_std()?),
            State::Watched(Watched::Unix(stream)) => Plain::Unix(stream.into_std()?),
            other => {
                self.state = other;
                return Ok(());
            }
        };
        self.state = State::Resting(Resting {
            plain,
            alarm: Box::pin(sleep(REST)),
            idle: 0,
        });
        Ok(())
    }

    /// The socket within the poller, brought back there if it was resting.
    fn watch(&mut self) -> io::Result<&mut Watched> {
        if let State::Resting(_) = self.state
            && let State::Resting(resting) = std::mem::replace(&mut self.state, State::Broken)
        {
            self.state = State::Watched(match resting.plain {
                Plain::Tcp(stream) => Watched::Tcp(TcpStream::from_std(stream)?),
                Plain::Unix(stream) => Watched::Unix(UnixStream::from_std(stream)?),
            });
        }
        match &mut self.state {
            State::Watched(watched) => Ok(watched),
            State::Resting(_) | State::Broken => Err(broken()),
        }
    }

    fn read_watched(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let watched = self.watch()?;
        let read = match watched {
            Watched::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Watched::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if read.is_ready() {
            self.window.count();
        }
        read
    }
}

impl Resting {
    /// Ready once there is something to read; `WouldBlock` when it is time to go back to the poller.
    fn read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.plain.read(buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    self.idle = 0;
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && self.idle < IDLE_RESTS => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
            ready!(self.alarm.as_mut().poll(cx));
            self.alarm.as_mut().reset(Instant::now() + REST);
            self.idle += 1;
        }
    }
}

impl Plain {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
        }
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buf),
            Self::Unix(stream) => stream.write(buf),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = &mut *self;
        if let State::Resting(resting) = &mut socket.state {
            match ready!(resting.read(cx, buf)) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
        let read = socket.read_watched(cx, buf);
        if read.is_pending() && socket.window.busy() {
            socket.rest()?;
            if let State::Resting(resting) = &mut socket.state {
                return resting.read(cx, buf);
            }
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let State::Resting(resting) = &mut self.state {
            match resting.plain.write(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
        match self.watch()? {
            Watched::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Watched::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.watch()? {
            Watched::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Watched::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the socket could not be moved between poller and timer",
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        (Socket::tcp(server), client)
    }

    #[tokio::test]
    async fn every_byte_arrives_in_order_whichever_way_it_is_read() {
        let (mut socket, mut client) = pair().await;
        let writer = tokio::spawn(async move {
            for i in 0..200_000_u32 {
                client.write_all(&i.to_be_bytes()).await.unwrap();
                if i % 50_000 == 0 {
                    sleep(Duration::from_millis(20)).await;
                }
            }
            let mut answer = [0; 2];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"ok");
        });
        for i in 0..200_000 {
            assert_eq!(socket.read_u32().await.unwrap(), i);
        }
        socket.write_all(b"ok").await.unwrap();
        writer.await.unwrap();
        assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0, "end of stream");
    }

    #[tokio::test]
    async fn a_resting_socket_reads_writes_and_comes_back() {
        let (mut socket, mut client) = pair().await;
        socket.rest().unwrap();
        socket.write_all(b"to").await.unwrap();
        let mut two = [0; 2];
        client.read_exact(&mut two).await.unwrap();
        client.write_all(b"fro").await.unwrap();
        let mut three = [0; 3];
        socket.read_exact(&mut three).await.unwrap();
        assert_eq!(&three, b"fro");
        let late = tokio::spawn(async move {
            sleep(Duration::from_millis(20)).await;
            client.write_all(b"x").await.unwrap();
            client
        });
        assert_eq!(socket.read_u8().await.unwrap(), b'x');
        assert!(
            matches!(socket.state, State::Watched(_)),
            "found nothing for long: {:?}",
            socket.state
        );
        let mut client = late.await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(socket.read(&mut three).await.unwrap(), 0);
        socket.shutdown().await.unwrap();
    }
}
