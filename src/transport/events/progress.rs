//! How far what was written reaches: the place to go on from after each frame, and while there are none.
//!
//! Whoever is cut off anywhere and comes back with the last place it has got misses nothing, and gets nothing twice but the last
//! change of a channel that can have several frames of one.

use super::place::Place;
use crate::change::{Cursor, Epoch, Seen, Since};
use crate::hub::{At, Placed};
use crate::room;

/// The places of all channels of a request.
#[derive(Debug, Default)]
pub(super) struct Progress {
    rows: Vec<Rows>,
    rooms: Vec<Room>,
    presence: Vec<(u32, u32)>,
    /// Live channels have everything up to here.
    floor: Option<Cursor>,
    /// Where the last frame of a live channel stands. Others may have one there as well, behind it.
    latest: Option<Cursor>,
    /// Of the last place that was heard of.
    epoch: Epoch,
    /// Where the feed was before what was told came: with that, rooms have everything that the database said up to here.
    fed: Option<Cursor>,
}

/// What a channel with rows asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) tag: u32,
    /// A change can come to it in several frames: two of its entries may concern one row.
    pub(super) several: bool,
    /// Some of what it gets is gathered before it leaves: other channels are further than it, and not all of its frames tell how
    /// far it is.
    pub(super) paced: bool,
    /// From where it goes on.
    pub(super) since: Option<&'a str>,
    /// It wants the rows that there are, unless it can go on from somewhere.
    pub(super) snapshot: bool,
}

#[derive(Debug)]
struct Rows {
    tag: u32,
    several: bool,
    paced: bool,
    stage: Stage,
    snapshot: Snapshot,
    /// What it knows beside the rows behind its place: what the snapshot that is read for it sees, or was before.
    seen: Option<Seen>,
    at: Option<Reached>,
    /// It has got a frame that stands here, and may get another one.
    open: Option<Cursor>,
    /// Its last frame is ahead of what was gathered.
    ahead: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Reached {
    /// As the client said.
    Told(Box<str>),
    Cursor(Cursor),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits, or is given what it missed: only its own frames tell where it is.
    Behind,
    /// It gets every change in the order of all.
    Live,
}

/// Of the rows that come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Snapshot {
    /// They are not asked for, or have come.
    Past,
    /// They may come.
    Asked,
    /// They come. Whoever is cut off needs all of them again: what it had from before does not count any more.
    Begun,
}

#[derive(Debug)]
struct Room {
    tag: u32,
    at: RoomPlace,
}

#[derive(Debug)]
enum RoomPlace {
    /// As the client said.
    Told(Box<str>),
    Reached(room::Since),
}

/// The later one of two places of a history; the newer one where that has changed.
fn later(known: Option<Cursor>, new: Option<Cursor>) -> Option<Cursor> {
    match (known, new) {
        (Some(known), Some(new)) if known.epoch == new.epoch && known.position > new.position => Some(known),
        (known, new) => new.or(known),
    }
}

impl Progress {
    /// There will be rows for this channel.
    pub(super) fn rows(&mut self, wanted: Wanted<'_>) {
        self.rows.push(Rows {
            tag: wanted.tag,
            several: wanted.several,
            paced: wanted.paced,
            stage: Stage::Behind,
            snapshot: match wanted.snapshot {
                true => Snapshot::Asked,
                false => Snapshot::Past,
            },
            seen: wanted.since.and_then(seen),
            at: wanted.since.map(|since| Reached::Told(since.into())),
            open: None,
            ahead: false,
        });
    }

    /// It comes to a room with this place of it.
    pub(super) fn returns(&mut self, tag: u32, since: &str) {
        self.in_room(tag, RoomPlace::Told(since.into()));
    }

    /// Whether its place in the room is known.
    pub(super) fn is_in_room(&self, tag: u32) -> bool {
        self.rooms.iter().any(|room| room.tag == tag)
    }

    /// It is here in a room.
    pub(super) fn room(&mut self, tag: u32, at: room::Since) {
        self.in_room(tag, RoomPlace::Reached(at));
    }

    fn in_room(&mut self, tag: u32, at: RoomPlace) {
        self.rooms.retain(|room| room.tag != tag);
        self.rooms.push(Room { tag, at });
    }

    /// What has been told of the presence in a room.
    pub(super) fn presence(&mut self, tag: u32, digest: u32) {
        self.presence.retain(|(other, _)| *other != tag);
        self.presence.push((tag, digest));
    }

