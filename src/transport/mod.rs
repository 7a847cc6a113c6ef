//! HTTP and WebSocket: axum adapters around [`Session`](crate::session::Session).
//!
//! `admission` decides who may connect, `websocket` upgrades, `connection` is the one task of each socket and `driver` what it
//! drives, `longpoll` is a connection made of requests, `events` are streams and polls, `rest` takes broadcasts without one, `admin` answers health checks and metrics. What a message means is not
//! decided here.

mod admin;
mod admission;
mod body;
mod connection;
mod credentials;
mod driver;
mod events;
mod hangup;
mod longpoll;
mod rest;
mod seams;
mod slots;
mod socket;
mod stream;
mod websocket;

pub use hangup::Hangup;
pub use seams::{ChannelRights, Pending, PlaceKeeper, RowFeed, TokenVerifier};
pub use stream::Stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};
use tokio::sync::watch;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use uuid::Uuid;

use crate::change::StreamState;
use crate::hub::{Bounds, Outboxes};
use crate::rate::{SharedRate, Traffic};
use crate::replication::SlotHealth;
use crate::room::Rooms;
use crate::secret::Secret;
use crate::session::{Context, Limits, Places, Rates};
use crate::shutdown::{Drain, Shutdown};
use crate::telemetry::Metrics;

use slots::Slots;

/// Limits of the server and of its sockets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// WebSocket connections open at once. Default 100,000.
    pub connections: usize,
    /// Joins per second of all connections together, with bursts of twice as many; 0 for no limit. Default 5,000.
    pub joins_per_second: u32,
    /// Broadcasts per second of all connections together, each with its deliveries; 0 for no limit, the default.
    pub events_per_second: u32,
    /// Bytes of broadcasts per second of all connections together; 0 for no limit, the default.
    pub bytes_per_second: u32,
    /// Calls of `track` and `untrack` per second of all connections together; 0 for no limit. Default 10,000.
    pub presence_per_second: u32,
    /// How long a refused connection waits for its answer. Default 2 s.
    pub connect_error_delay: Duration,
    /// Largest message from a client, in bytes. Default 5,000,000.
    pub message_bytes: usize,
    /// Body of an HTTP request, in bytes. Default 8,000,000.
    pub request_bytes: usize,
    /// What may wait for one connection. Default 8,192 frames and 8 MiB. A transaction's changes arrive together, so
    /// this is also the largest transaction a client can follow without reading meanwhile.
    pub outbox: Bounds,
    /// What may wait for all connections together, in bytes. Default 1 GiB.
    pub outboxes_bytes: usize,
    /// A connection whose socket takes nothing for this long is closed. Default 15 s.
    pub write_timeout: Duration,
    /// How often a client with a session id is asked how far it has come, while there is something to ask about. Default 1 s.
    pub acknowledge: Duration,
    /// How long what was missed can be had. Default 2 min.
    pub window: Duration,
    /// A stream of events that has nothing to say says so this often. Default 15 s.
    pub keep_alive: Duration,
    /// Longest wait of a poll. Default 25 s.
    pub poll_wait: Duration,
    /// The cookie that streams and polls take a token from, if there is one. Default: none.
    pub cookie: Option<String>,
    /// Whether they take one from the query. Default true.
    pub query_token: bool,
    /// A session of long polling that nobody polls for this long ends. Default 30 s.
    pub poll_patience: Duration,
    /// If set, `/metrics` wants `Authorization: Bearer` with this token. Default: open.
    pub metrics_token: Option<Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 100_000,
            joins_per_second: 5_000,
            events_per_second: 0,
            bytes_per_second: 0,
            presence_per_second: 10_000,
            connect_error_delay: Duration::from_secs(2),
            message_bytes: 5_000_000,
            request_bytes: 8_000_000,
            outbox: Bounds {
                frames: 8_192,
                bytes: 8 << 20,
            },
            outboxes_bytes: 1 << 30,
            write_timeout: Duration::from_secs(15),
            acknowledge: Duration::from_secs(1),
            window: Duration::from_secs(120),
            keep_alive: Duration::from_secs(15),
            poll_wait: Duration::from_secs(25),
            cookie: None,
            query_token: true,
            poll_patience: Duration::from_secs(30),
            metrics_token: None,
        }
    }
}

/// What the routes need.
pub struct Services {
    /// Judges tokens.
    pub tokens: Arc<dyn TokenVerifier>,
    /// Serves row subscriptions.
    pub rows: Arc<dyn RowFeed>,
    /// How our replication slot is, as far as it is known.
    pub slot: watch::Receiver<Option<SlotHealth>>,
    /// Serves what private channels need of the database.
    pub channels: Arc<dyn ChannelRights>,
    /// Who is where.
    pub rooms: Rooms,
    /// Where clients were that are away.
    pub places: Arc<Places>,
    /// Where those were that came from another server.
    pub keeper: Arc<dyn PlaceKeeper>,
    /// Where counts go, and what `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Ends what is left.
    pub shutdown: Shutdown,
    /// Ends connections, one after another.
    pub drain: Drain,
    /// Limits of a connection.
    pub limits: Limits,
    /// Limits of the server.
    pub settings: Settings,
}

