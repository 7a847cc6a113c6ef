//! The pump: change → subscription → policy → hub, in commit order; the one place an LSN is confirmed.
//!
//! Sessions see [`Feed`]: subscribe, unsubscribe, replace claims. Everything else is the pump's own.

mod assess;
mod authority;
mod convert;
mod courtesy;
mod deliver;
mod fence;
mod keeper;
mod payload;
mod place;
mod prefetch;
mod pump;
mod roster;
mod shadow;
mod shaper;
mod snapshot;
#[cfg(test)]
mod tests;
mod truncate;
mod unpublished;
mod watched;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::postgres::Pool;
use crate::postgres::catalog::FilePolicy;
use tokio::sync::{mpsc, oneshot, watch};

use crate::auth::Claims;
use crate::change::{Cursor, Event, HandedOver, Since, StreamState, TableName};
use crate::history;
use crate::hub::{Frame, HeldFrame, Lane};
use crate::messages::Writers;
use crate::policy::Engine;
use crate::policy::listing::{self, Listing};
use crate::protocol::errors::Notice;
use crate::protocol::{self, Binding, SystemMessage, Version};
use crate::replication::Signals;
use crate::room::Rooms;
use crate::shutdown::Shutdown;
use crate::subscription;
use crate::telemetry::Metrics;
use crate::topic;

pub use crate::subscription::SubscriberId;
pub use authority::{AuthorityError, Seeker};
pub use keeper::CatalogError;
pub use snapshot::{Rows, RowsError, Sending, Settings as SnapshotSettings, Step as SnapshotStep};

use authority::{Authority, Marks};
use fence::Fence;
use keeper::{Keeper, Snapshot};
use place::Place;
use prefetch::Prefetch;
use pump::{Add, Comes, Command, Pump};
use roster::Bound;
use shadow::Sampling;
use shaper::Pacer;
use snapshot::Snapshots;

/// A channel that wants row changes.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// Its id, which no other subscriber of this feed has or had.
    pub id: SubscriberId,
    /// Full topic, `realtime:…`.
    pub topic: Arc<str>,
    /// Serialiser of its connection.
    pub version: Version,
    /// How changes are wrapped.
    pub style: Style,
    /// Its events carry their cursor.
    pub cursors: bool,
    /// Where frames go.
    pub outbox: Lane,
}

/// How a change is wrapped for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// Event `postgres_changes`, payload `{ids, data}`.
    Modern,
    /// Event `INSERT`/`UPDATE`/`DELETE`, the change itself as payload (joins without `config`).
    Legacy,
}

/// What [`Feed::subscribe`] takes.
#[derive(Debug)]
pub struct SubscribeRequest {
    /// Who.
    pub subscriber: Subscriber,
    /// With what rights.
    pub claims: Arc<Claims>,
    /// To what. All or none: one bad binding refuses the request. Shared with the session, which keeps them to ask
    /// again.
    pub bindings: Arc<[Binding]>,
    /// From where it goes on: what was committed behind it comes before anything new, as the claims allow now. If that is not
    /// to be had, it is told that rows may be missing, and why. `None` for whoever wants only what is new.
    pub since: Option<Since>,
    /// Which rows come first, if any do: where a binding asks for a snapshot, and nothing else says from where to go on.
    pub snapshot: Option<SnapshotStep>,
    /// The reply to the join, if it waits for this subscription: sent before `on_live`. The session may have sent or
    /// discarded it by then; that is the session's business.
    pub reply: Option<HeldFrame>,
    /// Pushed into the outbox, in order, at the moment the subscription is live: every change behind them was
    /// committed after, none in front of them is sent.
    pub on_live: Vec<Frame>,
}

/// What has become of a request to subscribe.
#[derive(Debug)]
pub enum Subscribed {
    /// It is live.
    Live,
    /// The rows that were there before are being sent, and the reply to the join is out if the request had it: ask again, with
    /// this as its [`SnapshotStep`].
    Sending(Sending),
}

/// Why a subscription was refused. `Display` is the text for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The parameters are wrong or not allowed; trying again will not help.
    #[error("{0}")]
    Refused(String),
    /// The database or the stream cannot serve this now; trying again may help.
    #[error("{0}")]
    Unavailable(String),
    /// What was committed since has left the replay window.
    #[error("{0}")]
    Behind(String),
}

