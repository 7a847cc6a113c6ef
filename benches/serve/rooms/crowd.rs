//! The members of some rooms, and what they say to each other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::super::wire::{self, Inbox};
use super::message::Mark;
use super::topic;

/// A message that is answered by no other one.
const ALONE: usize = 99_999;

/// Rooms full of members who read.
pub struct Crowd {
    rooms: Vec<Arc<Room>>,
    listening: Vec<JoinHandle<()>>,
}

struct Room {
    topic: String,
    members: Vec<Arc<TcpStream>>,
    /// To how many members each message that is under way has still to come.
    slots: Vec<AtomicUsize>,
    /// Whether a message that has come to all is followed by another one.
    talking: AtomicBool,
    delivered: AtomicUsize,
    /// Milliseconds that messages which stood alone have taken to each member.
    delays: Mutex<Vec<f64>>,
}

impl Crowd {
    /// Has the members of every room listen. In each room `window` messages may be under way at once.
    pub fn new(rooms: Vec<Vec<TcpStream>>, window: usize) -> Self {
        let mut crowd = Self {
            rooms: Vec::new(),
            listening: Vec::new(),
        };
        for (number, members) in (0..).zip(rooms) {
            let room = Arc::new(Room {
                topic: topic(number),
                members: members.into_iter().map(Arc::new).collect(),
                slots: (0..window).map(|_| AtomicUsize::new(0)).collect(),
                talking: AtomicBool::new(false),
                delivered: AtomicUsize::new(0),
                delays: Mutex::default(),
            });
            for member in &room.members {
                let (room, socket) = (Arc::clone(&room), Arc::clone(member));
                crowd.listening.push(tokio::spawn(listen(room, socket)));
            }
            crowd.rooms.push(room);
        }
        crowd
    }

    /// As fast as messages arrive for so long: how many deliveries were made, in how many seconds.
    pub async fn talk(&self, warmth: Duration, time: Duration) -> (usize, f64) {
        for room in &self.rooms {
            room.talking.store(true, Ordering::Relaxed);
            for slot in 0..room.slots.len() {
                room.say(slot).await;
            }
        }
        tokio::time::sleep(warmth).await;
        let (started, before) = (Instant::now(), self.delivered());
        tokio::time::sleep(time).await;
        let (seconds, after) = (started.elapsed().as_secs_f64(), self.delivered());
        for room in &self.rooms {
            room.talking.store(false, Ordering::Relaxed);
        }
        self.silence().await;
        (after - before, seconds)
    }

    /// So many messages at this many a second, spread over rooms and members; the delay of each delivery in ms, sorted.
    pub async fn pace(&self, messages: usize, per_second: f64) -> Vec<f64> {
        let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
        let before = self.delivered();
        let mut wanted = 0;
        for n in 0..messages {
            pace.tick().await;
            let room = &self.rooms[n % self.rooms.len()];
            let sender = &room.members[(n / self.rooms.len()) % room.members.len()];
            let frame = Mark::now(ALONE).frame(&room.topic);
            wire::write(sender, &frame).await.expect("a message");
            wanted += room.members.len();
        }
        let patience = Instant::now() + Duration::from_secs(5);
        while self.delivered() - before < wanted && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut delays = Vec::new();
        for room in &self.rooms {
            delays.append(&mut room.delays.lock().unwrap_or_else(PoisonError::into_inner));
        }
        delays.sort_unstable_by(f64::total_cmp);
        delays
    }

    fn delivered(&self) -> usize {
        let of_room = |room: &Arc<Room>| room.delivered.load(Ordering::Relaxed);
        self.rooms.iter().map(of_room).sum()
    }

    /// Waits until nothing is under way.
    async fn silence(&self) {
        let patience = Instant::now() + Duration::from_secs(5);
        let slots = || self.rooms.iter().flat_map(|room| &room.slots);
        while slots().any(|slot| slot.load(Ordering::Relaxed) > 0) && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.listening.iter().for_each(JoinHandle::abort);
    }
}

impl Room {
    /// Sends the message of this slot, by a member of its own.
    async fn say(&self, slot: usize) {
        self.slots[slot].store(self.members.len(), Ordering::Relaxed);
        let sender = &self.members[slot % self.members.len()];
        let frame = Mark::now(slot).frame(&self.topic);
        // One who was closed is missed in the count.
        let _ = wire::write(sender, &frame).await;
    }
}

async fn listen(room: Arc<Room>, socket: Arc<TcpStream>) {
    let mut inbox = Inbox::new();
    while inbox.fill(&socket).await {
        while let Some(payload) = inbox.next() {
            let Some(mark) = Mark::read(payload) else { continue };
            room.delivered.fetch_add(1, Ordering::Relaxed);
            if mark.slot == ALONE {
                let mut delays = room.delays.lock().unwrap_or_else(PoisonError::into_inner);
                delays.push(mark.age());
            } else if room.slots[mark.slot].fetch_sub(1, Ordering::Relaxed) == 1
                && room.talking.load(Ordering::Relaxed)
            {
                room.say(mark.slot).await;
            }
        }
    }
}
