//! What is known of a client that has connected, and of whom of its users.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Place, Stay, TopicPlace, Turn};
use crate::auth::User;

/// Said to a session that has no place: the first connection of a client is told so as well, which costs it nothing.
pub(in crate::session) const UNKNOWN: &str =
    "this server does not know the session: it is new, or was away for too long";
pub(in crate::session) const SHARED: &str = "the session id is used by two connections at once";
/// Said where the place is another user's: whoever comes with an id that was somebody else's has missed whatever there was.
pub(in crate::session) const ANOTHERS: &str = "the session was another user's";

/// What is known of a client that has connected.
#[derive(Clone, Debug, Default)]
pub struct Returning {
    /// By which rooms know it again, with its user.
    pub who: u64,
    /// Where it was; `None` for somebody unknown.
    pub place: Option<Place>,
    /// Two connections at once have used the id, so that nobody can say which of them received what.
    pub shared: bool,
    /// The place is what another server wrote down before it ended. If that was sudden, it lacks what began last.
    pub recalled: bool,
    /// What this connection has begun or ended, from where it would go on.
    pub here: Place,
    /// What has become of channels, and has not been noted where others find it.
    pub turns: Vec<(Stay, Turn)>,
    /// Users who have left channels that they were known in.
    pub left: Vec<User>,
}

impl Returning {
    /// By what rooms know a user of the id again. Somebody else's words are news to it, whatever id they came by.
    pub fn who(&self, user: User) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.who, user).hash(&mut hasher);
        hasher.finish()
    }

    /// What was known when it connected, if that is anybody's.
    pub(in crate::session) fn before(&self) -> Option<&Place> {
        self.place.as_ref().filter(|_| !self.shared)
    }

    /// Where a user was in a channel.
    pub(in crate::session) fn known(&self, stay: &Stay) -> Option<&TopicPlace> {
        let here = self.here.channels.get(stay);
        here.or_else(|| self.before()?.channels.get(stay))
    }

    /// Why nothing is known of a user who comes to a channel, if it may have been there; and not of one who begins another channel.
    pub(in crate::session) fn stranger(&self, stay: &Stay) -> Option<&'static str> {
        if self.known(stay).is_some() {
            return None;
        }
        match (self.shared, &self.place) {
            (true, _) => Some(SHARED),
            (false, None) => Some(UNKNOWN),
            (false, Some(place)) => {
                let others = self.here.has(&stay.topic) || place.has(&stay.topic);
                let user_is_known = place.knows(stay.user) || self.left.contains(&stay.user);
                let why = match place.channels.is_empty() && self.left.is_empty() {
                    true => UNKNOWN,
                    false => ANOTHERS,
                };
                (others || !user_is_known).then_some(why)
            }
        }
    }

    /// A user begins there in a channel.
    pub(in crate::session) fn begins(&mut self, stay: Stay, begun: TopicPlace) {
        self.here.channels.insert(stay.clone(), begun.clone());
        self.turns.push((stay, Turn::Begun(begun)));
    }

    /// All rows of a topic come anew. Whoever has been there, its client has the rows of one of them at a time.
    pub(in crate::session) fn drop_rows(&mut self, topic: &str) {
        let before = self.before().into_iter().flat_map(|place| &place.channels);
        let before = before.filter(|(stay, _)| !self.here.channels.contains_key(stay));
        let all = before.chain(&self.here.channels);
        let has_rows = all.filter(|(stay, here)| *stay.topic == *topic && here.rows.is_some());
        let has_rows: Vec<_> = has_rows
            .map(|(stay, here)| (stay.clone(), here.clone()))
            .collect();
        for (stay, here) in has_rows {
            self.begins(stay, TopicPlace { rows: None, ..here });
        }
    }

    /// A user is in a channel no more.
    pub(in crate::session) fn forget(&mut self, stay: &Stay) {
        self.here.channels.remove(stay);
        let place = self.place.as_mut();
        let known = place.and_then(|place| place.channels.remove(stay));
        if known.is_some() && !self.left.contains(&stay.user) {
            self.left.push(stay.user);
        }
        self.turns.push((stay.clone(), Turn::Left));
    }

    /// Nobody is in a channel any more, whoever was.
    pub(in crate::session) fn forget_all(&mut self, topic: &str) {
        let before = self.place.iter().flat_map(|place| place.channels.keys());
        let all = before.chain(self.here.channels.keys());
        let there: Vec<_> = all.filter(|stay| *stay.topic == *topic).cloned().collect();
        for stay in there {
            self.forget(&stay);
        }
    }
}
