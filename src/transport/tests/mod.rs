//! The adapters on real sockets, with a feed and a verifier that tests hold in their hands.

mod broadcasts;
mod events;
mod frames;
mod http;
mod longpoll;
mod sockets;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, watch};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use uuid::Uuid;

use super::*;
use crate::auth::{Claims, TokenError};
use crate::change::{Cursor, StreamState, StreamStatus};
use crate::feed::{AuthorityError, Rows, Seeker, SubscribeError, SubscribeRequest, Subscribed, SubscriberId};
use crate::hub::Frame;
use crate::messages::{MessagesError, Persist, Stored};
use crate::policy::Rights;
use crate::policy::listing::Listing;
use crate::protocol::Binding;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct FakeTokens;

impl TokenVerifier for FakeTokens {
    fn verify(&self, token: Arc<str>) -> Pending<Result<Arc<Claims>, TokenError>> {
        let outcome = match &*token {
            "good" | "service" => Ok(Arc::new(Claims {
                role: if &*token == "good" { "anon" } else { "service_role" }.into(),
                sub: None,
                exp: i64::MAX,
                scope: None,
                json: "{}".into(),
            })),
            "expired" => Err(TokenError::Expired { seconds_ago: 9 }),
            "unsigned" => Err(TokenError::Signature),
            _ => Err(TokenError::Malformed),
        };
        Box::pin(std::future::ready(outcome))
    }
}

/// Goes live at once, and tells the test of each request and of each subscription that is given back.
struct FakeFeed {
    ids: AtomicU64,
    stream: watch::Receiver<StreamStatus>,
    requests: mpsc::UnboundedSender<SubscribeRequest>,
    given_back: mpsc::UnboundedSender<SubscriberId>,
    position: Arc<std::sync::Mutex<Option<Cursor>>>,
}

/// Nobody comes from another server.
struct NoKeeper;

impl super::PlaceKeeper for NoKeeper {
    fn recall(&self, _id: Arc<str>) -> Pending<Result<Option<crate::session::Written>, super::Unread>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn write(&self, _id: Arc<str>) -> Pending<()> {
        Box::pin(std::future::ready(()))
    }
}

