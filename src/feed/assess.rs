//! From a change to the questions that policy has to answer, and to who gets what once it has.

use std::sync::Arc;

use super::keeper::Snapshot;
use super::payload::{Old, Problem};
use super::roster::Roster;
use super::shadow::Sampler;
use super::truncate::Truncated;
use super::{Settings, UnjudgedDeletes};
use crate::change::{Action, Change, Row, Transaction, Value};
use crate::expression::RowView;
use crate::policy::{Class, Decision, Failure, Question, Verdict};
use crate::postgres::catalog::{Access, Policy, RowAccess, Table};
use crate::predicate::Condition;
use crate::subscription::{Index, Member, Slot};

/// One change and those who could get it.
pub(super) struct Work<'a> {
    pub(super) change: &'a Change,
    pub(super) transaction: &'a Transaction,
    pub(super) table: &'a Arc<Table>,
    pub(super) groups: Vec<Group<'a>>,
}

/// Members for whom the same verdict decides.
pub(super) struct Group<'a> {
    pub(super) members: Vec<&'a Member>,
    pub(super) show: Show,
}

pub(super) enum Show {
    /// Nothing to ask: they get this instead of a row.
    Problem(Problem),
    /// That the table was emptied.
    Truncated,
    /// The row, if it may be shown.
    Row { verdict: Judgement, old: OldRow },
    /// As `Row`, and told as what it is for them if the old row could not be seen, or the new one cannot.
    Transition {
        new: Judgement,
        before: Judgement,
        old: OldRow,
    },
}

pub(super) enum Judgement {
    Known(Verdict),
    /// By the verdict at this index.
    Asked(usize),
}

#[derive(Clone, Copy)]
pub(super) enum OldRow {
    /// This much of it.
    Fixed(Old),
    /// All of it if the verdict at this index allows it, otherwise what the new row shows anyway.
    Judged(usize),
}

/// What a group gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Row(Old),
    /// The new row, which they could not see before.
    Entered,
    /// The key of the old row: they can no longer see it.
    Left,
    /// That the table was emptied.
    Truncated,
    Problem(Problem),
}

impl Outcome {
    /// What an action is for those who get this.
    pub(super) fn action(self, action: Action) -> Action {
        match self {
            Self::Entered => Action::Insert,
            Self::Left => Action::Delete,
            Self::Row(_) | Self::Truncated | Self::Problem(_) => action,
        }
    }
}

impl Group<'_> {
    /// What the verdicts come to; `None` for nothing.
    pub(super) fn outcome(&self, verdicts: &[Verdict]) -> Option<Outcome> {
        match &self.show {
            Show::Problem(problem) => Some(Outcome::Problem(*problem)),
            Show::Truncated => Some(Outcome::Truncated),
            Show::Row { verdict, old } => row(verdict.of(verdicts)?, *old, verdicts),
            Show::Transition { new, before, old } => {
                let saw = before.of(verdicts) == Some(&Verdict::Allow);
                match (saw, new.of(verdicts)?) {
                    (true, Verdict::Deny) => Some(Outcome::Left),
                    (false, Verdict::Allow) => Some(Outcome::Entered),
                    (_, verdict) => row(verdict, *old, verdicts),
                }
            }
        }
    }
}

impl Judgement {
    fn of<'v>(&'v self, verdicts: &'v [Verdict]) -> Option<&'v Verdict> {
        match self {
            Self::Known(verdict) => Some(verdict),
            Self::Asked(index) => verdicts.get(*index),
        }
    }
}

fn row(verdict: &Verdict, old: OldRow, verdicts: &[Verdict]) -> Option<Outcome> {
    match verdict {
        Verdict::Deny => None,
        Verdict::Failed(Failure::Raised(_) | Failure::MissingColumn(_)) => {
            Some(Outcome::Problem(Problem::Policy))
        }
        Verdict::Failed(Failure::Timeout | Failure::Unavailable(_)) => {
            Some(Outcome::Problem(Problem::Unavailable))
        }
        Verdict::Allow => Some(Outcome::Row(match old {
            OldRow::Fixed(old) => old,
            OldRow::Judged(old) if verdicts.get(old) == Some(&Verdict::Allow) => Old::Carried,
            OldRow::Judged(_) => Old::UnchangedKey,
        })),
    }
}

