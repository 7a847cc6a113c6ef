//! Where the WAL is now: the position a subscription has to wait for. One query serves all who ask at once.

use tokio::sync::oneshot;

use super::together::Together;
use crate::change::Lsn;
use crate::postgres::Pool;
use crate::shutdown::Shutdown;

type Request = oneshot::Sender<Result<Lsn, String>>;

/// Hands out fence positions. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Fence(Together<Request>);

/// Callers that may wait at once; more of them wait to be queued.
const WAITING: usize = 1024;

impl Fence {
    pub(super) fn start(pool: Pool, shutdown: &Shutdown) -> Self {
        let serve = move |callers: Vec<Request>| {
            let pool = pool.clone();
            async move {
                let answer = flushed(&pool).await;
                for caller in callers {
                    // A caller that went away does not need the answer.
                    let _ = caller.send(answer.clone());
                }
            }
        };
        Self(Together::start("fence", WAITING, shutdown, serve))
    }

    /// A position behind everything that was committed, and flushed, before the call.
    pub(super) async fn target(&self) -> Result<Lsn, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "the server is stopping".to_owned();
        if !self.0.ask(reply).await {
            return Err(gone());
        }
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// Where the WAL is now, as far as it is safe.
pub(super) async fn flushed(pool: &Pool) -> Result<Lsn, String> {
    let client = pool.get().await.map_err(|e| e.to_string())?;
    // On a standby, what has been replayed is what can be decoded.
    let row = client
        .query_one(
            "select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end)::text",
            &[],
        )
        .await
        .map_err(|e| e.to_string())?;
    row.get::<_, String>(0)
        .parse()
        .map_err(|e: crate::change::InvalidLsn| e.to_string())
}
