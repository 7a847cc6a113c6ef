//! Subqueries: what they read of the row becomes keys, the rest a question that Postgres answers once for many rows.

use sqlparser::ast::{self, Expr as E};

use super::lift;
use super::reach::{Output, Reach, unknown};
use super::scope::Names;
use crate::expression::compile::{self, Compiled, Opaque, Place};
use crate::expression::{self, Collation, Expr, Node, Ty};
use crate::policy::relation::{Probe, RelationQuery};

/// The name of a subquery that is wrapped.
const WRAPPED: &str = "\"rowcast found\"";

/// An equality between what the subquery reads and what is outside of it.
struct Pair<'q> {
    inner: &'q E,
    outer: Expr,
}

/// A subquery as a relation.
pub(super) fn relation(place: Place, query: &ast::Query, names: &mut Names<'_, '_>) -> Compiled {
    if let Some(compiled) = decorrelated(&place, query, names)? {
        return Ok(compiled);
    }
    let owner = names.owner.clone();
    let mut reach = Reach::new(names.builder, owner);
    let outputs = reach.query(query)?;
    let probe = reach.probe(query);
    let (sql, columns) = match &place {
        Place::Exists => (
            format!("SELECT true FROM ({query}) {WRAPPED} LIMIT 1"),
            vec![Ty::Bool],
        ),
        Place::In(left) => {
            let output = single(&outputs)?;
            check(left, output)?;
            (
                format!("SELECT DISTINCT * FROM ({query}) {WRAPPED}"),
                vec![output.ty.clone()],
            )
        }
        Place::Scalar => (
            format!("SELECT * FROM ({query}) {WRAPPED} LIMIT 2"),
            vec![single(&outputs)?.ty.clone()],
        ),
        Place::First => (
            format!("SELECT * FROM ({query}) {WRAPPED} LIMIT 1"),
            vec![single(&outputs)?.ty.clone()],
        ),
        Place::Array => (query.to_string(), vec![single(&outputs)?.ty.clone()]),
    };
    let mut reach = Reach::new(names.builder, names.owner.clone());
    reach.query(query)?;
    let query = finished(reach, sql, columns.clone(), probe, names.owner.as_deref());
    let index = names.builder.relation(query);
    let ty = columns.into_iter().next().unwrap_or(Ty::Bool);
    let collation = outputs
        .into_iter()
        .next()
        .map_or(Collation::Default, |output| output.collation);
    Ok(match place {
        Place::Exists => Expr::new(Node::Exists(index), Ty::Bool),
        Place::In(left) => Expr::new(
            Node::In {
                keys: vec![left],
                relation: index,
                exists: false,
            },
            Ty::Bool,
        ),
        Place::Scalar | Place::First => Expr {
            node: Node::Scalar(index),
            ty,
            collation,
        },
        Place::Array => Expr {
            node: Node::ArrayOf(index),
            ty: Ty::Array(Box::new(ty)),
            collation,
        },
    })
}

