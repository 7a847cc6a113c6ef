//! A session with what it has asked for and waits for: what its connection's task drives, whatever it is a connection by.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;
use uuid::Uuid;

use super::{Pending, Server};
use crate::auth::{Claims, TokenError};
use crate::change::StreamStatus;
use crate::feed::{AuthorityError, SnapshotStep, SubscribeError, SubscribeRequest, Subscribed, SubscriberId};
use crate::hub::Outbox;
use crate::messages::{MessagesError, Stored};
use crate::policy::Rights;
use crate::protocol::errors::Close;
use crate::protocol::{ClientMessage, Malformed, Version};
use crate::session::{Effect, Holder, Now, Session, Ticket};

/// What a connection begins with.
pub(super) struct New {
    pub(super) version: Version,
    pub(super) token: Arc<str>,
    /// The `x-…` headers as a JSON object.
    pub(super) headers: Arc<str>,
    /// By which the client is known again.
    pub(super) session: Option<Box<str>>,
}

/// One session, and the effects of it that are under way. The connection's task waits for `under_way`, `stream` and
/// [`Driver::wake_at`], and hands over what comes of them. An error means that the connection is to be closed.
pub(super) struct Driver {
    pub(super) server: Arc<Server>,
    pub(super) session: Session,
    pub(super) outbox: Outbox,
    pub(super) under_way: FuturesUnordered<Pending<Option<Outcome>>>,
    /// Ends what is under way for a subscription, or for the rights of a channel, that is no longer wanted.
    aborts: HashMap<SubscriberId, AbortHandle>,
    pub(super) stream: watch::Receiver<StreamStatus>,
    /// Of a client that can come back.
    holder: Option<Arc<Holder>>,
}

/// An effect has come to its end.
pub(super) enum Outcome {
    Verified(Ticket, Result<Arc<Claims>, TokenError>),
    Subscribed(SubscriberId, Result<Subscribed, SubscribeError>),
    ClaimsReplaced(SubscriberId, Result<(), SubscribeError>),
    Judged(Ticket, Result<Rights, AuthorityError>),
    RightsChanged(SubscriberId, Rights),
    Replayed(SubscriberId, Result<Vec<Stored>, MessagesError>),
    Persisted(SubscriberId, Result<Uuid, MessagesError>),
}

impl Driver {
    /// The second is there for a client that can come back.
    pub(super) fn new(server: Arc<Server>, new: New) -> (Self, Option<Arc<Holder>>) {
        let outbox = match new.version {
            Version::Events => server.outboxes.open_followed(),
            Version::V1 | Version::V2 | Version::V2Text => server.outboxes.open(),
        };
        let context = Arc::clone(&server.context);
        let mut stream = server.rows.stream();
        let New {
            version,
            token,
            headers,
            session: id,
        } = new;
        let now = now().instant;
        let mut session = Session::new(context, version, outbox.clone(), token, headers, now);
        let known = id.and_then(|id| server.places.connect(&id, now));
        let holder = known.map(|(holder, returning)| {
            session.returns(returning);
            Arc::new(holder)
        });
        session.stream(&stream.borrow_and_update());
        let driver = Self {
            server,
            session,
            outbox,
            under_way: FuturesUnordered::new(),
            aborts: HashMap::new(),
            stream,
            holder: holder.clone(),
        };
        (driver, holder)
    }

    /// Hands over a message of so many bytes. What could not be decoded is dropped and counted.
    pub(super) fn message(
        &mut self,
        decoded: Result<ClientMessage<'_>, Malformed>,
        bytes: usize,
    ) -> Result<(), Close> {
        self.session.received(bytes, now());
        match decoded {
            Ok(message) => {
                let effects = self.session.message(&message, now());
                self.perform(effects)
            }
            Err(malformed) => {
                self.server.metrics.frames_malformed.inc();
                debug!(%malformed, "frame dropped");
                Ok(())
            }
        }
    }

