//! Broadcasts over HTTP: what is answered, and what arrives.

mod batch;
mod limits;
mod single;

use reqwest::{RequestBuilder, Response};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::*;
use crate::hub::{Drained, Outbox};
use crate::protocol::Version;
use crate::room::testing::listener;
use crate::room::{Entry, Member, RoomName};

/// Somebody in a room, with the serialiser of its connection.
struct Listener {
    outbox: Outbox,
    _member: Member,
}

impl Listener {
    /// What it has got, without waiting: whoever sends has been answered behind that.
    async fn heard(&self) -> Vec<Frame> {
        let end = Frame::Text("end".to_owned().into());
        self.outbox.push(end.clone()).unwrap();
        let mut heard = Vec::new();
        while heard.last() != Some(&end) {
            match tokio::time::timeout(PATIENCE, self.outbox.drain()).await {
                Ok(Drained::Frames(frames)) => heard.extend(frames),
                other => panic!("expected frames, got {other:?}"),
            }
        }
        heard.pop();
        heard
    }

    /// The payloads of text frames of version 2.
    async fn payloads(&self) -> Vec<Value> {
        let payload = |frame: Frame| match frame {
            Frame::Text(text) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(frame[3], "broadcast");
                frame[4].clone()
            }
            Frame::Binary(bytes) => panic!("a text was expected, not {bytes:?}"),
        };
        self.heard().await.into_iter().map(payload).collect()
    }
}

impl Server {
    fn listen(&self, topic: &str, private: bool, version: Version) -> Listener {
        let outbox = Outbox::new(Settings::default().outbox);
        let name = RoomName {
            topic: format!("realtime:{topic}").into(),
            private,
        };
        let entry = Entry {
            version,
            ..listener(&outbox)
        };
        let member = self.rooms.enter(name, entry);
        member.open();
        Listener {
            outbox,
            _member: member,
        }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        reqwest::Client::new().post(format!("http://{}{path}", self.address))
    }

    /// The first line of the answer to a body whose length is not said beforehand.
    async fn chunked(&self, path: &str, body: String) -> String {
        let mut socket = TcpStream::connect(&self.address).await.unwrap();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\napikey: good\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        socket.write_all((head + &chunk).as_bytes()).await.unwrap();
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).await.unwrap();
        line
    }

    /// Broadcasts until a request is answered so: what was too much is soon forgiven.
    async fn send_until(&self, ask: impl AsyncFn() -> (u16, String), answer: &(u16, String)) {
        let sending = async {
            while ask().await != *answer {
                self.batch(json!([one("a", false)])).await;
            }
        };
        let refused = tokio::time::timeout(PATIENCE, sending).await;
        assert!(refused.is_ok(), "waited for: {answer:?}");
    }

    /// A batch, with a good token.
    async fn batch(&self, messages: Value) -> (u16, String) {
        let request = self.post("/api/broadcast").bearer_auth("good");
        answer(request.json(&json!({ "messages": messages }))).await
    }

    /// A single message, with a good token.
    async fn single(&self, path: &str, body: &'static str) -> (u16, String) {
        let request = self.post(&format!("/api/broadcast/{path}")).bearer_auth("good");
        answer(request.body(body)).await
    }
}

async fn sent(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

async fn answer(request: RequestBuilder) -> (u16, String) {
    let response = sent(request).await;
    (response.status().as_u16(), response.text().await.unwrap())
}

fn accepted() -> (u16, String) {
    (202, String::new())
}

fn message(status: u16, text: &str) -> (u16, String) {
    (status, json!({ "message": text }).to_string())
}

fn one(topic: &str, private: bool) -> Value {
    json!({"topic": topic, "event": "e", "payload": {"x": 1}, "private": private})
}

fn said() -> Value {
    json!({"type": "broadcast", "event": "e", "payload": {"x": 1}})
}
