//! Who is on the way: those who wait for a pass, and those whom one is for, by how far they have to go.

use std::collections::HashMap;
use std::time::Duration;

use super::super::{Answer, Comes};
use super::STEP;
use crate::change::{Change, Position, Since};
use crate::feed::distance::{ByDistance, Distance};
use crate::history::{Gap, History};
use crate::hub::Frame;
use crate::subscription::SubscriberId;

/// Changes that are taken at once: as many as take about a step. One costs the more the more of those in the pass it is for.
const PORTION: std::ops::RangeInclusive<usize> = 8..=512;

/// Somebody who comes back.
#[derive(Debug)]
pub(in crate::feed::pump) struct Comer {
    pub(in crate::feed::pump) since: Since,
    /// What comes up to here has been seen to.
    pub(in crate::feed::pump) reached: Position,
    /// Why it does not get everything, if it does not.
    pub(in crate::feed::pump) gap: Option<Gap>,
    pub(super) comes: Comes,
    pub(super) on_live: Vec<Frame>,
    pub(super) answer: Answer,
}

impl Comer {
    pub(in crate::feed::pump) fn new(
        (since, comes): (Since, Comes),
        on_live: Vec<Frame>,
        answer: Answer,
    ) -> Self {
        let reached = match since.passed {
            true => since.cursor.position,
            // It may be missing what was committed before.
            false => Position::default(),
        };
        Self {
            since,
            reached,
            gap: None,
            comes,
            on_live,
            answer,
        }
    }

    pub(super) fn wants(&self, position: Position, xid: u32) -> bool {
        self.gap.is_none() && position > self.reached && self.since.wants(position, xid)
    }

    /// How far it has to go.
    fn distance(&self, history: &History) -> Distance {
        Distance::of(history.behind(self.reached))
    }
}

/// Those who have about as far to go, and the pass that some of them are in.
#[derive(Debug, Default)]
pub(in crate::feed::pump) struct Course {
    /// Those who wait for the next pass.
    waiting: HashMap<SubscriberId, Comer>,
    /// Those of them who have come since the pass was looked at.
    fresh: Vec<SubscriberId>,
    /// Those whom this pass is for.
    pub(super) pass: HashMap<SubscriberId, Comer>,
    /// What the pass has seen to.
    pub(in crate::feed::pump) reached: Position,
    /// [`PORTION`], by what the last one took.
    portion: usize,
}

impl Course {
    /// Everybody.
    pub(in crate::feed::pump) fn comers_mut(&mut self) -> impl Iterator<Item = &mut Comer> {
        self.pass.values_mut().chain(self.waiting.values_mut())
    }

    /// Whether one of those who wait could begin.
    pub(super) fn any_waits(&self, ready: impl FnMut(&SubscriberId) -> bool) -> bool {
        self.waiting.keys().any(ready)
    }

    /// How many of these changes to take at once.
    pub(super) fn some<'c>(&self, changes: &'c [Change]) -> &'c [Change] {
        let most = self.portion.clamp(*PORTION.start(), *PORTION.end());
        changes.get(..most).unwrap_or(changes)
    }

    /// So long took so many changes.
    pub(super) fn took(&mut self, time: Duration, changes: usize) {
        if time > STEP {
            self.portion = changes / 2;
        } else if time < STEP / 4 {
            self.portion = self.portion.max(changes.saturating_mul(2));
        }
        self.portion = self.portion.clamp(*PORTION.start(), *PORTION.end());
    }

    /// Those who have just come and are ahead of the pass need not wait for its end: it sees to everything behind their place.
    fn join(&mut self, mut ready: impl FnMut(SubscriberId) -> bool) -> Vec<SubscriberId> {
        let mut joined = Vec::new();
        for id in std::mem::take(&mut self.fresh) {
            let ahead = |comer: &Comer| comer.reached >= self.reached;
            if !self.waiting.get(&id).is_some_and(ahead) || !ready(id) {
                continue;
            }
            if let Some(comer) = self.waiting.remove(&id) {
                self.pass.insert(id, comer);
                joined.push(id);
            }
        }
        joined
    }
}

/// Everybody who is on the way.
#[derive(Debug)]
pub(in crate::feed::pump) struct Resuming {
    pub(super) courses: ByDistance<Course>,
    /// Whose turn it is.
    pub(super) turn: Distance,
    /// [`Roster::put_out`](crate::feed::roster::Roster::put_out), when those of the passes were looked at.
    pub(super) put_out: u64,
}

impl Default for Resuming {
    fn default() -> Self {
        Self {
            courses: ByDistance::default(),
            turn: Distance::Near,
            put_out: 0,
        }
    }
}

impl Resuming {
    pub(in crate::feed::pump) fn add(&mut self, id: SubscriberId, comer: Comer, history: &History) {
        let course = self.courses.at_mut(comer.distance(history));
        course.waiting.insert(id, comer);
        if !course.pass.is_empty() {
            course.fresh.push(id);
        }
    }

    pub(in crate::feed::pump) fn remove(&mut self, id: SubscriberId) -> Option<Comer> {
        let courses = self.courses.each_mut().into_iter();
        let mut removed =
            courses.filter_map(|course| course.pass.remove(&id).or_else(|| course.waiting.remove(&id)));
        removed.next()
    }

    pub(in crate::feed::pump) fn is_empty(&self) -> bool {
        let empty = |course: &Course| course.waiting.is_empty() && course.pass.is_empty();
        self.courses.each().into_iter().all(empty)
    }

    /// All of them.
    pub(in crate::feed::pump) fn comers(&self) -> impl Iterator<Item = SubscriberId> {
        let courses = self.courses.each().into_iter();
        courses.flat_map(|course| course.pass.keys().chain(course.waiting.keys()).copied())
    }

    pub(in crate::feed::pump) fn get_mut(&mut self, id: SubscriberId) -> Option<&mut Comer> {
        let mut courses = self.courses.each_mut().into_iter();
        courses.find_map(|course| course.pass.get_mut(&id).or_else(|| course.waiting.get_mut(&id)))
    }

    /// Everybody, and where each pass is.
    pub(in crate::feed::pump) fn courses_mut(&mut self) -> [&mut Course; 3] {
        self.courses.each_mut()
    }

    /// One whom its pass is for no longer, for another one.
    pub(super) fn put_off(&mut self, id: SubscriberId, distance: Distance, history: &History) {
        let course = self.courses.at_mut(distance);
        if let Some(mut comer) = course.pass.remove(&id) {
            comer.reached = comer.reached.max(course.reached);
            self.add(id, comer, history);
        }
    }

    /// Begins the next pass of those at a distance if there is none, and otherwise adds those who can still join it. Returns who
    /// has been added.
    pub(super) fn gather(
        &mut self,
        distance: Distance,
        history: &History,
        ready: impl Fn(SubscriberId) -> bool,
    ) -> Vec<SubscriberId> {
        let course = self.courses.at_mut(distance);
        if !course.pass.is_empty() {
            return course.join(ready);
        }
        course.fresh.clear();
        let able: Vec<_> = course.waiting.extract_if(|id, _| ready(*id)).collect();
        let mut others = Vec::new();
        for (id, comer) in able {
            match comer.distance(history) {
                at if at == distance => {
                    course.pass.insert(id, comer);
                }
                // While it waited, so much has happened.
                _ => others.push((id, comer)),
            }
        }
        let begin = course.pass.values().map(|comer| comer.reached);
        course.reached = begin.min().unwrap_or_default();
        let added = course.pass.keys().copied().collect();
        for (id, comer) in others {
            self.add(id, comer, history);
        }
        added
    }
}
