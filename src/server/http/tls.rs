//! TLS handshakes, each within its time and by itself: whoever is slow or speaks something else keeps nobody waiting.

use std::io;

use rustls::ServerConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Service;

/// Most bytes that are encrypted ahead of what the connection takes: the largest record. Beyond it a client that reads nothing
/// would hold memory that its outbox does not count.
const ENCRYPTED: usize = 16 * 1024;

/// For those who speak plain HTTP to a port that does not.
const PLAIN: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 47\r\n\
    connection: close\r\n\r\nThis port speaks TLS: use https:// or wss://.\r\n";

/// What came of a handshake.
enum Outcome {
    Secured(Box<TlsStream<TcpStream>>),
    /// The client speaks plain HTTP, and has been told.
    Plain,
    /// It said nothing at all, as what only looks whether somebody listens.
    Silent,
}

/// Does the handshake; `None` where it comes to nothing, which is counted.
pub(super) async fn accept(
    socket: TcpStream,
    acceptor: &TlsAcceptor,
    service: &Service,
) -> Option<Box<TlsStream<TcpStream>>> {
    let reason = match timeout(service.bounds.handshake, handshake(socket, acceptor)).await {
        Ok(Ok(Outcome::Secured(stream))) => return Some(stream),
        Ok(Ok(Outcome::Silent)) => return None,
        Ok(Ok(Outcome::Plain)) => "plain_http",
        Ok(Err(error)) => {
            tracing::debug!(%error, "tls handshake failed");
            "failed"
        }
        Err(_) => "timeout",
    };
    let failed = &service.metrics.handshakes_failed;
    failed.get_or_create(&[("reason", reason)]).inc();
    None
}

async fn handshake(socket: TcpStream, acceptor: &TlsAcceptor) -> io::Result<Outcome> {
    let mut first = [0];
    if socket.peek(&mut first).await? == 0 {
        return Ok(Outcome::Silent);
    }
    // A handshake begins with 22 (RFC 8446, section 5.1), a request with its method.
    if first[0].is_ascii_uppercase() {
        // Whether it has listened or not.
        let _ = tell_plain(socket).await;
        return Ok(Outcome::Plain);
    }
    let limited = |tls: &mut ServerConnection| tls.set_buffer_limit(Some(ENCRYPTED));
    let stream = acceptor.accept_with(socket, limited).await?;
    Ok(Outcome::Secured(Box::new(stream)))
}

async fn tell_plain(mut socket: TcpStream) -> io::Result<()> {
    socket.write_all(PLAIN).await?;
    socket.shutdown().await?;
    // A socket closed with something unread in it is reset, and the answer lost.
    let mut rest = [0; 1024];
    for _ in 0..64 {
        if socket.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}
