//! A client that speaks both wire versions and shows everything it was sent.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message as Raw};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Database, LIMIT, Server, broadcast};

/// Which serialiser to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `vsn=1.0.0`
    V1,
    /// `vsn=2.0.0`
    V2,
}

/// One message from the server, whatever the version.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub join_ref: Value,
    pub reference: Value,
    pub topic: String,
    pub event: String,
    pub payload: Value,
}

/// What a connection goes through.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A connection.
pub struct Client {
    socket: WebSocketStream<Box<dyn Wire>>,
    version: Version,
    next_ref: u64,
    /// Of the last join.
    join_ref: Value,
    /// Received and not yet looked for.
    pending: Vec<Message>,
    /// How the server ended it.
    pub closed: Option<Option<CloseFrame>>,
}

impl Client {
    /// Connects with this token.
    pub async fn connect(server: &Server, version: Version, token: &str) -> Self {
        Self::try_connect(server, version, token)
            .await
            .expect("a connection")
    }

    /// Connects, or says why not.
    pub async fn try_connect(server: &Server, version: Version, token: &str) -> Result<Self, Error> {
        Self::try_connect_to(&server.url(), version, token).await
    }

    /// Connects to a server that is not of this process, `http://…`, or says why not.
    pub async fn try_connect_to(base: &str, version: Version, token: &str) -> Result<Self, Error> {
        let address = base.strip_prefix("http://").expect("an http URL");
        let stream = TcpStream::connect(address).await?;
        Self::over(stream, address, version, token, &[]).await
    }

    /// Connects with further headers.
    pub async fn connect_with(
        server: &Server,
        version: Version,
        token: &str,
        headers: &[(&'static str, &str)],
    ) -> Self {
        let stream = TcpStream::connect(server.address)
            .await
            .expect("the server listens");
        Self::over(stream, &server.address.to_string(), version, token, headers)
            .await
            .expect("a connection")
    }

    /// Connects over a socket that takes in little more than what the test reads.
    pub async fn connect_narrow(server: &Server, version: Version, token: &str) -> Self {
        Self::connect_narrow_to(server.address, version, token).await
    }

    /// The same to a server that may not be of this process.
    pub async fn connect_narrow_to(address: SocketAddr, version: Version, token: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a small buffer");
        let stream = socket.connect(address).await.expect("the server listens");
        Self::over(stream, &address.to_string(), version, token, &[])
            .await
            .expect("a connection")
    }

    /// Connects over what has been connected already.
    pub async fn over(
        stream: impl Wire + 'static,
        address: &str,
        version: Version,
        token: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let vsn = match version {
            Version::V1 => "1.0.0",
            Version::V2 => "2.0.0",
        };
        let url = format!("ws://{address}/realtime/v1/websocket?apikey={token}&vsn={vsn}");
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a header");
            request.headers_mut().insert(*name, value);
        }
        let stream: Box<dyn Wire> = Box::new(stream);
        let (socket, _) = tokio::time::timeout(LIMIT, client_async(request, stream))
            .await
            .expect("an answer in time")?;
        Ok(Self {
            socket,
            version,
            next_ref: 1,
            join_ref: Value::Null,
            pending: Vec::new(),
            closed: None,
        })
    }

    /// Joins `realtime:<topic>` with these `postgres_changes` and returns once the rows are live.
    pub async fn subscribe(&mut self, topic: &str, changes: Value) -> Value {
        let reply = self.join(topic, json!({"postgres_changes": changes})).await;
        assert_eq!(reply["status"], "ok", "{reply}");
        let system = self.system(topic).await;
        assert_eq!(system["message"], "Subscribed to PostgreSQL", "{system}");
        reply
    }

    /// Joins and returns the reply's payload.
    pub async fn join(&mut self, topic: &str, config: Value) -> Value {
        let reference = self.push(topic, "phx_join", json!({"config": config})).await;
        self.reply(&reference).await
    }

    /// Sends a message on `realtime:<topic>` with a fresh ref, which for a join is the join ref too.
    pub async fn push(&mut self, topic: &str, event: &str, payload: Value) -> String {
        let reference = self.next_ref.to_string();
        self.next_ref += 1;
        let join_ref = if event == "phx_join" {
            self.join_ref = json!(reference);
            self.join_ref.clone()
        } else {
            Value::Null
        };
        self.send(
            join_ref,
            json!(reference),
            &format!("realtime:{topic}"),
            event,
            payload,
        )
        .await;
        reference
    }

    /// The `join_ref` of the last join.
    pub fn last_join_ref(&self) -> Value {
        self.join_ref.clone()
    }

    /// Sends a message exactly as given.
    pub async fn send(
        &mut self,
        join_ref: Value,
        reference: Value,
        topic: &str,
        event: &str,
        payload: Value,
    ) {
        let frame = match self.version {
            Version::V1 => {
                json!({"topic": topic, "event": event, "payload": payload, "ref": reference, "join_ref": join_ref})
            }
            Version::V2 => json!([join_ref, reference, topic, event, payload]),
        };
        self.raw(Raw::text(frame.to_string())).await;
    }

    /// Sends any frame.
    pub async fn raw(&mut self, frame: Raw) {
        self.socket.send(frame).await.expect("an open socket");
    }

    /// Sends any frame, on a connection that the server may have closed: whether it was taken.
    pub async fn try_raw(&mut self, frame: Raw) -> bool {
        self.socket.send(frame).await.is_ok()
    }

    /// Writes bytes to the socket below the WebSocket, as no client library would.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        let stream = self.socket.get_mut();
        stream.write_all(bytes).await.expect("an open socket");
        stream.flush().await.expect("an open socket");
    }