impl RowFeed for FakeFeed {
    fn next_id(&self) -> SubscriberId {
        SubscriberId(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    fn subscribe(&self, request: SubscribeRequest) -> Pending<Result<Subscribed, SubscribeError>> {
        if request
            .bindings
            .iter()
            .any(|binding| binding.table.as_deref() == Some("none"))
        {
            let refused = SubscribeError::Refused("there is no such table".to_owned());
            return Box::pin(std::future::ready(Err(refused)));
        }
        if let Some(reply) = &request.reply {
            reply.send(request.subscriber.outbox.outbox());
        }
        for frame in &request.on_live {
            let _ = request.subscriber.outbox.push(frame.clone());
        }
        let _ = self.requests.send(request);
        Box::pin(std::future::ready(Ok(Subscribed::Live)))
    }

    fn replace_claims(
        &self,
        _: SubscriberId,
        _: Arc<Claims>,
        _: Vec<Frame>,
    ) -> Pending<Result<(), SubscribeError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn newer_claims(&self, _: SubscriberId, _: crate::feed::NewerClaims) -> Pending<()> {
        Box::pin(std::future::ready(()))
    }

    fn unsubscribe(&self, id: SubscriberId) {
        let _ = self.given_back.send(id);
    }

    fn rows(&self, _: Arc<Claims>, _: Binding) -> Pending<Result<Rows, SubscribeError>> {
        let text = "no rows here".to_owned();
        Box::pin(std::future::ready(Err(SubscribeError::Unavailable(text))))
    }

    fn policies(&self) -> Pending<Result<Listing, SubscribeError>> {
        Box::pin(std::future::ready(Ok(Listing {
            tables: Vec::new(),
            channels: None,
        })))
    }

    fn position(&self) -> Option<Cursor> {
        *self.position.lock().unwrap()
    }

    fn stream(&self) -> watch::Receiver<StreamStatus> {
        self.stream.clone()
    }
}

/// Judges by the topic's name, and remembers who asked what and what is to be kept.
#[derive(Default)]
struct FakeRights {
    asked: std::sync::Mutex<Vec<(Seeker, Rights)>>,
    kept: std::sync::Mutex<Vec<Persist>>,
}

/// The id of whatever is kept.
const KEPT: Uuid = Uuid::from_u128(7);

impl ChannelRights for FakeRights {
    fn rights(&self, seeker: Seeker, wanted: Rights) -> Pending<Result<Rights, AuthorityError>> {
        let topic = seeker.claims.scope.as_ref().unwrap().topic.to_string();
        self.asked.lock().unwrap().push((seeker, wanted));
        Box::pin(std::future::ready(match topic.as_str() {
            "away" => Err(AuthorityError::Unavailable("gone".to_owned())),
            "slow" => Err(AuthorityError::Canceled),
            "busy" => Err(AuthorityError::Busy),
            "denied" => Ok(Rights::NONE),
            topic if topic.starts_with("kept") => Ok(Rights::WRITE_BROADCAST | Rights::PERSIST),
            _ => Ok(Rights::WRITE_BROADCAST),
        }))
    }

    fn rights_changed(&self, _: SubscriberId) -> Pending<Rights> {
        Box::pin(std::future::pending())
    }

    fn forget_rights(&self, _: SubscriberId) {}

    fn replay(&self, _: Arc<str>, _: i64, _: u32) -> Pending<Result<Vec<Stored>, MessagesError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn persist(&self, message: Persist) -> Pending<Result<Uuid, MessagesError>> {
        let outcome = match &*message.topic {
            "kept away" => Err(MessagesError::Unavailable("gone".to_owned())),
            "kept slow" => Err(MessagesError::Canceled),
            "kept nowhere" => Err(MessagesError::MissingPartition),
            "kept wrongly" => Err(MessagesError::Unusable("no column".to_owned())),
            _ => Ok(KEPT),
        };
        self.kept.lock().unwrap().push(message);
        Box::pin(std::future::ready(outcome))
    }
}

struct Server {
    address: String,
    rights: Arc<FakeRights>,
    rooms: Rooms,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    stream: watch::Sender<StreamStatus>,
    position: Arc<std::sync::Mutex<Option<Cursor>>>,
    requests: Mutex<mpsc::UnboundedReceiver<SubscribeRequest>>,
    given_back: Mutex<mpsc::UnboundedReceiver<SubscriberId>>,
}

impl Server {
    async fn start() -> Self {
        Self::with(Settings {
            connect_error_delay: Duration::ZERO,
            ..Settings::default()
        })
        .await
    }

    async fn with(settings: Settings) -> Self {
        let (stream, states) = watch::channel(StreamState::Live.into());
        let (requests, requested) = mpsc::unbounded_channel();
        let (given_back, back) = mpsc::unbounded_channel();
        let (metrics, shutdown) = (Metrics::new(), Shutdown::new());
        let limits = Limits {
            join_error_delay: Duration::ZERO,
            ..Limits::default()
        };
        let position = Arc::default();
        let feed = FakeFeed {
            ids: AtomicU64::new(1),
            stream: states,
            requests,
            given_back,
            position: Arc::clone(&position),
        };
        let rights = Arc::new(FakeRights::default());
        let rooms = Rooms::start(
            crate::room::Keeps {
                age: Duration::from_secs(60),
                bytes: 1 << 20,
            },
            Arc::clone(&metrics),
            &shutdown,
        );
        let channels: Arc<dyn ChannelRights> = Arc::clone(&rights) as _;
        let router = router(Services {
            tokens: Arc::new(FakeTokens),
            rows: Arc::new(feed),
            slot: watch::channel(None).1,
            channels,
            rooms: rooms.clone(),
            places: crate::session::Places::new(Duration::from_secs(60), 100),
            keeper: Arc::new(NoKeeper),
            metrics: Arc::clone(&metrics),
            shutdown: shutdown.clone(),
            drain: Drain::new(&shutdown, Duration::ZERO),
            limits,
            settings,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            address,
            rights,
            rooms,
            metrics,
            shutdown,
            stream,
            position,
            requests: Mutex::new(requested),
            given_back: Mutex::new(back),
        }
    }

    async fn connect(&self, path: &str) -> Result<Client, tungstenite::Error> {
        let url = format!("ws://{}{path}", self.address);
        let (socket, _) = tokio_tungstenite::connect_async(url).await?;
        Ok(Client(socket))
    }

    async fn client(&self) -> Client {
        self.connect("/socket/websocket?apikey=good&vsn=2.0.0")
            .await
            .unwrap()
    }

    /// Status and body of a refused upgrade.
    async fn refused(&self, path: &str) -> (u16, String) {
        match self.connect(path).await {
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                (response.status().as_u16(), String::from_utf8(body).unwrap())
            }
            other => panic!("expected a refusal, got {:?}", other.err()),
        }
    }

    /// Status and body of a plain GET.
    async fn get(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(format!("http://{}{path}", self.address))
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn request(&self) -> SubscribeRequest {
        self.requests.lock().await.recv().await.unwrap()
    }

    async fn given_back(&self) -> SubscriberId {
        self.given_back.lock().await.recv().await.unwrap()
    }
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// The next message; panics if the connection ends or stays silent.
    #[track_caller]
    fn receive(&mut self) -> impl Future<Output = Value> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            match tokio::time::timeout(PATIENCE, self.0.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => serde_json::from_str(&text).unwrap(),
                other => panic!("expected a message at {caller}, got {other:?}"),
            }
        }
    }

    /// The close code; what comes before is skipped.
    async fn close_code(&mut self) -> Option<u16> {
        let code = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        };
        tokio::time::timeout(PATIENCE, code)
            .await
            .expect("the server closes")
    }

    async fn join(&mut self, topic: &str, config: Value) -> Value {
        self.send(json!(["1", "1", topic, "phx_join", { "config": config }]))
            .await;
        self.receive().await
    }
}

fn one_binding() -> Value {
    json!({ "postgres_changes": [{ "event": "*", "schema": "public", "table": "todos" }] })
}

/// Waits until a condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, poll).await.is_ok(),
        "waited for: {what}"
    );
}
