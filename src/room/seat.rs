use std::collections::VecDeque;
use std::sync::Arc;

use uuid::Uuid;

use super::{Entry, Hears};
use crate::hub::{Frame, HeldFrame, Lane};
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
    frames: VecDeque<(Option<Uuid>, Frame)>,
    bytes: usize,
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
        let gate = match (entry.reply, &entry.replayed) {
            (None, _) => Gate::Open,
            (Some(reply), None) => Gate::Held(reply),
            (Some(_), Some(_)) => Gate::Kept(Box::default()),
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
        id: Option<Uuid>,
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
            Gate::Kept(kept) => match kept.push(id, frame.clone()) {
                0 => Said::Kept,
                gone => Said::KeptInsteadOf(gone),
            },
            Gate::Open | Gate::Held(_) => self.put(frame.clone()),
        }
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

    /// Opens the gate, and sends what was kept. Returns how many frames that were.
    pub(super) fn open(&mut self) -> u64 {
        if self.state == StateOfPresence::TooEarly {
            self.state = StateOfPresence::Due;
        }
        let Gate::Kept(kept) = std::mem::replace(&mut self.gate, Gate::Open) else {
            return 0;
        };
        let mut sent = 0;
        for (id, frame) in kept.frames {
            if !id.is_some_and(|id| self.replayed.contains(&id)) && self.put(frame) == Said::Sent {
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
    fn push(&mut self, id: Option<Uuid>, frame: Frame) -> u64 {
        self.bytes += frame.len();
        self.frames.push_back((id, frame));
        let mut gone = 0;
        while self.frames.len() > KEPT_FRAMES || (self.bytes > KEPT_BYTES && self.frames.len() > 1) {
            let Some((_, oldest)) = self.frames.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
            gone += 1;
        }
        gone
    }
}