    /// The payload of the reply to a ref.
    pub async fn reply(&mut self, reference: &str) -> Value {
        let wanted = json!(reference);
        self.expect(&format!("a reply to {reference}"), |m| {
            m.event == "phx_reply" && m.reference == wanted
        })
        .await
        .payload
    }

    /// The payload of the next `system` message of a topic.
    pub async fn system(&mut self, topic: &str) -> Value {
        let topic = format!("realtime:{topic}");
        self.expect("a system message", |m| m.event == "system" && m.topic == topic)
            .await
            .payload
    }

    /// The next row change, on any topic: its whole payload.
    pub async fn change(&mut self) -> Value {
        self.expect("a change", |m| m.event == "postgres_changes")
            .await
            .payload
    }

    /// The `data` of the next row change.
    pub async fn data(&mut self) -> Value {
        self.change().await["data"].take()
    }

    /// The next message that fits; others are kept. Fails, showing what came instead, if none does.
    pub async fn expect(&mut self, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
        let mut looked = 0;
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            if let Some(found) = self.pending.iter().skip(looked).position(&fits) {
                return self.pending.remove(looked + found);
            }
            looked = self.pending.len();
            let next = tokio::time::timeout_at(deadline, self.receive()).await;
            match next {
                Ok(true) => {}
                Ok(false) => panic!("closed ({:?}) before {what}; {}", self.closed, self.seen()),
                Err(_) => panic!("no {what}; {}", self.seen()),
            }
        }
    }

    /// Reads on until a message fits, and drops all; false if the server closes the connection before.
    pub async fn try_expect(&mut self, fits: impl Fn(&Message) -> bool) -> bool {
        let search = async {
            while self.receive().await {
                if self.pending.drain(..).any(|message| fits(&message)) {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(LIMIT, search).await.unwrap_or(false)
    }

    /// For failures: what came last.
    fn seen(&self) -> String {
        let last = self.pending.len().saturating_sub(10);
        format!(
            "{} messages, the last of them {:#?}",
            self.pending.len(),
            &self.pending[last..]
        )
    }

    /// Everything received so far and not looked for.
    pub fn pending(&self) -> &[Message] {
        &self.pending
    }

    /// Takes out what was received of this event and not looked for.
    pub fn take(&mut self, event: &str) -> Vec<Message> {
        self.pending.extract_if(.., |m| m.event == event).collect()
    }

    /// Takes out the `data` of all row changes received so far and not looked for.
    pub fn rows_before_now(&mut self) -> Vec<Value> {
        let changes = self.take("postgres_changes").into_iter();
        changes.map(|mut change| change.payload["data"].take()).collect()
    }

    /// Drops what was received of this event and not looked for.
    pub fn forget(&mut self, event: &str) {
        self.pending.retain(|message| message.event != event);
    }

    /// Sends a heartbeat and waits for its reply: whatever the server had sent before is then in.
    pub async fn round_trip(&mut self) {
        let reference = self.next_ref.to_string();
        self.next_ref += 1;
        self.send(Value::Null, json!(reference), "phoenix", "heartbeat", json!({}))
            .await;
        self.reply(&reference).await;
    }

    /// Waits until the server closes the connection; its code, if it gave one.
    pub async fn close_code(&mut self) -> Option<u16> {
        let closing = async { while self.receive().await {} };
        tokio::time::timeout(LIMIT, closing)
            .await
            .expect("the server to close the connection");
        self.closed.clone().flatten().map(|frame| frame.code.into())
    }

    /// The next frame with this in it, as it came.
    pub async fn raw_text_containing(&mut self, part: &str) -> String {
        let search = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Raw::Text(text))) if text.contains(part) => return text.to_string(),
                    Some(Ok(_)) => {}
                    other => panic!("no frame with {part}: {other:?}"),
                }
            }
        };
        tokio::time::timeout(LIMIT, search)
            .await
            .expect("the frame in time")
    }

    /// Takes in one message; false once the connection is closed.
    async fn receive(&mut self) -> bool {
        loop {
            let text = match self.socket.next().await {
                Some(Ok(Raw::Text(text))) => text,
                Some(Ok(Raw::Binary(frame))) => {
                    assert_eq!(self.version, Version::V2, "binary on vsn 1.0.0");
                    self.pending.push(broadcast::decode(&frame));
                    return true;
                }
                Some(Ok(Raw::Close(frame))) => {
                    self.closed = Some(frame);
                    continue;
                }
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => {
                    self.closed.get_or_insert(None);
                    return false;
                }
            };
            let frame: Value = serde_json::from_str(&text).expect("JSON from the server");
            self.pending.push(self.message(frame));
            return true;
        }
    }

    fn message(&self, mut frame: Value) -> Message {
        let text = |value: Value| value.as_str().expect("a string").to_owned();
        match self.version {
            Version::V1 => {
                assert!(
                    frame.get("ref").is_some() && frame.get("join_ref").is_none(),
                    "{frame}"
                );
                Message {
                    join_ref: Value::Null,
                    reference: frame["ref"].take(),
                    topic: text(frame["topic"].take()),
                    event: text(frame["event"].take()),
                    payload: frame["payload"].take(),
                }
            }
            Version::V2 => {
                assert_eq!(frame.as_array().map(Vec::len), Some(5), "{frame}");
                Message {
                    join_ref: frame[0].take(),
                    reference: frame[1].take(),
                    topic: text(frame[2].take()),
                    event: text(frame[3].take()),
                    payload: frame[4].take(),
                }
            }
        }
    }
}

/// The `data` of every row change that was sent for what has been committed so far.
pub async fn told(client: &mut Client, db: &Database, server: &Server) -> Vec<Value> {
    server.passed(db).await;
    client.round_trip().await;
    let told = client
        .pending()
        .iter()
        .filter(|m| m.event == "postgres_changes")
        .map(|m| m.payload["data"].clone())
        .collect();
    client.forget("postgres_changes");
    told
}
