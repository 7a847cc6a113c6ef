//! What of a subquery can be looked up: equalities with the row around it, and with what the claims say.

use sqlparser::ast::{self, Expr as E};

use super::claims::is_of_channel;
use super::reach::Reach;
use super::subquery::{conjuncts, found_by, plain_select};
use super::tree::equality;
use crate::expression::compile::{self, parts};
use crate::policy::relation::Probe;

impl Reach<'_, '_> {
    /// The sides of `inner = outer`: one reads only what is in sight here, the other only what is not.
    pub(super) fn correlated<'q>(&self, tree: &'q E) -> Option<(&'q E, &'q E)> {
        let (left, right) = equality(tree)?;
        match (self.is_inner(left)?, self.is_inner(right)?) {
            (true, false) => Some((left, right)),
            (false, true) => Some((right, left)),
            _ => None,
        }
    }

    /// Whether all columns that it names are in sight (true) or none of them (false).
    fn is_inner(&self, tree: &E) -> Option<bool> {
        let mut inner = None;
        let mut open = vec![tree];
        while let Some(tree) = open.pop() {
            match tree {
                E::CompoundIdentifier(path) => {
                    let alias = &path.first()?.value;
                    let found = self.frames.iter().flatten().any(|named| named.alias == *alias);
                    if *inner.get_or_insert(found) != found {
                        return None;
                    }
                }
                E::Identifier(_) => return None,
                E::Cast { expr, .. } | E::Nested(expr) => open.push(expr),
                E::Value(_) => {}
                E::Function(function) => match &function.args {
                    ast::FunctionArguments::List(list) => open.extend(compile::arguments(list).ok()?),
                    _ => return None,
                },
                other => open.extend(parts(other)?),
            }
        }
        inner
    }

    /// The probe of a query.
    pub(super) fn probe(&mut self, query: &ast::Query) -> Option<Probe> {
        let select = plain_select(query)?;
        let selection = select.selection.as_ref()?;
        self.open(&select.from).ok()?;
        let found = self.probe_among(&conjuncts(selection));
        self.frames.pop();
        found
    }

    /// A conjunct `table.column = claims`, rather one that says who asks than one that says in which channel: what becomes
    /// of one member then concerns that member's relations, and not those of everybody in the channel.
    pub(super) fn probe_among(&mut self, conjuncts: &[&E]) -> Option<Probe> {
        let mut of_channel = None;
        for conjunct in conjuncts {
            let Some((left, right)) = equality(conjunct) else {
                continue;
            };
            match self.probed(left, right).or_else(|| self.probed(right, left)) {
                Some((probe, false)) => return Some(probe),
                Some((probe, true)) => of_channel = of_channel.or(Some(probe)),
                None => {}
            }
        }
        of_channel
    }

    /// The probe, and whether it only says in which channel.
    fn probed(&mut self, column: &E, claims: &E) -> Option<(Probe, bool)> {
        let E::CompoundIdentifier(path) = column else {
            return None;
        };
        let [alias, name] = path.as_slice() else {
            return None;
        };
        let (param, value) = self.claims(claims)?;
        let named = self
            .frames
            .last()?
            .iter()
            .find(|named| named.alias == alias.value)?;
        let table = named.table.as_ref()?;
        let output = named.column(&name.value)?.as_ref()?;
        let same = value.ty == output.ty && found_by(&output.expr(), &value);
        let probe = Probe {
            table: table.oid,
            column: table.column(&name.value)?,
            ty: output.ty.clone(),
            param,
        };
        same.then_some((probe, is_of_channel(&value)))
    }
}
