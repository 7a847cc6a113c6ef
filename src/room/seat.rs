use std::collections::VecDeque;
use std::sync::Arc;

use uuid::Uuid;

use super::{Entry, Hears, Origin, Return};
use crate::change::Lineage;
use crate::hub::{At, Frame, HeldFrame, Lane};
use crate::presence::MemberId;
use crate::protocol::{self, Ref, Version};

/// What may be kept for a member that has not been opened: frames, and bytes of them. One frame may be larger.
const KEPT_FRAMES: usize = 1_024;
const KEPT_BYTES: usize = 4 << 20;

/// A member, seen from its room.
#[derive(Debug)]
pub(super) struct Seat {
    /// Given by the room.
    pub(super) id: MemberId,
    pub(super) version: Version,
    pub(super) hears: Hears,
    pub(super) own: bool,
    pub(super) key: Arc<str>,
    pub(super) returns: Option<Return>,
    lane: Lane,
    join_ref: Option<Ref>,
    gate: Gate,
    replayed: Vec<Uuid>,
    state: StateOfPresence,
    wants_state: bool,
}

/// What happens to what is said.
#[derive(Debug)]
enum Gate {
    /// It goes out.
    Open,
    /// It is passed over until this has been sent.
    Held(HeldFrame),
    /// It is kept until the member is opened.
    Kept(Box<Kept>),
}

#[derive(Debug, Default)]
struct Kept {
    /// What was said before it came back; bounded by what rooms keep.
    again: Vec<Message>,
    frames: VecDeque<Message>,
    bytes: usize,
    /// The number in front of the first that had to go.
    lost: Option<u64>,
}

/// A broadcast for a member.
#[derive(Debug)]
struct Message {
    id: Option<Uuid>,
    number: u64,
    frame: Frame,
}

/// How far a member is with the state of presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StateOfPresence {
    /// It has not been opened.
    TooEarly,
    /// It can have it.
    Due,
    /// It has had it, and every diff since.
    Sent,
}

/// What became of a broadcast to one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It is in the outbox.
    Sent,
    /// It is kept until the member is opened.
    Kept,
    /// So it is, but so many older ones had to go.
    KeptInsteadOf(u64),
    /// It is not for this member.
    Not,
}

impl Seat {
    /// Its lane, if the outbox behind it is filling up.
    pub(super) fn pressed(&self) -> Option<&Lane> {
        Some(&self.lane).filter(|lane| lane.outbox().is_pressed())
    }

    pub(super) fn new(entry: Entry) -> Self {
        // Whoever keeps its place itself has one before it hears anything.
        let goes_on = |returns: Return| returns.since.is_some() || returns.cursors;
        let past = entry.replayed.is_some() || entry.returns.is_some_and(goes_on);
        let gate = match (entry.reply, past) {
            (None, _) => Gate::Open,
            (Some(reply), false) => Gate::Held(reply),
            (Some(_), true) => Gate::Kept(Box::default()),
        };
        let state = match gate {
            Gate::Open => StateOfPresence::Due,
            Gate::Held(_) | Gate::Kept(_) => StateOfPresence::TooEarly,
        };
        Self {
            id: MemberId(0),
            version: entry.version,
            hears: entry.hears,
            own: entry.own,
            key: entry.key,
            returns: entry.returns,
            lane: entry.lane,
            join_ref: entry.join_ref,
            gate,
            replayed: entry.replayed.unwrap_or_default(),
            state,
            wants_state: entry.wants_state,
        }
    }

