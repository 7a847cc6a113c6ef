//! One stream from its opening to its end: what is written to it, and when.

use std::time::Duration;

use rand::Rng;
use serde_json::json;
use tokio::time::Instant;

use super::pieces::Pieces;
use crate::protocol::{self, Version};
use crate::transport::events::batch::Batch;
use crate::transport::events::channels::{Channels, Woken};
use crate::transport::events::handoff::{Taken, Writer};

/// A client that loses its stream comes back after one to two of these, so that not all do so at once.
const RETRY: Duration = Duration::from_secs(1);

/// One that is sent away because the server stops, after one to four of these: another one may have to begin first.
const RETRY_AFTER_STOP: Duration = Duration::from_secs(1);

/// How long a client has to take what is said last.
pub(super) const LAST: Duration = Duration::from_secs(1);

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client is gone.
    Client,
    /// It took nothing for too long, or less than came.
    Slow,
    /// None of its channels is left, or the session was closed.
    Over(&'static str),
}

impl Ending {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Slow => "slow_consumer",
            Self::Over(label) => label,
        }
    }
}

/// A stream, and what is on the way of it.
pub(super) struct Streaming {
    pub(super) channels: Channels,
    pub(super) writer: Writer,
    pieces: Pieces,
    /// The last `id:`.
    id: String,
    /// Between two signs of life.
    every: Duration,
    keep_alive: Instant,
    /// Since when the client has taken nothing of what is on the way.
    waits_since: Option<Instant>,
    close_at: Option<Instant>,
    /// The place is to be told as soon as the outbox is empty.
    settles: bool,
}

impl Streaming {
    pub(super) fn new(channels: Channels, writer: Writer) -> Self {
        let settings = &channels.server().settings;
        // Places have to move on within the window, too.
        let every = match settings.window.is_zero() {
            true => settings.keep_alive,
            false => settings.keep_alive.min(settings.window / 4),
        };
        Self {
            channels,
            writer,
            pieces: Pieces::default(),
            id: String::new(),
            every,
            keep_alive: Instant::now() + every,
            waits_since: None,
            close_at: None,
            settles: true,
        }
    }

    pub(super) async fn run(&mut self, batches: Vec<Batch>) -> Ending {
        self.channels.moved();
        self.begin();
        for batch in batches {
            self.write(batch);
        }
        self.hand_over();
        loop {
            let server = self.channels.server();
            let patience = server.settings.write_timeout;
            let under_way = self.waits_since.is_some();
            let give_up = self.waits_since.map(|since| since + patience);
            // What is said at the end is said to those who take it.
            let close_at = self.close_at.map(|at| if under_way { at + LAST } else { at });
            let mut deadline = self.keep_alive;
            for other in [give_up, close_at].into_iter().flatten() {
                deadline = deadline.min(other);
            }
            let woken = tokio::select! {
                biased;
                taken = self.writer.taken(under_way) => match taken {
                    Taken::Gone => return Ending::Client,
                    Taken::All => {
                        self.waits_since = None;
                        if self.settles && self.settle().is_some() {
                            self.hand_over();
                        }
                        continue;
                    }
                },
                woken = self.channels.next(deadline, !under_way) => woken,
            };
            let now = Instant::now();
            match woken {
                Woken::Frames(batch) => self.write(batch),
                Woken::Overflowed => {
                    self.channels.server().metrics.outbox_overflows.inc();
                    return Ending::Slow;
                }
                Woken::Moved => {
                    self.channels.leave_refused();
                    self.settles = true;
                }
                // Served as ever until its turn comes.
                Woken::Stopping => self.close_at = Some(self.channels.stop()),
                Woken::Close(close) => return Ending::Over(close.label()),
                Woken::Time if give_up.is_some_and(|at| at <= now) => return Ending::Slow,
                Woken::Time if close_at.is_some_and(|at| at <= now) => {
                    self.say_goodbye();
                    return Ending::Over("restart");
                }
                Woken::Time => {}
            }
            if self.settles && self.waits_since.is_none() {
                self.settle();
            }
            if now >= self.keep_alive {
                self.say_something();
            }
            self.hand_over();
            if self.channels.refusal().is_some() {
                return Ending::Over("no_channels");
            }
        }
    }

    fn say_goodbye(&mut self) {
        self.pieces.text(&retry(RETRY_AFTER_STOP, 4.0));
        if let Some(batch) = self.channels.restarting() {
            self.write(batch);
        }
        self.hand_over();
    }

    /// What stands in front of everything.
    fn begin(&mut self) {
        self.pieces.text(&retry(RETRY, 2.0));
        for notice in self.channels.notices() {
            self.pieces.frame(&notice);
        }
        let channels = self.channels.summary();
        let payload = json!({ "extension": "open", "status": "ok", "message": "open", "channels": channels });
        self.tell_place(|id| format!("id: {id}\n"));
        let opened = protocol::fan_out(Version::Events, "phoenix", "system", &payload.to_string());
        self.pieces.text(&opened);
    }

    fn write(&mut self, mut batch: Batch) {
        let (mut count, mut bytes) = (0, 0);
        while let Some(frame) = self.channels.take(&mut batch) {
            self.tell_place(|id| format!("id: {id}\n"));
            self.pieces.frame(&frame);
            count += 1;
            bytes += u64::try_from(frame.len()).unwrap_or_default();
        }
        let metrics = &self.channels.server().metrics;
        metrics.frames_sent.inc_by(count);
        metrics.bytes_sent.inc_by(bytes);
    }

    /// Writes the place if it is another one than before.
    fn tell_place(&mut self, line: impl FnOnce(&str) -> String) -> bool {
        let id = self.channels.progress().place().to_string();
        let moved = id != self.id && !id.is_empty();
        if moved {
            self.pieces.text(&line(&id));
            self.id = id;
        }
        moved
    }

    /// The place while nothing happens: it has to move on, or what is kept for those who come back leaves it behind. Some
    /// readers take an id only from an event with data; this one is called `cursor`, and means nothing else.
    ///
    /// `None` if the outbox is not empty; otherwise whether it has moved.
    fn settle(&mut self) -> Option<bool> {
        if !self.channels.rest() {
            return None;
        }
        self.settles = false;
        let moved =
            self.tell_place(|id| format!("id: {id}\nevent: cursor\ndata: {{\"cursor\":\"{id}\"}}\n\n"));
        Some(moved)
    }

    fn say_something(&mut self) {
        // Not behind what the client has not taken: it would only be more.
        if self.waits_since.is_none() && self.settle() != Some(true) {
            self.pieces.text(":\n\n");
        }
        self.keep_alive = Instant::now() + self.every;
    }

    fn hand_over(&mut self) {
        let pieces = self.pieces.finish();
        if !pieces.is_empty() {
            self.writer.put(pieces);
            self.waits_since.get_or_insert_with(Instant::now);
        }
    }
}

fn retry(least: Duration, factor: f64) -> String {
    let wait = least.mul_f64(rand::rng().random_range(1.0..factor));
    format!("retry: {}\n\n", wait.as_millis())
}
