//! Writing places down: some as it goes, so that a crash forgets little, and what is left when the server is asked to stop.
//!
//! Nobody waits for it, and nothing depends on it but how far back a client goes on after a crash.

use std::time::{Duration, Instant};

use super::Keeper;
use crate::session::Unsaved;
use crate::shutdown::Shutdown;

/// Longest time for one go.
const SAVE: Duration = Duration::from_secs(5);

/// Rows of one statement.
const ROWS: usize = 1024;

/// In order, so that two servers do not wait for each other's rows.
const UPSERT: &str = "with nobodys as (delete from rowcast.places where id = any($3))
     insert into rowcast.places (id, place)
     select id, place::json from unnest($1::text[], $2::text[]) given (id, place) order by id
     on conflict (id) do update set place = excluded.place, saved = now()";

impl Keeper {
    /// Writes what has waited longest, again and again, until `stopping`.
    pub(super) async fn save_as_it_goes(&self, every: Duration, stopping: Shutdown) {
        let mut fails = false;
        let mut written = false;
        let mut tidied = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = stopping.cancelled() => return,
            }
            let unsaved = self.places.take_unsaved(ROWS);
            if unsaved.is_empty() {
                continue;
            }
            let outcome = tokio::select! {
                outcome = tokio::time::timeout(SAVE, self.write(&unsaved)) => {
                    outcome.unwrap_or_else(|_| Err("the database has not answered in time".to_owned()))
                }
                () = stopping.cancelled() => return self.places.not_saved(&unsaved),
            };
            match &outcome {
                Ok(()) if fails => tracing::info!("places of clients are written again"),
                Ok(()) => {}
                Err(error) => {
                    self.metrics.places_save_failures.inc();
                    self.places.not_saved(&unsaved);
                    if !fails {
                        tracing::warn!(%error, "places of clients could not be written; after a crash they are told to look themselves");
                    }
                }
            }
            fails = outcome.is_err();
            written |= !fails;
            if written && !fails && tidied.elapsed() >= self.window {
                (written, tidied) = (false, Instant::now());
                // Another time, if not now.
                let _ = tokio::time::timeout(SAVE, self.tidy()).await;
            }
        }
    }

    /// Writes everything that has not been, for the next server.
    pub(in crate::server) async fn save(&self) {
        let unsaved = self.places.take_all_unsaved();
        if unsaved.is_empty() {
            return;
        }
        let count = unsaved.len();
        let saving = async {
            self.tidy().await?;
            self.write(&unsaved).await
        };
        match tokio::time::timeout(SAVE, saving).await {
            Ok(Ok(())) => tracing::info!(count, "places of clients are kept for the next server"),
            Ok(Err(error)) => tracing::warn!(%error, "places of clients could not be kept"),
            Err(_) => tracing::warn!("places of clients could not be kept in time"),
        }
    }

    async fn write(&self, unsaved: &Unsaved) -> Result<(), String> {
        let client = self.pool.get().await.map_err(|e| e.to_string())?;
        let nobodys: Vec<&str> = unsaved.nobodys.iter().map(|id| &**id).collect();
        let mut left = unsaved.places.as_slice();
        loop {
            let (some, rest) = left.split_at(left.len().min(ROWS));
            let (ids, places): (Vec<&str>, Vec<String>) =
                some.iter().map(|(id, place)| (&**id, place.to_json())).unzip();
            let written = client.execute(UPSERT, &[&ids, &places, &nobodys]).await;
            self.metrics
                .places_saved
                .inc_by(written.map_err(|e| e.to_string())?);
            left = rest;
            if left.is_empty() {
                return Ok(());
            }
        }
    }

    /// Forgets those who are gone.
    async fn tidy(&self) -> Result<(), String> {
        let client = self.pool.get().await.map_err(|e| e.to_string())?;
        let old = "delete from rowcast.places where saved < now() - make_interval(secs => $1)";
        let age = self.kept().as_secs_f64();
        client.execute(old, &[&age]).await.map_err(|e| e.to_string())?;
        Ok(())
    }
}
