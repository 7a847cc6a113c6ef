//! The one task of each socket: what comes in goes to the session, what is in the outbox goes out (`write`), and pings tell
//! how far the client has come (`place`).
//!
//! Not in here: what a message means, and where the places of those are kept who are away.

mod place;
mod write;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::{Error, Message};

use self::place::Tracking;
use super::Server;
use super::driver::{Driver, New, Outcome, now};
use super::socket::Socket;
use crate::hub::Drained;
use crate::protocol::errors::Close;
use crate::protocol::{decode_binary, decode_text};

/// How long the client has to answer a close frame before the socket is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// One connection: its session and its socket.
pub(super) struct Connection {
    driver: Driver,
    socket: Socket,
    /// Of a client with a session id. Boxed: few have one.
    tracking: Option<Box<Tracking>>,
}

/// What the task woke up for.
enum Event {
    Message(Option<Result<Message, Error>>),
    Drained(Drained),
    Outcome(Option<Outcome>),
    Stream,
    Timer,
    Stopping,
}

/// Why the connection ends.
#[derive(Clone, Copy)]
enum Ending {
    /// The server says so, with a close frame.
    Close(Close),
    /// The client closed it or is gone.
    Client,
    /// The socket failed, or what came is no WebSocket.
    Error,
    /// The socket took nothing for too long.
    WriteTimeout,
}

