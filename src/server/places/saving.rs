//! Writing places down: some as it goes, so that a crash forgets little, and what is left when the server is asked to stop. What was
//! written and would have a client miss something is written over before that comes to be so.
//!
//! Nobody waits for the first two, and nothing depends on them but how far back a client goes on after a crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Keeper, Urgent, reason};
use crate::session::{Places, Unsaved};
use crate::shutdown::Shutdown;

const WRITING: &str = "writing places of clients";

/// Longest time for one go.
const SAVE: Duration = Duration::from_secs(5);

/// Rows of one statement.
const ROWS: usize = 1024;

/// Between two statements for those who cannot wait, so that those of a storm share some.
const PAUSE: Duration = Duration::from_millis(20);

/// In order, so that two servers do not wait for each other's rows. A statement that is late, because of locks or a connection that
/// was stuck, changes nothing that was written since; and who has left this server is where another one says it is. What is too old
/// to be read counts for nothing, whatever its version: a table that came out of a backup has those of another cluster.
const UPSERT: &str = "with nobodys as (delete from rowcast.places where id = any($3) and version < $4)
     insert into rowcast.places (id, place, version)
     select id, given.place::json, $4 from unnest($1::text[], $2::text[], $5::bigint[]) given (id, place, over)
       left join rowcast.places written using (id)
      where written.version is null or written.version <= given.over or written.saved < now() - make_interval(secs => $6)
      order by id
     on conflict (id) do update set place = excluded.place, saved = now(), version = excluded.version
     where places.version < excluded.version or places.saved < now() - make_interval(secs => $6)";

/// Only grows, on whichever server: what was taken after it was asked for is newer than what was written under a lower one.
const VERSION: &str = "select pg_catalog.pg_current_xact_id()::text::bigint";

/// Who writes.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// One after another: what was taken from the books first is written first.
    turn: tokio::sync::Mutex<()>,
    /// The last go failed, and that has been said.
    fails: AtomicBool,
}

impl Keeper {
    /// Writes what has waited longest, again and again, until `stopping`.
    pub(super) async fn save_as_it_goes(&self, every: Duration, stopping: Shutdown) {
        let mut written = false;
        let mut tidied = Instant::now();
        loop {
            tokio::select! {
                () = sleep(every) => {}
                () = stopping.cancelled() => return,
            }
            if !self.places.has_unsaved() {
                continue;
            }
            let saved = self.go(SAVE, |places| places.take_unsaved(ROWS)).await;
            written |= saved;
            if written && saved && tidied.elapsed() >= self.window {
                (written, tidied) = (false, Instant::now());
                // Another time, if not now.
                let _ = timeout(SAVE, self.tidy()).await;
            }
        }
    }

    /// Writes the places of those who cannot wait, whatever the others do.
    pub(super) async fn correct(&self, mut urgent: mpsc::Receiver<Urgent>) {
        let mut asked: Vec<Urgent> = Vec::new();
        while urgent.recv_many(&mut asked, ROWS).await > 0 {
            let ids: Vec<_> = asked.iter().map(|(id, _)| Arc::clone(id)).collect();
            self.go(SAVE, |places| places.take_unsaved_of(ids)).await;
            for (_, done) in asked.drain(..) {
                // Who does not wait any more need not know.
                let _ = done.send(());
            }
            sleep(PAUSE).await;
        }
    }

    /// Takes some places and writes them, within a time. Whether that went well.
    async fn go(&self, limit: Duration, take: impl FnOnce(&Places) -> Unsaved) -> bool {
        let _turn = self.writer.turn.lock().await;
        let mut unsaved = Unsaved::default();
        let writing = async {
            // Before what it is the version of.
            let version = self.version().await?;
            unsaved = take(&self.places);
            self.write_down(&unsaved, version).await.map(|()| version)
        };
        let outcome = timeout(limit, writing).await;
        let outcome = outcome.unwrap_or_else(|_| Err("the database has not answered in time".to_owned()));
        let fails = &self.writer.fails;
        match &outcome {
            Ok(version) => {
                self.places.saved(&unsaved, *version);
                if fails.swap(false, Ordering::Relaxed) {
                    tracing::info!("places of clients are written again");
                }
            }
            Err(error) => {
                self.metrics.places_save_failures.inc();
                self.places.not_saved(&unsaved);
                if !fails.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "places of clients could not be written; after a crash they are told to look themselves");
                }
            }
        }
        outcome.is_ok()
    }

    /// Writes everything that has not been, for the next server.
    pub(in crate::server) async fn save(&self) {
        if self.places.all_saved() {
            return;
        }
        let mut count = 0;
        let saving = async {
            // Another time, if not now.
            let _ = self.tidy().await;
            let all = |places: &Places| {
                let all = places.take_all_unsaved();
                count = all.len();
                all
            };
            self.go(SAVE, all).await
        };
        match timeout(SAVE, saving).await {
            Ok(true) => tracing::info!(count, "places of clients are kept for the next server"),
            Ok(false) => tracing::warn!("places of clients could not be kept"),
            Err(_) => tracing::warn!("places of clients could not be kept in time"),
        }
    }

    async fn version(&self) -> Result<i64, String> {
        let client = self.pool.get().await.map_err(|e| e.chain())?;
        let row = client.query_one(VERSION, &[]).await.map_err(reason(WRITING))?;
        Ok(row.get(0))
    }

    async fn write_down(&self, unsaved: &Unsaved, version: i64) -> Result<(), String> {
        if unsaved.is_empty() {
            return Ok(());
        }
        let client = self.pool.get().await.map_err(|e| e.chain())?;
        let nobodys: Vec<&str> = unsaved.nobodys.iter().map(|id| &**id).collect();
        let kept = self.kept().as_secs_f64();
        let mut left = unsaved.places.as_slice();
        let mut over = unsaved.over.as_slice();
        loop {
            let (some, rest) = left.split_at(left.len().min(ROWS));
            let (some_over, rest_over) = over.split_at(some.len().min(over.len()));
            let (ids, places): (Vec<&str>, Vec<String>) =
                some.iter().map(|(id, place)| (&**id, place.to_json())).unzip();
            let written = client
                .execute(UPSERT, &[&ids, &places, &nobodys, &version, &some_over, &kept])
                .await
                .map_err(reason(WRITING))?;
            self.metrics.places_saved.inc_by(written);
            let here = some_over.iter().filter(|over| **over == i64::MAX).count();
            if written < u64::try_from(here).unwrap_or_default() {
                return Err("another server has just written some of them".to_owned());
            }
            (left, over) = (rest, rest_over);
            if left.is_empty() {
                return Ok(());
            }
        }
    }

    /// Forgets those who are gone.
    async fn tidy(&self) -> Result<(), String> {
        let client = self.pool.get().await.map_err(|e| e.chain())?;
        let old = "delete from rowcast.places where saved < now() - make_interval(secs => $1)";
        let age = self.kept().as_secs_f64();
        client.execute(old, &[&age]).await.map_err(reason(WRITING))?;
        Ok(())
    }
}
