//! From connect settings to a byte stream: TCP or Unix socket, TLS where it is asked for.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::failure::Failure;
use super::socket::Socket;
use crate::postgres::{ConnectSettings, Tls, server_name, tls_server_end_point};

/// Quiet time before TCP asks whether the peer is still there, and between its questions. Our own status updates
/// notice a dead peer too; this also works while we do not read.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// What a walsender is talked to through.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An open stream, before the start-up message.
pub(super) struct Opened {
    pub(super) io: Box<dyn Io>,
    pub(super) encrypted: bool,
    /// Channel binding data of the server's certificate.
    pub(super) binding: Option<Vec<u8>>,
}

/// Where the settings point, for messages.
pub(super) fn place(settings: &ConnectSettings) -> String {
    if settings.host.starts_with('/') {
        format!("{}/.s.PGSQL.{}", settings.host, settings.port)
    } else {
        format!("{}:{}", settings.host, settings.port)
    }
}

/// Opens the stream. Puts no limit on the time it takes.
pub(super) async fn open(settings: &ConnectSettings) -> Result<Opened, Failure> {
    let tls = Tls::new(settings).map_err(|e| Failure::Tls(e.to_string()))?;
    let mut socket = dial(settings).await.map_err(|cause| Failure::Unreachable {
        place: place(settings),
        cause,
    })?;
    let (config, required) = match tls {
        Tls::Never => return Ok(plain(socket)),
        Tls::IfOffered(config) => (config, false),
        Tls::Required(config) => (config, true),
    };
    match (offers_tls(&mut socket).await?, required) {
        (true, _) => {}
        (false, false) => return Ok(plain(socket)),
        (false, true) => return Err(Failure::Tls("the server offers none".to_owned())),
    }
    let name = server_name(settings).map_err(|e| Failure::Tls(e.to_string()))?;
    let stream = TlsConnector::from(config)
        .connect(name, socket)
        .await
        .map_err(|e| Failure::Tls(e.to_string()))?;
    let certificates = stream.get_ref().1.peer_certificates();
    let binding = certificates
        .and_then(|chain| chain.first())
        .and_then(tls_server_end_point);
    Ok(Opened {
        io: Box::new(stream),
        encrypted: true,
        binding,
    })
}

fn plain(socket: Socket) -> Opened {
    Opened {
        io: Box::new(socket),
        encrypted: false,
        binding: None,
    }
}

async fn dial(settings: &ConnectSettings) -> io::Result<Socket> {
    if settings.host.starts_with('/') {
        return UnixStream::connect(place(settings)).await.map(Socket::unix);
    }
    let stream = TcpStream::connect((settings.host.as_str(), settings.port)).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(Socket::tcp(stream))
}

/// Asks with an `SSLRequest`. Exactly one byte is read: anything behind it belongs to the handshake.
async fn offers_tls(socket: &mut Socket) -> Result<bool, Failure> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).await?;
    match socket.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(Failure::Protocol("unknown answer to the TLS request")),
    }
}
