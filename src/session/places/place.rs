//! How far a client is, and the form in which another server reads it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::auth::User;
use crate::change::Cursor;
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
    /// With its rows, if it had any.
    pub rows: Option<Cursor>,
    /// With what is said in its room.
    pub room: Option<room::Since>,
}

/// The channels of a topic, as JSON: `{user: [private, rows, room]}`.
type Written = HashMap<String, (bool, Option<String>, Option<String>)>;

impl Place {
    /// For another server.
    pub fn to_json(&self) -> String {
        let mut topics: HashMap<&str, Written> = HashMap::new();
        for (stay, place) in &self.channels {
            let rows = place.rows.map(|at| at.to_string());
            let room = place.room.map(|at| at.to_string());
            let users = topics.entry(&stay.topic).or_default();
            users.insert(format!("{:x}", stay.user.0), (place.private, rows, room));
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
            for (user, (private, rows, room)) in users {
                let stay = Stay {
                    topic: Arc::clone(&topic),
                    user: User(u64::from_str_radix(&user, 16).ok()?),
                };
                let place = TopicPlace {
                    private,
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

    /// Adds channels of which nothing is known yet; and forgets where the rows were of those that have to begin with them.
    pub fn begin(&mut self, begun: Vec<(Stay, TopicPlace)>) {
        for (stay, here) in begun {
            match self.channels.get_mut(&stay) {
                Some(known) if known.private == here.private => {
                    known.rows = known.rows.filter(|_| here.rows.is_some());
                }
                _ => {
                    self.channels.insert(stay, here);
                }
            }
        }
    }
}
