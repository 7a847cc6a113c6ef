//! Server-sent events with as little work as can be: a request, and what is in its chunks (RFC 9112, section 7.1).

use std::io;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::wire;

/// Whether this server has them.
pub async fn served(port: u16, token: &str) -> bool {
    let query = query(token, None);
    request(port, &query, None).await.is_ok()
}

/// What asks for new rows of the table.
pub fn query(token: &str, filter: Option<&str>) -> String {
    let filter = filter.map(|filter| format!("&filter={filter}"));
    let filter = filter.unwrap_or_default();
    format!("table=docs&event=INSERT{filter}&apikey={token}")
}

/// Asks, from this place on if there is one; with what has been read of the body.
pub async fn request(port: u16, query: &str, last_id: Option<&str>) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let last_id = last_id.map(|id| format!("Last-Event-ID: {id}\r\n"));
    let last_id = last_id.unwrap_or_default();
    let request =
        format!("GET /sse?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{last_id}\r\n");
    socket.write_all(request.as_bytes()).await?;
    let (mut answer, body) = wire::head(&mut socket, b"HTTP/1.1 200").await?;
    answer.drain(..body);
    Ok((socket, answer))
}

/// Reads until the server ends it, and hands over each event with when it came.
pub async fn read((mut socket, mut bytes): (TcpStream, Vec<u8>), mut take: impl FnMut(&str, Instant)) {
    let (mut chunks, mut text) = (Chunks::default(), Vec::new());
    loop {
        let now = Instant::now();
        chunks.take(&mut bytes, &mut text);
        let mut start = 0;
        while let Some(length) = text[start..].windows(2).position(|end| end == b"\n\n") {
            let event = &text[start..start + length];
            take(std::str::from_utf8(event).unwrap_or_default(), now);
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
