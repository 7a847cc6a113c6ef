//! Subscribers that the policies of a table treat alike.

use std::sync::Arc;

use super::program::Bound;
use super::relations::{RelationId, Relations};
use super::rules::Rule;
use super::{Failure, ParamKey, RelationQuery, Verdict};
use crate::auth::Claims;
use crate::expression::{Context, Evaluated, Expr, Relation, RowView, Stop};
use crate::postgres::catalog::Table;

/// What makes two subscribers of a table one class.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClassKey {
    role: Arc<str>,
    params: Arc<[ParamKey]>,
    /// Where Postgres is asked, what the policies read of the claims is not known.
    claims: Option<Arc<Claims>>,
}

/// Subscribers that the policies of a table treat alike.
#[derive(Debug)]
pub struct Class {
    /// What they may see.
    pub rule: Arc<Rule>,
    /// Claims of one of them.
    pub claims: Arc<Claims>,
    /// The policies with what the claims say put in.
    pub residual: Expr,
    /// The relations that the residual names by index; `None` for one that is not read.
    pub relations: Vec<Option<RelationId>>,
}

/// What is known of a row without asking Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The verdict.
    Known(Verdict),
    /// Only Postgres can say.
    Ask,
}

impl ClassKey {
    /// The class of these claims under a rule, and what the rule's program was bound to.
    pub fn of(rule: &Rule, claims: &Arc<Claims>) -> (Self, Bound) {
        let bound = rule.program.bind(claims);
        let key = Self {
            role: Arc::clone(&rule.role),
            params: bound.keys.clone().into(),
            claims: rule.program.asks().then(|| Arc::clone(claims)),
        };
        (key, bound)
    }
}

impl Class {
    /// Its relations are held until [`Class::release`].
    pub fn new(rule: &Arc<Rule>, bound: &Bound, claims: &Arc<Claims>, relations: &mut Relations) -> Self {
        let requests = rule.program.requests(bound, claims);
        let mut hold = |query: &Arc<RelationQuery>| {
            let request = requests
                .iter()
                .find(|request| Arc::ptr_eq(&request.query, query))?;
            Some(relations.hold(request, &rule.role))
        };
        Self {
            rule: Arc::clone(rule),
            claims: Arc::clone(claims),
            residual: rule.program.residual(bound),
            relations: rule.program.relations().iter().map(&mut hold).collect(),
        }
    }

    /// Lets go of its relations.
    pub fn release(&self, relations: &mut Relations) {
        for relation in self.relations.iter().flatten() {
            relations.release(*relation);
        }
    }

    /// A relation of the residual.
    ///
    /// # Errors
    /// As [`Relations::get`].
    pub fn relation<'r>(&self, index: usize, relations: &'r Relations) -> Result<&'r Relation, Stop> {
        match self.relations.get(index) {
            Some(Some(id)) => relations.get(*id),
            _ => Err(Stop::ask("a subquery that is not read")),
        }
    }

    /// Some row may be hidden from it.
    pub fn is_restricted(&self, table: &Table) -> bool {
        self.rule.access.restrictions(table).next().is_some()
    }

    /// Judges a row of `table` at `now` (microseconds since 2000-01-01 UTC).
    pub fn decide(&self, table: &Table, row: &RowView<'_>, relations: &Relations, now: i64) -> Decision {
        let context = Judging {
            class: self,
            row,
            relations,
            now,
        };
        // Postgres checks the rights on every table and plans every subquery before it evaluates anything: where one
        // raised, it has to say what comes of that, and where one could not be read, nobody knows.
        for id in &self.relations {
            // Not read, since the claims have no value for it: planning may raise on them, too.
            let Some(id) = id else { return Decision::Ask };
            match relations.get(*id) {
                Err(Stop::Raised(_)) => return Decision::Ask,
                Err(Stop::Unavailable(why)) => {
                    return Decision::Known(Verdict::Failed(Failure::Unavailable(why.to_string())));
                }
                _ => {}
            }
        }
        Decision::Known(match self.residual.passes(&context) {
            Ok(true) => Verdict::Allow,
            Ok(false) => Verdict::Deny,
            Err(Stop::Ask(_)) => return Decision::Ask,
            Err(Stop::Unavailable(why)) => Verdict::Failed(Failure::Unavailable(why.to_string())),
            Err(Stop::Raise(code)) => Verdict::Failed(Failure::Raised(code.to_owned())),
            Err(Stop::Raised(code)) => Verdict::Failed(Failure::Raised(code.to_string())),
            Err(Stop::Missing(column)) => Verdict::Failed(Failure::MissingColumn(
                table
                    .columns
                    .get(column)
                    .map_or_else(String::new, |column| column.name.to_string()),
            )),
        })
    }
}

struct Judging<'a> {
    class: &'a Class,
    row: &'a RowView<'a>,
    relations: &'a Relations,
    now: i64,
}

impl Context for Judging<'_> {
    fn column(&self, index: usize) -> Evaluated {
        self.row.value(index)
    }

    fn param(&self, _: usize) -> Evaluated {
        Err(Stop::ask("claims that were not put in"))
    }

    fn relation(&self, index: usize) -> Result<&Relation, Stop> {
        self.class.relation(index, self.relations)
    }

    fn now(&self) -> i64 {
        self.now
    }
}
