//! Who may do what on private channels: the policies on `realtime.messages`, judged by the same engine as rows, and judged
//! again as soon as something changes that they depend on.
//!
//! A task of its own beside the pump: rows that wait for the database must not keep anybody from joining. It has its own
//! store of relations, which the pump tells of every change ([`Marks`]).

mod groups;
mod lines;
mod marks;
mod members;
mod probe;
mod round;
mod said;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::auth::Claims;
use crate::change::StreamStatus;
use crate::policy::{Clock, Engine, Rights};
use crate::shutdown::Shutdown;
use crate::subscription::SubscriberId;
use crate::telemetry::Metrics;

use super::keeper::Keeper;
use lines::Lines;
pub(super) use marks::Marks;
use task::Task;

/// Why rights could not be told. `Display` is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The database does not answer.
    #[error("the database could not be asked: {0}")]
    Unavailable(String),
    /// The policies took too long.
    #[error("the policies were not evaluated within the time limit")]
    Canceled,
    /// More is asked than the database answers: all its connections are busy.
    #[error("too many questions wait for the database")]
    Busy,
}

/// Who wants to know.
#[derive(Clone, Debug)]
pub struct Seeker {
    /// Set for members: what was judged for them is judged again until [`super::Feed::forget_rights`], and they are told
    /// ([`super::Feed::rights_changed`]). Asking again with the same id adds to what is judged, and replaces the claims.
    pub id: Option<SubscriberId>,
    /// With the channel's topic and the request's headers as their scope.
    pub claims: Arc<Claims>,
}

/// Questions that may wait at once.
const WAITING: usize = 4096;

/// The longest time an answer takes: clients wait for ten seconds.
const PATIENCE: Duration = Duration::from_secs(8);

/// How old the catalog may be where it says no to everything.
const CATALOG_AGE: Duration = Duration::from_secs(1);

/// What the task is asked.
#[derive(Debug)]
enum Order {
    Ask(Ask),
    Forget(SubscriberId),
}

#[derive(Debug)]
struct Ask {
    seeker: Seeker,
    turn: Turn,
    wanted: Rights,
    answer: oneshot::Sender<Result<Answer, AuthorityError>>,
    /// Given back with the question.
    _room: OwnedSemaphorePermit,
}

/// Orders questions by when they were first asked: one that is asked once more takes nobody's place who has asked since.
type Turn = u64;

/// Which of the rights that were asked for somebody has, by which reading of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    rights: Rights,
    generation: u64,
    /// It is about a member, who may be told more by now.
    member: bool,
}

/// What an authority is made of.
pub(super) struct Parts {
    pub(super) keeper: Arc<Keeper>,
    pub(super) engine: Engine,
    /// That of the pump's store.
    pub(super) clock: Clock,
    /// Those that the pump writes.
    pub(super) marks: Marks,
    pub(super) stream: watch::Receiver<StreamStatus>,
    /// See [`super::Settings::channel_recheck`].
    pub(super) recheck: Duration,
    pub(super) metrics: Arc<Metrics>,
}

/// The handle on the task. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Authority {
    orders: mpsc::UnboundedSender<Order>,
    room: Arc<Semaphore>,
    lines: Lines,
    keeper: Arc<Keeper>,
    stream: watch::Receiver<StreamStatus>,
    turns: Arc<AtomicU64>,
}

impl Authority {
    pub(super) fn start(parts: Parts, shutdown: &Shutdown) -> Self {
        let (orders, incoming) = mpsc::unbounded_channel();
        let lines = Lines::default();
        let keeper = Arc::clone(&parts.keeper);
        let stream = parts.stream.clone();
        let task = Task::new(parts, lines.clone());
        let stopping = shutdown.clone();
        shutdown.spawn("authority", async move {
            tokio::select! {
                () = task.run(incoming) => {}
                () = stopping.cancelled() => {}
            }
        });
        Self {
            orders,
            room: Arc::new(Semaphore::new(WAITING)),
            lines,
            keeper,
            stream,
            turns: Arc::default(),
        }
    }

