//! Certificates of a running server: read again when their files change or somebody asks, taken over whole or not at all.

use std::path::Path;
use std::sync::Arc;

use chrono::Utc;
use tokio::sync::Notify;

use super::{CertificateError, CertificateFiles, Identity, Shown};
use crate::policy_files::Watcher;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// Keeps what clients are shown as the files have it.
pub(crate) struct Follower {
    pub(crate) files: CertificateFiles,
    pub(crate) shown: Shown,
    /// Somebody asks to read them again.
    pub(crate) asked: Arc<Notify>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shutdown: Shutdown,
}

/// What a reading found: what tells one from another, or what is wrong.
type Seen = Result<[u8; 32], String>;

impl Follower {
    /// Follows until the server stops. `shown` is what is shown at the beginning.
    pub(crate) async fn run(self, shown: Identity) {
        self.tell(&shown);
        tokio::select! {
            () = self.follow(Ok(shown.digest)) => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    async fn follow(&self, mut seen: Seen) {
        // Their folders: what stands at a path is often replaced, and often a link that is.
        let mut certificate = Watcher::new(folder(&self.files.certificate));
        let mut key = Watcher::new(folder(&self.files.key));
        loop {
            let asked = tokio::select! {
                () = certificate.changed() => false,
                () = key.changed() => false,
                () = self.asked.notified() => true,
            };
            let found = self.look().await;
            let now = found
                .as_ref()
                .map(|found| found.digest)
                .map_err(ToString::to_string);
            if asked || now != seen {
                self.take(found);
            }
            seen = now;
        }
    }

    async fn look(&self) -> Result<Identity, CertificateError> {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        read.unwrap_or_else(|error| {
            Err(CertificateError::Unreadable {
                setting: "listen.tls_certificate",
                path: self.files.certificate.clone(),
                cause: error.into(),
            })
        })
    }

    fn take(&self, found: Result<Identity, CertificateError>) {
        let count = |outcome| {
            self.metrics
                .certificate_reloads
                .get_or_create(&[("outcome", outcome)])
                .inc();
        };
        match found {
            Ok(identity) => {
                count("ok");
                self.shown.replace(&identity);
                self.tell(&identity);
            }
            Err(error) => {
                count("broken");
                tracing::error!(%error, "tls certificate not taken over, the one before stays in use");
            }
        }
    }

    /// Says what is shown from now on.
    fn tell(&self, identity: &Identity) {
        let names = (!identity.names.is_empty()).then(|| identity.names.join(", "));
        let until = identity.validity.map(|(_, until)| until);
        self.metrics
            .certificate_expiry
            .set(until.map_or(0, |until| until.timestamp()));
        let expires = until.map(|until| until.date_naive().to_string());
        tracing::info!(names, expires, "tls certificate in use");
        if let Some(warning) = identity.warning(Utc::now()) {
            tracing::warn!("the tls certificate {warning}; clients will refuse it");
        }
    }
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => file,
    }
}