/// What the pump needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The publication whose tables are followed.
    pub publication: String,
    /// How often the catalog is read again when nothing said that it changed.
    pub catalog_refresh: Duration,
    /// A change whose replication message is larger than this loses its large fields (`Error 413`). Bytes.
    pub max_record_bytes: usize,
    /// A row of `realtime.messages` with a longer payload is not sent. Bytes.
    pub max_broadcast_bytes: usize,
    /// Logical messages with the prefix `rowcast.broadcast` are broadcasts.
    pub logical_broadcasts: bool,
    /// How many values an `in` list may have.
    pub max_in_values: usize,
    /// What becomes of a DELETE under row-level security whose old row does not carry what the policies read.
    pub unjudged_deletes: UnjudgedDeletes,
    /// Tables with neither row-level security nor a policy file are shown only to roles above row-level security.
    pub policies_required: bool,
    /// Policies are decided in memory where that is possible.
    pub in_memory: bool,
    /// How much may be read for snapshots.
    pub snapshot: SnapshotSettings,
    /// How often the rights on private channels are judged again where nothing says that they changed; zero for never.
    pub channel_recheck: Duration,
    /// How much of the past can be gone on from.
    pub window: history::Bounds,
}

/// See [`Settings::unjudged_deletes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnjudgedDeletes {
    /// The primary key goes to the table's subscribers, as clients of this protocol expect.
    Key,
    /// Nobody is told.
    Deny,
}

/// What the feed speaks into beside the outboxes of its subscribers.
#[derive(Debug)]
pub struct Outlets {
    /// Where broadcasts from the database are said.
    pub rooms: Rooms,
    /// Connections for snapshots, as many as are read at once.
    pub snapshots: Pool,
    /// Shows the state of the stream.
    pub stream: watch::Sender<StreamState>,
    /// Bytes of WAL that the replay window may hold back.
    pub wal_budget: watch::Receiver<u64>,
}

/// The ends that the replication stream holds.
#[derive(Debug)]
pub struct StreamEnds {
    /// Where the stream puts its events.
    pub events: mpsc::Sender<Vec<Event>>,
    /// The tables to stream. A new value asks for [`Event::Tables`] and a restart behind the position handed over.
    pub tables: watch::Receiver<Arc<std::collections::BTreeSet<TableName>>>,
    /// How far the feed is.
    pub handed_over: watch::Receiver<HandedOver>,
    /// What the stream is asked to do.
    pub signals: Signals,
}

/// The sessions' handle on the pump. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed {
    commands: mpsc::UnboundedSender<Command>,
    keeper: Arc<Keeper>,
    fence: Fence,
    prefetch: Prefetch,
    authority: Authority,
    writers: Writers,
    place: Place,
    snapshots: Snapshots,
}

/// Batches of events that may wait for the pump; the stream bounds each batch.
const EVENT_BATCHES: usize = 16;

impl Feed {
    /// Reads the catalog, with these policy files, and starts the pump; returns the handle and what the replication
    /// stream needs.
    ///
    /// # Errors
    /// The catalog could not be read, or Postgres refuses some of the policy files.
    pub async fn start(
        settings: Settings,
        files: Vec<FilePolicy>,
        pool: Pool,
        engine: Engine,
        outlets: Outlets,
        metrics: Arc<Metrics>,
        shutdown: &Shutdown,
    ) -> Result<(Self, StreamEnds), CatalogError> {
        // What was committed before may have been said by a server before this one.
        let said = fence::flushed(&pool).await.map_err(CatalogError::Query)?;
        let keeper = Arc::new(Keeper::start(pool.clone(), &settings, files, Arc::clone(&metrics)).await?);
        let (events, incoming) = mpsc::channel(EVENT_BATCHES);
        let (commands, orders) = mpsc::unbounded_channel();
        let (tables, wanted) = watch::channel(Arc::clone(&keeper.snapshot().streamed));
        let (handed_over, confirmed) = watch::channel(HandedOver::default());
        let signals = Signals::default();
        let Outlets {
            rooms,
            snapshots,
            stream,
            wal_budget,
        } = outlets;
        let sampling = engine.shadow().map(|shadow| {
            let checking = (shadow.clone(), Arc::clone(&keeper), commands.clone());
            Sampling::start(checking, &metrics, shutdown)
        });
        let pacer = Pacer::start(Arc::clone(&metrics), shutdown);
        let marks = Marks::default();
        let recheck = settings.channel_recheck;
        let snapshot_settings = settings.snapshot.clone();
        let states = stream.subscribe();
        let judging = (engine.clone(), Arc::clone(&metrics));
        let pump = Pump::new(pump::Parts {
            settings,
            keeper: Arc::clone(&keeper),
            engine,
            rooms,
            sampling,
            pool: pool.clone(),
            metrics,
            events: incoming,
            commands: orders,
            tables,
            handed_over,
            stream,
            wal_budget,
            said,
            signals: signals.clone(),
            marks: marks.clone(),
            pacer,
        });
        let writers = pump.writers();
        let place = pump.place();
        let prefetch = Prefetch::start(pump.reader(), pump.clock(), shutdown);
        let (engine, metrics) = judging;
        let parts = snapshot::Parts {
            settings: snapshot_settings,
            pool: snapshots,
            catalog_pool: pool.clone(),
            engine: engine.clone(),
            place: place.clone(),
            metrics: Arc::clone(&metrics),
        };
        let snapshots = Snapshots::new(parts, shutdown);
        let authority = authority::Parts {
            keeper: Arc::clone(&keeper),
            engine,
            clock: pump.clock(),
            marks,
            stream: states,
            recheck,
            metrics,
        };
        let authority = Authority::start(authority, shutdown);
        let stopping = shutdown.clone();
        shutdown.spawn("feed", async move {
            // Whatever it waits for: what was not handed over comes again.
            tokio::select! {
                () = pump.run(&stopping) => {}
                () = stopping.cancelled() => {}
            }
        });
        let fence = Fence::start(pool, shutdown);
        let feed = Self {
            commands,
            keeper,
            fence,
            prefetch,
            authority,
            writers,
            place,
            snapshots,
        };
        Ok((
            feed,
            StreamEnds {
                events,
                tables: wanted,
                handed_over: confirmed,
                signals,
            },
        ))
    }

