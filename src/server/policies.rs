//! Policy files of a running server: read again when they change, taken over whole or not at all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::feed::{CatalogError, Feed};
use crate::policy_files::{Directory, FilePolicy, Place, Problem, Texts, Watcher};
use crate::postgres::catalog;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// Pause before files are offered again to a database that did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Asks a server to read its policy files and its certificate again, although nothing said that they changed. Cheap to
/// clone.
#[derive(Clone, Debug, Default)]
pub struct Reload {
    pub(super) policies: Arc<Notify>,
    pub(super) certificate: Arc<Notify>,
}

impl Reload {
    /// Asks. Returns at once.
    pub fn ask(&self) {
        self.policies.notify_one();
        self.certificate.notify_one();
    }
}

/// One whole set.
#[derive(Clone, Debug, Default)]
pub(super) struct PolicySet {
    pub(super) texts: Texts,
    pub(super) policies: Vec<FilePolicy>,
}

impl PolicySet {
    /// Reads the set as it stands.
    pub(super) fn read(directory: &Directory) -> Result<Self, Vec<Problem>> {
        let texts = directory.read()?;
        let policies = texts.policies()?;
        Ok(Self { texts, policies })
    }

    /// What the catalog takes.
    pub(super) fn for_catalog(&self) -> Vec<catalog::FilePolicy> {
        self.policies.iter().map(|policy| policy.policy.clone()).collect()
    }

    /// What Postgres said of single policies, with their places.
    pub(super) fn problems(&self, refused: &[catalog::FileFinding]) -> Vec<Problem> {
        let policy =
            |found: &catalog::FileFinding| Some((self.policies.get(found.policy)?, found.problem.clone()));
        let found = refused.iter().filter_map(policy);
        found.map(|(policy, problem)| policy.problem(&problem)).collect()
    }
}

/// Keeps the feed's policy files as the directory has them.
pub(super) struct Follower {
    pub(super) directory: Directory,
    pub(super) reload: Reload,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: Shutdown,
    /// What is in force.
    pub(super) current: PolicySet,
}

/// What came of a reading.
enum Outcome {
    Taken(PolicySet),
    Broken(Vec<Problem>),
    NotYet(CatalogError),
}

impl Follower {
    /// Follows until the server stops.
    pub(super) async fn run(mut self, feed: Feed) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = self.follow(&feed) => {}
            () = shutdown.cancelled() => {}
        }
    }

    async fn follow(&mut self, feed: &Feed) {
        let directory = self.directory.path().display();
        tracing::info!(%directory, policies = self.current.policies.len(), "policy files are followed");
        let mut watcher = Watcher::new(self.directory.path());
        let mut seen = Ok(self.current.texts.clone());
        // The first look is for what changed while the database was waited for.
        let (mut asked, mut waiting) = (false, false);
        loop {
            let found = self.look().await;
            if asked || waiting || found != seen {
                let outcome = self.offer(&found, feed).await;
                waiting = self.tell(outcome, waiting);
            }
            seen = found;
            asked = tokio::select! {
                () = watcher.changed() => false,
                () = self.reload.policies.notified() => true,
                () = tokio::time::sleep(RETRY), if waiting => false,
            };
        }
    }

    async fn look(&self) -> Result<Texts, Vec<Problem>> {
        let directory = self.directory.clone();
        let whole = Place::new(&Arc::from(&*self.directory.path().to_string_lossy()), 0);
        let found = tokio::task::spawn_blocking(move || directory.read()).await;
        let texts = found.unwrap_or_else(|error| Err(vec![whole.problem(error.to_string())]))?;
        // A volume that was taken away must not show what its files hide.
        if !texts.present && !self.current.policies.is_empty() {
            let what = "the directory is gone; remove the files in it, or restart, to do without them";
            return Err(vec![whole.problem(what)]);
        }
        Ok(texts)
    }

    async fn offer(&self, found: &Result<Texts, Vec<Problem>>, feed: &Feed) -> Outcome {
        let policies = found.clone().and_then(|texts| {
            let policies = texts.policies()?;
            Ok(PolicySet { texts, policies })
        });
        let set = match policies {
            Ok(set) => set,
            Err(problems) => return Outcome::Broken(problems),
        };
        match feed.set_policy_files(set.for_catalog()).await {
            Ok(()) => Outcome::Taken(set),
            Err(CatalogError::PolicyFiles(refused)) => Outcome::Broken(set.problems(&refused)),
            Err(error) => Outcome::NotYet(error),
        }
    }

    /// Says and counts what came of it; whether it has to be tried again.
    fn tell(&mut self, outcome: Outcome, waiting: bool) -> bool {
        let count = |outcome| {
            self.metrics
                .policy_files_reloads
                .get_or_create(&[("outcome", outcome)])
                .inc();
        };
        match outcome {
            Outcome::Taken(set) => {
                count("ok");
                self.metrics.policy_files_broken.set(0);
                tracing::info!(policies = set.policies.len(), "policy files taken over");
                self.current = set;
                false
            }
            Outcome::Broken(problems) => {
                count("broken");
                self.metrics.policy_files_broken.set(1);
                for problem in &problems {
                    tracing::error!("policy files not taken over, those before stay in force: {problem}");
                }
                false
            }
            Outcome::NotYet(error) => {
                if !waiting {
                    count("unavailable");
                    tracing::warn!(%error, "changed policy files wait for the database");
                }
                true
            }
        }
    }
}
