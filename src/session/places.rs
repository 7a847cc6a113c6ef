//! Where clients were that are away, so that they can go on from there although they cannot say it themselves.
//!
//! A client that gives its connections one id (`session` among the parameters of the URL) has a place here while it is connected
//! and for the time of the replay window after. The place is what it is known to have received, never more.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) use self::place::Shape;
pub use self::place::{Place, Stay, TopicPlace, Turn};
pub use self::returning::Returning;
pub(super) use self::returning::{ANOTHERS, SHARED, UNKNOWN};
use self::saving::{Queue, Saving};
pub use self::saving::{Unsaved, Written};
mod place;
mod returning;
mod saving;
mod whole;

/// Longest id, in bytes.
const LONGEST_ID: usize = 128;

/// The places of all clients. One per server.
#[derive(Debug)]
pub struct Places {
    window: Duration,
    most: usize,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    records: HashMap<Arc<str>, Record>,
    /// Those who left, oldest first, with the connection that they left.
    away: VecDeque<(Instant, Arc<str>, u64)>,
    /// Those whose place is to be written down.
    unsaved: Queue,
    next: u64,
}

#[derive(Debug)]
struct Record {
    place: Option<Place>,
    /// The connection that holds it now, and since when.
    holder: u64,
    since: Instant,
    connected: bool,
    shared: bool,
    /// How often that was noticed.
    shares: u64,
    /// Since when its place is known here, if that comes from another server.
    recalled: Option<Instant>,
    /// It has said here where it is.
    ours: bool,
    saving: Saving,
}

impl Record {
    fn new(holder: u64, now: Instant, saving: Saving) -> Self {
        Self {
            place: None,
            holder,
            since: now,
            connected: false,
            shared: false,
            shares: 0,
            recalled: None,
            ours: false,
            saving,
        }
    }

    /// What is known of it can only have become more here.
    fn is_certain(&self) -> bool {
        self.place.is_some() && (self.ours || self.connected)
    }
}

/// One connection's hold on its client's place; given up when it is dropped.
#[derive(Debug)]
pub struct Holder {
    places: Arc<Places>,
    id: Arc<str>,
    number: u64,
    /// [`Record::shares`] that need not be told any more.
    shares: AtomicU64,
}

impl Places {
    /// None yet. They are kept for `window` after their client has left, and at most so many of those.
    pub fn new(window: Duration, most: usize) -> Arc<Self> {
        Arc::new(Self {
            window,
            most,
            books: Mutex::default(),
        })
    }

    /// A client connects. `None` where its id is empty or too long, or places are not kept.
    pub fn connect(self: &Arc<Self>, id: &str, now: Instant) -> Option<(Holder, Returning)> {
        if id.is_empty() || id.len() > LONGEST_ID || self.window.is_zero() {
            return None;
        }
        let mut books = self.lock();
        books.forget(now, self.window, self.most);
        let number = books.next;
        books.next += 1;
        let id: Arc<str> = Arc::from(id);
        let record = books.record(&id, number, now);
        let shared = std::mem::take(&mut record.shared);
        if shared {
            // Of whom it was, nobody can say.
            record.place = None;
        }
        let recalled = |since: &Instant| now.saturating_duration_since(*since) < self.window;
        let returning = Returning {
            who: who(&id),
            place: record.place.clone(),
            shared,
            recalled: record.recalled.as_ref().is_some_and(recalled),
            ..Returning::default()
        };
        // A connection that died unnoticed may still be held to be there: the newest one counts.
        (record.holder, record.since, record.connected) = (number, now, true);
        let shares = AtomicU64::new(record.shares);
        drop(books);
        let holder = Holder {
            places: Arc::clone(self),
            id,
            number,
            shares,
        };
        Some((holder, returning))
    }

    /// Takes over places that another server knew, of clients that are not known here; `None` where what it knew cannot be read.
    pub fn take_over(&self, places: impl IntoIterator<Item = (Arc<str>, Option<Written>)>, now: Instant) {
        let mut books = self.lock();
        for (id, written) in places {
            let number = books.next;
            books.next += 1;
            let record = books.record(&id, number, now);
            record.saving.recalled(written.as_ref());
            if !record.is_certain()
                && let Some(Written { place, .. }) = written
            {
                (record.place, record.recalled) = (Some(place), Some(now));
            }
            if !record.connected {
                books.away.push_back((now, id, number));
            }
        }
        books.forget(now, self.window, self.most);
    }