    /// The transactions whose broadcasts were said last, for replays.
    pub fn writers(&self) -> Writers {
        self.writers.clone()
    }

    /// Behind everything that is in the outboxes of those who are live; `None` until the stream has begun. Whoever reads this
    /// first and empties an outbox then has everything up to here.
    pub fn position(&self) -> Option<Cursor> {
        self.place.get()
    }

    /// Registers row subscriptions; resolves when they are live, after `on_live` has been pushed, or when the rows that are to
    /// come first are being sent. While the
    /// replication stream is down this keeps waiting: put your own limit around it (dropping the future does not
    /// undo the registration; [`Feed::unsubscribe`] does).
    ///
    /// # Errors
    /// See [`SubscribeError`]; nothing stays registered then.
    pub async fn subscribe(&self, mut request: SubscribeRequest) -> Result<Subscribed, SubscribeError> {
        let rows_first = request.wants_snapshot();
        match request.snapshot.take() {
            Some(SnapshotStep::Take { reply, again }) => {
                let reply = request.reply.take().map(|held| (held, reply));
                let again = again.then(|| "the rows that came before may be out of date".to_owned());
                self.take(&request, reply, again).await.map(Subscribed::Sending)
            }
            Some(SnapshotStep::Finish(sending)) => self.finish(request, sending).await,
            None if rows_first && request.since.is_some() => self.resume_or_take(request).await,
            None => self.go_live(&request, Comes::Back).await,
        }
    }

    async fn go_live(&self, request: &SubscribeRequest, comes: Comes) -> Result<Subscribed, SubscribeError> {
        let (snapshot, bindings) = self.check(&request.claims, &request.bindings).await?;
        let prefetched = self.prefetch.read(&bindings, &request.claims, &snapshot).await;
        let target = self.fence.target().await.map_err(SubscribeError::Unavailable)?;
        let (answer_to, answer) = oneshot::channel();
        let add = Add {
            subscriber: request.subscriber.clone(),
            claims: Arc::clone(&request.claims),
            bindings,
            snapshot,
            prefetched,
            target,
            since: request.since.clone(),
            comes,
            reply: request.reply.clone(),
            on_live: request.on_live.clone(),
            answer: answer_to,
        };
        let command = Command::Add(Box::new(add));
        self.commands.send(command).map_err(|_| stopping())?;
        let live = answer.await.unwrap_or_else(|_| Err(stopping()));
        live.map(|()| Subscribed::Live)
    }

