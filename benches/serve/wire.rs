//! Sockets and WebSocket frames with as little work as can be: clients share the machine with the server.

use std::io;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::server::Server;

/// What a socket's task reads at once, in bytes.
const READ: usize = 4_096;

const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A socket and what has been read from it.
pub struct Inbox {
    bytes: Vec<u8>,
    at: usize,
}

impl Inbox {
    pub fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(READ),
            at: 0,
        }
    }

    /// Waits for more to read; `false` at the end of the stream.
    pub async fn fill(&mut self, socket: &TcpStream) -> bool {
        self.bytes.drain(..self.at);
        self.at = 0;
        loop {
            if socket.readable().await.is_err() {
                return false;
            }
            match socket.try_read_buf(&mut self.bytes) {
                Ok(read) => return read > 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
    }

    /// The payload of the next frame that is there whole.
    pub fn next(&mut self) -> Option<&[u8]> {
        self.frame().map(|(_, payload)| payload)
    }

    /// The same, with what kind of frame it is.
    pub fn frame(&mut self) -> Option<(u8, &[u8])> {
        let bytes = &self.bytes[self.at..];
        let opcode = bytes.first()? & 0x0f;
        let (masked, length) = (bytes.get(1)? & 0x80 != 0, bytes[1] & 0x7f);
        let (length, header) = match length {
            126 => (
                usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
                4,
            ),
            127 => (
                usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?,
                10,
            ),
            short => (usize::from(short), 2),
        };
        let start = header + if masked { 4 } else { 0 };
        let payload = bytes.get(start..start + length)?;
        self.at += start + length;
        Some((opcode, payload))
    }
}

/// A frame of a client. Its mask is zero: the bytes stay what they are.
pub fn of_client(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(opcode, 0x80, &[0; 4], payload)
}

/// A frame of a server.
pub fn of_server(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(opcode, 0, &[], payload)
}

fn frame(opcode: u8, flag: u8, mask: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..126 => frame.push(flag | u8::try_from(short).expect("short")),
        length => {
            frame.push(flag | 126);
            let length = u16::try_from(length).expect("a small frame");
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(mask);
    frame.extend_from_slice(payload);
    frame
}

/// Writes a small frame at once: what is under way is bounded, so there is room for it.
pub async fn write(socket: &TcpStream, frame: &[u8]) -> io::Result<()> {
    loop {
        match socket.try_write(frame) {
            Ok(written) => {
                assert_eq!(written, frame.len(), "a small frame is written whole");
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(error) => return Err(error),
        }
    }
}

/// An open WebSocket.
pub async fn open(server: &Server, token: &str) -> TcpStream {
    open_with(server.port(), &format!("apikey={token}")).await
}

/// The same, with these parameters in its URL.
pub async fn open_with(port: u16, parameters: &str) -> TcpStream {
    try_open(port, parameters).await.expect("an open WebSocket")
}

/// The same, where it may be refused: then the error says how.
pub async fn try_open(port: u16, parameters: &str) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    upgraded(socket, parameters).await
}

/// The same, which takes in little more than what is read.
pub async fn open_narrow(server: &Server, token: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let address = ([127, 0, 0, 1], server.port()).into();
    let socket = socket.connect(address).await.expect("a connection");
    let socket = upgraded(socket, &format!("apikey={token}")).await;
    socket.expect("an open WebSocket")
}

async fn upgraded(mut socket: TcpStream, parameters: &str) -> io::Result<TcpStream> {
    socket.set_nodelay(true)?;
    let request = format!(
        "GET /realtime/v1/websocket?{parameters}&vsn=2.0.0 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    let (answer, end) = head(&mut socket, b"HTTP/1.1 101").await?;
    assert_eq!(end, answer.len(), "nothing is said before it is asked for");
    Ok(socket)
}

/// Reads what an answer begins with, which has to have this status: what was read, and where that begins which is behind it.
pub async fn head(socket: &mut TcpStream, status: &[u8]) -> io::Result<(Vec<u8>, usize)> {
    let mut answer = Vec::with_capacity(1_024);
    let end = loop {
        if socket.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = answer.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
    };
    if !answer.starts_with(status) {
        let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        return Err(io::Error::other(String::from_utf8_lossy(line).into_owned()));
    }
    Ok((answer, end))
}

/// `config` of a join as supabase-js sends it.
pub fn config(own: bool, presence: Option<&str>, changes: &Value) -> Value {
    json!({
        "broadcast": {"ack": false, "self": own},
        "presence": {"key": presence.unwrap_or_default(), "enabled": presence.is_some()},
        "postgres_changes": changes,
        "private": false
    })
}

/// Joins, and returns once the reply is there, or the rows are live where there are any; with what was read beyond that.
pub async fn join(socket: &TcpStream, topic: &str, token: &str, config: &Value) -> Inbox {
    let last = match config["postgres_changes"].as_array() {
        Some(changes) if !changes.is_empty() => "Subscribed to PostgreSQL",
        _ => "phx_reply",
    };
    let payload = json!({"config": config, "access_token": token});
    say(socket, topic, "phx_join", &payload).await;
    let mut inbox = Inbox::new();
    loop {
        assert!(inbox.fill(socket).await, "an answer to the join");
        while let Some(payload) = inbox.next() {
            let text = String::from_utf8_lossy(payload);
            assert!(!text.contains("\"status\":\"error\""), "{text}");
            if text.contains(last) {
                return inbox;
            }
        }
    }
}

/// Sends a message in text.
pub async fn say(socket: &TcpStream, topic: &str, event: &str, payload: &Value) {
    try_say(socket, topic, event, payload).await.expect("a message");
}

/// The same, on a connection that may be lost.
pub async fn try_say(socket: &TcpStream, topic: &str, event: &str, payload: &Value) -> io::Result<()> {
    let frame = json!(["1", "1", topic, event, payload]);
    write(socket, &of_client(TEXT, frame.to_string().as_bytes())).await
}