    /// Whether somebody is known, and no other server can know more.
    pub fn knows(&self, id: &str) -> bool {
        self.lock().records.get(id).is_some_and(Record::is_certain)
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // Nothing above leaves the books half written.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// What is known of somebody; one who is not is held by this connection.
    fn record(&mut self, id: &Arc<str>, number: u64, now: Instant) -> &mut Record {
        if !self.records.contains_key(id) {
            let saving = self.adopt(id);
            let record = Record::new(number, now, saving);
            self.records.insert(Arc::clone(id), record);
        }
        let unknown = || Record::new(number, now, Saving::default());
        self.records.entry(Arc::clone(id)).or_insert_with(unknown)
    }

    /// Forgets those who have been away for too long, and the oldest of those who are too many.
    fn forget(&mut self, now: Instant, window: Duration, most: usize) {
        while let Some((left, id, holder)) = self.away.front() {
            let old = now.saturating_duration_since(*left) >= window;
            if !old && self.away.len() <= most {
                break;
            }
            // Whoever has come back since has another holder.
            let gone = |record: &Record| record.holder == *holder && !record.connected;
            let id = Arc::clone(id);
            if self.records.get(&id).is_some_and(gone)
                && let Some(record) = self.records.remove(&id)
            {
                self.orphan(&id, &record.saving, most);
            }
            self.away.pop_front();
        }
    }
}

impl Holder {
    /// Whose.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The client has received everything up to here, and was asked at that time; `sent` is another number when it has been sent
    /// any rows since ([`Session::sent`](super::Session::sent)). Whether another connection turns out to use the id as well: once,
    /// for each that was there when it was noticed.
    pub fn acknowledge(&self, place: Place, asked: Instant, sent: u32) -> bool {
        let mut books = self.places.lock();
        let Some(record) = books.records.get_mut(&self.id) else {
            return false;
        };
        let mut shares = record.shares;
        if record.holder == self.number {
            let matters = record
                .saving
                .moved(&place, (self.number, sent), self.places.window);
            (record.place, record.ours) = (Some(place), true);
            books.changed(&self.id, matters);
        } else if asked > record.since && !record.shared {
            // It still answers although another connection has taken its place: they are two. Answers to what was asked
            // before may just be late.
            record.shared = true;
            record.shares += 1;
            shares = record.shares;
            books.changed(&self.id, true);
        }
        self.shares.swap(shares, Ordering::Relaxed) != shares
    }

