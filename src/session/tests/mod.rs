//! The session driven by values: messages in, frames and effects out.

mod anew;
mod joins;
mod messages;
mod private;
mod random;
mod returns;
mod rows;
mod snapshots;
mod tokens;
mod users;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use serde_json::{Value, json};

use super::*;
use crate::auth::TokenError;
use crate::feed::{Sending, SnapshotStep, Subscribed};
use crate::hub::{Bounds, Drained};
use crate::protocol::{SnapshotReply, decode_binary, decode_text};
use crate::shutdown::Shutdown;

/// `exp` of the claims that tests use, and the time they start at.
const EXP: i64 = 2_000;
const START: i64 = 1_000;

struct Client {
    session: Session,
    outbox: Outbox,
    metrics: Arc<Metrics>,
    now: Now,
    rooms: Rooms,
    streaming: Arc<AtomicBool>,
    position: Arc<std::sync::Mutex<Option<Cursor>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Client {
    fn new() -> Self {
        Self::with(
            Limits {
                join_error_delay: Duration::ZERO,
                ..Limits::default()
            },
            Version::V2,
        )
    }

    fn with(limits: Limits, version: Version) -> Self {
        let rates = Rates {
            joins: SharedRate::new(1_000),
            traffic: Arc::new(Traffic::new(0, 0)),
            presence: SharedRate::new(0),
        };
        Self::limited(limits, rates, version)
    }

    fn limited(limits: Limits, rates: Rates, version: Version) -> Self {
        let metrics = Metrics::new();
        let ids = AtomicU64::new(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let rooms = {
            // Rooms tell what changed from a task; here nothing runs it, so that every test tells for itself.
            let _runtime = runtime.enter();
            Rooms::start(
                crate::room::Keeps {
                    age: Duration::from_secs(60),
                    bytes: 1 << 20,
                },
                Arc::clone(&metrics),
                &Shutdown::new(),
            )
        };
        let streaming = Arc::new(AtomicBool::new(true));
        let flows = Arc::clone(&streaming);
        let position = Arc::<std::sync::Mutex<Option<Cursor>>>::default();
        let here = Arc::clone(&position);
        let rates = Arc::new(rates);
        let context = Context {
            limits,
            rates: Arc::clone(&rates),
            rooms: rooms.clone(),
            metrics: Arc::clone(&metrics),
            next_id: Box::new(move || SubscriberId(ids.fetch_add(1, Ordering::Relaxed))),
            position: Box::new(move || *here.lock().unwrap()),
            streaming: Box::new(move || flows.load(Ordering::Relaxed)),
            presence_key: Box::new(|| Arc::from("made-up")),
        };
        let outbox = Outbox::new(Bounds {
            frames: 10_000,
            bytes: 10_000_000,
        });
        let now = Now {
            instant: Instant::now(),
            unix_seconds: START,
        };
        let session = Session::new(
            Arc::new(context),
            version,
            outbox.clone(),
            Arc::from("connect"),
            Arc::from(r#"{"x-team":"red"}"#),
            now.instant,
        );
        Self {
            session,
            outbox,
            metrics,
            now,
            rooms,
            streaming,
            position,
            _runtime: runtime,
        }
    }

    fn send(&mut self, frame: Value) -> Vec<Effect> {
        let text = frame.to_string();
        let message = decode_text(self.session.version(), &text).unwrap();
        self.session.message(&message, self.now)
    }

    /// A kind 3 frame: `ref` 9, this event, metadata and payload.
    fn send_binary(
        &mut self,
        topic: &str,
        event: &str,
        metadata: &str,
        json: bool,
        payload: &[u8],
    ) -> Vec<Effect> {
        let lengths = [
            3,
            1,
            1,
            topic.len(),
            event.len(),
            metadata.len(),
            usize::from(json),
        ];
        let mut frame: Vec<u8> = lengths.iter().map(|n| u8::try_from(*n).unwrap()).collect();
        for part in ["1", "9", topic, event, metadata] {
            frame.extend_from_slice(part.as_bytes());
        }
        frame.extend_from_slice(payload);
        let message = decode_binary(self.session.version(), &frame).unwrap();
        self.session.message(&message, self.now)
    }

    fn broadcast(&mut self, topic: &str, payload: &Value) -> Vec<Effect> {
        self.send(json!(["1", "9", topic, "broadcast", payload]))
    }

    fn presence(&mut self, topic: &str, payload: &Value) -> Vec<Effect> {
        self.send(json!(["1", "9", topic, "presence", payload]))
    }

    /// `phx_join` with this config and ref; `access_token` is left out.
    fn join(&mut self, topic: &str, reference: &str, config: Value) -> Vec<Effect> {
        self.send(json!([reference, reference, topic, "phx_join", { "config": config }]))
    }

    /// Joins and verifies; returns what the session wants then.
    fn admit(&mut self, topic: &str, reference: &str, config: Value) -> Vec<Effect> {
        let ticket = ticket(&self.join(topic, reference, config));
        self.session
            .verified(ticket, Ok(claims("authenticated")), self.now)
    }

    /// Joins a channel with one binding and lets it go live.
    fn live(&mut self, topic: &str, reference: &str) -> SubscriberId {
        let request = request(self.admit(topic, reference, one_binding()));
        self.go_live(&request);
        self.frames();
        request.subscriber.id
    }

    /// What the feed does at the moment a subscription is live.
    fn feed_sends(&self, request: &SubscribeRequest) {
        if let Some(reply) = &request.reply {
            reply.send(request.subscriber.outbox.outbox());
        }
        for frame in &request.on_live {
            // A channel that is over takes nothing more.
            let _ = request.subscriber.outbox.push(frame.clone());
        }
    }

    /// What the feed does when it has taken a snapshot.
    fn feed_takes(&self, request: &SubscribeRequest, reply: &SnapshotReply) {
        if let Some(held) = &request.reply {
            let since = "1-2~3:3:".parse().unwrap();
            held.replace(Frame::Text(reply.frame(&since).into()));
            held.send(request.subscriber.outbox.outbox());
        }
    }

    fn go_live(&mut self, request: &SubscribeRequest) -> Vec<Effect> {
        self.feed_sends(request);
        self.session
            .subscribed(request.subscriber.id, Ok(Subscribed::Live), self.now)
    }

    fn pass(&mut self, time: Duration) -> Vec<Effect> {
        self.now.instant += time;
        self.now.unix_seconds += i64::try_from(time.as_secs()).unwrap();
        self.session.tick(self.now)
    }

    fn frames(&self) -> Vec<Value> {
        match self.outbox.drain().now_or_never() {
            None => Vec::new(),
            Some(Drained::Overflowed) => panic!("overflowed"),
            Some(Drained::Frames(frames)) => frames
                .into_iter()
                .map(|frame| match frame {
                    Frame::Text(text) => serde_json::from_str(&text).unwrap(),
                    Frame::Binary(bytes) => json!({ "binary": bytes.to_vec() }),
                })
                .collect(),
        }
    }
}

/// Where somebody is known by the claims that tests use.
fn stay(topic: &str) -> Stay {
    Stay {
        topic: topic.into(),
        user: claims("authenticated").user(),
    }
}

fn claims(role: &str) -> Arc<Claims> {
    Arc::new(Claims {
        role: role.into(),
        sub: None,
        exp: EXP,
        scope: None,
        json: "{}".into(),
    })
}

/// The question about rights that is asked last.
fn question(effects: &[Effect]) -> (Ticket, Seeker, Rights) {
    let found = effects.iter().rev().find_map(|effect| match effect {
        Effect::Judge {
            ticket,
            seeker,
            wanted,
        } => Some((*ticket, seeker.clone(), *wanted)),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("expected a question about rights, got {effects:?}"))
}

fn one_binding() -> Value {
    json!({ "postgres_changes": [{ "event": "*", "schema": "public", "table": "todos" }] })
}

fn ticket(effects: &[Effect]) -> Ticket {
    match effects.last() {
        Some(Effect::Verify { ticket, .. }) => *ticket,
        other => panic!("expected a verification, got {other:?}"),
    }
}

fn request(mut effects: Vec<Effect>) -> SubscribeRequest {
    match effects.pop() {
        Some(Effect::Subscribe(request)) => *request,
        other => panic!("expected a subscription, got {other:?}"),
    }
}

fn closed(effects: &[Effect]) -> Option<Close> {
    match effects.last() {
        Some(Effect::Close(close)) => Some(*close),
        _ => None,
    }
}

/// The id the ok reply to [`one_binding`] carries.
fn binding_id(reply: &Value) -> i64 {
    reply[4]["response"]["postgres_changes"][0]["id"]
        .as_i64()
        .unwrap()
}

fn ok_reply(reference: &str, topic: &str) -> Value {
    json!([reference, reference, topic, "phx_reply", {"status": "ok", "response": {"postgres_changes": []}}])
}

fn error_reply(reference: &str, topic: &str, reason: &str) -> Value {
    json!([reference, reference, topic, "phx_reply", {"status": "error", "response": {"reason": reason}}])
}

fn system(join_ref: &str, topic: &str, extension: &str, status: &str, message: &str) -> Value {
    let channel = topic.strip_prefix("realtime:").unwrap();
    json!([join_ref, null, topic, "system",
        {"extension": extension, "status": status, "message": message, "channel": channel}])
}

fn subscribed(join_ref: &str, topic: &str) -> Value {
    system(
        join_ref,
        topic,
        "postgres_changes",
        "ok",
        "Subscribed to PostgreSQL",
    )
}

fn phx_close(join_ref: &str, topic: &str) -> Value {
    json!([join_ref, join_ref, topic, "phx_close", {}])
}
