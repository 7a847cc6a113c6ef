//! `GET …/poll`: what has happened since the last one, and the place to go on from.
//!
//! Nothing is kept between two of them: each joins anew, behind the place that the one before answered with.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::super::Server;
use super::admission::{Admitted, admit};
use super::batch::Batch;
use super::channels::{Channels, Woken};
use super::frames::{Event, System};
use super::opening::{Opened, open};
use super::place::Place;
use super::refusal::{Refusal, uncached};
use crate::hub::{Frame, Lane};
use crate::protocol::errors::Close;
use crate::protocol::push_json_string;

/// An answer is no longer than this, and the next one follows at once. Events, and bytes of them.
const MOST_EVENTS: usize = 1_000;
const MOST_BYTES: usize = 1 << 20;

/// Once there is something to say, this is waited for what comes with it.
const LINGER: Duration = Duration::from_millis(10);

/// How much longer, if the place is still in front of the last change then: answering would only mean to give it again.
const LONGEST_LINGER: Duration = Duration::from_secs(1);

/// `GET …/poll`.
pub(in super::super) async fn serve(
    State(server): State<Arc<Server>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let admitted = match admit(&server, &uri, &headers).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.response(&server).await,
    };
    match Box::pin(collect(&server, admitted)).await {
        Ok(json) => {
            server.metrics.polls.inc();
            let content = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
            uncached((StatusCode::OK, content, json).into_response())
        }
        Err(refusal) => refusal.response(&server).await,
    }
}

async fn collect(server: &Arc<Server>, admitted: Admitted) -> Result<String, Refusal> {
    let Admitted { asked, new, slot } = admitted;
    let begun = Instant::now();
    let since = asked.since.clone().filter(|since| !since.is_empty());
    let Opened { channels, batches } = open(server, new, &asked).await?;
    let longest = server.settings.poll_wait;
    let wait = asked.wait.map_or(longest, |wait| wait.min(longest));
    let mut poll = Poll {
        known: since
            .as_deref()
            .and_then(|since| since.parse().ok())
            .unwrap_or_default(),
        channels,
        answer: Answer::default(),
        rows_by: begun + longest,
    };
    for notice in poll.channels.notices() {
        poll.add(&notice);
    }
    for batch in batches {
        poll.gather(batch);
    }
    match since {
        // Somebody new only wants to know from where to go on.
        None => poll.wait(begun + longest, Channels::is_placed).await?,
        Some(_) => {
            poll.wait(begun + wait, |_| false).await?;
        }
    }
    let json = poll.json(since.as_deref());
    poll.channels.end("poll");
    drop(slot);
    json
}

struct Poll {
    channels: Channels,
    /// What the client knew.
    known: Place,
    answer: Answer,
    /// If rows are to come first, all of them have to be there by then.
    rows_by: Instant,
}

#[derive(Default)]
struct Answer {
    /// The data of events, with commas between them.
    events: String,
    count: usize,
    resync: Option<String>,
    /// No more fits, and there may be more.
    full: bool,
    /// The rows that come first do not fit.
    overfull: bool,
}

impl Poll {
    /// Waits until there is something to answer, or `enough` of the channels says so, or it is time.
    async fn wait(&mut self, deadline: Instant, enough: fn(&mut Channels) -> bool) -> Result<(), Refusal> {
        let mut deadline = deadline;
        let mut lingers = false;
        let mut at_last = deadline;
        loop {
            if self.answer.full || (!lingers && enough(&mut self.channels)) {
                return Ok(());
            }
            let waits_for_rows = self.channels.progress().waits_for_rows();
            if !lingers && !waits_for_rows && self.answer.is_worth_it() {
                lingers = true;
                let now = Instant::now();
                deadline = deadline.min(now + LINGER);
                at_last = now + LONGEST_LINGER;
            }
            let until = if waits_for_rows { self.rows_by } else { deadline };
            match self.channels.next(until, true).await {
                Woken::Frames(batch) => self.gather(batch),
                Woken::Moved => self.channels.leave_refused(),
                Woken::Time if lingers && !self.is_settled() && deadline < at_last => deadline += LINGER,
                Woken::Time | Woken::Stopping => return Ok(()),
                Woken::Overflowed => {
                    self.channels.server().metrics.outbox_overflows.inc();
                    return match self.answer.count {
                        0 => Err(Refusal::Ended(Close::SlowConsumer)),
                        _ => Ok(()),
                    };
                }
                Woken::Close(close) => return Err(Refusal::Ended(close)),
            }
            if self.answer.count == 0
                && let Some(refusal) = self.channels.refusal()
            {
                return Err(refusal.clone());
            }
        }
    }