    /// A channel is told that its rows are live: whoever is cut off behind that may not miss anything any more. That was taken
    /// out when the feed had been here, together with a first row there.
    pub(super) fn subscribed(&mut self, tag: u32, feed: Option<Cursor>, first: Option<Cursor>) {
        let in_front = first.map(|first| Cursor {
            position: first.position.before(),
            ..first
        });
        let at = match (feed, in_front) {
            (Some(feed), Some(in_front)) if feed.position < in_front.position => Some(feed),
            (feed, in_front) => in_front.or(feed),
        };
        for rows in self.rows.iter_mut().filter(|rows| rows.tag == tag) {
            rows.at = rows.at.take().or(at.map(Reached::Cursor));
            rows.snapshot = Snapshot::Past;
        }
    }

    /// A snapshot has been taken for a channel: this is its cursor.
    pub(super) fn snapshot(&mut self, tag: u32, since: &str) {
        for rows in self.rows.iter_mut().filter(|rows| rows.tag == tag) {
            rows.seen = seen(since);
        }
    }

    /// All rows of a channel come from here on; `again`, if those of another snapshot than it was told of.
    pub(super) fn snapshot_begins(&mut self, tag: u32, again: bool) {
        for rows in self.rows.iter_mut().filter(|rows| rows.tag == tag) {
            rows.snapshot = Snapshot::Begun;
            (rows.at, rows.open) = (None, None);
            rows.seen = rows.seen.take().filter(|_| !again);
        }
    }

    /// Whether a channel waits for rows, or is between them.
    pub(super) fn waits_for_rows(&self) -> bool {
        self.rows.iter().any(|rows| rows.snapshot != Snapshot::Past)
    }

    /// Whether a channel is between its rows.
    pub(super) fn is_between_rows(&self) -> bool {
        self.rows.iter().any(|rows| rows.snapshot == Snapshot::Begun)
    }

    /// A channel is no more.
    pub(super) fn over(&mut self, tag: u32) {
        self.rows.retain(|rows| rows.tag != tag);
        self.rooms.retain(|room| room.tag != tag);
        self.presence.retain(|(other, _)| *other != tag);
    }

    /// This frame is the next one. `instance` is that of the server's rooms.
    pub(super) fn frame(&mut self, placed: &Placed, instance: u64) {
        match placed.at {
            At::Row(cursor) => self.row(placed.lane, cursor),
            At::Ahead(cursor) => {
                self.epoch = cursor.epoch;
                for rows in self.rows.iter_mut().filter(|rows| rows.tag == placed.lane) {
                    rows.ahead = true;
                }
            }
            At::Room(number) => {
                let at = room::Since {
                    instance,
                    number,
                    stream: self.fed,
                };
                self.room(placed.lane, at);
            }
        }
    }

    fn row(&mut self, tag: u32, cursor: Cursor) {
        let Some(rows) = self.rows.iter_mut().find(|rows| rows.tag == tag) else {
            return;
        };
        self.epoch = cursor.epoch;
        if !rows.paced && rows.stage == Stage::Live && self.latest != Some(cursor) {
            // Changes are given to all live channels one after another.
            self.floor = later(self.floor, self.latest);
            self.latest = Some(cursor);
        }
        rows.reach(cursor);
    }

    /// Everything that was in the outbox has been told by [`Progress::frame`]. Before it was taken out, the feed was here, and
    /// the rows of these channels were live.
    ///
    /// `held` are the places of those for whom something was being gathered: the feed's, or in front of that.
    pub(super) fn drained(&mut self, lived: &[u32], feed: Option<Cursor>, held: &[(u32, Cursor)]) {
        self.floor = later(self.floor, feed);
        self.fed = later(self.fed, feed);
        self.epoch = feed.map_or(self.epoch, |feed| feed.epoch);
        for rows in self.rows.iter_mut().filter(|rows| lived.contains(&rows.tag)) {
            rows.live();
        }
        for (tag, at) in held {
            let paced = |rows: &&mut Rows| rows.tag == *tag && rows.paced && rows.stage == Stage::Live;
            for rows in self.rows.iter_mut().filter(paced) {
                let known = match &rows.at {
                    Some(Reached::Cursor(known)) => Some(*known),
                    _ => None,
                };
                rows.at = later(known, Some(*at)).map(Reached::Cursor);
            }
        }
    }

    /// Whether no channel is between two frames of one change.
    pub(super) fn is_settled(&self) -> bool {
        self.rows.iter().all(|rows| {
            let past = |open| rows.stage == Stage::Live && later(self.floor, Some(open)) == self.floor;
            rows.open.is_none_or(past)
        })
    }

