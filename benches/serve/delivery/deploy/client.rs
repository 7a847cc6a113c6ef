//! Clients that come back whenever they lose their connection, to wherever the front sends them.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::Rng;
use serde_json::json;

use super::super::super::server::user;
use super::super::super::wire::{self, Inbox};
use super::super::reader::{Kind, lock};
use super::super::stream as events;
use super::diary::Diary;
use super::front::Front;

/// Rooms; everybody is in one of them.
pub const ROOMS: usize = 7;

/// How long a client waits until it connects again, in milliseconds, and for how much longer each time that this fails: sooner than
/// any client library does.
const WAIT: std::ops::Range<u64> = 50..150;
const LONGEST: u64 = 2_000;

pub struct Client {
    kind: Kind,
    token: String,
    session: String,
    topic: String,
    front: Front,
    diary: Arc<Mutex<Diary>>,
}

impl Client {
    pub fn new(number: usize, front: Front, diary: Arc<Mutex<Diary>>) -> Self {
        Self {
            kind: kind_of(number),
            token: user(number),
            // Not that of another run, whose places may still be known.
            session: uuid::Uuid::new_v4().to_string(),
            topic: room(number),
            front,
            diary,
        }
    }

    /// Is there for as long as the front is.
    pub async fn run(self) {
        let mut failures = 0;
        loop {
            let came = match self.front.port() {
                Some(port) => self.visit(port).await,
                None => Err(io::Error::other("no server was ready")),
            };
            failures = match came {
                Ok(()) => 0,
                Err(error) => {
                    lock(&self.diary).fail(&error.to_string());
                    failures + 1
                }
            };
            let told = lock(&self.diary).retry.filter(|_| failures == 0);
            let wait = rand::rng().random_range(WAIT) << failures.min(6);
            let wait = Duration::from_millis(told.unwrap_or(wait.min(LONGEST)));
            tokio::time::sleep(wait).await;
        }
    }

    /// Connects, joins and reads until the connection ends.
    async fn visit(&self, port: u16) -> io::Result<()> {
        if self.kind == Kind::Events {
            let query = format!(
                "topic={}&table=docs&event=INSERT&apikey={}",
                self.topic, self.token
            );
            let last_id = lock(&self.diary).id.clone();
            let stream = events::request(port, &query, last_id.as_deref()).await?;
            lock(&self.diary).begin();
            events::read(stream, |event, at| lock(&self.diary).take(event, at)).await;
            return Ok(());
        }
        let mut parameters = format!("apikey={}", self.token);
        if self.kind == Kind::Session {
            parameters.push_str(&format!("&session={}", self.session));
        }
        let socket = wire::try_open(port, &parameters).await?;
        lock(&self.diary).begin();
        let topic = format!("realtime:{}", self.topic);
        wire::try_say(&socket, &topic, "phx_join", &self.join()).await?;
        let mut inbox = Inbox::new();
        while inbox.fill(&socket).await {
            let now = Instant::now();
            while let Some((opcode, payload)) = inbox.frame() {
                match opcode {
                    wire::PING => {
                        let pong = wire::of_client(wire::PONG, payload);
                        wire::write(&socket, &pong).await?;
                    }
                    wire::CLOSE => {
                        let code = payload
                            .first_chunk()
                            .map_or(1005, |code| u16::from_be_bytes(*code));
                        lock(&self.diary).closed(code);
                        return Ok(());
                    }
                    _ => lock(&self.diary).take(std::str::from_utf8(payload).unwrap_or_default(), now),
                }
            }
        }
        Ok(())
    }

    fn join(&self) -> serde_json::Value {
        let changes = json!([{"event": "INSERT", "schema": "public", "table": "docs"}]);
        let mut config = wire::config(false, None, &changes);
        if self.kind == Kind::Since {
            let diary = lock(&self.diary);
            config["since"] = diary.log.cursor.as_deref().unwrap_or_default().into();
            config["broadcast"]["since"] = diary.log.room.as_deref().unwrap_or_default().into();
        }
        json!({"config": config, "access_token": self.token})
    }
}

/// Half, a quarter and a quarter.
pub fn kind_of(number: usize) -> Kind {
    match number % 4 {
        0 | 1 => Kind::Session,
        2 => Kind::Since,
        _ => Kind::Events,
    }
}

/// The room that the client with this number is in.
pub fn room(number: usize) -> String {
    format!("room-{}", number % ROOMS)
}