    /// Says a broadcast, whose frame is asked for only if it is for this member.
    pub(super) fn say<'a>(
        &mut self,
        (id, number): (Option<Uuid>, u64),
        frame: impl FnOnce(Version) -> Option<&'a Frame>,
    ) -> Said {
        if !self.hears.broadcasts || id.is_some_and(|id| self.replayed.contains(&id)) || self.is_held() {
            return Said::Not;
        }
        let Some(frame) = frame(self.version) else {
            return Said::Not;
        };
        match &mut self.gate {
            Gate::Kept(kept) if !self.lane.outbox().is_open() => {
                **kept = Kept::default();
                Said::Not
            }
            Gate::Kept(kept) => {
                let frame = frame.clone();
                match kept.push(Message { id, number, frame }) {
                    0 => Said::Kept,
                    gone => Said::KeptInsteadOf(gone),
                }
            }
            Gate::Open | Gate::Held(_) => self.put_at(frame.clone(), number),
        }
    }

    /// Whether broadcasts tell it where they stand.
    pub(super) fn has_cursors(&self) -> bool {
        self.returns.is_some_and(|returns| returns.cursors)
    }

    /// Tells it something behind what is said again. This is how far it is then.
    pub(super) fn announce(&mut self, frame: Frame, number: u64) {
        match &mut self.gate {
            Gate::Kept(kept) => kept.again.push(Message {
                id: None,
                number,
                frame,
            }),
            Gate::Open | Gate::Held(_) => drop(self.put_at(frame, number)),
        }
    }

    /// Says what was said before it came back, in front of everything else.
    pub(super) fn say_again(&mut self, id: Option<Uuid>, frame: Option<Frame>, number: u64) {
        let Some(frame) = frame.filter(|_| self.hears.broadcasts) else {
            return;
        };
        match &mut self.gate {
            Gate::Kept(kept) => kept.again.push(Message { id, number, frame }),
            Gate::Open | Gate::Held(_) => drop(self.put_at(frame, number)),
        }
    }

    /// Whether it wants something of this origin: what another run of the server may have said only if it was with that one.
    pub(super) fn awaits(&self, origin: Origin, lineage: &Lineage) -> bool {
        let Origin::Stream { commit, again: true } = origin else {
            return true;
        };
        let since = self.returns.and_then(|returns| returns.since);
        since.is_some_and(|since| since.lacks(commit, lineage))
    }

    /// Tells a diff of presence, unless the state is to come first.
    pub(super) fn tell<'a>(&mut self, frame: impl FnOnce(Version) -> Option<&'a Frame>) -> Said {
        let early = match self.state {
            StateOfPresence::Sent => false,
            StateOfPresence::TooEarly | StateOfPresence::Due => self.wants_state,
        };
        if !self.hears.presence || early || self.is_held() || matches!(self.gate, Gate::Kept(_)) {
            return Said::Not;
        }
        frame(self.version).map_or(Said::Not, |frame| self.put(frame.clone()))
    }

    /// Somebody who can come back must not miss what had to go: from where it has to be told again, without what was kept.
    pub(super) fn take_lost(&mut self) -> Option<u64> {
        let Gate::Kept(kept) = &mut self.gate else {
            return None;
        };
        let lost = kept.lost.take().filter(|_| self.returns.is_some())?;
        kept.frames.clear();
        Some(lost)
    }

    /// Opens the gate, and sends what was kept. Returns how many frames that were.
    pub(super) fn open(&mut self) -> u64 {
        if self.state == StateOfPresence::TooEarly {
            self.state = StateOfPresence::Due;
        }
        let Gate::Kept(kept) = std::mem::replace(&mut self.gate, Gate::Open) else {
            return 0;
        };
        let mut sent = 0;
        for Message { id, number, frame } in kept.again.into_iter().chain(kept.frames) {
            if !id.is_some_and(|id| self.replayed.contains(&id)) && self.put_at(frame, number) == Said::Sent {
                sent += 1;
            }
        }
        sent
    }

    /// These rows are not for this member any more.
    pub(super) fn skip(&mut self, rows: Vec<Uuid>) {
        self.replayed.extend(rows);
    }

    /// It wants the state of presence from now on.
    pub(super) fn want_state(&mut self) {
        self.wants_state = true;
    }

    pub(super) fn hear(&mut self, hears: Hears) {
        self.hears = hears;
        if !hears.presence && self.state == StateOfPresence::Sent {
            // It misses diffs from now on.
            self.state = StateOfPresence::Due;
        }
        if let Gate::Kept(kept) = &mut self.gate
            && !hears.broadcasts
        {
            **kept = Kept::default();
        }
    }

    /// Sends the state of presence if it is time for it.
    pub(super) fn show(&mut self, topic: &str, state: impl FnOnce() -> Arc<str>) {
        if self.state != StateOfPresence::Due || !self.wants_state || !self.hears.presence {
            return;
        }
        self.state = StateOfPresence::Sent;
        let frame = protocol::push(
            self.version,
            self.join_ref.as_ref(),
            topic,
            "presence_state",
            &state(),
        );
        self.put(Frame::Text(frame.into()));
    }

    /// Whether the reply has not been sent. One that was discarded never will be: nothing goes out then. It is asked until
    /// it is out, and never again.
    fn is_held(&mut self) -> bool {
        let Gate::Held(reply) = &self.gate else {
            return false;
        };
        let sent = reply.was_sent();
        if sent {
            self.gate = Gate::Open;
        }
        !sent
    }

    fn put_at(&self, frame: Frame, number: u64) -> Said {
        match self.lane.push_at(frame, At::Room(number)) {
            Ok(()) => Said::Sent,
            Err(_) => Said::Not,
        }
    }

    fn put(&self, frame: Frame) -> Said {
        // A full or closed outbox has told its owner; nobody else is concerned.
        match self.lane.push(frame) {
            Ok(()) => Said::Sent,
            Err(_) => Said::Not,
        }
    }
}

impl Kept {
    /// Returns how many older ones made room.
    fn push(&mut self, message: Message) -> u64 {
        self.bytes += message.frame.len();
        self.frames.push_back(message);
        let mut gone = 0;
        while self.frames.len() > KEPT_FRAMES || (self.bytes > KEPT_BYTES && self.frames.len() > 1) {
            let Some(oldest) = self.frames.pop_front() else {
                break;
            };
            self.bytes -= oldest.frame.len();
            self.lost.get_or_insert(oldest.number.saturating_sub(1));
            gone += 1;
        }
        gone
    }
}
