//! Builds all of it from a configuration and runs it.
//!
//! The only room that knows every other: it fills each module's own settings from [`Config`] and wires the flows
//! together. No decision of a request or a change is made here.

mod certificate;
mod channels;
mod error;
mod http;
mod places;
mod policies;
mod rows;
mod settings;
mod stages;
mod startup;

pub use certificate::{CertificateError, CertificateFiles, Identity};
pub use error::ServeError;
pub use policies::Reload;
pub use settings::{connect as connect_settings, output_plugins, policy_directory};

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use certificate::Shown;
use channels::Channels;
use places::{Keeper, Nowhere};
use policies::PolicySet;
use rows::Rows;
use stages::Stages;
use startup::Startup;

use crate::auth::Verifier;
use crate::change::StreamState;
use crate::config::Config;
use crate::messages::Messages;
use crate::postgres::Pool;
use crate::replication::{self, Watched};
use crate::room::Rooms;
use crate::session::Places;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;
use crate::transport::{self, Services};

/// Serves until `shutdown` is cancelled; clients are then asked to leave, and it returns when every task has ended.
///
/// A database that cannot be reached or used, at the start or later, ends nothing: clients may connect and join, health
/// says what is the matter, and rows flow as soon as they can.
///
/// # Errors
/// Settings, policy files or certificates that cannot be used, or the tasks that did not end within the grace time.
pub async fn run(listener: TcpListener, config: Config, shutdown: Shutdown) -> Result<(), ServeError> {
    run_with(listener, config, shutdown, Reload::default()).await
}

/// As [`run`], with a way to ask for what cannot be noticed.
///
/// # Errors
/// As for [`run`].
pub async fn run_with(
    listener: TcpListener,
    config: Config,
    shutdown: Shutdown,
    reload: Reload,
) -> Result<(), ServeError> {
    let grace = config.listen.shutdown_grace;
    let stages = Stages::new(settings::stages(&config));
    let served = serve(listener, config, &shutdown, &stages, reload).await;
    let ended = match &served {
        Ok(end) => stages.finish(*end).await,
        Err(_) => stages.finish(Instant::now() + grace).await,
    };
    served?;
    ended.map_err(ServeError::Shutdown)
}

/// Serves until it is asked to stop and its clients have gone; when everything has to be over.
async fn serve(
    listener: TcpListener,
    config: Config,
    asked: &Shutdown,
    stages: &Stages,
    reload: Reload,
) -> Result<Instant, ServeError> {
    let shutdown = &stages.rest;
    let metrics = Metrics::new();
    let directory = policy_directory(&config);
    let policies = directory.as_ref().map(PolicySet::read).transpose();
    let policies = policies.map_err(ServeError::PolicyFiles)?.unwrap_or_default();
    let tls = start_tls(&config, &reload, &metrics, shutdown)?;
    let (stream, states) = watch::channel(StreamState::Starting.into());
    let (arrived, feed) = watch::channel(None);
    let (health, slot) = watch::channel(None);
    let (budget, wal_budget) = watch::channel(settings::wal_budget(&config));
    let connect = settings::connect(&config);
    let messages_pool = Pool::new(&connect, &settings::messages_pool(&config))?;
    let messages = Messages::new(messages_pool.clone(), config.limits.outbox_bytes / 2);
    let rooms = Rooms::start(settings::rooms(&config), Arc::clone(&metrics), shutdown);
    let places = Places::new(config.resume.window, config.resume.places);
    let keeper = match config.resume.keep_places {
        true => {
            let parts = places::Parts {
                pool: Pool::new(&connect, &settings::places_pool(&config))?,
                places: Arc::clone(&places),
                window: config.resume.window,
                save_every: config.resume.save_every,
                stream: states.clone(),
                metrics: Arc::clone(&metrics),
                stopping: stages.stream.clone(),
            };
            Some(Keeper::start(parts, shutdown))
        }
        false => None,
    };
    let watching = replication::watch(
        settings::watch(&config),
        Pool::new(&connect, &settings::watch_pool(&config))?,
        states.clone(),
        Watched {
            health,
            wal_budget: budget,
        },
        Arc::clone(&metrics),
        shutdown.clone(),
    );
    shutdown.spawn("slot", watching);
    let services = Services {
        tokens: Arc::new(Verifier::new(settings::auth(&config))?),
        channels: Arc::new(Channels::new(feed.clone(), messages)),
        rooms: rooms.clone(),
        places,
        keeper: match keeper.clone() {
            Some(keeper) => Arc::new(keeper),
            None => Arc::new(Nowhere),
        },
        rows: Arc::new(Rows::new(feed, states)),
        slot,
        metrics: Arc::clone(&metrics),
        shutdown: shutdown.clone(),
        drain: stages.drain.clone(),
        limits: settings::session(&config),
        settings: settings::transport(&config),
    };
    let startup = Startup {
        catalog_pool: Pool::new(&connect, &settings::catalog_pool(&config))?,
        judge_pool: Pool::new(&connect, &settings::judge_pool(&config))?,
        snapshot_pool: Pool::new(&connect, &settings::snapshot_pool(&config))?,
        messages_pool,
        connect,
        config,
        policies,
        rooms,
        stream,
        wal_budget,
        metrics: Arc::clone(&metrics),
        following: stages.stream.clone(),
        shutdown: shutdown.clone(),
    };
    let follower = directory.map(|directory| (directory, reload));
    let (failed, failure) = oneshot::channel();
    shutdown.spawn("startup", startup.run(arrived, follower, failed));

    let router = transport::router(services);
    let service = http::Service {
        router,
        tls,
        bounds: http::Bounds::default(),
        metrics,
    };
    let serving = http::serve(listener, service, &stages.accepting);
    let keep = async {
        if let Some(keeper) = keeper {
            keeper.save().await;
        }
    };
    tokio::select! {
        end = stages.run(asked, serving, keep) => Ok(end),
        Ok(error) = failure => Err(error),
    }
}

/// Reads the certificate, if there is to be one, and follows its files.
fn start_tls(
    config: &Config,
    reload: &Reload,
    metrics: &Arc<Metrics>,
    shutdown: &Shutdown,
) -> Result<Option<TlsAcceptor>, CertificateError> {
    let Some(files) = CertificateFiles::of(config)? else {
        return Ok(None);
    };
    let identity = files.read()?;
    let shown = Shown::new(&identity);
    let acceptor = shown.acceptor()?;
    let follower = certificate::Follower {
        files,
        shown,
        asked: Arc::clone(&reload.certificate),
        metrics: Arc::clone(metrics),
        shutdown: shutdown.clone(),
    };
    shutdown.spawn("certificate", follower.run(identity));
    Ok(Some(acceptor))
}
