//! How far a client is, and the form in which another server reads it.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::auth::User;
use crate::change::Cursor;
use crate::protocol::{Binding, Snapshot};
use crate::room;

/// How far a client is in its channels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Those it had joined.
    pub channels: HashMap<Stay, TopicPlace>,
}

/// Somebody's channel. An id is no credential: what others do with it is apart from what its owner does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stay {
    /// Full topic.
    pub topic: Arc<str>,
    /// Whose token it has.
    pub user: User,
}

/// How far a client is in one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlace {
    /// Rooms of public and private channels are different ones.
    pub private: bool,
    /// Which rows it is about, if it is about any.
    pub shape: Option<Shape>,
    /// With its rows, if it had any.
    pub rows: Option<Cursor>,
    /// With what is said in its room.
    pub room: Option<room::Since>,
}

/// What a channel asked for. A place with these rows says nothing of others under the same topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape(u64);

impl Shape {
    /// `None` without bindings. The same on every server.
    pub fn of(bindings: &[Binding]) -> Option<Self> {
        let mut ids: Vec<_> = bindings.iter().map(|binding| binding.id).collect();
        ids.sort_unstable();
        // FNV-1a, by ids instead of bytes.
        let digest = ids.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, id| {
            (hash ^ id.cast_unsigned()).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let rows_first = bindings.iter().any(|binding| binding.snapshot == Snapshot::On);
        (!ids.is_empty()).then_some(Self(digest & !1 | u64::from(rows_first)))
    }

    /// Rows are sent before changes are, so whoever goes on without having all of them lacks some for good.
    pub fn rows_first(self) -> bool {
        self.0 & 1 == 1
    }
}

/// What has become of somebody's channel since the last place that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It began, or began anew, from there.
    Begun(TopicPlace),
    /// Its client left it on purpose.
    Left,
}

/// The channels of a topic, as JSON: `{user: [private, rows, room, shape]}`.
type Written = HashMap<String, WrittenPlace>;

#[derive(Serialize, Deserialize)]
struct WrittenPlace(
    bool,
    Option<String>,
    Option<String>,
    // Not known to every version.
    #[serde(default)] Option<String>,
);

impl Place {
    /// For another server.
    pub fn to_json(&self) -> String {
        let mut topics: HashMap<&str, Written> = HashMap::new();
        for (stay, place) in &self.channels {
            let rows = place.rows.map(|at| at.to_string());
            let room = place.room.map(|at| at.to_string());
            let users = topics.entry(&stay.topic).or_default();
            let shape = place.shape.map(|shape| format!("{:x}", shape.0));
            let written = WrittenPlace(place.private, rows, room, shape);
            users.insert(format!("{:x}", stay.user.0), written);
        }
        // A map of texts has no form that cannot be written.
        serde_json::to_string(&topics).unwrap_or_default()
    }

    /// `None` for anything else, such as what was written before places had an owner: it could be anybody's.
    pub fn from_json(text: &str) -> Option<Self> {
        let topics: HashMap<String, Written> = serde_json::from_str(text).ok()?;
        let mut channels = HashMap::new();
        for (topic, users) in topics {
            let topic: Arc<str> = topic.into();
            for (user, WrittenPlace(private, rows, room, shape)) in users {
                let stay = Stay {
                    topic: Arc::clone(&topic),
                    user: User(u64::from_str_radix(&user, 16).ok()?),
                };
                let shape = shape.map(|text| u64::from_str_radix(&text, 16).ok().map(Shape));
                let place = TopicPlace {
                    private,
                    shape: match shape {
                        Some(shape) => Some(shape?),
                        None => None,
                    },
                    rows: rows.map(|text| text.parse()).transpose().ok()?,
                    room: room.map(|text| text.parse()).transpose().ok()?,
                };
                channels.insert(stay, place);
            }
        }
        Some(Self { channels })
    }

    /// Whether anything is known of somebody.
    pub fn knows(&self, user: User) -> bool {
        self.channels.keys().any(|stay| stay.user == user)
    }

    /// Whether anybody was in a channel of this topic.
    pub fn has(&self, topic: &str) -> bool {
        self.channels.keys().any(|stay| *stay.topic == *topic)
    }

    /// Follows what has become of channels: of those of which more is known, only what takes that back counts.
    pub fn follow(&mut self, turns: Vec<(Stay, Turn)>) {
        for (stay, turn) in turns {
            match (turn, self.channels.get_mut(&stay)) {
                (Turn::Left, _) => drop(self.channels.remove(&stay)),
                (Turn::Begun(here), Some(known)) if known.private == here.private => known.begin(&here),
                (Turn::Begun(here), _) => drop(self.channels.insert(stay, here)),
            }
        }
    }

    /// Nobody goes on from the rows of this topic any more: all of them come anew.
    pub fn drop_rows(&mut self, topic: &str) {
        for (stay, here) in &mut self.channels {
            if *stay.topic == *topic {
                here.rows = None;
            }
        }
    }

    /// The topics of which its client has rows that came first.
    pub fn whole(&self) -> impl Iterator<Item = &Arc<str>> {
        let whole = self.channels.iter().filter(|(_, here)| here.is_whole());
        whole.map(|(stay, _)| &stay.topic)
    }
}

impl TopicPlace {
    /// Where the client was with these rows, if it was about them.
    pub fn rows_of(&self, shape: Option<Shape>) -> Option<Cursor> {
        self.rows.filter(|_| self.shape.is_none() || self.shape == shape)
    }

    /// The client has all rows, which came first.
    fn is_whole(&self) -> bool {
        self.rows.is_some() && self.shape.is_none_or(Shape::rows_first)
    }

    fn begin(&mut self, here: &Self) {
        match (self.rows, here.rows) {
            (Some(known), Some(said)) if self.shape == here.shape => {
                let back = said.epoch != known.epoch || said.position < known.position;
                self.rows = Some(if back { said } else { known });
            }
            (None, Some(_)) if self.shape == here.shape => {}
            _ => (self.rows, self.shape) = (here.rows, here.shape),
        }
    }
}
