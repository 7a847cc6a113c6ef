//! Going on from where the client was: what a join is told of the past, and what is remembered of a channel that ends.
//!
//! A client can say it itself (`since` in the join); of one with a session id the server knows.

use std::sync::Arc;

use super::Session;
use super::channel::{Channel, RowState};
use super::places::{Place, TopicPlace};
use super::rows::notice_frame;
use crate::change::{Cursor, Position};
use crate::hub::{HeldFrame, Lane};
use crate::protocol::JoinConfig;
use crate::protocol::errors::Notice;
use crate::room::{self, Missed, Return};

/// Said to a session that has no place: the first connection of a client is told so as well, which costs it nothing.
const UNKNOWN: &str = "this server does not know the session: it is new, or was away for too long";
const SHARED: &str = "the session id is used by two connections at once";

impl Session {
    /// From where a join goes on: puts the place of its rows into `config`, and returns the one in its room. What stands in
    /// the way of either is told behind the reply.
    pub(super) fn resume(
        &self,
        topic: &Arc<str>,
        config: &mut JoinConfig,
        reply: &HeldFrame,
    ) -> Option<Return> {
        let told = config.broadcast.since.as_deref();
        let Some(returning) = &self.returning else {
            let told = told?;
            let since = told.parse::<room::Since>();
            if let (Err(error), false) = (&since, told.is_empty()) {
                self.tell_behind(topic, reply, Notice::Resync(error.to_string()));
            }
            return Some(Return {
                who: None,
                since: since.ok(),
            });
        };
        if returning.shared || returning.place.is_none() {
            let why = if returning.shared { SHARED } else { UNKNOWN };
            self.tell_behind(topic, reply, Notice::Resync(why.to_owned()));
        }
        let places = returning.place.as_ref().filter(|_| !returning.shared);
        let place = places.and_then(|place| place.topics.get(topic));
        let place = place.filter(|place| place.private == config.private);
        if let (None, Some(rows)) = (&config.since, place.and_then(|place| place.rows)) {
            config.since = Some(rows.to_string().into());
        }
        let since = told.and_then(|told| told.parse().ok());
        Some(Return {
            who: Some(returning.who),
            since: since.or(place.and_then(|place| place.room)),
        })
    }

    /// Tells a channel that came back what became of its broadcasts. If it has rows, good news is theirs to tell.
    pub(super) fn tell_room(&self, topic: &str, missed: Option<Missed>, only: bool, reply: &HeldFrame) {
        match missed {
            Some(missed) => self.tell_behind(topic, reply, Notice::Resync(missed.to_string())),
            None if only => self.tell_behind(topic, reply, Notice::Resumed),
            None => {}
        }
    }

    fn tell_behind(&self, topic: &str, reply: &HeldFrame, notice: Notice) {
        if let Some(channel) = self.channels.get(topic) {
            reply.append(vec![notice_frame(self.version, topic, channel, &notice)]);
        }
    }

    /// How far the client is once everything that is in its outbox now has arrived.
    pub fn place(&self) -> Place {
        // In front of everything else: what comes meanwhile is then in the outbox, and not counted.
        let cursor = (self.context.position)();
        let known = self
            .returning
            .as_ref()
            .and_then(|returning| returning.place.clone());
        let mut place = known.unwrap_or_default();
        for (topic, channel) in &self.channels {
            if let Some(here) = self.topic_place(channel, cursor) {
                place.topics.insert(Arc::clone(topic), here);
            }
        }
        place
    }

    /// Remembers how far a channel is that ends: its client may join it again.
    pub(super) fn remember(&mut self, topic: &str) {
        let cursor = (self.context.position)();
        let Some((topic, channel)) = self.channels.get_key_value(topic) else {
            return;
        };
        let (topic, here) = (Arc::clone(topic), self.topic_place(channel, cursor));
        if let (Some(returning), Some(here)) = (&mut self.returning, here) {
            let place = returning.place.get_or_insert_default();
            place.topics.insert(topic, here);
        }
    }

    /// The client has left a channel: what it misses from now on is not missed.
    pub(super) fn forget(&mut self, topic: &str) {
        let place = self
            .returning
            .as_mut()
            .and_then(|returning| returning.place.as_mut());
        if let Some(place) = place {
            place.topics.remove(topic);
        }
    }

    /// `None` for a channel that has not been joined yet: what was known of it before holds.
    fn topic_place(&self, channel: &Channel, cursor: Option<Cursor>) -> Option<TopicPlace> {
        if !channel.is_joined() {
            return None;
        }
        let rows = channel.rows.as_ref().map(|rows| match rows.state {
            RowState::Live | RowState::Replacing { .. } => cursor.map(|cursor| held_back(cursor, &rows.lane)),
            // It is on its way from there.
            RowState::Pending { .. } | RowState::Retry(_) | RowState::Refused => {
                let since = rows.since.as_deref();
                since.and_then(|text| text.parse().ok())
            }
        });
        let room = channel.member.as_ref().map(|member| room::Since {
            instance: self.context.rooms.instance(),
            number: member.place(),
            stream: cursor,
        });
        Some(TopicPlace {
            private: channel.private.is_some(),
            rows: rows.flatten(),
            room,
        })
    }
}

/// What is gathered for a channel is not in the outbox.
fn held_back(cursor: Cursor, lane: &Lane) -> Cursor {
    let before = lane.held_since().map(Position::before_transaction);
    Cursor {
        position: before.map_or(cursor.position, |before| before.min(cursor.position)),
        ..cursor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Lsn;
    use crate::hub::{Bounds, Hold, Outbox};

    #[test]
    fn what_is_gathered_for_a_channel_has_not_arrived() {
        let outbox = Outbox::new(Bounds {
            frames: 100,
            bytes: 1_000,
        });
        let (lane, other) = (Lane::new(&outbox), Lane::new(&outbox));
        let cursor: Cursor = "5-64".parse().expect("a cursor");
        let since = |commit| Some(Position::behind(Lsn(commit)));
        let mut holds = [Hold::new(&lane), Hold::new(&lane), Hold::new(&lane)];
        for (hold, commit) in holds.iter_mut().zip([0x70, 0x60, 0x50]) {
            hold.set(1, 1, since(commit)).expect("room for it");
        }
        assert_eq!(held_back(cursor, &lane).to_string(), "5-4f");
        assert_eq!(held_back(cursor, &other), cursor);
        let [first, _, third] = &mut holds;
        third.set(0, 0, None).expect("room for it");
        assert_eq!(held_back(cursor, &lane).to_string(), "5-5f");
        assert_eq!(first.others_since(), since(0x60));
        holds = [Hold::new(&lane), Hold::new(&lane), Hold::new(&lane)];
        assert_eq!(held_back(cursor, &lane), cursor);
        drop(holds);
    }
}