impl From<Close> for Ending {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

impl Connection {
    pub(super) fn new(server: Arc<Server>, socket: Socket, new: New) -> Self {
        let (acknowledge, window) = (server.settings.acknowledge, server.settings.window);
        let (driver, holder) = Driver::new(server, new);
        Self {
            driver,
            socket,
            tracking: holder.map(|holder| Box::new(Tracking::new(holder, acknowledge, window))),
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(&mut self) {
        let ending = self.serve().await;
        let reason = match ending {
            Ending::Close(close) => close.label(),
            Ending::Client => "client",
            Ending::Error => "error",
            Ending::WriteTimeout => "write_timeout",
        };
        self.driver.end(reason);
        match ending {
            // Boxed: this is the state of few connections, and it would make every one larger.
            Ending::Close(close) => Box::pin(self.say_goodbye(close)).await,
            // Flushing answers the client's close frame.
            Ending::Client => drop(timeout(CLOSE_TIMEOUT, self.socket.flush()).await),
            Ending::Error | Ending::WriteTimeout => {}
        }
        self.socket.hang_up();
        self.driver.outbox.close();
    }

    /// The one place where this connection waits: the socket, the outbox, outcomes, the stream's state, the next due
    /// time, and the server's end.
    async fn serve(&mut self) -> Ending {
        let drain = self.driver.server.drain.clone();
        let mut stopping = pin!(drain.begun());
        let mut waits = false;
        // All connections wait in one line, behind one lock: once in it, they ask again when there is an answer.
        let mut poll_stopping = |cx: &mut Context<'_>| {
            if waits && !drain.has_begun() {
                return Poll::Pending;
            }
            waits = true;
            stopping.as_mut().poll(cx)
        };
        let mut close_at = None;
        let mut wrote = false;
        let mut timer = pin!(sleep_until(self.wake_at(close_at)));
        loop {
            // Who sends too fast is not read for a while: what comes waits in the socket, and then at the client.
            let reads = self.driver.session.paused_until().is_none();
            let event = tokio::select! {
                biased;
                // Most of the time it is woken to write. Not twice in a row, though: who is written to without a pause is
                // heard as well.
                drained = self.driver.outbox.drain(), if !wrote => Event::Drained(drained),
                message = self.socket.next(), if reads => Event::Message(message),
                Some(outcome) = self.driver.under_way.next() => Event::Outcome(outcome),
                Ok(()) = self.driver.stream.changed(), if self.driver.session.follows_stream() => Event::Stream,
                () = &mut timer => Event::Timer,
                () = poll_fn(&mut poll_stopping), if close_at.is_none() => Event::Stopping,
                drained = self.driver.outbox.drain(), if wrote => Event::Drained(drained),
            };
            wrote = matches!(event, Event::Drained(_));
            let ended = match event {
                Event::Drained(Drained::Frames(frames)) => {
                    match (self.write(frames).await, &mut self.tracking) {
                        // Nothing comes due by it.
                        (Ok(()), None) => continue,
                        (Ok(()), Some(tracking)) => {
                            tracking.wrote();
                            Ok(())
                        }
                        (ended, _) => ended,
                    }
                }
                // Served as ever until its turn comes.
                Event::Stopping => {
                    close_at = Some(self.driver.stop());
                    Ok(())
                }
                Event::Timer if close_at.is_some_and(|at| at <= Instant::now()) => {
                    self.driver.session.restarting();
                    Err(Ending::Close(Close::Restart))
                }
                event => self.handle(event),
            };
            if let Err(ending) = ended {
                return ending;
            }
            if self.tracking.is_some()
                && let Err(ending) = Box::pin(self.ask()).await
            {
                return ending;
            }
            // A timer that is early costs one look; moving it at every message would cost more.
            let wake = self.wake_at(close_at);
            if timer.is_elapsed() || wake < timer.deadline() {
                timer.as_mut().reset(wake);
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Ending> {
        match event {
            Event::Message(None | Some(Ok(Message::Close(_)))) => return Err(Ending::Client),
            Event::Message(Some(Err(error))) => return Err(ending_of(&error)),
            Event::Message(Some(Ok(message))) => self.message(&message)?,
            Event::Drained(_) => {
                self.driver.server.metrics.outbox_overflows.inc();
                return Err(Ending::Close(Close::SlowConsumer));
            }
            Event::Outcome(outcome) => self.driver.concluded(outcome)?,
            Event::Stream => self.driver.stream_changed(),
            Event::Timer => self.driver.tick()?,
            Event::Stopping => {}
        }
        Ok(())
    }

    /// Decodes and hands over what the client sent.
    fn message(&mut self, message: &Message) -> Result<(), Ending> {
        let limit = self.driver.server.settings.message_bytes;
        let version = self.driver.session.version();
        let decoded = match message {
            Message::Text(text) if text.len() > limit => return Err(Ending::Close(Close::TooLarge)),
            Message::Binary(bytes) if bytes.len() > limit => return Err(Ending::Close(Close::TooLarge)),
            Message::Text(text) => decode_text(version, text),
            Message::Binary(bytes) => decode_binary(version, bytes),
            Message::Pong(payload) => {
                if let Some(tracking) = &mut self.tracking {
                    let arrived = tracking.answered(payload);
                    let metrics = &self.driver.server.metrics;
                    metrics.places_acknowledged.inc_by(u64::from(arrived.is_some()));
                    if arrived.is_some_and(|shared| shared) {
                        self.driver.session.shared();
                    }
                }
                self.driver.session.received(0, now());
                return Ok(());
            }
            Message::Ping(_) | Message::Close(_) | Message::Frame(_) => {
                self.driver.session.received(0, now());
                return Ok(());
            }
        };
        Ok(self.driver.message(decoded, length(message))?)
    }

    fn wake_at(&self, close_at: Option<Instant>) -> Instant {
        let due = self.driver.wake_at();
        let due = self
            .tracking
            .as_ref()
            .map_or(due, |tracking| tracking.due().min(due));
        close_at.map_or(due, |at| at.min(due))
    }
}

fn length(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) | Message::Frame(_) => 0,
    }
}

/// Tells what the client did wrong from a broken socket.
fn ending_of(error: &Error) -> Ending {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Ending::Close(Close::TooLarge),
        Error::Utf8(_) => Ending::Close(Close::NotUtf8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ending::Error,
        Error::Protocol(_) => Ending::Close(Close::NotAFrame),
        _ => Ending::Error,
    }
}
