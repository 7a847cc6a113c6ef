//! The channels of one request: joined by messages made from its URL, driven as those of a WebSocket are.

mod joins;
mod reach;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{FutureExt, StreamExt};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep};

use super::super::driver::{Driver, Outcome, now};
use super::super::{Pending, Server};
use super::batch::Batch;
use super::progress::Progress;
use super::refusal::Refusal;
use crate::feed::{SubscribeError, Subscribed};
use crate::hub::{Drained, Frame};
use crate::protocol::errors::Close;
use crate::protocol::{ClientMessage, Payload, Ref};

/// The channels of a request, from their joins to their end.
pub(super) struct Channels {
    pub(super) driver: Driver,
    pub(super) joined: Vec<Channel>,
    pub(super) progress: Progress,
    /// Said before anything else: what of the past is not to be had.
    notices: Vec<Frame>,
    /// Channels whose rows have gone live since the outbox was emptied last.
    pub(super) lived: Vec<u32>,
    pub(super) wants_presence: bool,
    /// One for all waits: it is moved only where it would be late.
    timer: Pin<Box<Sleep>>,
    stopping: Pending<()>,
    /// It stands in the line of those who wait for the server's end.
    in_line: bool,
    stopped: bool,
    ended: bool,
}

pub(super) struct Channel {
    pub(super) topic: Arc<str>,
    pub(super) tag: u32,
    pub(super) stage: Stage,
    /// What the reply to its join says.
    pub(super) response: Value,
}

/// How far a channel is.
pub(super) enum Stage {
    Asked,
    Joined,
    Over(Refusal),
}

/// What [`Channels::next`] waited for.
pub(super) enum Woken {
    /// What was in the outbox.
    Frames(Batch),
    /// More came than was taken: it is over.
    Overflowed,
    /// It is time.
    Time,
    /// The server stops.
    Stopping,
    /// A channel has got further, or is over, without a frame.
    Moved,
    /// The session wants an end.
    Close(Close),
}

impl Channels {
    fn send(&mut self, topic: &str, event: &str, payload: &RawValue) -> Result<(), Close> {
        let message = ClientMessage {
            join_ref: Some(Ref::text("1")),
            reference: Some(Ref::text("1")),
            topic: topic.into(),
            event: event.into(),
            payload: Payload::Json(payload),
        };
        self.driver.message(Ok(message), payload.get().len())
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.driver.server
    }

    /// Another task waits from now on.
    pub(super) fn moved(&mut self) {
        self.in_line = false;
    }

