use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::exchange::Reply;
use super::messages::Messages;
use super::token::{Key, new_key};

/// The sessions there are.
#[derive(Debug, Default)]
pub(in crate::transport) struct Sessions(Mutex<HashMap<Key, Handle>>);

/// The way to a session's task. It ends with the session.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) polls: mpsc::Sender<Poll>,
    pub(super) posts: mpsc::Sender<Post>,
    /// One body at a time, from before it is read: a session holds no more than that, however many are sent.
    pub(super) posting: Arc<Semaphore>,
}

/// A request for messages.
#[derive(Debug)]
pub(super) struct Poll {
    /// The number of its token.
    pub(super) seen: u64,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// Messages from the client.
#[derive(Debug)]
pub(super) struct Post {
    /// The number of its token.
    pub(super) seen: u64,
    pub(super) messages: Messages,
    /// The turn of its body.
    pub(super) turn: OwnedSemaphorePermit,
    /// When all have been taken in.
    pub(super) taken: oneshot::Sender<()>,
}

/// A session among the others; it is taken out when this is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    sessions: Arc<Sessions>,
    pub(super) key: Key,
    pub(super) polls: mpsc::Receiver<Poll>,
    pub(super) posts: mpsc::Receiver<Post>,
}

impl Sessions {
    /// A new one, with a name of its own.
    pub(super) fn enter(self: &Arc<Self>) -> Entry {
        let (polls, polled) = mpsc::channel(1);
        let (posts, posted) = mpsc::channel(1);
        let handle = Handle {
            polls,
            posts,
            posting: Arc::new(Semaphore::new(1)),
        };
        let key = new_key();
        self.lock().insert(key, handle);
        Entry {
            sessions: Arc::clone(self),
            key,
            polls: polled,
            posts: posted,
        }
    }

    /// The session of this name.
    pub(super) fn find(&self, key: Key) -> Option<Handle> {
        self.lock().get(&key).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Handle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.key);
    }
}