    async fn rights(&self, seeker: Seeker, wanted: Rights) -> Result<Rights, AuthorityError> {
        // A topic that Postgres cannot hold is none that a policy could be about.
        let scope = seeker.claims.scope.as_ref();
        if scope.is_some_and(|scope| scope.topic.contains('\0')) {
            return Ok(Rights::NONE);
        }
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let deadline = began + PATIENCE;
        let role = self.keeper.with_role(&seeker.claims.role);
        match tokio::time::timeout_at(deadline.into(), role).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(AuthorityError::Unavailable(error.to_string())),
            Err(_) => return Err(AuthorityError::Unavailable("no answer".to_owned())),
        }
        let Answer {
            rights, generation, ..
        } = self.ask((seeker.clone(), turn), wanted, deadline).await?;
        // A policy may have been made a moment ago: look again before saying no. Where that does not work, no is no.
        if rights.is_empty() && !wanted.is_empty() {
            let since = began.checked_sub(CATALOG_AGE).unwrap_or(began);
            let read = tokio::time::timeout_at(deadline.into(), self.keeper.refresh_since(since)).await;
            if read == Ok(true) && self.keeper.snapshot().generation != generation {
                let again = self.ask((seeker, turn), wanted, deadline).await;
                return Ok(again.map_or(rights, |again| again.rights));
            }
        }
        Ok(rights)
    }

    async fn ask(
        &self,
        (seeker, turn): (Seeker, Turn),
        wanted: Rights,
        deadline: Instant,
    ) -> Result<Answer, AuthorityError> {
        let id = seeker.id;
        let room = Arc::clone(&self.room).try_acquire_owned();
        let (answer, mut answered) = oneshot::channel();
        let ask = Ask {
            seeker,
            turn,
            wanted,
            answer,
            _room: room.map_err(|_| AuthorityError::Busy)?,
        };
        let stopping = || AuthorityError::Unavailable("the server is stopping".to_owned());
        self.orders.send(Order::Ask(ask)).map_err(|_| stopping())?;
        let answer = match tokio::time::timeout_at(deadline.into(), &mut answered).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(stopping())),
            Err(_) => {
                // What was answered at this very moment counts: a member is one, or knows that it is not.
                answered.close();
                answered.try_recv().unwrap_or_else(|_| Err(self.no_answer()))
            }
        }?;
        let line = id.filter(|_| answer.member).and_then(|id| self.lines.get(id));
        let rights = match line {
            Some(line) => line.answer(wanted),
            None => answer.rights,
        };
        Ok(Answer { rights, ..answer })
    }

    /// Why there was none in time: all connections are busy, or the database is away, which the stream has noticed.
    fn no_answer(&self) -> AuthorityError {
        match self.stream.borrow().flows() {
            true => AuthorityError::Busy,
            false => AuthorityError::Unavailable("no answer".to_owned()),
        }
    }
}

impl super::Feed {
    /// Which of `wanted` somebody has. A policy that raises says no. Answers within eight seconds.
    ///
    /// A member is registered whatever the answer, and may be where the future is dropped: forget whoever does not become
    /// one.
    ///
    /// # Errors
    /// See [`AuthorityError`]; nothing is registered then that was not before.
    pub async fn rights(&self, seeker: Seeker, wanted: Rights) -> Result<Rights, AuthorityError> {
        self.authority.rights(seeker, wanted).await
    }

    /// Waits until what a member was told last is no longer so; returns what it has now, of all that was judged for it.
    /// Never returns for one whose forgetting has been taken up, nor for one that is not registered at the time of the call.
    pub async fn rights_changed(&self, id: SubscriberId) -> Rights {
        match self.authority.lines.get(id) {
            Some(line) => line.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Forgets a member, for ever: its id is not used again. Never waits; unknown ids are ignored.
    pub fn forget_rights(&self, id: SubscriberId) {
        // The task is gone only when the server stops, and then there is nothing to forget.
        let _ = self.authority.orders.send(Order::Forget(id));
    }
}