    /// An effect has come to its end; `None` if it was given up.
    pub(super) fn concluded(&mut self, outcome: Option<Outcome>) -> Result<(), Close> {
        let now = now();
        let effects = match outcome {
            None => return Ok(()),
            Some(Outcome::Verified(ticket, result)) => self.session.verified(ticket, result, now),
            Some(Outcome::Subscribed(id, result)) => {
                self.aborts.remove(&id);
                self.session.subscribed(id, result, now)
            }
            Some(Outcome::ClaimsReplaced(id, result)) => {
                self.aborts.remove(&id);
                self.session.claims_replaced(id, result, now)
            }
            Some(Outcome::Judged(ticket, result)) => self.session.judged(ticket, result, now),
            Some(Outcome::RightsChanged(id, rights)) => {
                self.aborts.remove(&id);
                self.session.rights_changed(id, rights, now)
            }
            Some(Outcome::Replayed(id, result)) => self.session.replayed(id, result, now),
            Some(Outcome::Persisted(id, result)) => self.session.persisted(id, result, now),
        };
        self.perform(effects)
    }

    /// The state of the stream has changed.
    pub(super) fn stream_changed(&mut self) {
        let status = self.stream.borrow_and_update();
        self.session.stream(&status);
    }

    /// Does what has come due.
    pub(super) fn tick(&mut self) -> Result<(), Close> {
        let effects = self.session.tick(now());
        self.perform(effects)
    }

    /// When [`Driver::tick`] next has something to do.
    pub(super) fn wake_at(&self) -> Instant {
        Instant::from_std(self.session.next_wake(now()))
    }

    /// The server stops: tells the client, and chooses the moment to close.
    pub(super) fn stop(&mut self) -> Instant {
        self.server.drain.turn()
    }

    /// The connection is over, for this reason: gives back what others hold for it. What waits in the outbox stays there.
    pub(super) fn end(&mut self, reason: &'static str) {
        debug!(reason, "connection closed");
        self.server
            .metrics
            .connections_closed
            .get_or_create(&[("reason", reason)])
            .inc();
        let leftovers = self.session.end();
        // Nothing in it closes a connection that is over.
        let _ = self.perform(leftovers);
    }

    fn perform(&mut self, effects: Vec<Effect>) -> Result<(), Close> {
        for effect in effects {
            match effect {
                Effect::Verify { ticket, token } => {
                    let verdict = self.server.tokens.verify(token);
                    let outcome = async move { Some(Outcome::Verified(ticket, verdict.await)) };
                    self.under_way.push(Box::pin(outcome));
                }
                Effect::Subscribe(request) => {
                    let id = request.subscriber.id;
                    let taking_back = self.taking_back(&request);
                    let live = self.server.rows.subscribe(*request);
                    let live = match taking_back {
                        None => live,
                        Some(taking_back) => Box::pin(async move {
                            taking_back.await;
                            live.await
                        }),
                    };
                    self.follow(id, live, Outcome::Subscribed);
                }
                Effect::ReplaceClaims { id, claims, on_live } => {
                    let live = self.server.rows.replace_claims(id, claims, on_live);
                    self.follow(id, live, Outcome::ClaimsReplaced);
                }
                Effect::NewerClaims { id, newer } => {
                    let told = self.server.rows.newer_claims(id, newer);
                    self.under_way.push(Box::pin(async move {
                        told.await;
                        None
                    }));
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
                Effect::Close(close) => return Err(close),
            }
        }
        Ok(())
    }

    /// Where a client is about to drop rows of which it is written down that it has them: what has to come before. Otherwise the
    /// next server, if this one dies, takes it for one that has them all.
    fn taking_back(&self, request: &SubscribeRequest) -> Option<Pending<()>> {
        let holder = self.holder.as_ref()?;
        let comes = matches!(request.snapshot, Some(SnapshotStep::Take { .. }));
        let written = comes && holder.drop_rows(&request.subscriber.topic);
        written.then(|| self.server.keeper.write(Arc::clone(holder.id())))
    }

    /// Has it written down soon where a client is, without waiting for it.
    pub(super) fn write_place(&mut self) {
        if let Some(holder) = &self.holder {
            let written = self.server.keeper.write(Arc::clone(holder.id()));
            self.under_way.push(Box::pin(async move {
                written.await;
                None
            }));
        }
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
}

pub(super) fn now() -> Now {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        instant: Instant::now().into_std(),
        unix_seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
    }
}
