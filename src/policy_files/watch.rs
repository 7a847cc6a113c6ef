//! Tells when a directory may have changed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// An editor's write is several events; the last of them is waited for this long.
const QUIET: Duration = Duration::from_millis(200);
/// But no longer than this in all.
const LONGEST: Duration = Duration::from_secs(2);
/// Network and mounted file systems send no events.
const LOOK_ANYWAY: Duration = Duration::from_secs(10);

/// Follows a directory, also one that does not exist yet or that is replaced by another.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    events: Option<RecommendedWatcher>,
    woken: Arc<Notify>,
    tick: Interval,
}

impl Watcher {
    /// Starts to follow. Where the system cannot tell of changes, [`Watcher::changed`] still resolves now and then.
    /// Must be called within a Tokio runtime.
    pub fn new(path: &Path) -> Self {
        let woken = Arc::new(Notify::new());
        let (wake, name) = (Arc::clone(&woken), path.file_name().map(OsStr::to_owned));
        let handler = move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| concerns(&event, name.as_deref())) {
                wake.notify_one();
            }
        };
        let events = notify::recommended_watcher(handler)
            .inspect_err(|error| tracing::warn!(%error, "edits of files are noticed late"))
            .ok();
        let mut tick = tokio::time::interval_at(Instant::now() + LOOK_ANYWAY, LOOK_ANYWAY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watcher = Self {
            path: path.to_owned(),
            events,
            woken,
            tick,
        };
        watcher.arm();
        watcher
    }

    /// Resolves when something may have changed since the last call, once it has been quiet for a moment. Losing the
    /// future loses nothing but that moment.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = self.woken.notified() => {}
            _ = self.tick.tick() => {}
        }
        let deadline = Instant::now() + LONGEST;
        while Instant::now() < deadline && tokio::time::timeout(QUIET, self.woken.notified()).await.is_ok() {}
        self.arm();
    }

    /// Watches what stands at the path now, and its parent, where it appears, goes and is replaced. Watching again what
    /// is watched changes nothing.
    fn arm(&mut self) {
        let parent = match self.path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return,
        };
        if let Some(events) = &mut self.events {
            for path in [parent, &self.path] {
                // What is not there yet is seen by its parent, or by looking anyway.
                let _ = events.watch(path, RecursiveMode::NonRecursive);
            }
        }
    }
}

/// Reading is no change, and the parent holds other things.
fn concerns(event: &Event, directory: Option<&OsStr>) -> bool {
    let changes = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    };
    let ours = |path: &PathBuf| {
        path.file_name() == directory || path.parent().and_then(Path::file_name) == directory
    };
    // A path such as `.` or `..` has no name to tell by.
    changes && (directory.is_none() || event.paths.is_empty() || event.paths.iter().any(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Waits until a change is told of that came from an event, not from the tick.
    async fn told(watcher: &mut Watcher) {
        watcher.tick.reset_after(PATIENCE * 2);
        tokio::time::timeout(PATIENCE, watcher.changed())
            .await
            .expect("to be told");
    }

    #[tokio::test]
    async fn a_directory_that_appears_is_edited_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policies");
        let mut watcher = Watcher::new(&path);
        std::fs::create_dir(&path).unwrap();
        told(&mut watcher).await;
        let file = path.join("a.sql");
        std::fs::write(&file, "1").unwrap();
        told(&mut watcher).await;
        // As editors save: written beside, renamed over.
        std::fs::write(path.join("a.sql.new"), "2").unwrap();
        std::fs::rename(path.join("a.sql.new"), &file).unwrap();
        told(&mut watcher).await;
        std::fs::create_dir(dir.path().join("next")).unwrap();
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        std::fs::rename(dir.path().join("next"), &path).unwrap();
        told(&mut watcher).await;
        std::fs::write(path.join("b.sql"), "3").unwrap();
        told(&mut watcher).await;
        std::fs::remove_file(path.join("b.sql")).unwrap();
        told(&mut watcher).await;
    }

    #[test]
    fn reading_is_no_change() {
        let event = |kind| Event::new(kind).add_path("/x/policies/a.sql".into());
        let name = Some(OsStr::new("policies"));
        assert!(!concerns(
            &event(EventKind::Access(AccessKind::Open(AccessMode::Any))),
            name
        ));
        assert!(!concerns(
            &event(EventKind::Access(AccessKind::Close(AccessMode::Read))),
            name
        ));
        assert!(concerns(
            &event(EventKind::Access(AccessKind::Close(AccessMode::Write))),
            name
        ));
        assert!(concerns(&event(EventKind::Any), name));
        assert!(!concerns(&event(EventKind::Any), Some(OsStr::new("other"))));
    }
}
