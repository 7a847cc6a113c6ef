//! How far the client of a session has come: its requests say which messages have arrived.

use std::time::Duration;

use tokio::time::Instant;

use crate::session::{Holder, Place, Stay, TopicPlace};

/// Of a client with a session id.
#[derive(Debug)]
pub(super) struct Tracking {
    holder: Holder,
    /// Between two places that are noted, while there is something new.
    every: Duration,
    /// Between two, otherwise: places move on without the client, and must not fall out of the window.
    idle: Duration,
    last: Instant,
    news: bool,
    /// Where the client is once it has read so many messages, and [`Session::sent`](crate::session::Session::sent) by then.
    noted: Option<(u64, Place, u32)>,
    /// When that was noted, and at how many messages.
    asked: (std::time::Instant, u64),
    /// What has begun, with the number of messages of the note before.
    begun: Vec<(u64, Stay, TopicPlace)>,
}

impl Tracking {
    pub(super) fn new(holder: Holder, every: Duration, window: Duration) -> Self {
        Self {
            holder,
            every,
            idle: (window / 8).max(every),
            last: Instant::now(),
            // What its joins are answered with is worth a note.
            news: true,
            noted: None,
            asked: (std::time::Instant::now(), 0),
            begun: Vec::new(),
        }
    }

    /// Channels have begun.
    pub(super) fn begin(&mut self, begun: Vec<(Stay, TopicPlace)>) {
        let (_, before) = self.asked;
        let known = |(stay, here): &(Stay, TopicPlace)| (before, stay.clone(), here.clone());
        self.begun.extend(begun.iter().map(known));
        self.holder.begin(begun);
    }

    /// How many have begun since the note that was read last.
    pub(super) fn begun(&self) -> usize {
        self.begun.len()
    }

    /// See [`Holder::give_up`].
    pub(super) fn give_up(self) {
        self.holder.give_up();
    }

    /// There are new messages.
    pub(super) fn news(&mut self) {
        self.news = true;
    }

    /// When to note a place next.
    pub(super) fn due(&self) -> Instant {
        self.last + if self.news { self.every } else { self.idle }
    }

    /// The client is there once it has read so many messages.
    pub(super) fn note(&mut self, messages: u64, place: Place, sent: u32) {
        (self.last, self.news) = (Instant::now(), false);
        self.asked = (std::time::Instant::now(), messages);
        self.noted = Some((messages, place, sent));
    }

    /// The client has read so many messages; whether anything is known by it.
    pub(super) fn read(&mut self, messages: u64) -> bool {
        let Some((noted, mut place, sent)) = self.noted.take_if(|(noted, ..)| *noted <= messages) else {
            return false;
        };
        // The place knows nothing of what began behind it.
        self.begun.retain(|(before, ..)| *before >= noted);
        let later = self.begun.iter();
        let later = later.map(|(_, stay, begun)| (stay.clone(), begun.clone()));
        place.begin(later.collect());
        self.holder.acknowledge(place, self.asked.0, sent);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Places;

    #[test]
    fn a_place_counts_once_everything_before_it_has_been_read() {
        let places = Places::new(Duration::from_secs(60), 10);
        let (holder, _) = places.connect("a", std::time::Instant::now()).unwrap();
        let mut tracking = Tracking::new(holder, Duration::ZERO, Duration::from_secs(60));
        let topic = TopicPlace {
            private: false,
            rows: None,
            room: None,
        };
        let stay = Stay {
            topic: "realtime:a".into(),
            user: crate::auth::User(1),
        };
        let place = Place {
            channels: [(stay, topic)].into(),
        };
        tracking.note(5, place, 0);
        assert!(!tracking.read(4) && !places.knows("a"));
        assert!(tracking.read(5) && places.knows("a"));
        assert!(!tracking.read(6), "that is known");
    }
}
