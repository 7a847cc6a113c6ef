//! What one client lived through.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use super::super::log::{Log, What};

/// What the room of a server that was replaced says, though nothing of the database's is missing.
const OF_CLIENTS: &str = "the server was replaced";

#[derive(Default)]
pub struct Diary {
    pub log: Log,
    /// The last `id:` of a stream of events.
    pub id: Option<String>,
    /// Milliseconds that it said to wait, if it did.
    pub retry: Option<u64>,
    /// How much had come when each connection began.
    visits: Vec<usize>,
    /// What it was told is missing, since the first connection.
    pub resyncs: BTreeMap<String, usize>,
    /// It was told to load its rows: what came before it was live again need not have come.
    pub excused: bool,
    /// Why connections were refused, joins failed, and connections ended.
    pub troubles: BTreeMap<String, usize>,
}

impl Diary {
    pub fn begin(&mut self) {
        self.log.begin();
        self.visits.push(self.log.arrivals.len());
    }

    pub fn fail(&mut self, why: &str) {
        *self.troubles.entry(why.to_owned()).or_default() += 1;
    }

    pub fn closed(&mut self, code: u16) {
        self.fail(&format!("closed with {code}"));
    }

    pub fn take(&mut self, text: &str, at: Instant) {
        for line in text.lines() {
            if let Some(id) = line.strip_prefix("id: ") {
                self.id = Some(id.to_owned());
            } else if let Some(retry) = line.strip_prefix("retry: ") {
                self.retry = retry.parse().ok();
            }
        }
        if let Some((_, why)) = text.split_once("\"resync: ")
            && self.visits.len() > 1
        {
            let why = why.split(['"', ':']).next().unwrap_or_default();
            *self.resyncs.entry(why.to_owned()).or_default() += 1;
            self.excused |= !why.starts_with(OF_CLIENTS);
        }
        if text.contains("\"status\":\"error\"") {
            let said = text.split_once("\"message\":\"").map_or(text, |(_, said)| said);
            let said = said.split('"').next().unwrap_or_default().to_owned();
            return self.fail(&said);
        }
        self.log.take(text, at);
    }

    /// It has heard rows and broadcasts, and so knows where it is.
    pub fn has_places(&self) -> bool {
        let arrivals = &self.log.arrivals;
        let row = arrivals
            .iter()
            .any(|arrival| matches!(arrival.what, What::Row(_)));
        row && arrivals
            .iter()
            .any(|arrival| matches!(arrival.what, What::Word(_)))
    }

    /// When it had rows again after its first connection.
    pub fn back(&self) -> Option<Instant> {
        self.log.live.filter(|_| self.visits.len() > 1)
    }

    /// From the last row of its first connection to the first one after it that it did not know.
    pub fn gap(&self) -> Option<Duration> {
        let (before, after) = self.log.arrivals.split_at_checked(*self.visits.get(1)?)?;
        let rows = |arrival: &&super::super::log::Arrival| matches!(arrival.what, What::Row(_));
        let known: HashSet<What> = before.iter().map(|arrival| arrival.what).collect();
        let last = before.iter().rfind(rows)?;
        let next = after
            .iter()
            .filter(rows)
            .find(|arrival| !known.contains(&arrival.what))?;
        Some(next.at.saturating_duration_since(last.at))
    }
}
