//! Which places are worth writing down, so that they outlive the server.
//!
//! A place that is older than it could be only has something come again. So one is due when its client has been sent something
//! since, when it has other channels or something was said in their rooms, and before it falls out of the window.
//! What must not outlive what it speaks of is in `whole`.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::whole::Whole;
use super::{Books, Place, Places};

/// At this part of the window, a place is written again although nothing was sent.
const AGED: u32 = 3;

/// What is to be written down.
#[derive(Debug, Default)]
pub struct Unsaved {
    /// Where clients are.
    pub places: Vec<(Arc<str>, Place)>,
    /// Of each: over what was written at which version at most. Whoever has left may be with another server by now.
    pub over: Vec<i64>,
    /// Whose place is nobody's any more, if one was written before.
    pub nobodys: Vec<Arc<str>>,
}

impl Unsaved {
    /// How many clients it is about.
    pub fn len(&self) -> usize {
        self.places.len() + self.nobodys.len()
    }

    /// There is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Of what is taken at once, this part is for those of whom something is written, however many others come.
const MOVED: usize = 4;

/// Clients with the numbers of their waiting.
type Line = VecDeque<(Arc<str>, u64)>;

/// Those whose place is to be written down, in the order in which that came to be so.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Those of whom something is written: after a crash, they get again what came since.
    waiting: Line,
    /// Those of whom nothing is: after a crash, they would not be known. So they come first.
    unknown: Line,
    next: u64,
    /// Somebody takes them out.
    wanted: bool,
    /// Who was forgotten, and of whom it is written that it has rows.
    orphans: HashSet<Arc<str>>,
}

/// What is written of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where it was.
    pub place: Place,
    /// Higher for what was written later.
    pub version: i64,
}

/// How far one client's place has been written down.
#[derive(Debug, Default)]
pub(super) struct Saving {
    /// On which connection, and what had been sent there, when the place was noted that is known now.
    sent: (u64, u32),
    saved: Option<Saved>,
    /// The version of what is written, as far as it is known here.
    version: i64,
    /// More is known than has been written.
    changed: bool,
    /// Its number in the queue.
    waits: Option<u64>,
    pub(super) whole: Whole,
}

#[derive(Debug)]
struct Saved {
    at: Instant,
    sent: (u64, u32),
    outline: u64,
}

impl Saving {
    /// Notes what had been sent at this place; whether the one that was written will not do any more.
    pub(super) fn moved(&mut self, place: &Place, sent: (u64, u32), window: Duration) -> bool {
        self.sent = sent;
        self.saved.as_ref().is_none_or(|saved| {
            saved.sent != sent || saved.at.elapsed() > window / AGED || saved.outline != outline(place)
        })
    }

    /// Something is, here or by another server.
    fn is_written(&self) -> bool {
        self.saved.is_some() || self.version > 0
    }

    /// This is what another server wrote; `None` if nobody knows what that is.
    pub(super) fn recalled(&mut self, written: Option<&Written>) {
        match written {
            Some(written) => {
                self.whole.add(&written.place);
                self.version = self.version.max(written.version);
            }
            None => self.whole = Whole::Any,
        }
    }
}

/// Equal for places that differ in nothing but how far their rows are, which moves on by itself.
fn outline(place: &Place) -> u64 {
    let channels = place.channels.iter().map(|(stay, here)| {
        let mut hasher = DefaultHasher::new();
        let room = here.room.map(|room| (room.instance, room.number));
        (stay, here.private, here.shape, here.rows.is_some(), room).hash(&mut hasher);
        hasher.finish()
    });
    // They have no order.
    channels.fold(0, u64::wrapping_add)
}

impl Books {
    /// More is known of somebody; if it matters, it is to be written down.
    pub(super) fn changed(&mut self, id: &Arc<str>, matters: bool) {
        let Some(record) = self.records.get_mut(id) else {
            return;
        };
        let (saving, queue) = (&mut record.saving, &mut self.unsaved);
        saving.changed = true;
        if !matters || !queue.wanted || saving.waits.is_some() {
            return;
        }
        queue.next += 1;
        saving.waits = Some(queue.next);
        let line = match saving.is_written() {
            true => &mut queue.waiting,
            false => &mut queue.unknown,
        };
        line.push_back((Arc::clone(id), queue.next));
        // Clients may come and be forgotten for a long time while none is taken out.
        if line.len() > 2 * self.records.len() {
            let records = &self.records;
            let waits = |id: &Arc<str>| records.get(id).and_then(|record| record.saving.waits);
            line.retain(|(id, number)| waits(id) == Some(*number));
        }
    }