/// Assesses changes against one snapshot and roster.
pub(super) struct Assessor<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) roster: &'a Roster,
    /// Those who may get it.
    pub(super) index: &'a Index,
    pub(super) settings: &'a Settings,
    /// Microseconds since 2000-01-01 UTC.
    pub(super) now: i64,
    /// Takes verdicts from memory to be checked, if any are.
    pub(super) sampler: Option<Sampler<'a>>,
    /// What only Postgres can say.
    pub(super) questions: Vec<Question<'a>>,
    /// Verdicts that needed no question, for the count.
    pub(super) known: Vec<Verdict>,
    pub(super) works: Vec<Work<'a>>,
    /// Of each change, whether it concerns a table that can be subscribed to.
    pub(super) concerns: Vec<bool>,
    /// The tables that the last TRUNCATE emptied.
    pub(super) truncated: Truncated<'a>,
}

/// Rows nobody restricts: what is left to ask is the filter.
static UNRESTRICTED: Access = Access {
    columns: Vec::new(),
    rows: RowAccess::Unrestricted,
    files: RowAccess::Unrestricted,
};

/// One change on its way through the slots.
struct Case<'v, 'a> {
    change: &'a Change,
    transaction: &'a Transaction,
    table: &'a Arc<Table>,
    /// The row that decides: the new one, of a DELETE the old one.
    row: &'v RowView<'a>,
    /// What the WAL has of the old row of an UPDATE.
    old: Option<&'v RowView<'a>>,
}

impl<'a> Assessor<'a> {
    /// Adds a change, with the questions it raises.
    pub(super) fn add(&mut self, change: &'a Change, transaction: &'a Transaction) {
        let tables = self.snapshot.concerned(&change.table);
        self.concerns.push(!tables.is_empty());
        if change.action == Action::Truncate {
            self.truncate(change, transaction, tables);
            return;
        }
        for table in tables {
            self.row(change, transaction, table);
        }
    }

    fn row(&mut self, change: &'a Change, transaction: &'a Transaction, table: &'a Arc<Table>) {
        let Some(subscriptions) = self.index.table(table.oid) else {
            return;
        };
        let row = match change.action {
            Action::Insert | Action::Update => change.new.as_ref(),
            Action::Delete => change.old.as_ref(),
            Action::Truncate => None,
        };
        let Some(row) = row.filter(|_| published(table, change.action)) else {
            return;
        };
        let row = RowView::new(table, &subscriptions.types, row);
        let old = change.old.as_ref().filter(|_| change.action == Action::Update);
        let old = old.map(|old| RowView::new(table, &subscriptions.types, old));
        let case = Case {
            change,
            transaction,
            table,
            row: &row,
            old: old.as_ref(),
        };
        let mut rows = vec![&row];
        rows.extend(old.as_ref().filter(|_| subscriptions.wants_transitions()));
        let mut groups = Vec::new();
        for slot in subscriptions.candidates(&rows) {
            self.slot(slot, &case, &mut groups);
        }
        self.work(change, transaction, table, groups);
    }

    /// Notes what a change means for the subscribers of a table, if it means anything to them.
    pub(super) fn work(
        &mut self,
        change: &'a Change,
        transaction: &'a Transaction,
        table: &'a Arc<Table>,
        groups: Vec<Group<'a>>,
    ) {
        if !groups.is_empty() {
            self.works.push(Work {
                change,
                transaction,
                table,
                groups,
            });
        }
    }

