use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use slab::Slab;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::frames::Frames;
use super::past::{Missed, Origin, Past, Since, Store};
use super::seat::{Said, Seat};
use super::telling::{Teller, interval};
use super::{Entered, Hears, RoomName};
use crate::hub::{Frame, Lane};
use crate::presence::{MemberId, Payload, Presence};
use crate::protocol::{self, Broadcast, Content, Version};

/// One room. It begins with its first member, or with the first thing that the database says there, and is closed for good when
/// nobody is there or expected.
#[derive(Debug)]
pub(super) struct Room {
    name: RoomName,
    teller: Teller,
    keeping: mpsc::UnboundedSender<Weak<Room>>,
    members: Mutex<Members>,
}

#[derive(Debug)]
struct Members {
    seats: Slab<Seat>,
    next: u64,
    presence: Presence,
    past: Past,
    /// Members whose broadcasts say where they stand.
    cursors: usize,
    /// Its past will be looked at.
    looked_after: bool,
    told: Option<Instant>,
    /// Somebody will call [`Room::due`].
    waiting: bool,
    closed: bool,
}

/// The room takes nobody in any more; the seat comes back.
#[derive(Debug)]
pub(super) struct Closed(pub(super) Box<Seat>);

impl Room {
    pub(super) fn new(
        name: RoomName,
        teller: Teller,
        store: Arc<Store>,
        keeping: mpsc::UnboundedSender<Weak<Room>>,
    ) -> Self {
        Self {
            name,
            teller,
            keeping,
            members: Mutex::new(Members {
                // Most rooms of most servers have few members, and many have one.
                seats: Slab::with_capacity(1),
                next: 0,
                presence: Presence::default(),
                past: Past::new(store),
                cursors: 0,
                looked_after: false,
                told: None,
                waiting: false,
                closed: false,
            }),
        }
    }

    pub(super) fn name(&self) -> &RoomName {
        &self.name
    }

    pub(super) fn enter(&self, mut seat: Seat) -> Result<(usize, Entered), Closed> {
        let mut members = self.lock();
        if members.closed {
            return Err(Closed(Box::new(seat)));
        }
        seat.id = MemberId(members.next);
        members.next += 1;
        if seat.returns.is_some() {
            members.past.enter();
        }
        let since = seat.returns.and_then(|returns| returns.since);
        let missed = since.and_then(|since| self.recall(&members.past, &mut seat, &since));
        let place = members.past.place();
        members.cursors += usize::from(seat.has_cursors());
        seat.show(&self.name.topic, || members.presence.state());
        if members.seats.is_empty() {
            self.teller.metrics.rooms.inc();
        }
        Ok((members.seats.insert(seat), Entered { place, missed }))
    }

    /// Gives somebody what was said behind a place.
    fn recall(&self, past: &Past, seat: &mut Seat, since: &Since) -> Option<Missed> {
        let who = seat.returns.and_then(|returns| returns.who);
        let (said, missed) = past.behind(since, who.filter(|_| !seat.own));
        for (place, broadcast) in said {
            let content = broadcast.content.with_cursor(&place.to_string());
            let frame = content.encode(seat.version, &self.name.topic).map(Frame::from);
            seat.say_again(broadcast.id, frame, place.number);
        }
        missed
    }

    /// Gives a seat up. Returns whether the room is closed.
    pub(super) fn leave(self: &Arc<Self>, at: usize) -> bool {
        let mut members = self.lock();
        let Some(seat) = members.seats.try_remove(at) else {
            return false;
        };
        self.change_presence(&mut members, |presence| presence.untrack(seat.id));
        members.cursors -= usize::from(seat.has_cursors());
        if seat.returns.is_some() {
            members.past.leave(Instant::now());
            self.look_after(&mut members);
        }
        if !members.seats.is_empty() {
            return false;
        }
        self.teller.metrics.rooms.dec();
        members.closed = members.past.close();
        members.closed
    }