    /// Waits for something to do, until `deadline` at the latest, and for what is in the outbox only if it `drains`. One that
    /// does not is told when that overflows. Cancel-safe.
    pub(super) async fn next(&mut self, deadline: Instant, drains: bool) -> Woken {
        loop {
            let wake = deadline.min(self.driver.wake_at());
            if self.timer.is_elapsed() || wake < self.timer.deadline() {
                self.timer.as_mut().reset(wake);
            }
            let (stopping, in_line) = (&mut self.stopping, &mut self.in_line);
            let drain = &self.driver.server.drain;
            // As for WebSockets: whoever stands in line asks again only when there is an answer.
            let poll_stopping = |cx: &mut Context<'_>| {
                if *in_line && !drain.has_begun() {
                    return Poll::Pending;
                }
                *in_line = true;
                stopping.as_mut().poll(cx)
            };
            let ended = tokio::select! {
                biased;
                () = self.driver.outbox.filled(), if drains => return self.drained(),
                () = self.driver.outbox.overflowed(), if !drains => return Woken::Overflowed,
                Some(outcome) = self.driver.under_way.next() => {
                    let moved = self.learn(outcome.as_ref());
                    match self.driver.concluded(outcome) {
                        Ok(()) if moved => return Woken::Moved,
                        ended => ended,
                    }
                }
                Ok(()) = self.driver.stream.changed(), if self.driver.session.follows_stream() => {
                    self.driver.stream_changed();
                    Ok(())
                }
                () = self.timer.as_mut() => {
                    // Nothing is to be heard of who made a request.
                    self.driver.session.heard(now());
                    self.driver.tick()
                }
                () = poll_fn(poll_stopping), if !self.stopped => {
                    self.stopped = true;
                    return Woken::Stopping;
                }
            };
            if let Err(close) = ended {
                return Woken::Close(close);
            }
            if Instant::now() >= deadline {
                return Woken::Time;
            }
        }
    }

    /// Takes out what is in the outbox, if there is something.
    fn drained(&mut self) -> Woken {
        // In this order: everything up to here is in the outbox then.
        let before = self.before();
        match self.driver.outbox.drain_placed().now_or_never() {
            Some((Drained::Frames(frames), places)) => Woken::Frames(self.sift(frames, places, before)),
            Some((Drained::Overflowed, _)) => Woken::Overflowed,
            None => Woken::Moved,
        }
    }

    /// What an outcome means for the places, and for a channel whose rows are refused. Returns whether something came of it.
    fn learn(&mut self, outcome: Option<&Outcome>) -> bool {
        let Some(Outcome::Subscribed(id, result)) = outcome else {
            return false;
        };
        let Some(topic) = self.driver.session.topic_of(*id) else {
            return false;
        };
        let Some(channel) = self.joined.iter_mut().find(|channel| channel.topic == topic) else {
            return false;
        };
        match result {
            Ok(Subscribed::Live) => self.lived.push(channel.tag),
            // What comes of a snapshot has no place: its channel is live behind it.
            Ok(Subscribed::Sending(_)) => return false,
            // Nobody can send it another token.
            Err(SubscribeError::Refused(text)) => {
                channel.stage = Stage::Over(Refusal::Rows(text.clone()));
                self.progress.over(channel.tag);
            }
            Err(SubscribeError::Unavailable(_) | SubscribeError::Behind(_)) => return false,
        }
        true
    }

    /// Gives up the channels whose rows were refused. The session has said why.
    pub(super) fn leave_refused(&mut self) {
        let refused = |channel: &&Channel| matches!(channel.stage, Stage::Over(Refusal::Rows(_)));
        let topics: Vec<Arc<str>> = self
            .joined
            .iter()
            .filter(refused)
            .map(|channel| Arc::clone(&channel.topic))
            .collect();
        for topic in topics {
            // A leave closes nothing.
            let _ = self.send(&topic, "phx_leave", RawValue::NULL);
        }
    }

    /// Whether every join has been answered.
    pub(super) fn are_answered(&self) -> bool {
        let waits = |channel: &Channel| matches!(channel.stage, Stage::Asked);
        !self.joined.iter().any(waits)
    }

    /// Why there is nothing left to hear, if there is not: what was wrong first.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        let mut refusals = self.joined.iter().map(|channel| match &channel.stage {
            Stage::Over(refusal) => Some(refusal),
            Stage::Asked | Stage::Joined => None,
        });
        let first = refusals.next()??;
        refusals.all(|refusal| refusal.is_some()).then_some(first)
    }

    /// What was to be said before anything else.
    pub(super) fn notices(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.notices)
    }

    /// The channels that are joined, each with what the reply to its join says.
    pub(super) fn summary(&self) -> Value {
        let joined = self.joined.iter();
        let joined = joined.filter(|channel| matches!(channel.stage, Stage::Joined));
        let one = |channel: &Channel| {
            let mut entry = json!({ "topic": &*channel.topic });
            if let (Value::Object(entry), Value::Object(response)) = (&mut entry, &channel.response) {
                entry.extend(response.clone());
            }
            entry
        };
        joined.map(one).collect()
    }

    /// The server stops, and it is the turn of this client to be told so: what there is to say.
    pub(super) fn restarting(&mut self) -> Option<Batch> {
        self.driver.session.restarting();
        match self.drained() {
            Woken::Frames(batch) => Some(batch),
            _ => None,
        }
    }

    /// The server stops: the moment to end.
    pub(super) fn stop(&mut self) -> Instant {
        self.driver.stop()
    }

    /// It is over, for this reason. What waits in the outbox is dropped.
    pub(super) fn end(&mut self, reason: &'static str) {
        if !std::mem::replace(&mut self.ended, true) {
            self.driver.end(reason);
            self.driver.outbox.close();
        }
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        // Nobody waits for the answer any more.
        self.end("client");
    }
}
