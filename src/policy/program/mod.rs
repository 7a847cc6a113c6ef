//! All policies that apply to a role on a table, as one expression over the row, what the claims say, and relations.
//!
//! A [`Program`] is made once per (catalog, table, role) and bound once per distinct claims; classes of subscribers with
//! equal [`Bound::keys`] are judged alike.

mod claims;
mod explain;
mod from;
mod keys;
mod lift;
mod qualification;
mod reach;
mod scope;
mod subquery;
mod tree;
mod typed;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

pub use explain::{Explained, Judged, Source};

use super::relation::{ParamKey, RelationQuery, RelationRequest};
use crate::auth::Claims;
use crate::expression::{Evaluated, Expr, Node, Phase, Stop, compile};
use crate::postgres::catalog::{Access, Catalog, Policy, RowAccess, Table};
use claims::Settings;
use qualification::qualification;
use scope::{Builder, Finished, Names};

/// The policies of one role on one table.
#[derive(Clone, Debug)]
pub struct Program {
    /// True where all policies together say yes. Its parameters are indexes into `params`, its relations into
    /// `relations`.
    expr: Expr,
    /// What it needs of the claims.
    params: Vec<Expr>,
    /// Those of them that Postgres evaluates while it plans.
    planned: BTreeSet<usize>,
    /// What it reads beside the row.
    relations: Vec<Arc<RelationQuery>>,
    /// Columns that it reads, as indexes into `Table::columns`.
    columns: BTreeSet<usize>,
    policies: Vec<Explained>,
}

/// A program's parameters for somebody's claims.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Their values.
    pub params: Vec<Evaluated>,
    /// The same, comparable: two with equal keys get equal answers from all that is decided in memory.
    pub keys: Vec<ParamKey>,
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys
    }
}

impl Eq for Bound {}

impl std::hash::Hash for Bound {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.keys.hash(state);
    }
}

impl Program {
    /// Joins what applies. `callable` are the functions of the catalog that the role may call and that do for it what
    /// their bodies say.
    pub fn new(table: &Table, access: &Access, callable: &HashSet<u32>, catalog: &Catalog) -> Self {
        let mut builder = Builder::new(table, catalog, callable);
        let mut policies = Vec::new();
        let rows = joined(
            &access.rows,
            &table.policies,
            Source::Database,
            &mut builder,
            &mut policies,
        );
        let files = joined(
            &access.files,
            &table.file_policies,
            Source::File,
            &mut builder,
            &mut policies,
        );
        let expr = qualification(Expr::and(vec![rows, files], Phase::Planned));
        // Postgres evaluates the operands of a top-level AND in any order: none has a value for the others.
        let mut expr = match &expr.node {
            Node::And(all) => {
                let all = all.iter().map(|operand| builder.lift(operand));
                Expr::and(all.collect(), Phase::Planned)
            }
            _ => builder.lift(&expr),
        };
        let Finished {
            params,
            relations,
            planned,
            poison,
        } = builder.finish();
        if let Some(why) = poison {
            expr = Expr::stop(Stop::ask(why));
        }
        let mut columns = BTreeSet::new();
        expr.contains(&mut |part| {
            if let Node::Column(index) = part.node {
                columns.insert(index);
            }
            false
        });
        Self {
            expr,
            params,
            planned,
            relations,
            columns,
            policies,
        }
    }

    /// The same, with Postgres asked about every row that policies restrict.
    pub fn asking(self, why: &'static str) -> Self {
        if self.expr.as_truth().is_some() {
            return self;
        }
        Self {
            expr: Expr::stop(Stop::ask(why)),
            params: Vec::new(),
            planned: BTreeSet::new(),
            relations: Vec::new(),
            columns: BTreeSet::new(),
            policies: self.policies,
        }
    }

    /// Columns that it reads, as indexes into `Table::columns`. Where it asks, Postgres may read more.
    pub fn columns(&self) -> &BTreeSet<usize> {
        &self.columns
    }

    /// The relations that it reads, by their indexes in its expressions.
    ///
    /// Postgres checks the rights on all of them before it evaluates anything, and plans all of them: if one of them
    /// cannot be read, the program has no answer, however the rest of it comes out.
    pub fn relations(&self) -> &[Arc<RelationQuery>] {
        &self.relations
    }

    /// What became of each policy.
    pub fn policies(&self) -> &[Explained] {
        &self.policies
    }

    /// Some rows cannot be judged without Postgres. What a value decides at run time is not foreseen here.
    pub fn asks(&self) -> bool {
        self.expr.contains(&mut |part| matches!(part.node, Node::Stop(_)))
    }

    /// Evaluates what the claims decide.
    pub fn bind(&self, claims: &Arc<Claims>) -> Bound {
        let settings = Settings::of(claims);
        let mut params = Vec::with_capacity(self.params.len());
        let mut keys = Vec::with_capacity(self.params.len());
        for param in &self.params {
            let (value, key) = claims::bound(param, &settings, claims);
            params.push(value);
            keys.push(key);
        }
        Bound { params, keys }
    }

