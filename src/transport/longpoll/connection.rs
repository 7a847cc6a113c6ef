//! The one task of each session.

use std::collections::VecDeque;
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::Server;
use super::super::driver::{Driver, New, Outcome, now};
use super::exchange::{Exchange, Reply};
use super::messages::decode;
use super::place::Tracking;
use super::registry::{Entry, Poll, Post};
use crate::hub::{Drained, Frame};
use crate::protocol::errors::Close;
use crate::session::Place;

/// The longest wait of a request for something to happen: what it is at Phoenix, whose clients give up after 20 s.
const WAIT: Duration = Duration::from_secs(10);

/// How long a session that ends waits for its client to fetch the rest.
const FAREWELL: Duration = Duration::from_secs(2);

/// Messages taken in at one go, before anything else has its turn.
const TURN: usize = 64;

/// What the task woke up for.
enum Event {
    Drained(Drained),
    /// Whoever waited does not any more.
    Vanished,
    Poll(Poll),
    Post(Post),
    /// There are more posted messages to take in.
    Take,
    Outcome(Option<Outcome>),
    Stream,
    Timer,
    Stopping,
}

/// Why the session ends.
#[derive(Clone, Copy)]
enum Ending {
    /// The server wants it so.
    Close(Close),
    /// Nobody has polled for too long.
    Abandoned,
}

impl From<Close> for Ending {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

/// One session, and the requests that are its connection.
pub(super) struct Connection {
    driver: Driver,
    entry: Entry,
    exchange: Exchange<oneshot::Sender<Reply>>,
    /// What is being taken in.
    taking: Option<Post>,
    /// Of a client with a session id. Boxed: few have one.
    tracking: Option<Box<Tracking>>,
    wait: Duration,
    patience: Duration,
    /// When the request that waits is answered with nothing; where none does, when the session ends.
    until: Instant,
}

impl Connection {
    pub(super) fn new(server: Arc<Server>, entry: Entry, new: New) -> Self {
        server.metrics.longpoll_sessions.inc();
        let wait = server.settings.poll_wait.min(WAIT);
        let patience = server.settings.poll_patience;
        let (acknowledge, window) = (server.settings.acknowledge, server.settings.window);
        let (driver, holder) = Driver::new(server, new);
        Self {
            driver,
            entry,
            exchange: Exchange::new(),
            taking: None,
            tracking: holder.map(|holder| Box::new(Tracking::new(holder, acknowledge, window))),
            wait,
            patience,
            // A client polls as soon as it has its token; who does not holds a connection for nothing.
            until: Instant::now() + patience / 3,
        }
    }

    /// Serves the session to its end.
    pub(super) async fn run(mut self) {
        let ending = Box::pin(self.serve()).await;
        self.driver.end(match ending {
            Ending::Close(close) => close.label(),
            Ending::Abandoned => "client",
        });
        // Who posts need not wait for the rest.
        self.entry.posts.close();
        self.taking = None;
        if let Ending::Close(close) = ending {
            Box::pin(self.say_goodbye(close)).await;
        }
        self.driver.outbox.close();
        if let Some((request, _)) = self.exchange.expire() {
            // Whether it is still there or not, it is over.
            let _ = request.send(Reply::Gone);
        }
    }

