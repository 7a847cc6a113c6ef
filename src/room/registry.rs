use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError, RwLock};

use super::RoomName;
use super::members::{Closed, Room};
use super::seat::Seat;
use super::telling::Teller;

/// The rooms that have members.
#[derive(Debug)]
pub(super) struct Registry {
    rooms: RwLock<HashMap<RoomName, Arc<Room>>>,
    teller: Teller,
}

impl Registry {
    pub(super) fn new(teller: Teller) -> Self {
        Self {
            rooms: RwLock::default(),
            teller,
        }
    }

    pub(super) fn find(&self, name: &RoomName) -> Option<Arc<Room>> {
        let rooms = self.rooms.read().unwrap_or_else(PoisonError::into_inner);
        rooms.get(name).cloned()
    }

    /// Takes a seat in the room of this name, which is made where there is none.
    pub(super) fn enter(&self, name: &RoomName, mut seat: Seat) -> (Arc<Room>, usize) {
        let mut room = self.find(name).unwrap_or_else(|| self.find_or_make(name, None));
        loop {
            match room.enter(seat) {
                Ok(at) => return (room, at),
                // The last member has left since: the next room takes its place.
                Err(Closed(back)) => {
                    seat = back;
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
        let make = || Arc::new(Room::new(name.clone(), self.teller.clone()));
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
