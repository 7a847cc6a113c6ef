//! The one task of each socket.

mod place;
mod write;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::debug;
use uuid::Uuid;

use self::place::Tracking;
use super::socket::Socket;
use super::{Pending, Server};
use crate::auth::{Claims, TokenError};
use crate::change::StreamState;
use crate::feed::{AuthorityError, SubscribeError, SubscriberId};
use crate::hub::{Drained, Outbox};
use crate::messages::{MessagesError, Stored};
use crate::policy::Rights;
use crate::protocol::errors::Close;
use crate::protocol::{Malformed, Version, decode_binary, decode_text};
use crate::session::{Effect, Holder, Now, Returning, Session, Ticket};

/// How long the client has to answer a close frame before the socket is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// One connection: its session, its socket, and what the session has asked for and waits for.
pub(super) struct Connection {
    server: Arc<Server>,
    socket: Socket,
    session: Session,
    outbox: Outbox,
    under_way: FuturesUnordered<Pending<Option<Outcome>>>,
    /// Ends what is under way for a subscription, or for the rights of a channel, that is no longer wanted.
    aborts: HashMap<SubscriberId, AbortHandle>,
    stream: watch::Receiver<StreamState>,
    /// Of a client with a session id. Boxed: few have one.
    tracking: Option<Box<Tracking>>,
}

/// An effect has come to its end.
enum Outcome {
    Verified(Ticket, Result<Arc<Claims>, TokenError>),
    Subscribed(SubscriberId, Result<(), SubscribeError>),
    ClaimsReplaced(SubscriberId, Result<(), SubscribeError>),
    Judged(Ticket, Result<Rights, AuthorityError>),
    RightsChanged(SubscriberId, Rights),
    Replayed(SubscriberId, Result<Vec<Stored>, MessagesError>),
    Persisted(SubscriberId, Result<Uuid, MessagesError>),
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

impl Connection {
    pub(super) fn new(
        server: Arc<Server>,
        socket: Socket,
        version: Version,
        token: Arc<str>,
        headers: Arc<str>,
    ) -> Self {
        let outbox = Outbox::new(server.settings.outbox);
        let context = Arc::clone(&server.context);
        let mut stream = server.rows.stream();
        let mut session = Session::new(context, version, outbox.clone(), token, headers, now().instant);
        session.stream(&stream.borrow_and_update());
        Self {
            server,
            socket,
            session,
            outbox,
            under_way: FuturesUnordered::new(),
            aborts: HashMap::new(),
            stream,
            tracking: None,
        }
    }

    /// Its client has a session id, and may come back.
    pub(super) fn track(&mut self, holder: Holder, returning: Returning) {
        let settings = &self.server.settings;
        self.session.returns(returning);
        let tracking = Tracking::new(holder, settings.acknowledge, settings.window);
        self.tracking = Some(Box::new(tracking));
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
        debug!(reason, "connection closed");
        self.server
            .metrics
            .connections_closed
            .get_or_create(&[("reason", reason)])
            .inc();
        let leftovers = self.session.end();
        // Nothing in it closes a connection that is over.
        let _ = self.perform(leftovers);
        match ending {
            // Boxed: this is the state of few connections, and it would make every one larger.
            Ending::Close(close) => Box::pin(self.say_goodbye(close)).await,
            // Flushing answers the client's close frame.
            Ending::Client => drop(timeout(CLOSE_TIMEOUT, self.socket.flush()).await),
            Ending::Error | Ending::WriteTimeout => {}
        }
        self.socket.hang_up();
        self.outbox.close();
    }