    /// The one place where this session waits: requests, the outbox, outcomes, the stream's state, the next due time, and
    /// the server's end.
    async fn serve(&mut self) -> Ending {
        let drain = self.driver.server.drain.clone();
        let mut stopping = pin!(drain.begun());
        let mut close_at = None;
        let mut timer = pin!(sleep_until(self.wake_at(close_at)));
        loop {
            // Who sends too fast is not listened to for a while: what is posted waits, and then the client.
            let listens = self.driver.session.paused_until().is_none();
            let waiting = self.exchange.is_waiting();
            let event = tokio::select! {
                biased;
                // What nobody waits for stays in the outbox, within its bounds.
                drained = self.driver.outbox.drain(), if waiting => Event::Drained(drained),
                () = self.driver.outbox.overflowed(), if !waiting => Event::Drained(Drained::Overflowed),
                () = vanished(&mut self.exchange), if waiting => Event::Vanished,
                Some(outcome) = self.driver.under_way.next() => Event::Outcome(outcome),
                Ok(()) = self.driver.stream.changed(), if self.driver.session.follows_stream() => Event::Stream,
                () = &mut timer => Event::Timer,
                () = &mut stopping, if close_at.is_none() => Event::Stopping,
                // Last: whatever is asked and posted, tokens run out in time.
                Some(poll) = self.entry.polls.recv() => Event::Poll(poll),
                Some(post) = self.entry.posts.recv(), if listens && self.taking.is_none() => Event::Post(post),
                () = ready(()), if listens && self.taking.is_some() => Event::Take,
            };
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
            let ended = match event {
                Event::Stopping => {
                    close_at = Some(self.driver.stop());
                    Ok(())
                }
                Event::Timer if due(close_at) => {
                    self.driver.session.restarting();
                    Err(Ending::Close(Close::Restart))
                }
                event => self.handle(event),
            };
            if let Err(ending) = ended {
                return ending;
            }
            self.note_turns();
            let wake = self.wake_at(close_at);
            if timer.is_elapsed() || wake < timer.deadline() {
                timer.as_mut().reset(wake);
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Ending> {
        match event {
            Event::Drained(Drained::Frames(frames)) => self.push(frames, self.is_place_due()),
            Event::Drained(Drained::Overflowed) => {
                self.driver.server.metrics.outbox_overflows.inc();
                return Err(Ending::Close(Close::SlowConsumer));
            }
            Event::Vanished => {
                self.exchange.expire();
                // Who has closed the page does not come back; a request that is repeated comes at once.
                self.until = Instant::now() + self.patience / 6;
            }
            Event::Poll(poll) => self.poll(poll),
            Event::Post(post) => {
                self.exchange.has_read(post.seen);
                self.note_what_is_read();
                self.taking = Some(post);
            }
            Event::Take => self.take()?,
            Event::Outcome(outcome) => self.driver.concluded(outcome)?,
            Event::Stream => self.driver.stream_changed(),
            Event::Timer => self.tick()?,
            Event::Stopping => {}
        }
        Ok(())
    }

    fn poll(&mut self, poll: Poll) {
        self.driver.session.heard(now());
        for (request, reply) in self.exchange.poll(poll.seen, poll.reply) {
            if reply == Reply::Gone {
                // It was not the client's last word: nothing has changed.
                let _ = request.send(reply);
                return;
            }
            self.answer(request, reply);
        }
        self.note_what_is_read();
        self.until = match self.exchange.is_waiting() {
            true => Instant::now() + self.wait,
            false => Instant::now() + self.patience,
        };
    }

    /// Takes what was drained; with the place that the client is at once it has read it, if that is to be noted.
    fn push(&mut self, mut frames: VecDeque<Frame>, noting: bool) {
        let place = if noting { self.place(&mut frames) } else { None };
        let metrics = &self.driver.server.metrics;
        let bytes = frames.iter().map(Frame::len).sum::<usize>();
        metrics
            .frames_sent
            .inc_by(u64::try_from(frames.len()).unwrap_or_default());
        metrics
            .bytes_sent
            .inc_by(u64::try_from(bytes).unwrap_or_default());
        let news = !frames.is_empty();
        if let Some((request, reply)) = self.exchange.push(frames) {
            self.answer(request, reply);
        }
        if let Some(tracking) = &mut self.tracking {
            match place {
                Some((place, sent)) => tracking.note(self.exchange.pushed(), place, sent),
                None if news => tracking.news(),
                None => {}
            }
        }
        self.note_what_is_read();
    }

    /// Whether a client with a session id is to be asked how far it has come, which takes a request that waits.
    fn is_place_due(&self) -> bool {
        let due = |tracking: &Tracking| tracking.due() <= Instant::now();
        self.exchange.is_waiting() && self.tracking.as_deref().is_some_and(due)
    }

    /// Where the client is once it has read these, to which everything is added that belongs to it; and what had been sent.
    fn place(&mut self, frames: &mut VecDeque<Frame>) -> Option<(Place, u32)> {
        self.tracking.as_ref()?;
        let sent = self.driver.session.sent();
        let place = self.driver.session.place();
        match self.driver.outbox.drain().now_or_never() {
            Some(Drained::Frames(more)) => frames.extend(more),
            // What was lost is none of it; the session ends by that.
            Some(Drained::Overflowed) => return None,
            None => {}
        }
        Some((place, sent))
    }

    fn note_turns(&mut self) {
        let Some(tracking) = &mut self.tracking else {
            return;
        };
        let turns = self.driver.session.take_turns();
        if turns.is_empty() {
            return;
        }
        if tracking.follow(turns) {
            self.driver.write_place();
        }
        if self.driver.session.outgrows_place(tracking.turns()) {
            self.driver.session.give_up_place();
            if let Some(tracking) = self.tracking.take() {
                tracking.give_up();
            }
        }
    }

    fn note_what_is_read(&mut self) {
        if let Some(tracking) = &mut self.tracking {
            let known = tracking.read(self.exchange.read());
            let metrics = &self.driver.server.metrics;
            metrics.places_acknowledged.inc_by(u64::from(known.is_some()));
            if known.is_some_and(|shared| shared) {
                self.driver.session.shared();
            }
        }
    }

    fn answer(&mut self, request: oneshot::Sender<Reply>, reply: Reply) {
        // If it is not there any more, the exchange keeps what it would have been told.
        let _ = request.send(reply);
        self.until = Instant::now() + self.patience;
    }

    /// Takes in some of what was posted.
    fn take(&mut self) -> Result<(), Ending> {
        let (limit, version) = (
            self.driver.server.settings.message_bytes,
            self.driver.session.version(),
        );
        for _ in 0..TURN {
            let Some(message) = self.taking.as_mut().and_then(|post| post.messages.next()) else {
                if let Some(Post { taken, turn, .. }) = self.taking.take() {
                    drop(turn);
                    // Who posted may have gone meanwhile.
                    let _ = taken.send(());
                }
                return Ok(());
            };
            if message.len() > limit {
                return Err(Ending::Close(Close::TooLarge));
            }
            let mut frame = Vec::new();
            self.driver
                .message(decode(version, &message, &mut frame), message.len())?;
            if self.driver.session.paused_until().is_some() {
                break;
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Ending> {
        if self.until <= Instant::now() {
            let Some((request, reply)) = self.exchange.expire() else {
                return Err(Ending::Abandoned);
            };
            self.answer(request, reply);
        }
        if self.is_place_due() {
            self.push(VecDeque::new(), true);
        }
        Ok(self.driver.tick()?)
    }

    fn wake_at(&self, close_at: Option<Instant>) -> Instant {
        let mut due = self.driver.wake_at().min(self.until);
        if let Some(tracking) = &self.tracking
            && self.exchange.is_waiting()
        {
            due = due.min(tracking.due());
        }
        close_at.map_or(due, |at| at.min(due))
    }

    /// Lets the client fetch what is left, which tells it more than that the session is gone.
    async fn say_goodbye(&mut self, close: Close) {
        if let Some(Drained::Frames(frames)) = self.driver.outbox.drain().now_or_never() {
            self.push(frames, true);
        }
        if let Close::SlowConsumer = close {
            return;
        }
        let fetching = async {
            while !self.exchange.is_read() {
                let Some(poll) = self.entry.polls.recv().await else {
                    return;
                };
                self.poll(poll);
            }
        };
        // Whether it fetched it or not, it is over.
        let _ = timeout(FAREWELL, fetching).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.server.metrics.longpoll_sessions.dec();
    }
}

/// Waits until the client of the request that waits has gone.
async fn vanished(exchange: &mut Exchange<oneshot::Sender<Reply>>) {
    match exchange.waiting() {
        Some(request) => request.closed().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_idle_sessions_task_is_small() {
        let size = std::mem::size_of::<super::Connection>();
        assert!(size < 1_024, "{size} bytes");
    }
}