    /// Takes from one line until there is so much to write.
    fn save_line(
        &mut self,
        line: impl Fn(&mut Queue) -> &mut Line,
        most: usize,
        now: Instant,
        unsaved: &mut Unsaved,
    ) {
        while unsaved.len() < most
            && let Some((id, number)) = line(&mut self.unsaved).pop_front()
        {
            let record = self.records.get(&id);
            if record.is_some_and(|record| record.saving.waits == Some(number)) {
                self.save(id, now, unsaved);
            }
        }
    }

    /// Takes what there is to write of somebody, as if it were written.
    fn save(&mut self, id: Arc<str>, now: Instant, unsaved: &mut Unsaved) {
        let Some(record) = self.records.get_mut(&id) else {
            return;
        };
        let saving = &mut record.saving;
        (saving.waits, saving.changed) = (None, false);
        match &record.place {
            Some(place) if !record.shared => {
                saving.saved = Some(Saved {
                    at: now,
                    sent: saving.sent,
                    outline: outline(place),
                });
                // What was written before may stay, should this fail.
                saving.whole.add(place);
                unsaved.places.push((id, place.clone()));
                unsaved.over.push(match record.connected {
                    true => i64::MAX,
                    false => saving.version,
                });
            }
            None if !record.shared && saving.whole.is_empty() => {}
            _ => {
                saving.saved = None;
                unsaved.nobodys.push(id);
            }
        }
    }

    /// Somebody is forgotten here, and should not be known elsewhere for longer by what was written here.
    pub(super) fn orphan(&mut self, id: &Arc<str>, saving: &Saving, most: usize) {
        let queue = &mut self.unsaved;
        let ours = saving.saved.is_some() && !saving.whole.is_empty();
        if ours && queue.wanted && queue.orphans.len() < most {
            queue.orphans.insert(Arc::clone(id));
        }
    }

    /// Somebody comes who is not known: how far it may be that it is, where that is written.
    pub(super) fn adopt(&mut self, id: &Arc<str>) -> Saving {
        let mut saving = Saving::default();
        if self.unsaved.orphans.remove(id) {
            saving.whole = Whole::Any;
        }
        saving
    }
}

impl Places {
    /// From now on, those whose place is to be written down wait for [`Places::take_unsaved`].
    pub fn follow(&self) {
        self.lock().unsaved.wanted = true;
    }

    /// What is to be written down, of so many clients at most: of those of whom nothing is written before others, and otherwise of
    /// those who have waited longest. It counts as written, unless
    /// [`Places::not_saved`].
    pub fn take_unsaved(&self, most: usize) -> Unsaved {
        let now = Instant::now();
        let mut books = self.lock();
        let mut unsaved = Unsaved::default();
        while unsaved.len() < most
            && let Some(id) = books.unsaved.orphans.iter().next().cloned()
        {
            books.unsaved.orphans.remove(&id);
            unsaved.nobodys.push(id);
        }
        let moved = books.unsaved.waiting.len().min(most / MOVED);
        books.save_line(|queue| &mut queue.unknown, most - moved, now, &mut unsaved);
        books.save_line(|queue| &mut queue.waiting, most, now, &mut unsaved);
        books.save_line(|queue| &mut queue.unknown, most, now, &mut unsaved);
        unsaved
    }

    /// The same of everybody, also where what was written would do.
    pub fn take_all_unsaved(&self) -> Unsaved {
        let now = Instant::now();
        let mut books = self.lock();
        books.unsaved.waiting.clear();
        books.unsaved.unknown.clear();
        let changed = books.records.iter().filter(|(_, record)| record.saving.changed);
        let ids: Vec<_> = changed.map(|(id, _)| Arc::clone(id)).collect();
        let mut unsaved = Unsaved::default();
        for id in ids {
            books.save(id, now, &mut unsaved);
        }
        unsaved
    }

    /// Whether [`Places::take_all_unsaved`] would take nothing.
    pub fn all_saved(&self) -> bool {
        !self.lock().records.values().any(|record| record.saving.changed)
    }

    /// The same of these, as far as there is anything: once of each, however often it is asked for.
    pub fn take_unsaved_of(&self, ids: impl IntoIterator<Item = Arc<str>>) -> Unsaved {
        let now = Instant::now();
        let ids: BTreeSet<Arc<str>> = ids.into_iter().collect();
        let mut books = self.lock();
        let mut unsaved = Unsaved::default();
        for id in ids {
            books.save(id, now, &mut unsaved);
        }
        unsaved
    }

