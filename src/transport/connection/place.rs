//! How far the client of a connection has come, without its help: a ping carries a number, and its pong says that everything
//! written before has arrived (RFC 6455, section 5.5.3; browsers answer in order).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::write::{patience, written};
use super::{Connection, Ending};
use crate::hub::Drained;
use crate::protocol::errors::Close;
use crate::session::{Holder, Place, Stay, Turn};

/// Pings that may wait for their pongs.
const MOST: usize = 8;

/// A ping, and what its pong says.
struct Asked {
    number: u64,
    at: Instant,
    place: Place,
    /// [`Session::sent`](crate::session::Session::sent) by then.
    sent: u32,
}

/// See the module.
pub(super) struct Tracking {
    holder: Arc<Holder>,
    /// Between two pings, while there is something to ask about.
    every: Duration,
    /// Between two pings, otherwise: places move on without the client, and must not fall out of the window.
    idle: Duration,
    next: u64,
    asked: VecDeque<Asked>,
    /// What has become of channels, with the ping before.
    turns: Vec<(u64, Stay, Turn)>,
    wrote: bool,
    last: Instant,
}

impl Tracking {
    pub(super) fn new(holder: Arc<Holder>, every: Duration, window: Duration) -> Self {
        Self {
            holder,
            every,
            idle: (window / 8).max(every),
            next: 0,
            asked: VecDeque::new(),
            turns: Vec::new(),
            // What its joins are answered with is worth a ping.
            wrote: true,
            last: Instant::now(),
        }
    }

    /// Something has been written.
    pub(super) fn wrote(&mut self) {
        self.wrote = true;
    }

    /// When to ask next.
    pub(super) fn due(&self) -> Instant {
        self.last + if self.wrote { self.every } else { self.idle }
    }

    /// The client has answered; if anything is known by it, whether [another connection](Holder::acknowledge) turns out to have its
    /// id as well.
    pub(super) fn answered(&mut self, payload: &[u8]) -> Option<bool> {
        // Otherwise it is not an answer to ours.
        let number = payload.try_into().map(u64::from_be_bytes).ok()?;
        let mut arrived = None;
        while let Some(asked) = self.asked.pop_front_if(|asked| asked.number <= number) {
            arrived = Some(asked);
        }
        let Asked {
            number,
            at,
            mut place,
            sent,
        } = arrived?;
        // The place knows nothing of what came behind it.
        self.turns.retain(|(before, ..)| *before >= number);
        let later = self.turns.iter();
        place.follow(
            later
                .map(|(_, stay, turn)| (stay.clone(), turn.clone()))
                .collect(),
        );
        Some(self.holder.acknowledge(place, at.into_std(), sent))
    }

    /// Something has become of channels. Whether it should be written down soon.
    pub(super) fn follow(&mut self, turns: Vec<(Stay, Turn)>) -> bool {
        let known = |(stay, turn): &(Stay, Turn)| (self.next, stay.clone(), turn.clone());
        self.turns.extend(turns.iter().map(known));
        self.holder.follow(turns)
    }

    /// See [`Holder::give_up`].
    fn give_up(self) {
        self.holder.give_up();
    }
}

impl Connection {
    /// Asks the client how far it has come, if it is time to.
    pub(super) async fn ask(&mut self) -> Result<(), Ending> {
        let Some(tracking) = &mut self.tracking else {
            return Ok(());
        };
        let turns = self.driver.session.take_turns();
        if !turns.is_empty() {
            if tracking.follow(turns) {
                self.driver.write_place();
            }
            if self.driver.session.outgrows_place(tracking.turns.len()) {
                self.driver.session.give_up_place();
                if let Some(tracking) = self.tracking.take() {
                    tracking.give_up();
                }
                return Ok(());
            }
        }
        let now = Instant::now();
        if now < tracking.due() {
            return Ok(());
        }
        (tracking.last, tracking.wrote) = (now, false);
        if tracking.asked.len() >= MOST {
            return Ok(());
        }
        let sent = self.driver.session.sent();
        let place = self.driver.session.place();
        // What may have been missed before is told before it counts as known.
        if self.driver.session.follows_stream() && self.driver.stream.has_changed().unwrap_or_default() {
            self.driver.stream_changed();
        }
        // What is in the outbox belongs to it.
        match self.driver.outbox.drain().now_or_never() {
            Some(Drained::Frames(frames)) => self.write(frames).await?,
            Some(Drained::Overflowed) => return Err(Ending::Close(Close::SlowConsumer)),
            None => {}
        }
        let Some(tracking) = &mut self.tracking else {
            return Ok(());
        };
        tracking.next += 1;
        tracking.asked.push_back(Asked {
            number: tracking.next,
            at: now,
            place,
            sent,
        });
        let payload = tracking.next.to_be_bytes();
        let limit = self.driver.server.settings.write_timeout;
        let stopping = patience(&self.driver.server.drain, Duration::MAX);
        tokio::select! {
            pinged = timeout(limit, self.socket.ping(&payload)) => written(pinged),
            () = self.driver.outbox.overflowed() => Err(Ending::Close(Close::SlowConsumer)),
            () = stopping => Err(Ending::WriteTimeout),
        }
    }
}
