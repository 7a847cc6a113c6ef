//! How far the client of a session has come: its requests say which messages have arrived.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::session::{Holder, Place, Stay, Turn};

/// Of a client with a session id.
#[derive(Debug)]
pub(super) struct Tracking {
    holder: Arc<Holder>,
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
    /// What has become of channels, with the number of messages of the note before.
    turns: Vec<(u64, Stay, Turn)>,
}

impl Tracking {
    pub(super) fn new(holder: Arc<Holder>, every: Duration, window: Duration) -> Self {
        Self {
            holder,
            every,
            idle: (window / 8).max(every),
            last: Instant::now(),
            // What its joins are answered with is worth a note.
            news: true,
            noted: None,
            asked: (std::time::Instant::now(), 0),
            turns: Vec::new(),
        }
    }

    /// Something has become of channels. Whether it should be written down soon.
    pub(super) fn follow(&mut self, turns: Vec<(Stay, Turn)>) -> bool {
        let (_, before) = self.asked;
        let known = |(stay, turn): &(Stay, Turn)| (before, stay.clone(), turn.clone());
        self.turns.extend(turns.iter().map(known));
        self.holder.follow(turns)
    }

    /// How often something has since the note that was read last.
    pub(super) fn turns(&self) -> usize {
        self.turns.len()
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

    /// The client has read so many messages; if anything is known by it, whether [another connection](Holder::acknowledge) turns out
    /// to have its id as well.
    pub(super) fn read(&mut self, messages: u64) -> Option<bool> {
        let (noted, mut place, sent) = self.noted.take_if(|(noted, ..)| *noted <= messages)?;
        // The place knows nothing of what came behind it.
        self.turns.retain(|(before, ..)| *before >= noted);
        let later = self.turns.iter();
        let later = later.map(|(_, stay, turn)| (stay.clone(), turn.clone()));
        place.follow(later.collect());
        Some(self.holder.acknowledge(place, self.asked.0, sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Places, TopicPlace};

    #[test]
    fn a_place_counts_once_everything_before_it_has_been_read() {
        let places = Places::new(Duration::from_secs(60), 10);
        let (holder, _) = places.connect("a", std::time::Instant::now()).unwrap();
        let mut tracking = Tracking::new(Arc::new(holder), Duration::ZERO, Duration::from_secs(60));
        let topic = TopicPlace {
            private: false,
            shape: None,
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
        assert!(tracking.read(4).is_none() && !places.knows("a"));
        assert!(tracking.read(5) == Some(false) && places.knows("a"));
        assert!(tracking.read(6).is_none(), "that is known");
    }
}
