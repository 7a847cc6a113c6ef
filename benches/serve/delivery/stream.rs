//! Server-sent events with as little work as can be: a request, and what is in its chunks (RFC 9112, section 7.1).

use std::sync::Mutex;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::log::Log;
use super::reader::lock;

/// Whether this server has them.
pub async fn served(port: u16, token: &str) -> bool {
    let (_socket, answer) = request(port, token, None).await;
    answer.starts_with(b"HTTP/1.1 200")
}

/// Asks for new rows of the table; with what has been read up to the first of the body.
pub async fn request(port: u16, token: &str, filter: Option<&str>) -> (TcpStream, Vec<u8>) {
    let mut socket = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("a connection");
    socket.set_nodelay(true).expect("no delay");
    let filter = filter
        .map(|filter| format!("&filter={filter}"))
        .unwrap_or_default();
    let request = format!(
        "GET /sse?table=docs&event=INSERT{filter}&apikey={token} HTTP/1.1\r\nHost: 127.0.0.1\r\n\
         Accept: text/event-stream\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = Vec::with_capacity(1_024);
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = socket.read_buf(&mut answer).await.expect("an answer");
        assert!(read > 0, "an answer");
    }
    (socket, answer)
}

/// Reads until the server ends it.
pub async fn read(port: u16, token: &str, filter: Option<&str>, log: &Mutex<Log>) {
    let (mut socket, mut bytes) = request(port, token, filter).await;
    let head = bytes
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .expect("a head")
        + 4;
    assert!(
        bytes.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
    bytes.drain(..head);
    let (mut chunks, mut text) = (Chunks::default(), Vec::new());
    loop {
        let now = Instant::now();
        chunks.take(&mut bytes, &mut text);
        let mut start = 0;
        while let Some(length) = text[start..].windows(2).position(|end| end == b"\n\n") {
            let event = &text[start..start + length];
            lock(log).take(std::str::from_utf8(event).unwrap_or_default(), now);
            start += length + 2;
        }
        text.drain(..start);
        match socket.read_buf(&mut bytes).await {
            Ok(read) if read > 0 => {}
            _ => return,
        }
    }
}

/// Takes chunks apart as they come.
#[derive(Default)]
struct Chunks {
    /// Bytes that are still to come of the chunk that has begun, with the end of its line.
    left: usize,
}

impl Chunks {
    /// Moves what is data to `text`, and leaves what is not there whole.
    fn take(&mut self, bytes: &mut Vec<u8>, text: &mut Vec<u8>) {
        let mut at = 0;
        while at < bytes.len() {
            if self.left == 0 {
                let Some(line) = bytes[at..].windows(2).position(|end| end == b"\r\n") else {
                    break;
                };
                let size = std::str::from_utf8(&bytes[at..at + line]).unwrap_or_default();
                self.left = usize::from_str_radix(size.trim(), 16).expect("a size") + END;
                at += line + END;
                continue;
            }
            let there = self.left.min(bytes.len() - at);
            let data = self.left.saturating_sub(END).min(there);
            text.extend_from_slice(&bytes[at..at + data]);
            self.left -= there;
            at += there;
        }
        bytes.drain(..at);
    }
}

/// Bytes of a line's end.
const END: usize = 2;
