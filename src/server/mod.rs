//! Builds all of it from a configuration and runs it.
//!
//! The only room that knows every other: it fills each module's own settings from [`Config`] and wires the flows
//! together. No decision of a request or a change is made here.

mod error;
mod settings;

pub use error::ServeError;
pub use settings::connect as connect_settings;

use std::sync::Arc;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use crate::auth::Verifier;
use crate::config::Config;
use crate::feed::{Feed, StreamEnds};
use crate::policy::{Engine, Judge};
use crate::postgres::{self, ConnectSettings, InstallReport, Pool};
use crate::replication;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;
use crate::transport::{self, Services};

/// Serves until `shutdown` is cancelled; returns when every task has ended.
///
/// # Errors
/// What kept the server from starting, or the tasks that did not end within the grace time. A database that goes away
/// later ends nothing: it is waited for.
pub async fn run(listener: TcpListener, config: Config, shutdown: Shutdown) -> Result<(), ServeError> {
    let result = serve(listener, &config, &shutdown).await;
    shutdown.cancel();
    let ended = shutdown.wait(config.listen.shutdown_grace).await;
    result?;
    ended.map_err(ServeError::Shutdown)
}

async fn serve(listener: TcpListener, config: &Config, shutdown: &Shutdown) -> Result<(), ServeError> {
    let metrics = Metrics::new();
    let verifier = Verifier::new(settings::auth(config))?;
    let connect = settings::connect(config);
    if config.database.install_objects {
        install(config, &connect).await?;
    }
    let catalog_pool = Pool::new(&connect, &settings::catalog_pool(config))?;
    let judge_pool = Pool::new(&connect, &settings::judge_pool(config))?;
    let judge = Judge::new(judge_pool, settings::judge(config), Arc::clone(&metrics));
    let engine = Engine::new(judge, Arc::clone(&metrics));
    let (feed, ends) = Feed::start(
        settings::feed(config),
        catalog_pool,
        engine,
        Arc::clone(&metrics),
        shutdown,
    )
    .await?;
    follow(config, connect, ends, &metrics, shutdown);

    let services = Services {
        tokens: Arc::new(verifier),
        rows: Arc::new(feed),
        metrics,
        shutdown: shutdown.clone(),
        limits: settings::session(config),
        settings: settings::transport(config),
    };
    let router = transport::router(services);
    // Messages are written whole; waiting for more would only delay them.
    let listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    let stopping = shutdown.clone();
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { stopping.cancelled().await })
        .await
        .map_err(ServeError::Listener)
}

/// Starts the replication stream.
fn follow(
    config: &Config,
    connect: ConnectSettings,
    ends: StreamEnds,
    metrics: &Arc<Metrics>,
    shutdown: &Shutdown,
) {
    let StreamEnds {
        events,
        tables,
        handed_over,
        ping,
    } = ends;
    let stream = replication::run(
        settings::replication(config, connect),
        tables,
        events,
        handed_over,
        ping,
        Arc::clone(metrics),
        shutdown.clone(),
    );
    shutdown.spawn("replication", stream);
}

/// Installs the objects of `sql/`, and says what could not be.
async fn install(config: &Config, connect: &ConnectSettings) -> Result<InstallReport, ServeError> {
    let mut connection = postgres::connect(connect, &settings::installer_session(config)).await?;
    let report = postgres::install(&mut connection, &settings::install(config)).await?;
    for entry in &report.entries {
        tracing::debug!(object = %entry.object, outcome = %entry.outcome, "database object");
    }
    let missing: Vec<String> = report.missing_essentials().map(ToString::to_string).collect();
    if !missing.is_empty() {
        return Err(ServeError::MissingObjects(missing.join("; ")));
    }
    if !report.announces_catalog_changes() {
        tracing::warn!(
            interval = ?config.database.catalog_interval,
            "changes of tables, grants and policies take effect only when the catalog is read again: the event trigger \
             could not be installed, which needs a superuser"
        );
    }
    Ok(report)
}
