//! Going on from where the client was: what a join is told of the past, and what is remembered of a channel that ends.
//!
//! A client can say it itself (`since` in the join); of one with a session id the server knows.

use std::sync::Arc;

use super::channel::{Channel, RowState, Rows};
use super::places::{ANOTHERS, Place, SHARED, Shape, Stay, TopicPlace, Turn, UNKNOWN};
use super::rows::{notice_frame, placed_notice};
use super::{Returning, Session};
use crate::auth::User;
use crate::change::{Cursor, Position};
use crate::hub::{HeldFrame, Lane};
use crate::protocol::errors::Notice;
use crate::protocol::{JoinConfig, Snapshot, Version};
use crate::room::{self, Return};

/// Said of a channel that may have begun just before another server ended.
const BEGUN_ELSEWHERE: &str =
    "the server was replaced, and this channel was not known to the one before, or is new";
/// The server had not begun to read when the channel began, or the client was in the other room of this name.
const NOWHERE: &str = "where the session was in this channel is not known";
/// Of what it asks for now, nobody knows what it has.
const OTHER_ROWS: &str = "the channel asks for other rows than it did before";

/// A client has no more channels than this, ended ones included, in its place and on the way to it, where it may not have
/// more at once. One that joins and leaves and never says what has arrived would fill the memory.
const MOST_REMEMBERED: usize = 1_024;

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
                cursors: self.tells_places(),
            });
        };
        let stay = Stay {
            topic: Arc::clone(topic),
            user: self.channels.get(topic)?.user,
        };
        let known = returning.known(&stay);
        let place = known.filter(|place| place.private == config.private);
        let shape = Shape::of(&config.bindings);
        let rows = place.and_then(|place| place.rows_of(shape));
        let other_rows = rows.is_none() && place.is_some_and(|place| place.rows.is_some());
        let rows_come = config.bindings.iter().all(|b| b.snapshot == Snapshot::On);
        let needs_no_rows = config.since.is_some() || rows_come;
        let knows_rows = needs_no_rows || rows.is_some();
        let knows_room = told.is_some() || place.is_some_and(|place| place.room.is_some());
        let knows = knows_rows && knows_room;
        let why = match returning.stranger(&stay) {
            Some(why @ (UNKNOWN | SHARED)) => Some(why),
            Some(why) if !knows => Some(why),
            None if other_rows && !knows_rows => Some(OTHER_ROWS),
            None if returning.recalled && returning.place.is_some() && !knows => Some(BEGUN_ELSEWHERE),
            None if known.is_some() && (place.is_none() || !knows_rows) => Some(NOWHERE),
            Some(_) | None => None,
        };
        if let Some(why) = why {
            self.tell_behind(topic, reply, Notice::Resync(why.to_owned()));
        }
        if let (None, Some(rows)) = (&config.since, rows) {
            config.since = Some(rows.to_string().into());
        }
        let since = told.and_then(|told| told.parse().ok());
        Some(Return {
            who: Some(returning.who(stay.user)),
            since: since.or(place.and_then(|place| place.room)),
            cursors: told.is_some() && self.tells_places(),
        })
    }

    /// Requests for events have places of their own, with each event.
    fn tells_places(&self) -> bool {
        self.version != Version::Events
    }

    /// Tells a channel that has come into its room what became of its broadcasts: between those that it is given again and what is
    /// new, where that is a place; otherwise bad news comes first. If it has rows, good news is theirs to tell.
    pub(super) fn tell_room(&self, topic: &str, returns: Return, only: bool, reply: &HeldFrame) {
        let Some(channel) = self.channels.get(topic) else {
            return;
        };
        let Some(member) = &channel.member else { return };
        let notice = match (member.missed(), returns.since) {
            (Some(missed), _) if !returns.cursors => {
                return self.tell_behind(topic, reply, Notice::Resync(missed.to_string()));
            }
            (Some(missed), _) => Notice::Resync(missed.to_string()),
            (None, Some(_)) if only => Notice::Resumed,
            (None, None) if returns.cursors => Notice::Live,
            (None, _) => return,
        };
        let place = returns.cursors.then(|| member.entered());
        member.announce(placed_notice(self.version, topic, channel, &notice, place));
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
        let here = self
            .returning
            .iter()
            .flat_map(|returning| &returning.here.channels);
        place
            .channels
            .extend(here.map(|(stay, here)| (stay.clone(), here.clone())));
        for (topic, channel) in &self.channels {
            place.channels.extend(self.channel_place(topic, channel, cursor));
        }
        place
    }

    /// Another number when any rows have been sent since, on whichever channel. To be asked before the place that it is for.
    pub fn sent(&self) -> u32 {
        let rows = self.channels.values().filter_map(|channel| channel.rows.as_ref());
        rows.fold(0, |sent, rows| sent.wrapping_add(rows.lane.sent()))
    }

    /// How far the client is with the rows of a channel once everything that is in its outbox now has arrived, if they are
    /// live and the feed was at `cursor` before.
    pub fn place_of_rows(&self, topic: &str, cursor: Cursor) -> Option<Cursor> {
        let rows = self.channels.get(topic)?.rows.as_ref()?;
        Some(held_back(cursor, &rows.lane))
    }

    /// How far the client is in the room of a channel once everything that is in its outbox now has arrived, also where the
    /// feed has sent the reply just now. `None` for a channel that is in no room, or not yet.
    pub fn place_in_room(&self, topic: &str) -> Option<room::Since> {
        let stream = (self.context.position)();
        let channel = self.channels.get(topic)?;
        let answered = channel.is_joined() || channel.held_reply().is_some_and(HeldFrame::was_sent);
        let member = channel.member.as_ref().filter(|_| answered)?;
        Some(room::Since {
            instance: self.context.rooms.instance(),
            number: member.place(),
            stream,
        })
    }

    /// Remembers how far a channel is that ends: its client may join it again.
    pub(super) fn remember(&mut self, topic: &str) {
        let cursor = (self.context.position)();
        let Some((topic, channel)) = self.channels.get_key_value(topic) else {
            return;
        };
        let here = self.channel_place(topic, channel, cursor);
        if let Some(returning) = &mut self.returning {
            returning.here.channels.extend(here);
        }
    }

    /// A channel begins that has taken its seat, and nothing was known of it. Should its connection be lost before the client
    /// could say how far it is, it goes on from here: from where it said itself, or from `cursor`.
    pub(super) fn begin(&mut self, topic: &Arc<str>, config: &JoinConfig, cursor: Option<Cursor>) {
        let (Some(returning), Some(channel)) = (&self.returning, self.channels.get(topic)) else {
            return;
        };
        let stay = channel.stay(topic);
        let shape = Shape::of(&config.bindings);
        let said = config.since.as_deref().and_then(|since| since.parse().ok());
        let known = returning.known(&stay).filter(|at| at.private == config.private);
        let goes_on = |at: &&TopicPlace| {
            let same_rows = shape.is_none() || at.shape.is_none() || at.shape == shape;
            same_rows && (said.is_none() || said == at.rows)
        };
        if known.is_some_and(|at| goes_on(&at)) {
            return;
        }
        let rows = match config.since.as_deref() {
            // With its rows, once it has them.
            None | Some("") if config.bindings.iter().any(|b| b.snapshot == Snapshot::On) => None,
            None | Some("") => cursor,
            Some(_) => said,
        };
        let begun = TopicPlace {
            private: config.private,
            shape,
            rows: rows.filter(|_| !config.bindings.is_empty()),
            room: known
                .and_then(|at| at.room)
                .or_else(|| self.room_place(channel, cursor)),
        };
        if let Some(returning) = &mut self.returning {
            returning.begins(stay, begun);
        }
    }

    /// A channel is another user's from now on, by its token. Where that one is with its rows is not known before they come.
    pub(super) fn pass_on(&mut self, topic: &Arc<str>, user: User) {
        let cursor = (self.context.position)();
        let Some(channel) = self.channels.get_mut(topic) else {
            return;
        };
        if channel.user == user || !channel.is_granted() {
            return;
        }
        let left = channel.stay(topic);
        channel.user = user;
        let (Some(returning), Some(channel)) = (&self.returning, self.channels.get(topic)) else {
            return;
        };
        if let Some(member) = &channel.member {
            member.known_as(returning.who(user));
        }
        let here = self.channel_place(topic, channel, cursor);
        if let (Some(returning), Some((stay, here))) = (&mut self.returning, here) {
            returning.forget(&left);
            returning.begins(stay, here);
        }
        self.tell_heir(topic);
    }

    /// What a channel is given again, or will be, began where another user was.
    fn tell_heir(&self, topic: &Arc<str>) {
        let Some(channel) = self.channels.get(topic) else {
            return;
        };
        let notice = Notice::Resync(ANOTHERS.to_owned());
        let frame = notice_frame(self.version, topic, channel, &notice);
        let live = |rows: &Rows| matches!(rows.state, RowState::Live | RowState::Replacing { .. });
        let follows = channel
            .held_reply()
            .is_some_and(|reply| reply.append(vec![frame]));
        if !follows && channel.rows.as_ref().is_some_and(|rows| !live(rows)) {
            self.notify(topic, &notice);
        }
    }

    /// All rows of a topic are to come anew: whoever is cut off from here on needs all of them.
    pub(super) fn drop_rows(&mut self, topic: &str) {
        if let Some(returning) = &mut self.returning {
            returning.drop_rows(topic);
        }
    }

    /// All rows of a channel are on their way: whoever is cut off before it has them needs all of them again.
    pub(super) fn rows_come(&mut self, topic: &str) {
        let cursor = (self.context.position)();
        let Some((topic, channel)) = self.channels.get_key_value(topic) else {
            return;
        };
        let here = self.channel_place(topic, channel, cursor);
        if let (Some(returning), Some((stay, here))) = (&mut self.returning, here) {
            returning.begins(stay, here);
        }
    }

    /// Whether its client, of which so many channels have begun since it answered last, has more than can be remembered.
    pub fn outgrows_place(&self, begun: usize) -> bool {
        let most = MOST_REMEMBERED.max(4 * self.context.limits.channels_per_connection);
        self.returning.as_ref().is_some_and(|returning| {
            let before = returning.place.as_ref().map_or(0, |place| place.channels.len());
            begun + before + returning.here.channels.len() > most
        })
    }

    /// Its client is not followed any more.
    pub fn give_up_place(&mut self) {
        self.returning = None;
    }

    /// What has become of channels since this was asked last.
    pub fn take_turns(&mut self) -> Vec<(Stay, Turn)> {
        let returning = self.returning.as_mut();
        returning.map_or_else(Vec::new, |returning| std::mem::take(&mut returning.turns))
    }

    /// The client has left a channel: what it misses from now on is not missed.
    pub(super) fn forget(&mut self, stay: &Stay) {
        if let Some(returning) = &mut self.returning {
            returning.forget(stay);
        }
    }

    /// The same of one that it left while it was away, or before it was known whose it is.
    pub(super) fn forget_all(&mut self, topic: &str) {
        if let Some(returning) = &mut self.returning {
            returning.forget_all(topic);
        }
    }

    /// Another connection has the same session id, and both are there. What this one went on from may have been the other's.
    pub fn shared(&mut self) {
        let went_on = |returning: &&mut Box<Returning>| returning.before().is_some();
        let Some(returning) = self.returning.as_mut().filter(went_on) else {
            return;
        };
        // Joins that are still to be granted are told by this.
        returning.shared = true;
        for (topic, channel) in &self.channels {
            let notice = Notice::Resync(SHARED.to_owned());
            let frame = notice_frame(self.version, topic, channel, &notice);
            let follows = |reply: &HeldFrame| reply.append(vec![frame]);
            if !channel.held_reply().is_some_and(follows) && channel.is_granted() {
                self.notify(topic, &notice);
            }
        }
    }

    /// `None` for a channel that has not been joined yet: what was known of it before holds.
    fn channel_place(
        &self,
        topic: &Arc<str>,
        channel: &Channel,
        cursor: Option<Cursor>,
    ) -> Option<(Stay, TopicPlace)> {
        if !channel.is_joined() {
            return self.catching_up(topic, channel);
        }
        let stay = channel.stay(topic);
        let rows = channel.rows.as_ref().map(|rows| match rows.state {
            _ if rows.user != channel.user => None,
            RowState::Live | RowState::Replacing { .. } => cursor.map(|cursor| held_back(cursor, &rows.lane)),
            RowState::Pending { .. } | RowState::Retry(_) | RowState::Refused if rows.begun => None,
            // It is on its way from there.
            RowState::Pending { .. } | RowState::Retry(_) | RowState::Refused => {
                let since = || rows.since.as_deref()?.parse().ok();
                rows.lane.reached().or_else(since).or_else(|| self.began(&stay))
            }
        });
        let place = TopicPlace {
            private: channel.private.is_some(),
            shape: channel.rows.as_ref().and_then(|rows| rows.shape),
            rows: rows.flatten(),
            room: self.room_place(channel, cursor),
        };
        Some((stay, place))
    }

    /// A channel that is given what it missed counts as joined only behind that. Its rows come further before.
    fn catching_up(&self, topic: &Arc<str>, channel: &Channel) -> Option<(Stay, TopicPlace)> {
        let rows = channel.rows.as_ref();
        let rows = rows.filter(|rows| rows.user == channel.user && !rows.begun)?;
        let stay = channel.stay(topic);
        let known = self.returning.as_ref()?.known(&stay);
        let known = known.filter(|known| known.private == channel.private.is_some())?;
        let place = TopicPlace {
            rows: Some(rows.lane.reached()?),
            ..known.clone()
        };
        Some((stay, place))
    }

    /// Where its rows began.
    fn began(&self, stay: &Stay) -> Option<Cursor> {
        self.returning.as_ref()?.here.channels.get(stay)?.rows
    }

    fn room_place(&self, channel: &Channel, cursor: Option<Cursor>) -> Option<room::Since> {
        let member = channel.member.as_ref()?;
        Some(room::Since {
            instance: self.context.rooms.instance(),
            number: member.place(),
            stream: cursor,
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