    /// The one place where this connection waits: the socket, the outbox, outcomes, the stream's state, the next due
    /// time, and the server's end.
    async fn serve(&mut self) -> Ending {
        let drain = self.server.drain.clone();
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
            let reads = self.session.paused_until().is_none();
            let event = tokio::select! {
                biased;
                // Most of the time it is woken to write. Not twice in a row, though: who is written to without a pause is
                // heard as well.
                drained = self.outbox.drain(), if !wrote => Event::Drained(drained),
                message = self.socket.next(), if reads => Event::Message(message),
                Some(outcome) = self.under_way.next() => Event::Outcome(outcome),
                Ok(()) = self.stream.changed(), if self.session.follows_stream() => Event::Stream,
                () = &mut timer => Event::Timer,
                () = poll_fn(&mut poll_stopping), if close_at.is_none() => Event::Stopping,
                drained = self.outbox.drain(), if wrote => Event::Drained(drained),
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
                    close_at = Some(self.server.drain.turn());
                    Ok(())
                }
                Event::Timer if close_at.is_some_and(|at| at <= Instant::now()) => {
                    self.session.restarting();
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
        let effects = match event {
            Event::Message(None | Some(Ok(Message::Close(_)))) => return Err(Ending::Client),
            Event::Message(Some(Err(error))) => return Err(ending_of(&error)),
            Event::Message(Some(Ok(message))) => self.message(&message)?,
            Event::Drained(_) => {
                self.server.metrics.outbox_overflows.inc();
                return Err(Ending::Close(Close::SlowConsumer));
            }
            Event::Outcome(Some(Outcome::Verified(ticket, result))) => {
                self.session.verified(ticket, result, now())
            }
            Event::Outcome(Some(Outcome::Subscribed(id, result))) => {
                self.aborts.remove(&id);
                self.session.subscribed(id, result, now())
            }
            Event::Outcome(Some(Outcome::ClaimsReplaced(id, result))) => {
                self.aborts.remove(&id);
                self.session.claims_replaced(id, result, now())
            }
            Event::Outcome(Some(Outcome::Judged(ticket, result))) => {
                self.session.judged(ticket, result, now())
            }
            Event::Outcome(Some(Outcome::RightsChanged(id, rights))) => {
                self.aborts.remove(&id);
                self.session.rights_changed(id, rights, now())
            }
            Event::Outcome(Some(Outcome::Replayed(id, result))) => self.session.replayed(id, result, now()),
            Event::Outcome(Some(Outcome::Persisted(id, result))) => self.session.persisted(id, result, now()),
            Event::Outcome(None) | Event::Stopping => Vec::new(),
            Event::Stream => {
                let state = self.stream.borrow_and_update();
                self.session.stream(&state);
                Vec::new()
            }
            Event::Timer => self.session.tick(now()),
        };
        self.perform(effects)
    }

    /// Decodes and hands over what the client sent. What cannot be decoded is dropped and counted.
    fn message(&mut self, message: &Message) -> Result<Vec<Effect>, Ending> {
        let limit = self.server.settings.message_bytes;
        let decoded = match message {
            Message::Text(text) if text.len() > limit => return Err(Ending::Close(Close::TooLarge)),
            Message::Binary(bytes) if bytes.len() > limit => return Err(Ending::Close(Close::TooLarge)),
            Message::Text(text) => decode_text(self.session.version(), text),
            Message::Binary(bytes) => decode_binary(self.session.version(), bytes),
            Message::Pong(payload) => {
                if let Some(tracking) = &mut self.tracking {
                    let arrived = tracking.answered(payload);
                    self.server.metrics.places_acknowledged.inc_by(u64::from(arrived));
                }
                self.session.received(0, now());
                return Ok(Vec::new());
            }
            Message::Ping(_) | Message::Close(_) | Message::Frame(_) => {
                self.session.received(0, now());
                return Ok(Vec::new());
            }
        };
        self.session.received(length(message), now());
        match decoded {
            Ok(message) => Ok(self.session.message(&message, now())),
            Err(malformed) => {
                self.drop_malformed(malformed);
                Ok(Vec::new())
            }
        }
    }

    fn drop_malformed(&mut self, malformed: Malformed) {
        self.server.metrics.frames_malformed.inc();
        debug!(%malformed, "frame dropped");
    }

    fn perform(&mut self, effects: Vec<Effect>) -> Result<(), Ending> {
        for effect in effects {
            match effect {
                Effect::Verify { ticket, token } => {
                    let verdict = self.server.tokens.verify(token);
                    let outcome = async move { Some(Outcome::Verified(ticket, verdict.await)) };
                    self.under_way.push(Box::pin(outcome));
                }
                Effect::Subscribe(request) => {
                    let id = request.subscriber.id;
                    let live = self.server.rows.subscribe(*request);
                    self.follow(id, live, Outcome::Subscribed);
                }
                Effect::ReplaceClaims { id, claims, on_live } => {
                    let live = self.server.rows.replace_claims(id, claims, on_live);
                    self.follow(id, live, Outcome::ClaimsReplaced);
                }
                Effect::Unsubscribe(id) => {
                    if let Some(abort) = self.aborts.remove(&id) {
                        abort.abort();
                    }
                    self.server.rows.unsubscribe(id);
                }
                Effect::Judge {
                    ticket,
                    seeker,
                    wanted,
                } => {
                    let rights = self.server.channels.rights(seeker, wanted);
                    let outcome = async move { Some(Outcome::Judged(ticket, rights.await)) };
                    self.under_way.push(Box::pin(outcome));
                }
                Effect::FollowRights(id) => {
                    let changed = self.server.channels.rights_changed(id);
                    self.follow(id, changed, Outcome::RightsChanged);
                }
                Effect::ForgetRights(id) => {
                    if let Some(abort) = self.aborts.remove(&id) {
                        abort.abort();
                    }
                    self.server.channels.forget_rights(id);
                }
                Effect::Replay {
                    id,
                    topic,
                    since_ms,
                    limit,
                } => {
                    let stored = self.server.channels.replay(topic, since_ms, limit);
                    let outcome = async move { Some(Outcome::Replayed(id, stored.await)) };
                    self.under_way.push(Box::pin(outcome));
                }
                Effect::Persist { id, message } => {
                    let row = self.server.channels.persist(message);
                    let outcome = async move { Some(Outcome::Persisted(id, row.await)) };
                    self.under_way.push(Box::pin(outcome));
                }
                Effect::Close(close) => return Err(Ending::Close(close)),
            }
        }
        Ok(())
    }

    fn follow<T: Send + 'static>(
        &mut self,
        id: SubscriberId,
        pending: Pending<T>,
        outcome: fn(SubscriberId, T) -> Outcome,
    ) {
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.insert(id, abort);
        let pending = Abortable::new(pending, registration);
        self.under_way
            .push(Box::pin(async move { Some(outcome(id, pending.await.ok()?)) }));
    }

    fn wake_at(&self, close_at: Option<Instant>) -> Instant {
        let due = Instant::from_std(self.session.next_wake(now()));
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

fn now() -> Now {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        instant: Instant::now().into_std(),
        unix_seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
    }
}