    /// Whether [`Places::take_unsaved`] would take anything.
    pub fn has_unsaved(&self) -> bool {
        let queue = &self.lock().unsaved;
        !(queue.waiting.is_empty() && queue.unknown.is_empty() && queue.orphans.is_empty())
    }

    /// It has been written down, and is all that is; as this version.
    pub fn saved(&self, unsaved: &Unsaved, version: i64) {
        let mut books = self.lock();
        let places = unsaved.places.iter().map(|(id, place)| (id, Whole::of(place)));
        let nobodys = unsaved.nobodys.iter().map(|id| (id, Whole::default()));
        for (id, whole) in places.chain(nobodys) {
            if let Some(record) = books.records.get_mut(id) {
                (record.saving.whole, record.saving.version) = (whole, version);
            }
        }
    }

    /// It could not be written down, and is to be tried again.
    pub fn not_saved(&self, unsaved: &Unsaved) {
        let mut books = self.lock();
        let ids = unsaved.places.iter().map(|(id, _)| id);
        for id in ids.chain(&unsaved.nobodys) {
            if let Some(record) = books.records.get_mut(id) {
                record.saving.saved = None;
            }
            books.changed(id, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::auth::User;
    use crate::room;
    use crate::session::{Holder, Stay, TopicPlace, Turn};

    const WINDOW: Duration = Duration::from_secs(600);

    fn place(rows: &str, room: u64) -> Place {
        let room = room::Since {
            instance: 1,
            number: room,
            stream: None,
        };
        let topic = TopicPlace {
            private: false,
            shape: None,
            rows: Some(rows.parse().unwrap()),
            room: Some(room),
        };
        let stay = Stay {
            topic: "realtime:a".into(),
            user: User(1),
        };
        Place {
            channels: HashMap::from([(stay, topic)]),
        }
    }

    fn places() -> Arc<Places> {
        let places = Places::new(WINDOW, 10);
        places.follow();
        places
    }

    fn written(place: Place, version: i64) -> Written {
        Written { place, version }
    }

    fn begun(place: Place) -> Vec<(Stay, Turn)> {
        let begun = place.channels.into_iter();
        begun.map(|(stay, here)| (stay, Turn::Begun(here))).collect()
    }

    fn connect(places: &Arc<Places>, id: &str) -> Holder {
        places.connect(id, Instant::now()).unwrap().0
    }

    fn ids(unsaved: &Unsaved) -> Vec<&str> {
        unsaved.places.iter().map(|(id, _)| &**id).collect()
    }

    #[test]
    fn those_who_have_waited_longest_are_written_first_and_each_once() {
        let places = places();
        let holders = ["a", "b", "c", "d"].map(|id| connect(&places, id));
        for sent in 1..4 {
            for holder in &holders {
                holder.acknowledge(place("5-10", 0), Instant::now(), sent);
            }
        }
        assert_eq!(ids(&places.take_unsaved(3)), ["a", "b", "c"]);
        holders[0].acknowledge(place("5-20", 0), Instant::now(), 4);
        assert_eq!(ids(&places.take_unsaved(3)), ["d", "a"]);
        assert!(places.take_unsaved(3).is_empty());
    }

    fn move_on(holders: &[Holder], sent: u32) {
        for holder in holders {
            holder.acknowledge(place("5-10", 0), Instant::now(), sent);
        }
    }

    #[test]
    fn those_of_whom_nothing_is_written_come_before_those_who_moved() {
        let places = places();
        let moved = ["a", "b"].map(|id| connect(&places, id));
        move_on(&moved, 1);
        let failed = places.take_unsaved(1);
        assert_eq!(ids(&failed), ["a"]);
        places.saved(&places.take_unsaved(1), 1);
        places.take_over([("c".into(), Some(written(place("5-10", 1), 1)))], Instant::now());
        let known = [connect(&places, "c")];
        move_on(&known, 1);
        move_on(&moved[1..], 2);
        let new = ["d", "e"].map(|id| connect(&places, id));
        move_on(&new, 1);
        places.not_saved(&failed);
        assert_eq!(ids(&places.take_unsaved(3)), ["d", "e", "a"]);
        assert_eq!(ids(&places.take_unsaved(3)), ["c", "b"]);
        assert!(!places.has_unsaved());
    }

    #[test]
    fn those_who_moved_are_written_however_many_come() {
        let places = places();
        let moved = ["a", "b"].map(|id| connect(&places, id));
        move_on(&moved, 1);
        places.take_unsaved(9);
        move_on(&moved, 2);
        let new: Vec<_> = (0..7).map(|n| connect(&places, &format!("n{n}"))).collect();
        move_on(&new, 1);
        assert_eq!(ids(&places.take_unsaved(4)), ["n0", "n1", "n2", "a"]);
        assert_eq!(ids(&places.take_unsaved(4)), ["n3", "n4", "n5", "b"]);
        assert_eq!(ids(&places.take_unsaved(4)), ["n6"]);
    }

    #[test]
    fn what_moves_on_by_itself_is_written_only_at_the_end() {
        let places = places();
        let holder = connect(&places, "a");
        holder.acknowledge(place("5-10", 1), Instant::now(), 1);
        assert_eq!(places.take_unsaved(9).len(), 1);
        holder.acknowledge(place("5-20", 1), Instant::now(), 1);
        assert!(places.take_unsaved(9).is_empty(), "nothing was sent");
        assert_eq!(places.take_all_unsaved().places[0].1, place("5-20", 1));
        assert!(places.take_all_unsaved().is_empty());
        holder.acknowledge(place("5-30", 2), Instant::now(), 1);
        assert_eq!(places.take_unsaved(9).len(), 1, "something was said");
        holder.acknowledge(place("5-30", 2), Instant::now(), 2);
        assert_eq!(places.take_unsaved(9).len(), 1, "rows were sent");
        holder.acknowledge(Place::default(), Instant::now(), 2);
        assert_eq!(places.take_unsaved(9).len(), 1, "a channel was left");
        holder.follow(begun(place("5-40", 2)));
        assert_eq!(places.take_unsaved(9).places[0].1, place("5-40", 2));
    }

    #[test]
    fn a_place_is_written_again_before_it_falls_out_of_the_window() {
        let places = Places::new(Duration::from_nanos(3), 10);
        places.follow();
        let holder = connect(&places, "a");
        for _ in 0..2 {
            holder.acknowledge(place("5-10", 1), Instant::now(), 1);
            assert_eq!(places.take_unsaved(9).len(), 1);
        }
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_with_what_is_known_by_then() {
        let places = places();
        let holder = connect(&places, "a");
        holder.acknowledge(place("5-10", 1), Instant::now(), 1);
        let failed = places.take_unsaved(9);
        holder.acknowledge(place("5-20", 1), Instant::now(), 1);
        places.not_saved(&failed);
        assert_eq!(places.take_unsaved(9).places[0].1, place("5-20", 1));
        assert!(places.take_unsaved(9).is_empty());
    }

    #[test]
    fn what_is_nobodys_is_taken_back() {
        let places = places();
        let (one, two) = (connect(&places, "a"), connect(&places, "a"));
        two.acknowledge(place("5-10", 1), Instant::now(), 1);
        assert_eq!(places.take_unsaved(9).len(), 1);
        one.acknowledge(place("5-20", 1), Instant::now(), 1);
        two.acknowledge(place("5-30", 1), Instant::now(), 2);
        let unsaved = places.take_unsaved(9);
        assert!(unsaved.places.is_empty());
        assert_eq!(unsaved.nobodys, ["a".into()]);
    }

    #[test]
    fn a_place_that_another_server_wrote_is_not_written_again() {
        let places = places();
        places.take_over([("a".into(), Some(written(place("5-10", 1), 1)))], Instant::now());
        assert!(places.take_unsaved(9).is_empty() && places.take_all_unsaved().is_empty());
    }

    #[test]
    fn nobody_waits_twice_however_long_nothing_is_taken() {
        let places = places();
        for round in 0..100 {
            let holder = connect(&places, &format!("a{round}"));
            holder.acknowledge(place("5-10", 1), Instant::now(), 1);
        }
        let books = places.lock();
        assert!(books.unsaved.unknown.len() <= 2 * books.records.len());
    }

    #[test]
    fn where_nobody_writes_nobody_waits() {
        let places = Places::new(WINDOW, 10);
        let holder = connect(&places, "a");
        holder.acknowledge(place("5-10", 1), Instant::now(), 1);
        assert!(places.take_unsaved(9).is_empty());
        assert_eq!(places.take_all_unsaved().len(), 1);
    }
}