    fn is_settled(&mut self) -> bool {
        self.channels.rest();
        self.channels.progress().is_settled()
    }

    /// Takes over as much of a batch as fits. The rest comes again.
    fn gather(&mut self, mut batch: Batch) {
        while !self.answer.full {
            let Some(frame) = self.channels.take(&mut batch) else {
                return;
            };
            self.add(&frame);
            if self.channels.progress().is_between_rows() {
                self.answer.overfull = self.answer.events.len() > MOST_BYTES;
                self.answer.full = self.answer.overfull;
                continue;
            }
            let large = self.answer.count >= MOST_EVENTS || self.answer.events.len() >= MOST_BYTES;
            // Or all that is ahead of what was gathered would come again.
            self.answer.full = large && self.channels.progress().is_close();
        }
    }

    fn add(&mut self, frame: &Frame) {
        let Some(event) = Event::read(frame) else { return };
        let told = match event.name {
            "system" => self.says_something(&event),
            "presence_state" => self.is_news(&event),
            _ => true,
        };
        if told {
            self.answer.push(event.data);
        }
    }

    /// Errors and warnings are for the client; that a join has gone well is not, as there is one for every poll.
    fn says_something(&mut self, event: &Event<'_>) -> bool {
        let Some(system) = System::read(event) else {
            return false;
        };
        if let Some(reason) = system.resync() {
            self.answer.resync = Some(reason.to_owned());
            return false;
        }
        system.status != "ok" || system.is_of_snapshot()
    }

    /// Whether this is another state of presence than the client has been told of.
    fn is_news(&mut self, event: &Event<'_>) -> bool {
        let Some(message) = event.message() else {
            return false;
        };
        let tag = Lane::tag(&message.topic);
        let digest = digest(message.payload.get());
        self.channels.progress().presence(tag, digest);
        !self.known.presence.contains(&(tag, digest))
    }

    fn json(&mut self, since: Option<&str>) -> Result<String, Refusal> {
        if self.answer.overfull {
            return Err(Refusal::TooManyRows);
        }
        if !self.answer.full {
            self.channels.rest();
        }
        let progress = self.channels.progress();
        // Part of them would be taken for all.
        if progress.is_between_rows() {
            return Err(Refusal::Unread);
        }
        let place = progress.place();
        let cursor = match since {
            _ if progress.is_known() && !place.is_empty() => place.to_string(),
            Some(since) if self.answer.resync.is_none() => since.to_owned(),
            // Rooms alone have nothing to go on from.
            _ if progress.is_known() => String::new(),
            _ => return Err(Refusal::NoStream),
        };
        Ok(self.answer.json(&cursor))
    }
}

impl Answer {
    fn is_worth_it(&self) -> bool {
        self.count > 0 || self.resync.is_some()
    }

    fn push(&mut self, data: &str) {
        if self.count > 0 {
            self.events.push(',');
        }
        self.events.push_str(data);
        self.count += 1;
    }

    fn json(&self, cursor: &str) -> String {
        let mut out = String::with_capacity(self.events.len() + 128);
        out.push_str("{\"cursor\":");
        push_json_string(&mut out, cursor);
        if let Some(reason) = &self.resync {
            out.push_str(",\"resync\":");
            push_json_string(&mut out, reason);
        }
        out.push_str(",\"events\":[");
        out.push_str(&self.events);
        out.push_str("]}");
        out
    }
}

/// Of a state of presence, whatever the order of what is in it.
fn digest(state: &str) -> u32 {
    let canonical = serde_json::from_str::<serde_json::Value>(state).map(|value| value.to_string());
    let mut hasher = DefaultHasher::new();
    canonical.unwrap_or_else(|_| state.to_owned()).hash(&mut hasher);
    u32::try_from(hasher.finish() & 0xFFFF_FFFF).unwrap_or_default()
}
