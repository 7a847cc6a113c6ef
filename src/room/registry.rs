use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::time::DelayQueue;

use super::members::{Closed, Room};
use super::past::{Locate, Origin, Store};
use super::seat::Seat;
use super::telling::Teller;
use super::{Entered, RoomName};
use crate::change::Lineage;
use crate::protocol::Broadcast;

/// The least time between two looks at a room's past.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// The rooms that have members, or had some who may come back.
#[derive(Debug)]
pub(super) struct Registry {
    rooms: RwLock<HashMap<RoomName, Arc<Room>>>,
    teller: Teller,
    store: Arc<Store>,
    /// Rooms whose past is to be looked at.
    keeping: mpsc::UnboundedSender<Weak<Room>>,
    kept: Mutex<Option<mpsc::UnboundedReceiver<Weak<Room>>>>,
}

impl Registry {
    pub(super) fn new(teller: Teller, store: Arc<Store>) -> Self {
        let (keeping, kept) = mpsc::unbounded_channel();
        Self {
            rooms: RwLock::default(),
            teller,
            store,
            keeping,
            kept: Mutex::new(Some(kept)),
        }
    }

    pub(super) fn instance(&self) -> u64 {
        self.store.instance
    }

    pub(super) fn follow(&self, lineage: Arc<Lineage>) {
        self.store.follow(lineage);
    }

    pub(super) fn locate(&self, position: Locate) {
        self.store.locate(position);
    }

    /// Says something from outside. What the database said is kept although nobody is there.
    pub(super) fn publish(&self, name: &RoomName, broadcast: &Broadcast, origin: Origin) -> usize {
        let kept = matches!(origin, Origin::Stream { .. }) && !self.store.keeps.age.is_zero();
        loop {
            let room = match self.find(name) {
                Some(room) => room,
                None if kept => self.find_or_make(name, None),
                None => {
                    self.count_unheard();
                    return 0;
                }
            };
            match room.publish_unless_closed(broadcast, origin) {
                Some(sent) => return sent,
                // The last member has left since.
                None => self.forget(&room),
            }
        }
    }

    /// Forgets what has become too old, and rooms where nobody is or is expected. Never ends.
    pub(super) async fn forget_the_past(&self) {
        let taken = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut incoming) = taken else { return };
        let mut queue: DelayQueue<Weak<Room>> = DelayQueue::new();
        loop {
            tokio::select! {
                room = incoming.recv() => match room {
                    Some(room) => drop(queue.insert(room, FIRST_LOOK)),
                    None => return,
                },
                Some(room) = queue.next(), if !queue.is_empty() => {
                    let room = room.into_inner();
                    if let Some(kept) = room.upgrade()
                        && let Some(due) = self.look_at(&kept)
                    {
                        queue.insert_at(room, due);
                    }
                }
            }
        }
    }

    /// When a room is to be looked at again.
    fn look_at(&self, room: &Arc<Room>) -> Option<Instant> {
        let now = Instant::now();
        let (due, closed) = room.expire(now);
        if closed {
            self.forget(room);
        }
        due.map(|due| due.max(now + FIRST_LOOK))
    }

    pub(super) fn find(&self, name: &RoomName) -> Option<Arc<Room>> {
        let rooms = self.rooms.read().unwrap_or_else(PoisonError::into_inner);
        rooms.get(name).cloned()
    }

    /// Takes a seat in the room of this name, which is made where there is none.
    pub(super) fn enter(&self, name: &RoomName, mut seat: Seat) -> (Arc<Room>, usize, Entered) {
        let mut room = self.find(name).unwrap_or_else(|| self.find_or_make(name, None));
        loop {
            match room.enter(seat) {
                Ok((at, entered)) => return (room, at, entered),
                // The last member has left since: the next room takes its place.
                Err(Closed(back)) => {
                    seat = *back;
                    room = self.find_or_make(name, Some(&room));
                }
            }
        }
    }

    /// Takes a closed room out of the list, unless another stands in its place already.
    pub(super) fn forget(&self, room: &Arc<Room>) {
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = rooms.get(room.name())
            && Arc::ptr_eq(current, room)
        {
            rooms.remove(room.name());
        }
    }

    /// Something was said where nobody is.
    pub(super) fn count_unheard(&self) {
        self.teller.metrics.broadcasts.inc();
    }

    fn find_or_make(&self, name: &RoomName, instead_of: Option<&Arc<Room>>) -> Arc<Room> {
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let (store, keeping) = (Arc::clone(&self.store), self.keeping.clone());
            Arc::new(Room::new(name.clone(), self.teller.clone(), store, keeping))
        };
        match rooms.entry(name.clone()) {
            Entry::Vacant(vacant) => Arc::clone(vacant.insert(make())),
            Entry::Occupied(mut current) => {
                if instead_of.is_some_and(|closed| Arc::ptr_eq(closed, current.get())) {
                    current.insert(make());
                }
                Arc::clone(current.get())
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rooms.read().unwrap().len()
    }
}
