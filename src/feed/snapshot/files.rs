//! What policy files say of the rows of a snapshot.

use std::sync::Arc;

use super::plan::{Item, Plan};
use crate::change::Row;
use crate::expression::{ColumnTypes, Expr, RowView, column_types};
use crate::policy::{Class, ClassKey, Decision, Engine, Failure, Question, Relations, Verdict};
use crate::predicate::{Outcome, judge};

/// Decides by memory where that is possible, as for changes; the rest is put to Postgres.
pub(super) struct Sieve<'p> {
    plan: &'p Plan,
    item: &'p Item,
    types: ColumnTypes,
    conditions: Vec<Expr>,
    files: Option<Files>,
    engine: Engine,
}

/// The class of the user, and what its policies look into.
struct Files {
    class: Arc<Class>,
    relations: Relations,
}

impl Drop for Files {
    fn drop(&mut self) {
        self.class.release(&mut self.relations);
    }
}

impl<'p> Sieve<'p> {
    pub(super) async fn new(plan: &'p Plan, item: &'p Item, engine: &Engine) -> Self {
        let catalog = &plan.rules.catalog;
        let condition =
            |c: &crate::predicate::Condition| c.expr(&item.table, &catalog.types, catalog.collation);
        let files = match &item.files {
            None => None,
            Some(rule) => {
                let mut relations = engine.relations();
                relations.watch(plan.rules.watched.oids().clone());
                let (_, bound) = ClassKey::of(rule, &plan.claims);
                let class = Arc::new(Class::new(rule, &bound, &plan.claims, &mut relations));
                let mut files = Files { class, relations };
                let reader = engine.relation_reader();
                if files.relations.stale() {
                    files.relations.refresh(&reader, None).await;
                }
                Some(files)
            }
        };
        Self {
            plan,
            item,
            types: column_types(&item.table, &catalog.types),
            conditions: item.filter.iter().map(condition).collect(),
            files,
            engine: engine.clone(),
        }
    }

    /// Which of these rows pass; `micros` is the time, since the Unix epoch.
    ///
    /// # Errors
    /// A policy that raises, or cannot be evaluated: as for a SELECT, there is nothing to be shown then.
    pub(super) async fn pass(&self, rows: Vec<Row>, micros: i64) -> Result<Vec<Row>, Failure> {
        let mut kept = Vec::with_capacity(rows.len());
        let mut asked = Vec::new();
        for row in rows {
            match self.decide(&row, micros) {
                Decision::Known(Verdict::Deny) => {}
                Decision::Known(Verdict::Allow) => kept.push(row),
                Decision::Known(Verdict::Failed(failure)) => return Err(failure),
                Decision::Ask => {
                    asked.push(kept.len());
                    kept.push(row);
                }
            }
        }
        let Some(files) = self.files.as_ref().filter(|_| !asked.is_empty()) else {
            return Ok(kept);
        };
        let question = |row| Question {
            claims: &files.class.claims,
            access: &files.class.rule.access,
            table: &self.item.table,
            row,
            transaction: None,
            residual: Vec::new(),
        };
        let questions: Vec<_> = asked.iter().filter_map(|i| kept.get(*i)).map(question).collect();
        let types = &self.plan.rules.catalog.types;
        let verdicts = self.engine.consult(&questions, types).await;
        let mut denied = Vec::new();
        for (place, verdict) in asked.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Allow => {}
                Verdict::Deny => denied.push(place),
                Verdict::Failed(failure) => return Err(failure),
            }
        }
        let mut place = 0;
        kept.retain(|_| {
            let stays = denied.binary_search(&place).is_err();
            place += 1;
            stays
        });
        Ok(kept)
    }

    fn decide(&self, row: &Row, micros: i64) -> Decision {
        let view = RowView::new(&self.item.table, &self.types, row);
        // Postgres has applied the filter. What is known here as well has to agree.
        let fails = |condition: &Expr| judge(condition, &view) == Outcome::Fail;
        if self.conditions.iter().any(fails) {
            return Decision::Known(Verdict::Deny);
        }
        match &self.files {
            None => Decision::Known(Verdict::Allow),
            Some(Files { class, relations }) => {
                let now = micros - POSTGRES_EPOCH;
                class.decide(&self.item.table, &view, relations, now)
            }
        }
    }
}

/// 2000-01-01 in microseconds since 1970-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