/// `EXISTS (… AND inner = outer)` and `x IN (SELECT y … AND inner = outer)`, with the equalities as keys. `None` if
/// nothing of the subquery is equal to something outside.
fn decorrelated(
    place: &Place,
    query: &ast::Query,
    names: &mut Names<'_, '_>,
) -> Result<Option<Expr>, Opaque> {
    let left = match place {
        Place::In(left) => Some(left.clone()),
        Place::Exists => None,
        Place::Scalar | Place::First | Place::Array => return Ok(None),
    };
    let Some(select) = plain_select(query) else {
        return Ok(None);
    };
    let whole = is_unordered(query) || (left.is_none() && is_some_of_all(query));
    let simple = select.distinct.is_none() && select.having.is_none() && is_ungrouped(select) && whole;
    let Some(selection) = select.selection.as_ref().filter(|_| simple) else {
        return Ok(None);
    };
    let mut reach = Reach::new(names.builder, names.owner.clone());
    reach.open(&select.from)?;
    let (mut equalities, mut rest) = (Vec::new(), Vec::new());
    for conjunct in conjuncts(selection) {
        match reach.correlated(conjunct) {
            Some(sides) => equalities.push(sides),
            None => rest.push(conjunct),
        }
    }
    if equalities.is_empty() {
        return Ok(None);
    }
    for conjunct in &rest {
        reach.walk(conjunct)?;
    }
    let mut outputs = Vec::new();
    let mut items: Vec<&E> = Vec::new();
    if left.is_some() {
        match select.projection.as_slice() {
            [ast::SelectItem::UnnamedExpr(item) | ast::SelectItem::ExprWithAlias { expr: item, .. }] => {
                items.push(item);
            }
            _ => return Err(Opaque("IN over a row".into())),
        }
    }
    items.extend(equalities.iter().map(|(inner, _)| *inner));
    for item in &items {
        reach.walk(item)?;
        outputs.push(reach.typed(item)?);
    }
    let probe = reach.probe_among(&rest);
    let selected = match &left {
        Some(_) => Vec::new(),
        None => selected(select, &mut reach)?,
    };
    let sql = rewritten(select, &selected, &items, &rest);
    let columns: Vec<Ty> = outputs.iter().map(|output| output.ty.clone()).collect();
    let relation = finished(reach, sql, columns, probe, names.owner.as_deref());
    let mut keys: Vec<Expr> = left.into_iter().collect();
    let exists = keys.is_empty();
    for (inner, outer) in equalities {
        let pair = Pair {
            inner,
            outer: compile::value(outer, names)?,
        };
        let of_claims = lift::is_of_claims(&pair.outer) || pair.outer.as_constant().is_some();
        if !pair.outer.is_harmless() && !of_claims {
            return Err(Opaque(format!("a subquery by what may raise ({})", pair.inner)));
        }
        keys.push(pair.outer);
    }
    for (key, output) in keys.iter().zip(&outputs) {
        check(key, output)?;
    }
    let relation = names.builder.relation(relation);
    let node = Node::In {
        keys,
        relation,
        exists,
    };
    Ok(Some(Expr::new(node, Ty::Bool)))
}

fn finished(
    reach: Reach<'_, '_>,
    sql: String,
    columns: Vec<Ty>,
    probe: Option<Probe>,
    owner: Option<&str>,
) -> RelationQuery {
    let (params, reads) = reach.finish();
    // A change of a row that is read in another way too is not told apart by this one.
    let probe = probe.filter(|probe| reads.get(&probe.table) == Some(&1));
    RelationQuery {
        sql: sql.into(),
        columns,
        owner: owner.map(Into::into),
        params: params.into_iter().collect(),
        reads: reads.into_keys().collect(),
        probe,
    }
}

/// What EXISTS selects, as far as it matters: rights on columns are checked although nobody reads them, and a function
/// may return a set, with no row in it.
fn selected<'q>(select: &'q ast::Select, reach: &mut Reach<'_, '_>) -> Result<Vec<&'q E>, Opaque> {
    let mut found = Vec::new();
    for item in &select.projection {
        match item {
            ast::SelectItem::UnnamedExpr(E::Value(_))
            | ast::SelectItem::ExprWithAlias {
                expr: E::Value(_), ..
            } => {}
            ast::SelectItem::UnnamedExpr(item) | ast::SelectItem::ExprWithAlias { expr: item, .. } => {
                reach.walk(item)?;
                found.push(item);
            }
            _ => return Err(unknown("*")),
        }
    }
    Ok(found)
}