    /// Whether no channel has got anything that is ahead of its place, but for the last change of some.
    pub(super) fn is_close(&self) -> bool {
        !self.rows.iter().any(|rows| rows.ahead)
    }

    /// The channels whose rows are gathered.
    pub(super) fn paced(&self) -> impl Iterator<Item = u32> {
        self.rows.iter().filter(|rows| rows.paced).map(|rows| rows.tag)
    }

    /// Whether every channel with rows has a place.
    pub(super) fn is_known(&self) -> bool {
        self.rows.iter().all(|rows| self.of(rows).is_some())
    }

    fn of(&self, rows: &Rows) -> Option<Reached> {
        match (&rows.at, rows.stage) {
            (at, _) if rows.paced => at.clone(),
            // The one of the two that is of the history of now; of both, the later.
            (Some(Reached::Cursor(at)), Stage::Live) => {
                let floor = self.floor.filter(|floor| floor.epoch == self.epoch);
                let at = Some(*at).filter(|at| at.epoch == self.epoch || floor.is_none());
                later(at, floor).map(Reached::Cursor)
            }
            (_, Stage::Live) => self.floor.map(Reached::Cursor),
            (at, _) => at.clone(),
        }
    }

    /// The place to go on from.
    pub(super) fn place(&self) -> Place {
        let mut all: Vec<(u32, Reached)> = Vec::with_capacity(self.rows.len());
        for rows in &self.rows {
            all.extend(self.of(rows).map(|place| (rows.tag, place)));
        }
        let floor = self.floor.map(Reached::Cursor);
        let begin = |rows: &&Rows| rows.snapshot != Snapshot::Past && self.of(rows).is_none();
        let beginning = self.rows.iter().filter(begin).map(|rows| (rows.tag, "".into()));
        let common = floor
            .filter(|floor| all.iter().any(|(_, place)| place == floor))
            .or_else(|| all.first().map(|(_, place)| place.clone()));
        let rows_of = all
            .into_iter()
            .filter(|(_, place)| Some(place) != common.as_ref());
        let rooms = self.rooms.iter();
        Place {
            rows_of: rows_of
                .map(|(tag, place)| (tag, place.text()))
                .chain(beginning)
                .collect(),
            rows: common.map(|place| place.text()),
            rooms: rooms.map(|room| (room.tag, room.at.text())).collect(),
            presence: self.presence.clone(),
        }
    }
}

impl Rows {
    fn reach(&mut self, cursor: Cursor) {
        self.ahead = false;
        if let Some(open) = self.open.take().filter(|open| *open != cursor) {
            self.pass(open);
        }
        match self.several {
            true => self.open = Some(cursor),
            false => self.pass(cursor),
        }
        if self.at.is_some() {
            self.snapshot = Snapshot::Past;
        }
    }

    /// It has all of a change. What was gathered may be behind a place that is known already.
    fn pass(&mut self, cursor: Cursor) {
        let known = match &self.at {
            Some(Reached::Cursor(known)) if self.paced => Some(*known),
            _ => None,
        };
        if later(known, Some(cursor)) == Some(cursor) {
            self.at = Some(self.behind(cursor));
        }
    }

    /// A change stands there that it has got. What it knows from a snapshot may come behind it, until it is live.
    fn behind(&self, cursor: Cursor) -> Reached {
        match &self.seen {
            Some(seen) if self.stage == Stage::Behind => {
                let since = Since {
                    cursor,
                    seen: Some(seen.clone()),
                    passed: true,
                };
                Reached::Told(since.to_string().into())
            }
            _ => Reached::Cursor(cursor),
        }
    }

    fn live(&mut self) {
        self.stage = Stage::Live;
        self.snapshot = Snapshot::Past;
        self.seen = None;
        if let Some(Reached::Told(_)) = self.at {
            // Wherever it came from: it is where all are.
            self.at = None;
        }
    }
}

impl RoomPlace {
    fn text(&self) -> Box<str> {
        match self {
            Self::Told(text) => text.clone(),
            Self::Reached(at) => at.to_string().into(),
        }
    }
}

/// What the snapshot of a place sees.
fn seen(since: &str) -> Option<Seen> {
    since.parse::<Since>().ok()?.seen
}

impl Reached {
    fn text(self) -> Box<str> {
        match self {
            Self::Told(text) => text,
            Self::Cursor(cursor) => cursor.to_string().into(),
        }
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
