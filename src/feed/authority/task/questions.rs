//! Questions: from the order to the answer, and who becomes a member by it.

use std::collections::{HashSet, VecDeque};

use super::Task;
use crate::feed::authority::groups::Step;
use crate::feed::authority::members::{Judged, Known, Seats};
use crate::feed::authority::{Answer, Ask, AuthorityError, Turn};
use crate::policy::Rights;
use crate::subscription::SubscriberId;

/// A question without an answer.
pub(super) struct Pending {
    pub(super) ask: Ask,
    /// What is judged for it: what it wants, and what has been asked for the member before.
    pub(super) asked: Rights,
    pub(super) seats: Seats,
    /// Only what was said in this step or later counts.
    pub(super) since: Step,
    /// All that memory judges it by is read after it came.
    pub(super) definite: bool,
}

/// The last ids of which nobody will be told. They are not used again.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    ids: HashSet<SubscriberId>,
    order: VecDeque<SubscriberId>,
}

/// So many leave in the time that a question may take, unless everybody leaves at once.
const FORGOTTEN: usize = 16_384;

impl Forgotten {
    fn insert(&mut self, id: SubscriberId) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > FORGOTTEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

impl Task {
    pub(super) fn forget(&mut self, id: SubscriberId) {
        self.forgotten.insert(id);
        // Their answers make nobody a member.
        for pending in &mut self.pending {
            pending.ask.seeker.id.take_if(|seeker| *seeker == id);
        }
        self.members.dismiss(id, &mut self.groups, &mut self.relations);
    }

    pub(super) fn ask(&mut self, mut ask: Ask) {
        if ask.answer.is_closed() {
            return;
        }
        let superseded = |id| self.forgotten.ids.contains(&id) || self.is_overtaken(id, ask.turn);
        if ask.seeker.id.is_some_and(superseded) {
            ask.seeker.id = None;
        }
        let before = ask.seeker.id.map_or(Rights::NONE, |id| self.members.asked(id));
        let asked = ask.wanted | before;
        let (groups, mut scene) = self.scene();
        let seats = Seats::take(asked, &ask.seeker.claims, groups, &mut scene);
        if !self.flowing {
            self.look_again(seats);
        }
        let unread = |group| self.groups.is_unread(group, &self.relations);
        self.pending.push(Pending {
            ask,
            asked,
            seats,
            // That of the step which follows.
            since: self.step + 1,
            definite: seats.iter().all(unread),
        });
    }

    /// Whether somebody has asked for this member since, with other claims perhaps.
    fn is_overtaken(&self, id: SubscriberId, turn: Turn) -> bool {
        let since = |pending: &Pending| pending.ask.seeker.id == Some(id) && pending.ask.turn > turn;
        self.members.is_behind(id, turn) || self.pending.iter().any(since)
    }

    /// Answers those who wait for what cannot be read.
    pub(super) fn give_up(&mut self) {
        let error = || AuthorityError::Unavailable("no answer".to_owned());
        for pending in std::mem::take(&mut self.pending) {
            let waits = |group| self.groups.waits(group, &self.relations);
            if pending.seats.iter().any(waits) {
                self.answer(pending, Err(error()));
            } else {
                self.pending.push(pending);
            }
        }
    }

    /// Answers whom an answer is there for. Those of one member in the order they came.
    pub(super) fn conclude(&mut self) {
        let mut before: HashSet<SubscriberId> = HashSet::new();
        for mut pending in std::mem::take(&mut self.pending) {
            let id = pending.ask.seeker.id;
            let first = id.is_none_or(|id| !before.contains(&id));
            match self.settled(&mut pending) {
                _ if pending.ask.answer.is_closed() => self.abandon(&pending),
                Some(result) if first => self.answer(pending, result),
                _ => {
                    before.extend(id);
                    self.pending.push(pending);
                }
            }
        }
    }

    /// What a question comes to, if that is known: those that are granted of all that was asked.
    fn settled(&mut self, pending: &mut Pending) -> Option<Result<Rights, AuthorityError>> {
        // Somebody with the same id may have asked for more meanwhile.
        let asked = pending.asked
            | pending
                .ask
                .seeker
                .id
                .map_or(Rights::NONE, |id| self.members.asked(id));
        if asked != pending.asked {
            pending.asked = asked;
            let left = pending.seats;
            let (groups, mut scene) = self.scene();
            pending.seats = Seats::take(asked, &pending.ask.seeker.claims, groups, &mut scene);
            left.leave(&mut self.groups, &mut self.relations);
            self.again = true;
            return None;
        }
        match pending.seats.known(asked, pending.since, &self.groups) {
            Known::Waiting => None,
            Known::Failed(error) => Some(Err(error)),
            Known::All(granted) => {
                // What it takes may have been committed a moment ago, and not have come down the stream yet: before a no,
                // it is read again.
                let refused = !(pending.ask.wanted - granted).is_empty();
                if refused
                    && !std::mem::replace(&mut pending.definite, true)
                    && self.look_again(pending.seats)
                {
                    pending.seats.want(asked, &mut self.groups);
                    pending.since = self.step + 1;
                    self.again = true;
                    return None;
                }
                Some(Ok(granted))
            }
        }
    }

    fn answer(&mut self, pending: Pending, result: Result<Rights, AuthorityError>) {
        let granted = match result {
            Ok(granted) => granted,
            Err(error) => {
                self.abandon(&pending);
                // Whoever asked may have gone away.
                let _ = pending.ask.answer.send(Err(error));
                return;
            }
        };
        let Ask {
            seeker,
            turn,
            wanted,
            answer,
            ..
        } = pending.ask;
        let (groups, relations) = (&mut self.groups, &mut self.relations);
        let known = seeker.id.is_some_and(|id| self.members.contains(id));
        match seeker.id {
            None => pending.seats.leave(groups, relations),
            Some(id) => {
                let judged = Judged {
                    turn,
                    claims: seeker.claims,
                    asked: pending.asked,
                    seats: pending.seats,
                    granted,
                };
                self.members.admit(id, judged, (groups, relations));
            }
        }
        let answered = answer.send(Ok(Answer {
            rights: granted & wanted,
            generation: self.snapshot.generation,
            member: seeker.id.is_some(),
        }));
        if let (Err(_), Some(id), false) = (answered, seeker.id, known) {
            self.members.dismiss(id, &mut self.groups, &mut self.relations);
        }
    }

    fn abandon(&mut self, pending: &Pending) {
        pending.seats.leave(&mut self.groups, &mut self.relations);
    }
}