    /// Has [`Room::expire`] called while there is something to forget.
    fn look_after(self: &Arc<Self>, members: &mut Members) {
        if !std::mem::replace(&mut members.looked_after, true) {
            // Whoever listens is gone only once the server stops.
            let _ = self.keeping.send(Arc::downgrade(self));
        }
    }

    /// Forgets what is too old: when to look again, and whether the room has been closed.
    pub(super) fn expire(&self, now: Instant) -> (Option<Instant>, bool) {
        let mut members = self.lock();
        let due = members.past.expire(now);
        members.looked_after = due.is_some();
        if members.seats.is_empty() && members.past.close() {
            members.closed = true;
        }
        (due, members.closed)
    }

    /// The number of the last broadcast.
    pub(super) fn number(&self) -> u64 {
        self.lock().past.number()
    }

    pub(super) fn open(&self, at: usize) -> Option<Missed> {
        let mut members = self.lock();
        let Members {
            seats,
            presence,
            past,
            ..
        } = &mut *members;
        let seat = seats.get_mut(at)?;
        // More was said meanwhile than is kept for one member.
        let lost = seat.take_lost().map(|number| Since {
            instance: past.instance(),
            number,
            stream: None,
        });
        let missed = lost.and_then(|since| self.recall(past, seat, &since));
        let sent = seat.open();
        seat.show(&self.name.topic, || presence.state());
        drop(members);
        self.teller.metrics.broadcast_deliveries.inc_by(sent);
        missed
    }

    pub(super) fn known_as(&self, at: usize, who: u64) {
        let mut members = self.lock();
        if let Some(returns) = members.seats.get_mut(at).and_then(|seat| seat.returns.as_mut()) {
            returns.who = Some(who);
        }
    }

    pub(super) fn announce(&self, at: usize, frame: Frame, number: u64) {
        if let Some(seat) = self.lock().seats.get_mut(at) {
            seat.announce(frame, number);
        }
    }

    pub(super) fn replayed(&self, at: usize, rows: Vec<Uuid>) {
        if let Some(seat) = self.lock().seats.get_mut(at) {
            seat.skip(rows);
        }
    }

    pub(super) fn hear(&self, at: usize, hears: Hears) {
        let mut members = self.lock();
        let Members { seats, presence, .. } = &mut *members;
        let Some(seat) = seats.get_mut(at) else { return };
        seat.hear(hears);
        seat.show(&self.name.topic, || presence.state());
    }

    /// Says a broadcast to everybody, and to the seat that it is from only if that gets its own.
    pub(super) fn publish(
        self: &Arc<Self>,
        broadcast: &Broadcast,
        from: Option<usize>,
        origin: Origin,
    ) -> usize {
        self.say(self.lock(), broadcast, from, origin)
    }

    /// As [`Room::publish`], from outside; `None` if the room has been closed.
    pub(super) fn publish_unless_closed(
        self: &Arc<Self>,
        broadcast: &Broadcast,
        origin: Origin,
    ) -> Option<usize> {
        let members = self.lock();
        (!members.closed).then(|| self.say(members, broadcast, None, origin))
    }

