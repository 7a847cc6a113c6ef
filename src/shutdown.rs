//! One value that stops everything and knows who has not stopped yet.
//!
//! Passed down, never global: several servers run and end in one process.

mod drain;

pub use drain::{Drain, Guest};

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Cancels tasks, tracks them by name, and waits for their end.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// What [`Shutdown::is_cancelled`] looks at, without a lock.
    asked: Arc<AtomicBool>,
    /// Of what this is a part, that one's.
    asked_of_all: Option<Arc<AtomicBool>>,
    token: CancellationToken,
    tracker: TaskTracker,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Shutdown {
    /// A fresh one, nothing started, nothing stopped.
    pub fn new() -> Self {
        Self::default()
    }

    /// A part of it, which can be asked to stop before the rest, and is with the rest. Its tasks are waited for with all others.
    pub fn part(&self) -> Self {
        Self {
            asked: Arc::default(),
            asked_of_all: Some(Arc::clone(&self.asked)),
            token: self.token.child_token(),
            tracker: self.tracker.clone(),
            running: Arc::clone(&self.running),
        }
    }

    /// Asks everything to stop. Returns at once; see [`Shutdown::wait`].
    pub fn cancel(&self) {
        self.asked.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Whether stopping has been asked for.
    pub fn is_cancelled(&self) -> bool {
        let asked = |asked: &Arc<AtomicBool>| asked.load(Ordering::Acquire);
        asked(&self.asked) || self.asked_of_all.as_ref().is_some_and(asked)
    }

    /// Resolves once stopping has been asked for.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// Starts a task that must end soon after [`Shutdown::cancelled`] resolves.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = Running::start(Arc::clone(&self.running), name);
        self.tracker.spawn(async move {
            task.await;
            drop(guard);
        });
    }

    /// Waits until every task has ended.
    ///
    /// # Errors
    /// After `limit`, the names of the tasks that are still running, each with its count.
    pub async fn wait(&self, limit: Duration) -> Result<(), StillRunning> {
        self.tracker.close();
        if tokio::time::timeout(limit, self.tracker.wait()).await.is_ok() {
            return Ok(());
        }
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        Err(StillRunning(
            running.iter().map(|(name, n)| format!("{name} ({n})")).collect(),
        ))
    }
}

/// Tasks that did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("still running after the shutdown limit: {}", .0.join(", "))]
pub struct StillRunning(pub Vec<String>);

struct Running {
    counts: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    name: &'static str,
}

impl Running {
    fn start(counts: Arc<Mutex<BTreeMap<&'static str, usize>>>, name: &'static str) -> Self {
        *counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name)
            .or_default() += 1;
        Self { counts, name }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                counts.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_the_task_that_does_not_stop() {
        let shutdown = Shutdown::new();
        shutdown.spawn("stubborn", std::future::pending());
        let stopping = shutdown.clone();
        shutdown.spawn("polite", async move { stopping.cancelled().await });
        shutdown.cancel();
        let error = shutdown.wait(Duration::from_millis(50)).await.unwrap_err();
        assert!(error.to_string().contains("stubborn (1)"), "{error}");
    }

    #[tokio::test]
    async fn a_part_stops_before_the_rest_and_with_it() {
        let shutdown = Shutdown::new();
        let (early, late) = (shutdown.part(), shutdown.part());
        early.cancel();
        early.cancelled().await;
        assert!(early.is_cancelled() && !late.is_cancelled() && !shutdown.is_cancelled());
        late.spawn("of a part", std::future::pending());
        shutdown.cancel();
        late.cancelled().await;
        assert!(late.is_cancelled());
        let error = shutdown.wait(Duration::from_millis(50)).await.unwrap_err();
        assert!(error.to_string().contains("of a part (1)"), "{error}");
    }

    #[tokio::test]
    async fn ends_when_all_have_ended() {
        let shutdown = Shutdown::new();
        let stopping = shutdown.clone();
        shutdown.spawn("polite", async move { stopping.cancelled().await });
        shutdown.cancel();
        shutdown.wait(Duration::from_secs(10)).await.unwrap();
    }
}
