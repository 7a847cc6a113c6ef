//! Whose rights are kept up to date.

use std::collections::HashMap;
use std::sync::Arc;

use super::groups::{GroupId, Groups, Scene, Step};
use super::lines::{Line, Lines};
use super::said::Said;
use super::{AuthorityError, Turn};
use crate::auth::Claims;
use crate::policy::{Relations, Rights, Side};
use crate::subscription::SubscriberId;
use crate::telemetry::Metrics;

/// The groups that somebody is in: that of the policies for SELECT and that of those for INSERT. `None` where nothing was
/// asked, or where the role has no privilege.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seats {
    read: Option<GroupId>,
    write: Option<GroupId>,
}

/// What is known of several rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Some of them have not been judged yet.
    Waiting,
    /// These of them are granted.
    All(Rights),
    Failed(AuthorityError),
}

impl Seats {
    /// Takes seats where these rights are judged, and has them judged.
    pub(super) fn take(
        asked: Rights,
        claims: &Arc<Claims>,
        groups: &mut Groups,
        scene: &mut Scene<'_>,
    ) -> Self {
        let mut join = |some: bool, side| some.then(|| groups.join(side, claims, scene)).flatten();
        let seats = Self {
            read: join(asked.intersects(Rights::READ), Side::Read),
            write: join(!(asked - Rights::READ).is_empty(), Side::Write),
        };
        seats.want(asked, groups);
        seats
    }

    /// Has these rights judged.
    pub(super) fn want(self, asked: Rights, groups: &mut Groups) {
        for right in asked.iter() {
            if let Some(group) = self.of(right) {
                groups.want(group, right);
            }
        }
    }

    pub(super) fn leave(self, groups: &mut Groups, relations: &mut Relations) {
        self.iter().for_each(|group| groups.leave(group, relations));
    }

    pub(super) fn iter(self) -> impl Iterator<Item = GroupId> {
        [self.read, self.write].into_iter().flatten()
    }

    fn of(self, right: Rights) -> Option<GroupId> {
        if right.intersects(Rights::READ) {
            self.read
        } else {
            self.write
        }
    }

    /// What was said of these rights in this step or later.
    pub(super) fn known(self, asked: Rights, since: Step, groups: &Groups) -> Known {
        let mut granted = Rights::NONE;
        for right in asked.iter() {
            let Some(group) = self.of(right) else { continue };
            match groups.known(group, right) {
                Some((said, step)) if *step >= since => match said {
                    Said::Granted => granted = granted | right,
                    Said::Denied => {}
                    Said::Failed(error) => return Known::Failed(error.clone()),
                },
                _ => return Known::Waiting,
            }
        }
        Known::All(granted)
    }

    /// What was said last; of what is not known, or could not be asked, what was so `before`.
    fn granted(self, asked: Rights, before: Rights, groups: &Groups) -> Rights {
        let has = |right: &Rights| {
            let Some(group) = self.of(*right) else {
                return false;
            };
            match groups.known(group, *right) {
                Some((Said::Granted, _)) => true,
                Some((Said::Denied, _)) => false,
                Some((Said::Failed(_), _)) | None => before.contains(*right),
            }
        };
        asked
            .iter()
            .filter(has)
            .fold(Rights::NONE, |all, right| all | right)
    }
}

#[derive(Debug)]
struct Member {
    turn: Turn,
    claims: Arc<Claims>,
    asked: Rights,
    seats: Seats,
    line: Line,
}

/// Everybody who is told when their rights change.
#[derive(Debug)]
pub(super) struct Members {
    members: HashMap<SubscriberId, Member>,
    lines: Lines,
    metrics: Arc<Metrics>,
}

/// Somebody whose rights have been judged.
pub(super) struct Judged {
    pub(super) turn: Turn,
    pub(super) claims: Arc<Claims>,
    pub(super) asked: Rights,
    pub(super) seats: Seats,
    pub(super) granted: Rights,
}

impl Members {
    pub(super) fn new(lines: Lines, metrics: Arc<Metrics>) -> Self {
        Self {
            members: HashMap::new(),
            lines,
            metrics,
        }
    }

    pub(super) fn contains(&self, id: SubscriberId) -> bool {
        self.members.contains_key(&id)
    }

    /// Whether somebody has asked for a member since this turn.
    pub(super) fn is_behind(&self, id: SubscriberId, turn: Turn) -> bool {
        self.members.get(&id).is_some_and(|member| member.turn > turn)
    }

    /// What has been asked for a member.
    pub(super) fn asked(&self, id: SubscriberId) -> Rights {
        self.members.get(&id).map_or(Rights::NONE, |member| member.asked)
    }

    /// Takes somebody in, or in the place of who it was.
    pub(super) fn admit(
        &mut self,
        id: SubscriberId,
        judged: Judged,
        (groups, relations): (&mut Groups, &mut Relations),
    ) {
        let line = self.lines.open(id);
        line.tell(judged.granted);
        judged.seats.iter().for_each(|group| groups.enter(group, id));
        let member = Member {
            turn: judged.turn,
            claims: judged.claims,
            asked: judged.asked,
            seats: judged.seats,
            line,
        };
        if let Some(before) = self.members.insert(id, member) {
            let stays = |group: &GroupId| judged.seats.iter().any(|seat| seat == *group);
            let left = before.seats.iter().filter(|group| !stays(group));
            left.for_each(|group| groups.exit(group, id));
            before.seats.leave(groups, relations);
        }
        self.count();
    }

    pub(super) fn dismiss(&mut self, id: SubscriberId, groups: &mut Groups, relations: &mut Relations) {
        let Some(member) = self.members.remove(&id) else {
            return;
        };
        self.lines.close(id);
        member.seats.iter().for_each(|group| groups.exit(group, id));
        member.seats.leave(groups, relations);
        self.count();
    }

    /// Seats everybody anew, in groups of which there are none left.
    pub(super) fn reseat(&mut self, groups: &mut Groups, scene: &mut Scene<'_>) {
        for (id, member) in &mut self.members {
            member.seats = Seats::take(member.asked, &member.claims, groups, scene);
            member.seats.iter().for_each(|group| groups.enter(group, *id));
        }
        let ids: Vec<SubscriberId> = self.members.keys().copied().collect();
        self.tell(ids.into_iter(), groups);
    }

    /// Tells those whose rights are not what they were.
    pub(super) fn tell(&self, ids: impl Iterator<Item = SubscriberId>, groups: &Groups) {
        for id in ids {
            let Some(member) = self.members.get(&id) else {
                continue;
            };
            let before = member.line.granted();
            let granted = member.seats.granted(member.asked, before, groups);
            if granted != before {
                self.metrics.channel_rights_changed.inc();
                member.line.tell(granted);
            }
        }
    }

    fn count(&self) {
        let members = i64::try_from(self.members.len()).unwrap_or(i64::MAX);
        self.metrics.channel_members.set(members);
    }
}