    fn say(
        self: &Arc<Self>,
        mut members: MutexGuard<'_, Members>,
        broadcast: &Broadcast,
        from: Option<usize>,
        mut origin: Origin,
    ) -> usize {
        if let (Some(seat), Origin::Client(who)) = (from.and_then(|at| members.seats.get(at)), &mut origin) {
            *who = seat.returns.and_then(|returns| returns.who);
        }
        let number = members.past.note(broadcast, origin, Instant::now());
        if members.past.is_kept() {
            self.look_after(&mut members);
        }
        // Another run of the server may have said it to the same clients.
        let again = matches!(origin, Origin::Stream { again: true, .. });
        let place =
            (members.cursors > 0 || (again && !members.seats.is_empty())).then(|| members.past.place());
        let placed = place.map(|place| broadcast.content.with_cursor(&place.to_string()));
        let mut placed = encoded(&self.name.topic, placed.as_ref());
        let mut plain = encoded(&self.name.topic, Some(&broadcast.content));
        let (mut sent, mut kept, mut dropped) = (0, 0, 0);
        let lineage = members.past.lineage();
        for (at, seat) in &mut members.seats {
            if (from == Some(at) && !seat.own) || !seat.awaits(origin, &lineage) {
                continue;
            }
            let frames = match again || seat.has_cursors() {
                true => &mut placed,
                false => &mut plain,
            };
            match seat.say((broadcast.id, number), |version| frames.get(version)) {
                Said::Sent => sent += 1,
                Said::Kept => kept += 1,
                Said::KeptInsteadOf(gone) => {
                    kept += 1;
                    dropped += gone;
                }
                Said::Not => {}
            }
        }
        drop(members);
        let metrics = &self.teller.metrics;
        metrics.broadcasts.inc();
        metrics.broadcast_deliveries.inc_by(sent as u64);
        metrics.broadcasts_dropped.inc_by(dropped);
        sent + kept
    }

    /// The lanes of those whose outboxes are filling up.
    pub(super) fn pressed(&self) -> Vec<Lane> {
        let members = self.lock();
        members
            .seats
            .iter()
            .filter_map(|(_, seat)| seat.pressed())
            .cloned()
            .collect()
    }

    pub(super) fn track(self: &Arc<Self>, at: usize, payload: Payload) {
        let mut members = self.lock();
        let Members { seats, presence, .. } = &mut *members;
        let Some(seat) = seats.get_mut(at) else { return };
        seat.want_state();
        seat.show(&self.name.topic, || presence.state());
        let (id, key) = (seat.id, Arc::clone(&seat.key));
        self.change_presence(&mut members, |presence| presence.track(id, &key, payload));
    }

    pub(super) fn untrack(self: &Arc<Self>, at: usize) {
        let mut members = self.lock();
        let Some(id) = members.seats.get(at).map(|seat| seat.id) else {
            return;
        };
        self.change_presence(&mut members, |presence| presence.untrack(id));
    }

    /// The time has come that the room was waiting for.
    pub(super) fn due(&self) {
        let mut members = self.lock();
        members.waiting = false;
        self.tell(&mut members, Instant::now());
    }

    /// Changes who is present, and tells it now or has it told soon.
    fn change_presence(self: &Arc<Self>, members: &mut Members, change: impl FnOnce(&mut Presence)) {
        let before = members.presence.present();
        change(&mut members.presence);
        let after = members.presence.present();
        let gauge = &self.teller.metrics.present;
        if after > before {
            gauge.inc();
        } else if after < before {
            gauge.dec();
        }
        if members.waiting || !members.presence.is_changed() {
            return;
        }
        let now = Instant::now();
        let next = members.told.map(|told| told + interval(members.seats.len()));
        match next {
            Some(next) if next > now => {
                members.waiting = true;
                self.teller.call(next, self);
            }
            _ => self.tell(members, now),
        }
    }

    fn tell(&self, members: &mut Members, now: Instant) {
        let Some(diff) = members.presence.take_diff() else {
            return;
        };
        members.told = Some(now);
        let topic = &self.name.topic;
        let encode = |version| protocol::fan_out(version, topic, "presence_diff", &diff);
        let mut frames = Frames::new(|version| Some(Frame::Text(encode(version).into())));
        let mut sent = 0;
        for (_, seat) in &mut members.seats {
            sent += u64::from(seat.tell(|version| frames.get(version)) == Said::Sent);
        }
        self.teller.metrics.presence_diffs.inc_by(sent);
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        // Nothing above leaves the members half changed, so a panic elsewhere while this was held changes nothing.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encoded(topic: &str, content: Option<&Content>) -> Frames<impl FnMut(Version) -> Option<Frame>> {
    Frames::new(move |version| content?.encode(version, topic).map(Frame::from))
}
