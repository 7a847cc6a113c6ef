//! From a change to the questions that policy has to answer, and to who gets what once it has.

use std::sync::Arc;

use super::keeper::Snapshot;
use super::payload::{Old, Problem};
use super::roster::Roster;
use super::{Settings, UnjudgedDeletes};
use crate::change::{Action, Change, Row, Transaction, Value};
use crate::policy::{Failure, Question, Verdict};
use crate::postgres::catalog::{Access, Policy, RowAccess, Table};
use crate::subscription::{Class, Member};

/// One change and those who could get it.
pub(super) struct Work<'a> {
    pub(super) change: &'a Change,
    pub(super) transaction: &'a Transaction,
    pub(super) table: &'a Table,
    pub(super) groups: Vec<Group<'a>>,
}

/// Members for whom the same verdict decides.
pub(super) struct Group<'a> {
    pub(super) members: Vec<&'a Member>,
    show: Show,
}

enum Show {
    /// Nothing to ask: they get this instead of a row.
    Problem(Problem),
    /// The row if the verdict at this index allows it.
    Row { verdict: usize, old: OldRow },
}

#[derive(Clone, Copy)]
enum OldRow {
    /// This much of it.
    Fixed(Old),
    /// All of it if the verdict at this index allows it, otherwise what the new row shows anyway.
    Judged(usize),
}

/// What a group gets.
pub(super) enum Outcome {
    Row(Old),
    Problem(Problem),
}

impl Group<'_> {
    /// What the verdicts come to; `None` for nothing.
    pub(super) fn outcome(&self, verdicts: &[Verdict]) -> Option<Outcome> {
        let (verdict, old) = match self.show {
            Show::Problem(problem) => return Some(Outcome::Problem(problem)),
            Show::Row { verdict, old } => (verdict, old),
        };
        match verdicts.get(verdict)? {
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
}

/// Assesses changes against one snapshot and roster.
pub(super) struct Assessor<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) roster: &'a Roster,
    pub(super) settings: &'a Settings,
    pub(super) questions: Vec<Question<'a>>,
    pub(super) works: Vec<Work<'a>>,
}

/// Rows nobody restricts: what is left to ask is the filter.
static UNRESTRICTED: Access = Access {
    columns: Vec::new(),
    rows: RowAccess::Unrestricted,
    files: RowAccess::Unrestricted,
};

impl<'a> Assessor<'a> {
    /// Adds a change, with the questions it raises.
    pub(super) fn add(&mut self, change: &'a Change, transaction: &'a Transaction) {
        let Some(table) = self.snapshot.catalog.tables.get(&change.table) else {
            return;
        };
        let Some(subscriptions) = self.roster.index.table(table.oid) else {
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
        let mut groups = Vec::new();
        for class in subscriptions.classes() {
            let access = self
                .snapshot
                .roles
                .get(&class.claims.role)
                .and_then(|role| role.tables.get(&table.oid));
            if let Some(access) = access {
                self.class(class, access, table, (change, transaction), row, &mut groups);
            }
        }
        if !groups.is_empty() {
            self.works.push(Work {
                change,
                transaction,
                table,
                groups,
            });
        }
    }

    fn class(
        &mut self,
        class: &'a Class,
        access: &'a Access,
        table: &'a Arc<Table>,
        (change, transaction): (&'a Change, &'a Transaction),
        row: &'a Row,
        groups: &mut Vec<Group<'a>>,
    ) {
        if change.action != Action::Delete
            && let Some(problem) = key_problem(table, access)
        {
            let members: Vec<_> = class.members(change.action).collect();
            if !members.is_empty() {
                groups.push(Group {
                    members,
                    show: Show::Problem(problem),
                });
            }
            return;
        }
        for (residual, mut members) in class.candidates(table, row, change.action) {
            // Nothing of the row may be read: then not even that there was one is told.
            members.retain(|member| member.columns.contains(&true));
            if members.is_empty() {
                continue;
            }
            let question = Question {
                claims: &class.claims,
                access,
                table,
                row,
                transaction,
                residual,
            };
            let show = match change.action {
                Action::Delete => self.delete(question),
                _ => self.upsert(question, change),
            };
            if let Some(show) = show {
                groups.push(Group { members, show });
            }
        }
    }

    fn ask(&mut self, question: Question<'a>) -> usize {
        self.questions.push(question);
        self.questions.len() - 1
    }

    fn upsert(&mut self, question: Question<'a>, change: &'a Change) -> Option<Show> {
        let restricted = question.access.restrictions(question.table).next().is_some();
        let mut old = OldRow::Fixed(Old::Carried);
        if let Some(row) = change.old.as_ref().filter(|_| restricted) {
            let before = Question {
                row,
                residual: Vec::new(),
                ..question.clone()
            };
            if judgeable(&before) || reaches_past_key(question.table, row) {
                old = OldRow::Judged(self.ask(before));
            } else if self.settings.unjudged_deletes == UnjudgedDeletes::Deny {
                old = OldRow::Fixed(Old::UnchangedKey);
            }
        }
        Some(Show::Row {
            verdict: self.ask(question),
            old,
        })
    }

    fn delete(&mut self, question: Question<'a>) -> Option<Show> {
        if judgeable(&question) {
            return Some(Show::Row {
                verdict: self.ask(question),
                old: OldRow::Fixed(Old::Carried),
            });
        }
        // A role without any permissive policy sees no row of this table, so it is not told of this one either.
        let mut restrictions = question.access.restrictions(question.table);
        if restrictions.any(|by| by.denies_all()) || self.settings.unjudged_deletes == UnjudgedDeletes::Deny {
            return None;
        }
        let question = Question {
            access: &UNRESTRICTED,
            ..question
        };
        Some(Show::Row {
            verdict: self.ask(question),
            old: OldRow::Fixed(Old::Key),
        })
    }
}

fn published(table: &Table, action: Action) -> bool {
    match action {
        Action::Insert => table.published.insert,
        Action::Update => table.published.update,
        Action::Delete => table.published.delete,
        Action::Truncate => false,
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

/// The old row carries every column that the policies which apply read.
fn judgeable(question: &Question<'_>) -> bool {
    let carries = |name: &str| !matches!(question.row.get(name), None | Some(Value::Unchanged));
    let judgeable = |policy: Option<&Policy>| {
        policy.is_some_and(|policy| {
            let mut read = question
                .table
                .columns
                .iter()
                .filter(|column| policy.reads(column));
            read.all(|column| carries(&column.name))
        })
    };
    question
        .access
        .restrictions(question.table)
        .all(|by| by.permissive().chain(by.restrictive()).all(judgeable))
}