    /// What is left for somebody: no parameter is left in it. Evaluate it with [`Expr::passes`].
    pub fn residual(&self, bound: &Bound) -> Expr {
        let raises = |param: &usize| !matches!(bound.params.get(*param), Some(Ok(_)));
        if self.planned.iter().any(raises) {
            return Expr::stop(Stop::ask("a function that is said to be immutable, and raises"));
        }
        let expr = self.expr.rebuilt(Phase::Executed, &mut |part| {
            let node = match &part.node {
                Node::Param(index) => match bound.params.get(*index) {
                    Some(Ok(value)) => Node::Const(value.clone()),
                    Some(Err(stop)) => Node::Stop(stop.clone()),
                    None => Node::Stop(Stop::ask("a parameter that was not bound")),
                },
                Node::In { relation, .. }
                | Node::Exists(relation)
                | Node::Scalar(relation)
                | Node::ArrayOf(relation) => Node::Stop(self.unreadable(*relation, bound)?),
                _ => return None,
            };
            Some(Expr { node, ..part.clone() })
        });
        // NULL does not pass. Postgres evaluates the operands of a top-level AND in any order it likes.
        let fails = |operand: &Expr| matches!(operand.as_truth(), Some(Some(false) | None));
        let denies = match &expr.node {
            Node::And(operands) => operands.iter().any(fails),
            _ => fails(&expr),
        };
        if denies { Expr::bool(Some(false)) } else { expr }
    }

    /// The relations that somebody's residual reads.
    pub fn requests(&self, bound: &Bound, claims: &Arc<Claims>) -> Vec<RelationRequest> {
        let readable = |(index, _): &(usize, &Arc<RelationQuery>)| self.unreadable(*index, bound).is_none();
        let request = |(_, query): (usize, &Arc<RelationQuery>)| RelationRequest {
            query: Arc::clone(query),
            params: query
                .params
                .iter()
                .filter_map(|param| bound.keys.get(*param).cloned())
                .collect(),
            claims: Arc::clone(claims),
        };
        self.relations
            .iter()
            .enumerate()
            .filter(readable)
            .map(request)
            .collect()
    }

    /// Why a relation is not read: something that decides what it returns has no value, so that two of them could not
    /// be told apart.
    fn unreadable(&self, relation: usize, bound: &Bound) -> Option<Stop> {
        let Some(query) = self.relations.get(relation) else {
            return Some(Stop::ask("a subquery that is not known"));
        };
        query
            .params
            .iter()
            .find_map(|param| match bound.keys.get(*param) {
                Some(ParamKey::Stop(_) | ParamKey::Unknown(_)) | None => {
                    Some(Stop::ask("a subquery by claims that have no value"))
                }
                Some(_) => None,
            })
    }
}

/// The text of an expression over a row that reads nothing else, of any type; nothing where only Postgres knows what it is.
pub(super) fn compile_value(text: &str, table: &Table, catalog: &Catalog) -> Option<Expr> {
    let callable = HashSet::new();
    let mut builder = Builder::new(table, catalog, &callable);
    let tree = compile::parse(text).ok()?;
    let expr = compile::value(&tree, &mut Names::of_row(&mut builder)).ok()?;
    let known = builder.finish().poison.is_none();
    (known && !expr.contains(&mut |part| matches!(part.node, Node::Stop(_)))).then_some(expr)
}

/// One kind of policies: some permissive one and all restrictive ones.
fn joined(
    access: &RowAccess,
    policies: &[Policy],
    source: Source,
    builder: &mut Builder<'_>,
    explained: &mut Vec<Explained>,
) -> Expr {
    let RowAccess::Policies {
        permissive,
        restrictive,
    } = access
    else {
        return Expr::bool(Some(true));
    };
    let mut each = |index: &usize| match policies.get(*index) {
        Some(policy) => {
            let (expr, verdict) = one(policy, builder);
            explained.push(Explained {
                name: policy.name.clone(),
                permissive: policy.permissive,
                source,
                verdict,
            });
            expr
        }
        // Table and access were not read together: deny.
        None => Expr::bool(Some(false)),
    };
    let permissive: Vec<Expr> = permissive.iter().map(&mut each).collect();
    let restrictive = restrictive.iter().map(&mut each);
    let mut conjuncts: Vec<Expr> = restrictive.collect();
    conjuncts.insert(0, Expr::or(permissive, Phase::Planned));
    Expr::and(conjuncts, Phase::Planned)
}

fn one(policy: &Policy, builder: &mut Builder<'_>) -> (Expr, Judged) {
    let Some(using) = &policy.using else {
        // Neither allows nor restricts.
        return (Expr::bool(Some(!policy.permissive)), Judged::Compiled);
    };
    builder.begin();
    let mut names = Names::of_row(builder);
    let expr = compile::compile(using, &mut names);
    let verdict = explain::judged(&expr, builder.poisoned());
    (expr, verdict)
}

#[cfg(test)]
mod tests;