/// The subquery without its equalities, returning what they compare for each row that it `selected`.
fn rewritten(select: &ast::Select, selected: &[&E], items: &[&E], rest: &[&E]) -> String {
    let from: Vec<_> = select.from.iter().map(ToString::to_string).collect();
    let mut behind = format!(" FROM {}", from.join(", "));
    for (i, conjunct) in rest.iter().enumerate() {
        behind.push_str(if i == 0 { " WHERE " } else { " AND " });
        behind.push_str(&format!("({conjunct})"));
    }
    if selected.is_empty() {
        let items: Vec<_> = items.iter().map(ToString::to_string).collect();
        return format!("SELECT DISTINCT {}{behind}", items.join(", "));
    }
    let names: Vec<_> = (1..=items.len())
        .map(|i| format!("\"rowcast key {i}\""))
        .collect();
    let keys = items
        .iter()
        .zip(&names)
        .map(|(item, name)| format!("{item} AS {name}"));
    let inner: Vec<_> = selected.iter().map(ToString::to_string).chain(keys).collect();
    format!(
        "SELECT DISTINCT {} FROM (SELECT {}{behind}) {WRAPPED}",
        names.join(", "),
        inner.join(", "),
    )
}

fn single(outputs: &[Output]) -> Result<&Output, Opaque> {
    match outputs {
        [output] => Ok(output),
        _ => Err(Opaque("a subquery of several columns".into())),
    }
}

/// Whether a key can be looked up in a column: Postgres compares them with the operator of their own type.
fn check(key: &Expr, output: &Output) -> Result<(), Opaque> {
    let of = &output.expr();
    if found_by(key, of) {
        return Ok(());
    }
    Err(Opaque(format!("looks {:?} up among {:?}", key.ty, output.ty)))
}

/// Whether equal values of both have the same [`expression::Key`], and `=` is that of their own types.
pub(super) fn found_by(left: &Expr, right: &Expr) -> bool {
    let same = match (&left.ty, &right.ty) {
        (Ty::Int2 | Ty::Int4 | Ty::Int8, Ty::Int2 | Ty::Int4 | Ty::Int8) => true,
        (Ty::Text | Ty::Varchar, Ty::Text | Ty::Varchar) => true,
        (left, right) => left == right,
    };
    let collation = match (&left.collation, &right.collation) {
        (Collation::Default, other) | (other, Collation::Default) => other.clone(),
        (one, other) if one == other => one.clone(),
        _ => return false,
    };
    // `varchar` has no operators of its own.
    let plain = |ty: &Ty| if *ty == Ty::Varchar { Ty::Text } else { ty.clone() };
    same && expression::comparable(&plain(&left.ty), &plain(&right.ty), &collation).is_some_and(|c| c.keyed)
}

/// The one SELECT of a query, if it is one.
pub(super) fn plain_select(query: &ast::Query) -> Option<&ast::Select> {
    match &*query.body {
        ast::SetExpr::Select(select) if query.with.is_none() => Some(select),
        _ => None,
    }
}

/// Without ORDER BY, LIMIT and what else stands behind a SELECT.
pub(super) fn is_unordered(query: &ast::Query) -> bool {
    query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && query.for_clause.is_none()
}

/// `LIMIT n` of at least one row, which for EXISTS is as good as all of them.
fn is_some_of_all(query: &ast::Query) -> bool {
    let Some(ast::LimitClause::LimitOffset {
        limit: Some(E::Value(limit)),
        offset: None,
        limit_by,
    }) = &query.limit_clause
    else {
        return false;
    };
    let some =
        matches!(&limit.value, ast::Value::Number(number, _) if number.parse().is_ok_and(|n: u64| n > 0));
    let rest = ast::Query {
        limit_clause: None,
        ..query.clone()
    };
    some && limit_by.is_empty() && is_unordered(&rest)
}

/// Without GROUP BY.
pub(super) fn is_ungrouped(select: &ast::Select) -> bool {
    matches!(&select.group_by, ast::GroupByExpr::Expressions(by, modifiers) if by.is_empty() && modifiers.is_empty())
}

/// The operands of a chain of ANDs.
pub(super) fn conjuncts(tree: &E) -> Vec<&E> {
    let mut found = Vec::new();
    let mut open = vec![tree];
    while let Some(tree) = open.pop() {
        match tree {
            E::Nested(inner) => open.push(inner),
            E::BinaryOp {
                left,
                op: ast::BinaryOperator::And,
                right,
            } => {
                open.push(right);
                open.push(left);
            }
            other => found.push(other),
        }
    }
    found
}
