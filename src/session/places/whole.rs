//! Of which channels it is written that a client has all rows.
//!
//! Where rows come first, a place says that the client has them all. It must not outlive them: the next server would have the client
//! go on with changes. So whoever has its client drop rows looks whether that is written, and has it taken back before.

use std::sync::Arc;

use super::{Holder, Place, Stay, Turn};

/// Of which topics a written place may say that its client has rows that came first.
#[derive(Debug)]
pub(super) enum Whole {
    /// What was written could not be read.
    Any,
    /// These.
    Only(Vec<Arc<str>>),
}

impl Default for Whole {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Whole {
    pub(super) fn of(place: &Place) -> Self {
        Self::Only(place.whole().cloned().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Only(topics) if topics.is_empty())
    }

    fn has(&self, topic: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(topics) => topics.iter().any(|known| **known == *topic),
        }
    }

    /// This may be written as well.
    pub(super) fn add(&mut self, place: &Place) {
        if let Self::Only(topics) = self {
            let more: Vec<_> = place
                .whole()
                .filter(|topic| !topics.contains(topic))
                .cloned()
                .collect();
            topics.extend(more);
        }
    }
}

impl Holder {
    /// The client is about to drop all rows that it has of a topic, since they come anew: nobody goes on from them any more. Whether
    /// somebody might by what is written, so that this has to be written first.
    pub fn drop_rows(&self, topic: &str) -> bool {
        let mut books = self.places.lock();
        let Some(record) = books.records.get_mut(&self.id) else {
            return false;
        };
        if record.holder != self.number {
            return false;
        }
        if let Some(place) = &mut record.place {
            place.drop_rows(topic);
        }
        let written = record.saving.whole.has(topic);
        books.changed(&self.id, true);
        written
    }

