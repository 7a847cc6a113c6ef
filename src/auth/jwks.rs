//! A key set kept elsewhere, read again when a token names a key we do not know.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use super::error::KeyError;
use super::keys::KeySet;

/// Largest accepted document, bytes.
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

/// When a source is read again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Shortest time between two readings, however many unknown keys are named: nobody makes us flood the issuer.
    pub min_interval: Duration,
    /// A set older than this is read again at its next use, so that a key withdrawn by its issuer ends here too.
    pub max_age: Duration,
    /// Longest time for one reading.
    pub timeout: Duration,
}

/// Where a set is kept.
#[derive(Debug)]
pub(super) enum Source {
    File(PathBuf),
    Url { url: String, client: reqwest::Client },
}

/// A source and what it said last. A failed reading leaves that in force.
#[derive(Debug)]
pub(super) struct RemoteKeys {
    source: Source,
    pace: Pace,
    current: RwLock<Arc<KeySet>>,
    /// Held while reading, so that one reading serves all who wait; the value is the time of the last attempt.
    last_attempt: tokio::sync::Mutex<Option<Instant>>,
}

impl RemoteKeys {
    /// A file, read at once.
    pub(super) fn file(path: PathBuf, pace: Pace) -> Result<Self, KeyError> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&origin, &error))?;
        let first = KeySet::parse(&text, &origin)?;
        Ok(Self::new(Source::File(path), pace, first, Some(Instant::now())))
    }

    /// A URL, read when the first token names a key: its server may start after us.
    pub(super) fn url(url: String, pace: Pace) -> Result<Self, KeyError> {
        let client = reqwest::Client::builder()
            .timeout(pace.timeout)
            .redirect(reqwest::redirect::Policy::limited(3))
            .build()
            .map_err(|error| unreadable(&url, &error))?;
        reqwest::Url::parse(&url).map_err(|error| unreadable(&url, &error))?;
        Ok(Self::new(
            Source::Url { url, client },
            pace,
            KeySet::default(),
            None,
        ))
    }

    fn new(source: Source, pace: Pace, first: KeySet, read_at: Option<Instant>) -> Self {
        Self {
            source,
            pace,
            current: RwLock::new(Arc::new(first)),
            last_attempt: tokio::sync::Mutex::new(read_at),
        }
    }

    /// The set in force, read again first if it does not know `kid` or is old.
    pub(super) async fn knowing(&self, kid: &str) -> Arc<KeySet> {
        let current = self.current();
        if current.get(kid).is_none() {
            let mut last_attempt = self.last_attempt.lock().await;
            // Somebody else's reading may have brought it while we waited.
            if self.current().get(kid).is_none() && due(*last_attempt, self.pace.min_interval) {
                self.refresh(&mut last_attempt).await;
            }
        } else if let Ok(mut last_attempt) = self.last_attempt.try_lock()
            && due(*last_attempt, self.pace.max_age)
        {
            self.refresh(&mut last_attempt).await;
        }
        self.current()
    }

    fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn refresh(&self, last_attempt: &mut Option<Instant>) {
        *last_attempt = Some(Instant::now());
        match self.read().await {
            Ok(set) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
            }
            Err(error) => tracing::warn!(%error, "keeping the keys read before"),
        }
    }

    async fn read(&self) -> Result<KeySet, KeyError> {
        match &self.source {
            Source::File(path) => {
                let origin = path.display().to_string();
                let text = tokio::time::timeout(self.pace.timeout, tokio::fs::read_to_string(path))
                    .await
                    .map_err(|elapsed| unreadable(&origin, &elapsed))?
                    .map_err(|error| unreadable(&origin, &error))?;
                KeySet::parse(&text, &origin)
            }
            Source::Url { url, client } => KeySet::parse(&fetch(client, url).await?, url),
        }
    }
}

fn due(last: Option<Instant>, after: Duration) -> bool {
    last.is_none_or(|at| at.elapsed() >= after)
}

fn unreadable(origin: &str, error: &dyn std::error::Error) -> KeyError {
    // reqwest's own text names only the URL; the reason is at the end of the chain.
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    KeyError::Unreadable {
        origin: origin.to_owned(),
        reason: root.to_string(),
    }
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<String, KeyError> {
    let mut response = client
        .get(url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| unreadable(url, &error))?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreadable(url, &error))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_DOCUMENT_BYTES {
            return Err(KeyError::Unreadable {
                origin: url.to_owned(),
                reason: format!("larger than {MAX_DOCUMENT_BYTES} bytes"),
            });
        }
    }
    String::from_utf8(body).map_err(|error| unreadable(url, &error))
}