    fn slot(&mut self, slot: &'a Slot, case: &Case<'_, 'a>, groups: &mut Vec<Group<'a>>) {
        let action = case.change.action;
        // With an old row, transitions decide for themselves what it is that they want.
        let apart = |member: &Member| member.transitions && case.old.is_some();
        let mut members: Vec<&Member> = slot
            .members
            .iter()
            .filter(|member| member.wants(action) && !apart(member))
            .collect();
        if action != Action::Delete
            && let Some(problem) = key_problem(case.table, &slot.class.rule.access)
        {
            members.extend(slot.members.iter().filter(|member| apart(member)));
            if !members.is_empty() {
                let show = Show::Problem(problem);
                groups.push(Group { members, show });
            }
            return;
        }
        // Nothing of the row may be read: then not even that there was one is told.
        let readable = |member: &&Member| member.columns.contains(&true);
        members.retain(readable);
        if let (false, Some(filter)) = (members.is_empty(), slot.filter(case.row)) {
            let show = match action {
                Action::Delete => self.delete(&slot.class, filter, case),
                _ => self.upsert(&slot.class, filter, case),
            };
            groups.extend(show.map(|show| Group { members, show }));
        }
        let members: Vec<_> = slot
            .members
            .iter()
            .filter(|member| apart(member))
            .filter(readable)
            .collect();
        if let (false, Some(old)) = (members.is_empty(), case.old) {
            let show = self.transition(slot, old, case);
            groups.extend(show.map(|show| Group { members, show }));
        }
    }

    fn transition(&mut self, slot: &'a Slot, old: &RowView<'a>, case: &Case<'_, 'a>) -> Option<Show> {
        let new = self.seen(slot, case.row, case);
        let before = self.seen(slot, old, case);
        let hidden = |judgement: &Judgement| matches!(judgement, Judgement::Known(Verdict::Deny));
        if hidden(&new) && hidden(&before) {
            return None;
        }
        let shown = if slot.class.is_restricted(case.table) {
            self.old(&slot.class, old, case)
        } else {
            OldRow::Fixed(Old::Carried)
        };
        Some(Show::Transition {
            new,
            before,
            old: shown,
        })
    }

    /// Whether a row passes both filter and policies.
    fn seen(&mut self, slot: &'a Slot, row: &RowView<'a>, case: &Case<'_, 'a>) -> Judgement {
        let Some(filter) = slot.filter(row) else {
            return Judgement::Known(Verdict::Deny);
        };
        let decision = self.decide(&slot.class, row, case);
        self.judgement(&slot.class, decision, (row.row(), filter), case)
    }

    /// What is known of a row without asking Postgres.
    fn decide(&mut self, class: &Arc<Class>, row: &RowView<'_>, case: &Case<'_, '_>) -> Decision {
        let decision = class.decide(case.table, row, &self.roster.relations, self.now);
        if let (Some(sampler), Decision::Known(verdict)) = (&mut self.sampler, &decision) {
            sampler.take(
                class,
                verdict,
                row.row(),
                (case.table, case.change, case.transaction),
            );
        }
        decision
    }

    fn upsert(
        &mut self,
        class: &'a Arc<Class>,
        filter: Vec<&'a Condition>,
        case: &Case<'_, 'a>,
    ) -> Option<Show> {
        let verdict = self.decide(class, case.row, case);
        if verdict == Decision::Known(Verdict::Deny) {
            self.known.push(Verdict::Deny);
            return None;
        }
        let old = match case.old.filter(|_| class.is_restricted(case.table)) {
            Some(old) => self.old(class, old, case),
            None => OldRow::Fixed(Old::Carried),
        };
        Some(Show::Row {
            verdict: self.judgement(class, verdict, (case.row.row(), filter), case),
            old,
        })
    }

    /// How much of the old row of an UPDATE is shown to those who may see the new one.
    fn old(&mut self, class: &'a Arc<Class>, old: &RowView<'a>, case: &Case<'_, 'a>) -> OldRow {
        let key_only = || match self.settings.unjudged_deletes {
            UnjudgedDeletes::Deny => Old::UnchangedKey,
            UnjudgedDeletes::Key => Old::Carried,
        };
        let reaches_past_key = reaches_past_key(case.table, old.row());
        OldRow::Fixed(match self.decide(class, old, case) {
            Decision::Known(Verdict::Allow) => Old::Carried,
            Decision::Known(Verdict::Failed(Failure::MissingColumn(_))) if !reaches_past_key => key_only(),
            Decision::Known(_) => Old::UnchangedKey,
            Decision::Ask if reaches_past_key || judgeable(class, case.table, old.row()) => {
                return OldRow::Judged(self.ask(class, &class.rule.access, old.row(), Vec::new(), case));
            }
            Decision::Ask => key_only(),
        })
    }

