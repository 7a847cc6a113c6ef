//! HTTP and WebSocket: axum adapters around [`Session`](crate::session::Session).
//!
//! `routes` says which path leads where and `admission` who may connect. `websocket` upgrades, `connection` is the one task of
//! each socket and `driver` what it drives; `longpoll` is a connection made of requests, `events` are streams and polls, `rest`
//! takes broadcasts and gives rows without any of them, `admin` answers health checks and metrics. What they need of the rest
//! of the server is in `seams`.
//!
//! Not in here: what a message means, and who may see what.

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
mod routes;
mod seams;
mod settings;
mod slots;
mod socket;
mod stream;
mod websocket;

pub use hangup::Hangup;
pub use seams::{ChannelRights, Pending, PlaceKeeper, RowFeed, TokenVerifier, Unread};
pub use settings::Settings;
pub use stream::Stream;

use std::sync::Arc;

use axum::Router;
use tokio::sync::watch;
use uuid::Uuid;

use crate::change::StreamStatus;
use crate::hub::Outboxes;
use crate::rate::{SharedRate, Traffic};
use crate::replication::SlotHealth;
use crate::room::Rooms;
use crate::session::{Context, Limits, Places, Rates};
use crate::shutdown::{Drain, Shutdown};
use crate::telemetry::Metrics;

use slots::Slots;

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
    rooms.locate({
        let rows = Arc::clone(&rows);
        move || rows.position()
    });
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
    routes::routes(Arc::new(Server {
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

fn streaming(stream: watch::Receiver<StreamStatus>) -> Box<dyn Fn() -> bool + Send + Sync> {
    Box::new(move || stream.borrow().flows())
}

/// A UUID of version 1 each, from a node of this server's own.
fn presence_key() -> Box<dyn Fn() -> Arc<str> + Send + Sync> {
    let mut node: [u8; 6] = rand::random();
    // No network card has the multicast bit (RFC 9562, section 6.10).
    node[0] |= 1;
    Box::new(move || Uuid::now_v1(&node).to_string().into())
}

#[cfg(test)]
mod tests;