    /// Judges a subscriber's changes by new claims from now on, without a gap; `on_live` is pushed at that moment.
    ///
    /// # Errors
    /// As for [`Feed::subscribe`]; the subscription then ends.
    pub async fn replace_claims(
        &self,
        id: SubscriberId,
        claims: Arc<Claims>,
        on_live: Vec<Frame>,
    ) -> Result<(), SubscribeError> {
        if let Err(error) = self.role(&claims).await {
            self.unsubscribe(id);
            return Err(error);
        }
        let (answer_to, answer) = oneshot::channel();
        let command = Command::Replace {
            id,
            claims,
            on_live,
            answer: answer_to,
        };
        self.commands.send(command).map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Forgets a subscriber. Never waits; unknown ids are ignored.
    pub fn unsubscribe(&self, id: SubscriberId) {
        // The pump is gone only when the server stops, and then there is nothing to forget.
        let _ = self.commands.send(Command::Remove(id));
    }

    /// Puts these policy files in the place of those before. They hold for every change that is judged after this returns.
    ///
    /// # Errors
    /// Postgres refuses some of them, or did not answer. Then those before stay in force.
    pub async fn set_policy_files(&self, files: Vec<FilePolicy>) -> Result<(), CatalogError> {
        self.keeper.set_files(files).await?;
        let (answer_to, answer) = oneshot::channel();
        // Without a pump nothing is judged.
        if self.commands.send(Command::Adopt(answer_to)).is_ok() {
            let _ = answer.await;
        }
        Ok(())
    }

    /// The policies of every published table, as they are in force.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn policies(&self) -> Result<Listing, SubscribeError> {
        let unavailable = |error: &dyn std::fmt::Display| SubscribeError::Unavailable(error.to_string());
        let client = self.keeper.client().await.map_err(|e| unavailable(&e))?;
        let snapshot = self.keeper.snapshot();
        listing::read(&client, &snapshot.catalog)
            .await
            .map_err(|e| unavailable(&e))
    }

    /// Settles every binding against the catalog and lets Postgres check the filters.
    async fn check(
        &self,
        claims: &Claims,
        bindings: &[Binding],
    ) -> Result<(Arc<Snapshot>, Vec<Bound>), SubscribeError> {
        let asked = Instant::now();
        let mut snapshot = self.role(claims).await?;
        match self.bind(&snapshot, claims, bindings).await {
            // The table may have been published a moment ago: look again before saying no.
            Err(SubscribeError::Refused(_)) if self.keeper.refresh_since(asked).await => {
                snapshot = self.role(claims).await?;
                match self.bind(&snapshot, claims, bindings).await {
                    Err(SubscribeError::Refused(why)) => {
                        Err(self.refused(why, claims, bindings, &snapshot).await)
                    }
                    other => other.map(|bindings| (snapshot, bindings)),
                }
            }
            other => other.map(|bindings| (snapshot, bindings)),
        }
    }

    /// A refusal, in better words if there are any.
    async fn refused(
        &self,
        why: String,
        claims: &Claims,
        bindings: &[Binding],
        snapshot: &Snapshot,
    ) -> SubscribeError {
        let role = &claims.role;
        if let (Some(access), Ok(client)) = (snapshot.roles.get(role), self.keeper.client().await)
            && let Some(refusal) =
                unpublished::explain(&client, bindings, &snapshot.catalog, (role, access)).await
        {
            return SubscribeError::Refused(refusal.to_string());
        }
        SubscribeError::Refused(why)
    }

    /// The current snapshot, with what this role may read in it.
    async fn role(&self, claims: &Claims) -> Result<Arc<Snapshot>, SubscribeError> {
        match self.keeper.with_role(&claims.role).await {
            Ok(Some(snapshot)) => Ok(snapshot),
            Ok(None) => Err(SubscribeError::Refused(format!(
                "role \"{}\" does not exist",
                claims.role
            ))),
            Err(error) => Err(SubscribeError::Unavailable(error.to_string())),
        }
    }

    async fn bind(
        &self,
        snapshot: &Snapshot,
        claims: &Claims,
        bindings: &[Binding],
    ) -> Result<Vec<Bound>, SubscribeError> {
        let Some(access) = snapshot.roles.get(&claims.role) else {
            return Err(stopping());
        };
        let mut bound = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let filter = self.keeper.filter(binding, snapshot, access).await?;
            subscription::resolve(binding, &filter, &snapshot.catalog, access)
                .map_err(|refusal| SubscribeError::Refused(refusal.to_string()))?;
            bound.push(Bound {
                binding: binding.clone(),
                filter,
            });
        }
        Ok(bound)
    }
}

/// What a subscriber's channel is told, with where its rows go on from if it wants to know that.
fn notice(subscriber: &Subscriber, said: &Notice, cursor: Option<Cursor>) -> Frame {
    let text = said.to_string();
    let cursor = cursor
        .filter(|_| subscriber.cursors)
        .map(|cursor| cursor.to_string());
    let message = SystemMessage {
        extension: said.extension(),
        status: said.status(),
        message: &text,
        channel: topic::sub_topic(&subscriber.topic),
        cursor: cursor.as_deref(),
    };
    Frame::Text(protocol::system_fan_out(subscriber.version, &subscriber.topic, message).into())
}

fn stopping() -> SubscribeError {
    SubscribeError::Unavailable("the server is stopping".to_owned())
}
