//! A bounded pool of SQL connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Client, Hook, HookError, Manager, ManagerConfig, PoolError, RecyclingMethod, Runtime, TimeoutType,
};

use super::connect::{Connector, Session};
use super::error::{ErrorKind, SqlError};
use super::settings::ConnectSettings;

/// How many connections, and what they are like.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Most connections open at a time; they are opened when first needed.
    pub size: usize,
    /// Longest time to wait for a free one.
    pub wait: Duration,
    /// How each session is set up.
    pub session: Session,
}

/// A bounded pool. Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub struct Pool {
    inner: deadpool_postgres::Pool,
    /// Connections that were made before are closed instead of being given out.
    renewed: Arc<Mutex<Instant>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pool").field(&self.inner.status()).finish()
    }
}

impl Pool {
    /// A pool with nothing open yet.
    ///
    /// # Errors
    /// The TLS settings cannot be used.
    pub fn new(settings: &ConnectSettings, options: &PoolOptions) -> Result<Self, SqlError> {
        let connector = Connector::new(settings, &options.session)?;
        let manager = Manager::from_connect(
            connector.config().clone(),
            connector,
            // A dropped transaction rolls itself back, so a returned connection needs no query to be clean.
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let renewed = Arc::new(Mutex::new(Instant::now()));
        let oldest = Arc::clone(&renewed);
        let inner = deadpool_postgres::Pool::builder(manager)
            .pre_recycle(Hook::sync_fn(move |_, metrics| {
                match metrics.created < *oldest.lock().unwrap_or_else(PoisonError::into_inner) {
                    true => Err(HookError::message("it was made before the pool was renewed")),
                    false => Ok(()),
                }
            }))
            .max_size(options.size.max(1))
            .wait_timeout(Some(options.wait))
            .create_timeout(Some(settings.connect_timeout))
            .recycle_timeout(Some(settings.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|cause| {
                SqlError::of_kind(
                    "building the connection pool",
                    ErrorKind::Other,
                    Some(Box::new(cause)),
                )
            })?;
        Ok(Self { inner, renewed })
    }

    /// A connection, for as long as the value lives. Dereferences to [`tokio_postgres::Client`].
    ///
    /// # Errors
    /// No connection came free in time, or a new one could not be opened.
    pub async fn get(&self) -> Result<Client, SqlError> {
        const DOING: &str = "getting a connection to postgres";
        Box::pin(self.inner.get()).await.map_err(|error| match error {
            PoolError::Backend(error) => SqlError::new(DOING, error),
            PoolError::Timeout(TimeoutType::Wait) => SqlError::of_kind(DOING, ErrorKind::PoolExhausted, None),
            PoolError::Timeout(_) => SqlError::of_kind(DOING, ErrorKind::Timeout, None),
            other => SqlError::of_kind(DOING, ErrorKind::Other, Some(Box::new(other))),
        })
    }

    /// Most connections at a time.
    pub fn max_size(&self) -> usize {
        self.inner.status().max_size
    }

    /// Closes what is open: idle connections now, those in use when they come back. The address may lead to another server.
    pub fn renew(&self) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.inner.retain(|_, _| false);
    }

    /// Gives out no more connections and closes idle ones; those in use close when they come back.
    pub fn close(&self) {
        self.inner.close();
    }
}