    fn delete(
        &mut self,
        class: &'a Arc<Class>,
        filter: Vec<&'a Condition>,
        case: &Case<'_, 'a>,
    ) -> Option<Show> {
        let decision = match self.decide(class, case.row, case) {
            Decision::Ask if !judgeable(class, case.table, case.row.row()) => None,
            Decision::Known(Verdict::Failed(Failure::MissingColumn(_))) => None,
            Decision::Known(Verdict::Deny) => {
                self.known.push(Verdict::Deny);
                return None;
            }
            decision => Some(decision),
        };
        let old = if decision.is_some() {
            Old::Carried
        } else {
            Old::Key
        };
        if decision.is_none() && self.settings.unjudged_deletes == UnjudgedDeletes::Deny {
            return None;
        }
        let decision = decision.unwrap_or(Decision::Known(Verdict::Allow));
        Some(Show::Row {
            verdict: self.judgement(class, decision, (case.row.row(), filter), case),
            old: OldRow::Fixed(old),
        })
    }

    /// Asks for what is not known yet: the policies, the rest of the filter, or both.
    fn judgement(
        &mut self,
        class: &'a Arc<Class>,
        decision: Decision,
        (row, filter): (&'a Row, Vec<&'a Condition>),
        case: &Case<'_, 'a>,
    ) -> Judgement {
        let access = match decision {
            Decision::Known(Verdict::Allow) if !filter.is_empty() => &UNRESTRICTED,
            Decision::Known(verdict) => {
                self.known.push(verdict.clone());
                return Judgement::Known(verdict);
            }
            Decision::Ask => &class.rule.access,
        };
        Judgement::Asked(self.ask(class, access, row, filter, case))
    }

    fn ask(
        &mut self,
        class: &'a Arc<Class>,
        access: &'a Access,
        row: &'a Row,
        residual: Vec<&'a Condition>,
        case: &Case<'_, 'a>,
    ) -> usize {
        self.questions.push(Question {
            claims: &class.claims,
            access,
            table: case.table,
            row,
            transaction: Some(case.transaction),
            residual,
        });
        self.questions.len() - 1
    }
}

pub(super) fn published(table: &Table, action: Action) -> bool {
    match action {
        Action::Insert => table.published.insert,
        Action::Update => table.published.update,
        Action::Delete => table.published.delete,
        Action::Truncate => table.published.truncate,
    }
}

fn key_problem(table: &Table, access: &Access) -> Option<Problem> {
    if table.primary_key.is_empty() {
        return Some(Problem::NoPrimaryKey);
    }
    let readable = |i: &usize| access.columns.get(*i).copied().unwrap_or(false);
    (!table.primary_key.iter().all(readable)).then_some(Problem::Unauthorized)
}

/// The old row carries more than the primary key, so it has to be judged before it is shown.
fn reaches_past_key(table: &Table, old: &Row) -> bool {
    old.layout().columns.iter().any(|carried| {
        !table
            .primary_key
            .iter()
            .filter_map(|i| table.columns.get(*i))
            .any(|key| key.name == carried.name)
    })
}

/// The row carries every column that the policies which apply read, so that Postgres can judge it.
fn judgeable(class: &Class, table: &Table, row: &Row) -> bool {
    let carries = |name: &str| !matches!(row.get(name), None | Some(Value::Unchanged));
    let judgeable = |policy: Option<&Policy>| {
        policy.is_some_and(|policy| {
            let mut read = table.columns.iter().filter(|column| policy.reads(column));
            read.all(|column| carries(&column.name))
        })
    };
    let access = &class.rule.access;
    access
        .restrictions(table)
        .all(|by| by.permissive().chain(by.restrictive()).all(judgeable))
}