    /// Its client is not followed any more: should it come back, it is told that it is not known.
    pub fn give_up(&self) {
        let mut books = self.places.lock();
        if let Some(record) = books.records.get_mut(&self.id)
            && record.holder == self.number
        {
            record.place = None;
            books.changed(&self.id, true);
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let mut books = self.places.lock();
        let Some(record) = books.records.get_mut(&self.id) else {
            return;
        };
        if record.holder == self.number {
            record.connected = false;
            let now = Instant::now();
            books.away.push_back((now, Arc::clone(&self.id), self.number));
            let (window, most) = (self.places.window, self.places.most);
            books.forget(now, window, most);
        }
    }
}

fn who(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::User;
    use crate::room;

    const WINDOW: Duration = Duration::from_secs(60);

    fn place(number: u64) -> Place {
        let room = room::Since {
            instance: 1,
            number,
            stream: None,
        };
        let topic = TopicPlace {
            private: false,
            shape: None,
            rows: None,
            room: Some(room),
        };
        Place {
            channels: HashMap::from([(stay("realtime:a", 1), topic)]),
        }
    }

    fn stay(topic: &str, user: u64) -> Stay {
        Stay {
            topic: topic.into(),
            user: User(user),
        }
    }

    fn begun(number: u64) -> Vec<(Stay, Turn)> {
        let begun = place(number).channels.into_iter();
        begun.map(|(stay, here)| (stay, Turn::Begun(here))).collect()
    }

    fn connect(places: &Arc<Places>, id: &str) -> (Holder, Returning) {
        places.connect(id, Instant::now()).expect("a place")
    }

    #[test]
    fn who_comes_back_is_where_it_was_known_to_be() {
        let places = Places::new(WINDOW, 10);
        let (holder, returning) = connect(&places, "a");
        assert_eq!(returning.place, None);
        holder.acknowledge(place(1), Instant::now(), 0);
        holder.acknowledge(place(2), Instant::now(), 0);
        drop(holder);
        let (_, again) = connect(&places, "a");
        assert_eq!((again.place, again.shared), (Some(place(2)), false));
        assert_eq!(again.who, returning.who);
        assert_ne!(connect(&places, "b").1.who, returning.who);
    }

    #[test]
    fn a_connection_that_died_unnoticed_gives_way() {
        let places = Places::new(WINDOW, 10);
        let (old, _) = connect(&places, "a");
        old.acknowledge(place(1), Instant::now(), 0);
        let (new, returning) = connect(&places, "a");
        assert_eq!(returning.place, Some(place(1)));
        drop(old);
        new.acknowledge(place(2), Instant::now(), 0);
        drop(new);
        let (_, again) = connect(&places, "a");
        assert_eq!((again.place, again.shared), (Some(place(2)), false));
    }

    #[test]
    fn two_clients_with_one_id_are_noticed() {
        let places = Places::new(WINDOW, 10);
        let (one, _) = connect(&places, "a");
        let (two, _) = connect(&places, "a");
        two.acknowledge(place(5), Instant::now(), 0);
        one.acknowledge(place(1), Instant::now(), 0);
        assert!(places.take_all_unsaved().places.is_empty());
        drop(one);
        let (three, returning) = connect(&places, "a");
        assert!(returning.shared && returning.place.is_none());
        drop(three);
        let (_, returning) = connect(&places, "a");
        assert!(returning.place.is_none(), "it has not become anybody's");
    }

    #[test]
    fn both_of_two_clients_with_one_id_hear_of_it_once() {
        let places = Places::new(WINDOW, 10);
        let (one, _) = connect(&places, "a");
        assert!(!one.acknowledge(place(1), Instant::now(), 0));
        let (two, _) = connect(&places, "a");
        assert!(
            !two.acknowledge(place(1), Instant::now(), 0),
            "the other may be dead"
        );
        assert!(one.acknowledge(place(2), Instant::now(), 0));
        assert!(two.acknowledge(place(2), Instant::now(), 0));
        for holder in [&one, &two] {
            assert!(!holder.acknowledge(place(3), Instant::now(), 0));
        }
    }

    #[test]
    fn what_another_server_may_know_better_is_asked_for_again() {
        let places = Places::new(WINDOW, 10);
        let written = |number| Written {
            place: place(number),
            version: 1,
        };
        places.take_over([("a".into(), Some(written(1)))], Instant::now());
        let (holder, returning) = connect(&places, "a");
        assert_eq!(returning.place, Some(place(1)));
        assert!(places.knows("a"), "it is here");
        drop(holder);
        assert!(!places.knows("a"), "it may have been elsewhere since");
        places.take_over([("a".into(), Some(written(2)))], Instant::now());
        let (holder, returning) = connect(&places, "a");
        assert_eq!(returning.place, Some(place(2)));
        holder.acknowledge(place(3), Instant::now(), 0);
        drop(holder);
        assert!(places.knows("a"));
    }

    #[test]
    fn an_answer_that_is_late_is_no_second_client() {
        let places = Places::new(WINDOW, 10);
        let (one, _) = connect(&places, "a");
        one.acknowledge(place(1), Instant::now(), 0);
        let asked = Instant::now();
        let (two, _) = connect(&places, "a");
        one.acknowledge(place(2), asked, 0);
        drop((one, two));
        let (_, returning) = connect(&places, "a");
        assert!(!returning.shared && returning.place == Some(place(1)));
    }

    #[test]
    fn what_has_begun_is_known_before_the_client_answers() {
        let places = Places::new(WINDOW, 10);
        let (holder, _) = connect(&places, "a");
        holder.follow(begun(1));
        holder.follow(begun(2));
        drop(holder);
        assert_eq!(connect(&places, "a").1.place, Some(place(1)));
    }

    #[test]
    fn whoever_has_to_begin_with_its_rows_is_nowhere() {
        let places = Places::new(WINDOW, 10);
        let (holder, _) = connect(&places, "a");
        let mut known = place(1);
        known
            .channels
            .values_mut()
            .for_each(|topic| topic.rows = "5-1".parse().ok());
        holder.acknowledge(known, Instant::now(), 0);
        holder.follow(begun(2));
        drop(holder);
        assert_eq!(connect(&places, "a").1.place, Some(place(1)));
    }

    #[test]
    fn who_is_given_up_is_unknown_when_it_comes_back() {
        let places = Places::new(WINDOW, 10);
        let (old, _) = connect(&places, "a");
        let (holder, _) = connect(&places, "a");
        holder.acknowledge(place(1), Instant::now(), 0);
        old.give_up();
        assert!(places.knows("a"), "that is another connection's");
        holder.give_up();
        let (_, returning) = connect(&places, "a");
        assert_eq!((returning.place, returning.shared), (None, false));
    }

    #[test]
    fn places_are_forgotten_after_the_window_and_when_there_are_too_many() {
        let places = Places::new(WINDOW, 2);
        for id in ["a", "b", "c"] {
            let (holder, _) = connect(&places, id);
            holder.acknowledge(place(1), Instant::now(), 0);
        }
        assert!(!places.knows("a") && places.knows("b") && places.knows("c"));
        let later = Instant::now() + WINDOW;
        let (_, returning) = places.connect("b", later).expect("a place");
        assert_eq!(returning.place, None);
        assert!(!places.knows("c"));
    }

    #[test]
    fn ids_have_a_length_and_no_window_means_no_places() {
        let places = Places::new(WINDOW, 2);
        assert!(places.connect("", Instant::now()).is_none());
        assert!(places.connect(&"x".repeat(129), Instant::now()).is_none());
        let none = Places::new(Duration::ZERO, 2);
        assert!(none.connect("a", Instant::now()).is_none());
    }

    #[test]
    fn places_are_texts() {
        let mut place = place(7);
        let rows = TopicPlace {
            private: true,
            shape: None,
            rows: Some("5-16b3748".parse().unwrap()),
            room: None,
        };
        place
            .channels
            .insert(stay("realtime:\"ü", u64::MAX), rows.clone());
        place.channels.insert(stay("realtime:a", 2), rows);
        assert_eq!(Place::from_json(&place.to_json()), Some(place));
        for wrong in [
            "",
            "[]",
            "7",
            r#"{"a":[1]}"#,
            r#"{"a":{"1":[true,"x",null]}}"#,
            r#"{"a":{"u":[true,null,null]}}"#,
            // Of a server that did not know whose it was.
            r#"{"a":[true,"5-16b3748",null]}"#,
        ] {
            assert_eq!(Place::from_json(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn another_server_takes_over() {
        let places = Places::new(WINDOW, 10);
        let (holder, _) = connect(&places, "a");
        holder.acknowledge(place(3), Instant::now(), 0);
        let next = Places::new(WINDOW, 10);
        let written = places.take_all_unsaved().places.into_iter();
        let written = written.map(|(id, place)| (id, Some(Written { place, version: 1 })));
        next.take_over(written, Instant::now());
        let (again, returning) = connect(&next, "a");
        assert_eq!((returning.place, returning.recalled), (Some(place(3)), true));
        again.acknowledge(place(4), Instant::now(), 0);
        drop(again);
        assert!(
            connect(&next, "a").1.recalled,
            "what it had not joined again yet is not known"
        );
        next.take_over(
            [(
                "b".into(),
                Some(Written {
                    place: place(1),
                    version: 1,
                }),
            )],
            Instant::now(),
        );
        let later = Instant::now() + WINDOW;
        assert_eq!(next.connect("b", later).expect("a place").1.place, None);
    }
}