    /// What has become of channels. Until the client is known to have more of them, it goes on from where they began; of those of
    /// which more is known, only what takes that back counts. Whether it should be written soon.
    pub fn follow(&self, turns: Vec<(Stay, Turn)>) -> bool {
        let mut books = self.places.lock();
        let Some(record) = books.records.get_mut(&self.id) else {
            return false;
        };
        if record.holder != self.number {
            return false;
        }
        let left = |(stay, turn): &(Stay, Turn)| *turn == Turn::Left && record.saving.whole.has(&stay.topic);
        let soon = turns.iter().any(left);
        record.place.get_or_insert_default().follow(turns);
        books.changed(&self.id, true);
        soon
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::auth::User;
    use crate::protocol::Binding;
    use crate::session::places::{Places, Shape, TopicPlace, Unsaved, Written};

    const TOPIC: &str = "realtime:a";

    fn stay(user: u64) -> Stay {
        Stay {
            topic: TOPIC.into(),
            user: User(user),
        }
    }

    fn rows_first() -> Option<Shape> {
        Shape::of(&[Binding::rows(None, "todos", None, None)])
    }

    fn here(rows: Option<&str>, shape: Option<Shape>) -> TopicPlace {
        TopicPlace {
            private: false,
            shape,
            rows: rows.map(|rows| rows.parse().unwrap()),
            room: None,
        }
    }

    fn place(rows: Option<&str>) -> Place {
        Place {
            channels: HashMap::from([(stay(1), here(rows, rows_first()))]),
        }
    }

    fn places(most: usize) -> Arc<Places> {
        let places = Places::new(Duration::from_secs(600), most);
        places.follow();
        places
    }

    fn connect(places: &Arc<Places>, id: &str) -> Holder {
        places.connect(id, Instant::now()).unwrap().0
    }

    fn write(places: &Places, version: i64) -> Unsaved {
        let unsaved = places.take_unsaved(9);
        places.saved(&unsaved, version);
        unsaved
    }

    fn written(place: Place) -> Written {
        Written { place, version: 1 }
    }

    #[test]
    fn rows_that_are_written_are_taken_back_before_they_come_anew_and_only_those() {
        let places = places(9);
        let holder = connect(&places, "a");
        holder.acknowledge(place(Some("5-10")), Instant::now(), 1);
        assert!(!holder.drop_rows(TOPIC), "nothing is written");
        holder.acknowledge(place(Some("5-20")), Instant::now(), 1);
        write(&places, 1);
        assert!(!holder.drop_rows("realtime:b"));
        assert!(holder.drop_rows(TOPIC));
        assert!(holder.drop_rows(TOPIC), "it still is");
        // Left and joined again at once.
        let back = places.take_unsaved_of(["a".into(), "a".into()]);
        assert_eq!(back.places, [("a".into(), place(None))]);
        assert!(holder.drop_rows(TOPIC), "it may fail");
        places.not_saved(&back);
        assert!(holder.drop_rows(TOPIC), "it has");
        assert_eq!(write(&places, 2).places[0].1, place(None));
        assert!(!holder.drop_rows(TOPIC));
    }

    #[test]
    fn what_is_on_its_way_to_being_written_counts_as_written() {
        let places = places(9);
        let holder = connect(&places, "a");
        holder.acknowledge(place(Some("5-10")), Instant::now(), 1);
        let under_way = places.take_unsaved(9);
        assert!(holder.drop_rows(TOPIC));
        places.not_saved(&under_way);
        assert!(holder.drop_rows(TOPIC), "it may have been written all the same");
    }

    #[test]
    fn what_another_server_wrote_is_taken_back_also_where_it_cannot_be_read() {
        let places = places(9);
        let now = Instant::now();
        places.take_over(
            [
                ("a".into(), Some(written(place(Some("5-10"))))),
                ("b".into(), None),
                ("c".into(), Some(written(place(None)))),
            ],
            now,
        );
        let dropping = ["a", "b", "c", "d"].map(|id| connect(&places, id).drop_rows(TOPIC));
        assert_eq!(dropping, [true, true, false, false]);
    }

    #[test]
    fn whoever_needs_no_rows_goes_on_from_an_old_place_as_well() {
        let places = places(9);
        let holder = connect(&places, "a");
        let mut changes = Binding::rows(None, "todos", None, None);
        changes.snapshot = crate::protocol::Snapshot::Off;
        let channel = here(Some("5-10"), Shape::of(&[changes]));
        let channels = HashMap::from([(stay(1), channel)]);
        holder.acknowledge(Place { channels }, Instant::now(), 1);
        write(&places, 1);
        assert!(!holder.drop_rows(TOPIC));
        assert!(!holder.follow(vec![(stay(1), Turn::Left)]));
    }

    #[test]
    fn a_channel_that_was_left_is_nobodys_at_once() {
        let places = places(9);
        let holder = connect(&places, "a");
        holder.acknowledge(place(Some("5-10")), Instant::now(), 1);
        assert!(!holder.follow(vec![(stay(2), Turn::Left)]));
        write(&places, 1);
        assert!(holder.follow(vec![(stay(1), Turn::Left)]), "that is written");
        let (_, returning) = places.connect("a", Instant::now()).unwrap();
        assert_eq!(returning.place, Some(Place::default()));
        assert!(!holder.drop_rows(TOPIC), "it is another connection's by now");
    }

    #[test]
    fn rows_come_anew_for_every_user_of_a_client() {
        let mut place = place(Some("5-10"));
        place.channels.insert(stay(2), here(Some("5-20"), rows_first()));
        let places = places(9);
        let holder = connect(&places, "a");
        holder.acknowledge(place, Instant::now(), 1);
        holder.drop_rows(TOPIC);
        drop(holder);
        let (_, returning) = places.connect("a", Instant::now()).unwrap();
        let place = returning.place.unwrap();
        assert!(place.channels.len() == 2 && place.channels.values().all(|here| here.rows.is_none()));
    }

    #[test]
    fn whoever_is_forgotten_is_forgotten_in_writing_too() {
        let places = places(1);
        for id in ["a", "b"] {
            let holder = connect(&places, id);
            holder.acknowledge(place(Some("5-10")), Instant::now(), 1);
            write(&places, 1);
        }
        assert!(!places.knows("a") && places.has_unsaved());
        // It comes before that is done, and goes before it has a place.
        assert!(connect(&places, "a").drop_rows(TOPIC));
        let nobodys = places.take_unsaved(9).nobodys;
        assert!(nobodys.contains(&"a".into()), "{nobodys:?}");
    }

    #[test]
    fn who_has_left_is_written_over_what_was_known_only() {
        let places = places(9);
        let holder = connect(&places, "a");
        holder.acknowledge(place(Some("5-10")), Instant::now(), 1);
        let unsaved = places.take_unsaved(9);
        assert_eq!(unsaved.over, [i64::MAX]);
        places.saved(&unsaved, 7);
        holder.acknowledge(place(Some("5-20")), Instant::now(), 2);
        drop(holder);
        assert_eq!(places.take_unsaved(9).over, [7]);
    }

    #[test]
    fn other_rows_begin_where_they_begin() {
        let other = Shape::of(&[Binding::rows(None, "todos", Some("id=eq.1"), None)]);
        let begun = |rows, shape| vec![(stay(1), Turn::Begun(here(rows, shape)))];
        for (turns, then) in [
            (begun(Some("5-90"), rows_first()), Some("5-50")),
            (begun(Some("5-10"), rows_first()), Some("5-10")),
            (begun(None, rows_first()), None),
            (begun(Some("5-90"), other), Some("5-90")),
            (begun(None, other), None),
        ] {
            let mut place = place(Some("5-50"));
            place.follow(turns);
            assert_eq!(
                place.channels[&stay(1)].rows,
                then.map(|rows| rows.parse().unwrap())
            );
        }
    }
}
