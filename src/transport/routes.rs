//! Which path leads where.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use super::{Server, admin, events, longpoll, rest, websocket};

pub(super) fn routes(server: Arc<Server>) -> Router {
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