/// What every request and connection shares.
struct Server {
    tokens: Arc<dyn TokenVerifier>,
    rows: Arc<dyn RowFeed>,
    channels: Arc<dyn ChannelRights>,
    places: Arc<Places>,
    keeper: Arc<dyn PlaceKeeper>,
    metrics: Arc<Metrics>,
    drain: Drain,
    settings: Settings,
    context: Arc<Context>,
    slots: Arc<Slots>,
    longpoll: Arc<longpoll::Sessions>,
    outboxes: Outboxes,
    health: admin::Health,
}

/// All routes of the server. Must be called within a Tokio runtime: it starts the tasks that watch the stream's health
/// and, on shutdown, wait for every connection to end.
///
/// Serve it with `TCP_NODELAY` set on accepted sockets; messages are written whole.
pub fn router(services: Services) -> Router {
    let Services {
        tokens,
        rows,
        slot,
        channels,
        rooms,
        places,
        keeper,
        metrics,
        shutdown,
        drain,
        limits,
        settings,
    } = services;
    let next_id = {
        let rows = Arc::clone(&rows);
        Box::new(move || rows.next_id())
    };
    let context = Context {
        limits,
        rates: Arc::new(Rates {
            joins: SharedRate::new(settings.joins_per_second),
            traffic: Arc::new(Traffic::new(
                settings.events_per_second,
                settings.bytes_per_second,
            )),
            presence: SharedRate::new(settings.presence_per_second),
        }),
        rooms,
        metrics: Arc::clone(&metrics),
        next_id,
        position: {
            let rows = Arc::clone(&rows);
            Box::new(move || rows.position())
        },
        streaming: streaming(rows.stream()),
        presence_key: presence_key(),
    };
    let slots = Slots::new(settings.connections, drain.clone(), Arc::clone(&metrics));
    let health = admin::Health::watch(rows.stream(), slot, &shutdown);
    slots::wait_on_shutdown(&drain, &shutdown);
    let outboxes = Outboxes::new(
        settings.outbox,
        settings.outboxes_bytes,
        metrics.outbox_bytes.clone(),
    );
    routes(Arc::new(Server {
        tokens,
        rows,
        channels,
        places,
        keeper,
        metrics,
        drain,
        settings,
        context: Arc::new(context),
        slots,
        longpoll: Arc::default(),
        outboxes,
        health,
    }))
}

fn streaming(stream: watch::Receiver<StreamState>) -> Box<dyn Fn() -> bool + Send + Sync> {
    Box::new(move || matches!(*stream.borrow(), StreamState::Live | StreamState::Reset(_)))
}

/// A UUID of version 1 each, from a node of this server's own.
fn presence_key() -> Box<dyn Fn() -> Arc<str> + Send + Sync> {
    let mut node: [u8; 6] = rand::random();
    // No network card has the multicast bit (RFC 9562, section 6.10).
    node[0] |= 1;
    Box::new(move || Uuid::now_v1(&node).to_string().into())
}

fn routes(server: Arc<Server>) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        // A wildcard does not cover `Authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(rest::RATE_HEADERS);
    let mut router = Router::new()
        .route("/healthcheck", get(admin::healthcheck))
        .route("/livez", get(admin::livez))
        .route("/readyz", get(admin::readyz))
        .route("/metrics", get(admin::metrics));
    // The paths of a Realtime server itself, and those of the gateway in front of it.
    for socket in ["/socket", "/realtime/v1"] {
        router = router
            .route(&format!("{socket}/websocket"), any(websocket::connect))
            .route(&format!("{socket}/websocket/"), any(websocket::connect))
            .route(&format!("{socket}/longpoll"), any(longpoll::serve));
    }
    for path in ["", "/socket", "/realtime/v1"] {
        router = router
            .route(&format!("{path}/sse"), get(events::sse))
            .route(&format!("{path}/poll"), get(events::poll));
    }
    for api in ["/api", "/realtime/v1/api"] {
        let rated = Router::new()
            .route(&format!("{api}/ping"), get(admin::ping))
            .route(&format!("{api}/broadcast"), post(rest::broadcast))
            .route(
                &format!("{api}/broadcast/{{topic}}/events/{{event}}"),
                post(rest::broadcast_one),
            )
            .route_layer(from_fn_with_state(Arc::clone(&server), rest::rated));
        router = router
            .merge(rated)
            .route(&format!("{api}/rows"), get(rest::rows))
            .route(&format!("{api}/policies"), get(admin::policies))
            .route(&format!("{api}/tenants/{{id}}/health"), get(admin::tenant_health));
    }
    router.layer(cors).with_state(server)
}

#[cfg(test)]
mod tests;
