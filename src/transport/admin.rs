//! What operators and load balancers ask: is it alive, is it ready and if not why, what does it count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Server, credentials};
use crate::change::{StreamState, StreamStatus};
use crate::replication::SlotHealth;
use crate::shutdown::Shutdown;

/// The media type of [`Metrics::render`](crate::telemetry::Metrics::render).
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is known about the replication stream.
pub(super) struct Health {
    stream: watch::Receiver<StreamStatus>,
    slot: watch::Receiver<Option<SlotHealth>>,
    /// It has been live: clients can be served, and an interruption is waited out.
    came_up: Arc<AtomicBool>,
}

impl Health {
    /// Follows the stream until it has been live once.
    pub(super) fn watch(
        stream: watch::Receiver<StreamStatus>,
        slot: watch::Receiver<Option<SlotHealth>>,
        shutdown: &Shutdown,
    ) -> Self {
        let came_up = Arc::new(AtomicBool::new(false));
        let (mut following, up, stopping) = (stream.clone(), Arc::clone(&came_up), shutdown.clone());
        shutdown.spawn("health", async move {
            tokio::select! {
                state = following.wait_for(StreamStatus::flows) => up.store(state.is_ok(), Ordering::Release),
                () = stopping.cancelled() => {}
            }
        });
        Self {
            stream,
            slot,
            came_up,
        }
    }

    /// Why changes are not flowing, if they are not.
    pub(super) fn not_streaming(&self) -> Option<String> {
        match &self.stream.borrow().state {
            StreamState::Live | StreamState::Reset(_) => None,
            StreamState::Starting => Some("the replication stream has not started yet".to_owned()),
            StreamState::Interrupted(reason) => Some(format!("row changes do not flow: {reason}")),
        }
    }

    /// How near our slot is to what Postgres keeps for it; `null` while that is not known.
    fn slot(&self) -> Value {
        let Some(slot) = &*self.slot.borrow() else {
            return Value::Null;
        };
        json!({
            "wal_status": slot.status.name(),
            "retained_bytes": slot.retained,
            "unconfirmed_bytes": slot.unconfirmed,
            "safe_bytes": slot.safe,
            "limit_bytes": slot.keep_size,
            "window_budget_bytes": slot.headroom(),
            // Three digits are enough to look at.
            "used": (slot.used() * 1_000.0).round() / 1_000.0,
        })
    }

    /// Whether changes have flowed at some time.
    pub(super) fn has_come_up(&self) -> bool {
        self.came_up.load(Ordering::Acquire)
    }
}

const STOPPING: &str = "shutting down";

/// `GET /healthcheck`: 200 `ok` once clients can be served. An interruption after that is no reason to replace the
/// server: clients stay, and the stream is retried.
pub(super) async fn healthcheck(State(server): State<Arc<Server>>) -> (StatusCode, String) {
    if server.drain.is_announced() {
        return (StatusCode::SERVICE_UNAVAILABLE, STOPPING.to_owned());
    }
    match server.health.not_streaming() {
        Some(reason) if !server.health.has_come_up() => (StatusCode::SERVICE_UNAVAILABLE, reason),
        _ => (StatusCode::OK, "ok".to_owned()),
    }
}

/// `GET /livez`: the process answers.
pub(super) async fn livez() -> &'static str {
    "ok"
}

/// `GET /readyz`: whether changes are flowing right now, and if not, why; and how much WAL that costs Postgres.
pub(super) async fn readyz(State(server): State<Arc<Server>>) -> Response {
    let reason = if server.drain.is_announced() {
        Some(STOPPING.to_owned())
    } else {
        server.health.not_streaming()
    };
    let status = if reason.is_none() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(json!({ "ready": reason.is_none(), "reason": reason, "slot": server.health.slot() })),
    )
        .into_response()
}

/// `GET /metrics`.
pub(super) async fn metrics(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    if let Some(token) = &server.settings.metrics_token
        && !credentials::bearer(&headers).is_some_and(|given| token.is(given))
    {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response();
    }
    ([(header::CONTENT_TYPE, OPENMETRICS)], server.metrics.render()).into_response()
}

/// The role that may see how everybody is judged.
const SERVICE_ROLE: &str = "service_role";

/// `GET /api/policies`: what is in force on every published table, for tokens of the service role.
pub(super) async fn policies(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let Some(token) = credentials::token(&headers) else {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (challenge, problem(StatusCode::UNAUTHORIZED, "API key is missing")).into_response();
    };
    match server.tokens.verify(token.into()).await {
        Err(error) => return problem(StatusCode::UNAUTHORIZED, &error.to_string()),
        Ok(claims) if &*claims.role != SERVICE_ROLE => {
            return problem(
                StatusCode::FORBIDDEN,
                "this needs a token of the role service_role",
            );
        }
        Ok(_) => {}
    }
    match server.rows.policies().await {
        Ok(listing) => Json(listing).into_response(),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}

/// `GET /api/ping`.
pub(super) async fn ping() -> Response {
    Json(json!({ "message": "Success" })).into_response()
}

/// `GET /api/tenants/{id}/health`: what a Supabase project's health checks ask, for a token that is accepted (it needs a role
/// as everywhere, unlike there). There is one tenant here, whatever it is called. Healthy is who can serve the clients that
/// are there, or could serve some.
pub(super) async fn tenant_health(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let Some(token) = credentials::bearer(&headers) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    if server.tokens.verify(token.into()).await.is_err() {
        return StatusCode::FORBIDDEN.into_response();
    }
    let clients = server.metrics.connections.get();
    let streaming = server.health.not_streaming().is_none();
    let data = json!({
        "healthy": streaming || (clients == 0 && server.health.has_come_up()),
        "db_connected": streaming,
        "replication_connected": streaming,
        "connected_cluster": clients,
        "region": "",
        "node": "rowcast",
    });
    Json(json!({ "data": data })).into_response()
}
