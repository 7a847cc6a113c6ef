//! How ways are found: by what a predicate compares with, and what it is true or false by.

use super::{By, End, Path, Rank, Side, cost};
use crate::expression::{
    Collation, Comparison, Datum, ElementTest, Expr, Is, Key, Node, Relation, Stop, Ty, comparable,
};

/// Most ways to one predicate: past that, looking at it for every row is cheaper.
const MOST: usize = 50_000;

/// Most ways that two conditions are put together to. They are made for each group of subscribers.
const MOST_TOGETHER: usize = 64;

/// The ways to a predicate: none for one that is never true. `None` if it has to be looked at for every row.
pub(in super::super) fn paths<'a>(
    predicate: &Expr,
    relation: &dyn Fn(usize) -> Result<&'a Relation, Stop>,
) -> Option<Vec<Path>> {
    Finder { relation }.of(predicate, true)
}

struct Finder<'f, 'a> {
    relation: &'f dyn Fn(usize) -> Result<&'a Relation, Stop>,
}

impl Finder<'_, '_> {
    /// The ways to where the predicate is true, or to where it is false.
    fn of(&self, predicate: &Expr, truth: bool) -> Option<Vec<Path>> {
        match &predicate.node {
            Node::Const(Some(Datum::Bool(value))) if *value == truth => None,
            Node::Const(_) => Some(Vec::new()),
            Node::Not(inner) => self.of(inner, !truth),
            // NOT over either is the other one over NOT.
            Node::And(all) if truth => self.all(all, truth),
            Node::Or(all) if !truth => self.all(all, truth),
            Node::And(any) | Node::Or(any) => self.any(any, truth),
            Node::Is(is, inner) => self.is(*is, inner, truth),
            Node::Compare(comparison, left, right) if truth => compare(*comparison, left, right),
            Node::Compare(comparison, left, right) => compare(negated(*comparison), left, right),
            Node::Distinct(left, right) if !truth => same(left, right),
            Node::AnyElement {
                left,
                test: ElementTest::Compare(Comparison::Eq),
                array,
                all: false,
            } if truth => any_element(left, array),
            Node::In { keys, relation, .. } if truth => self.member(keys, *relation),
            _ if predicate.ty == Ty::Bool && reads_only_the_row(predicate) => {
                equal(predicate, Key::Bool(truth))
            }
            _ => None,
        }
    }

    fn any(&self, any: &[Expr], truth: bool) -> Option<Vec<Path>> {
        let mut found = Vec::new();
        for one in any {
            found.extend(self.of(one, truth)?);
            if found.len() > MOST {
                return None;
            }
        }
        Some(found)
    }

    /// `IS` itself is never NULL.
    fn is(&self, is: Is, inner: &Expr, truth: bool) -> Option<Vec<Path>> {
        match (is, truth) {
            (Is::True, true) => self.of(inner, true),
            (Is::False, true) => self.of(inner, false),
            (Is::Null | Is::Unknown, _) => null(inner, truth),
            (Is::True | Is::False, false) => {
                let mut found = self.of(inner, is == Is::False)?;
                found.extend(null(inner, true)?);
                Some(found)
            }
        }
    }

    /// The best way to any of them will do.
    fn all(&self, all: &[Expr], truth: bool) -> Option<Vec<Path>> {
        let mut ways: Vec<Vec<Path>> = Vec::new();
        let mut ranges: Vec<(By, std::ops::Range<End>)> = Vec::new();
        for one in all {
            let Some(found) = self.of(one, truth) else {
                continue;
            };
            if let [Path::Range { by, range }] = found.as_slice() {
                match ranges.iter_mut().find(|(other, _)| other.name == by.name) {
                    Some((_, narrowed)) => {
                        narrowed.start = narrowed.start.max(range.start);
                        narrowed.end = narrowed.end.min(range.end);
                    }
                    None => ranges.push((by.clone(), range.clone())),
                }
            } else {
                ways.push(found);
            }
        }
        if ranges.iter().any(|(_, range)| range.start >= range.end) {
            return Some(Vec::new());
        }
        let ranges = ranges.into_iter();
        ways.extend(ranges.map(|(by, range)| vec![Path::Range { by, range }]));
        match together(&ways) {
            Some(both) if !ways.iter().any(Vec::is_empty) => Some(both),
            _ => ways.into_iter().min_by_key(|ways| cost(ways)),
        }
    }

    fn member(&self, keys: &[Expr], relation: usize) -> Option<Vec<Path>> {
        let relation = (self.relation)(relation).ok()?;
        let mut of = Vec::new();
        // What is fixed already narrows the relation, the rest is looked up.
        let mut fixed: Vec<Option<Key>> = Vec::with_capacity(keys.len());
        for key in keys {
            match &key.node {
                Node::Const(None) => return Some(Vec::new()),
                Node::Const(Some(datum)) => fixed.push(Some(datum.key(&key.ty).ok()?)),
                _ if reads_only_the_row(key) => {
                    of.push(key.clone());
                    fixed.push(None);
                }
                _ => return None,
            }
        }
        if of.is_empty() || relation.rows().len() > MOST {
            return None;
        }
        let by = by(of, false);
        let found = relation.keys().filter(|row| {
            row.iter()
                .zip(&fixed)
                .all(|(value, fixed)| fixed.as_ref().is_none_or(|fixed| fixed == value))
        });
        Some(
            found
                .map(|row| Path::Equal {
                    by: by.clone(),
                    key: row
                        .iter()
                        .zip(&fixed)
                        .filter(|(_, fixed)| fixed.is_none())
                        .map(|(value, _)| value.clone())
                        .collect(),
                })
                .collect(),
        )
    }
}

/// Two conditions as one: many may have the same filter, or come under a policy with the same value, but few both. The first and
/// the last, which of a filter and a policy are one of each; not all, so that there are no more lookups than pairs of columns.
fn together(ways: &[Vec<Path>]) -> Option<Vec<Path>> {
    let mut plain = ways.iter().filter_map(|ways| plain(ways));
    let ((first, keys), (last, others)) = (plain.next()?, plain.next_back()?);
    if first.name == last.name || keys.len().saturating_mul(others.len()) > MOST_TOGETHER {
        return None;
    }
    let by = by(first.of.iter().chain(&last.of).cloned().collect(), false);
    let pairs = keys
        .iter()
        .flat_map(|key| others.iter().map(move |other| (key, other)));
    let both = pairs.map(|(key, other)| Path::Equal {
        by: by.clone(),
        key: key.iter().chain(other.iter()).cloned().collect(),
    });
    Some(both.collect())
}

/// The values of some expressions, if that is what all of these ways are.
fn plain(ways: &[Path]) -> Option<(&By, Vec<&[Key]>)> {
    let by = ways.first()?.by();
    let keys = ways.iter().map(|path| match path {
        Path::Equal { by: same, key } if same.name == by.name && path.rank() == Rank::Few => {
            Some(key.as_slice())
        }
        _ => None,
    });
    let keys = keys.collect::<Option<Vec<_>>>()?;
    (!by.each).then_some((by, keys))
}

fn by(of: Vec<Expr>, each: bool) -> By {
    let name = format!("{each} {of:?}");
    By { of, each, name }
}

fn equal(expr: &Expr, key: Key) -> Option<Vec<Path>> {
    Some(vec![Path::Equal {
        by: by(vec![expr.clone()], false),
        key: vec![key],
    }])
}

fn compare(comparison: Comparison, left: &Expr, right: &Expr) -> Option<Vec<Path>> {
    let (comparison, tested, constant) = match (&left.node, &right.node) {
        (_, Node::Const(constant)) => (comparison, left, constant),
        (Node::Const(constant), _) => (flipped(comparison), right, constant),
        _ => return None,
    };
    if !reads_only_the_row(tested) || !keyed(&left.ty, &right.ty) {
        return None;
    }
    let constant_ty = if std::ptr::eq(tested, left) {
        &right.ty
    } else {
        &left.ty
    };
    let Some(constant) = constant else {
        return Some(Vec::new());
    };
    let key = constant.key(constant_ty).ok()?;
    let at = |side| End::at(&key, side);
    let range = match comparison {
        Comparison::Eq => return equal(tested, key),
        Comparison::Ne => match key {
            Key::Bool(value) => return equal(tested, Key::Bool(!value)),
            _ => return None,
        },
        Comparison::Lt => End::Lowest..at(Side::Below)?,
        Comparison::Le => End::Lowest..at(Side::Above)?,
        Comparison::Gt => at(Side::Above)?..End::Highest,
        Comparison::Ge => at(Side::Below)?..End::Highest,
    };
    let by = by(vec![tested.clone()], false);
    Some(vec![Path::Range { by, range }])
}

fn flipped(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Lt => Comparison::Gt,
        Comparison::Le => Comparison::Ge,
        Comparison::Gt => Comparison::Lt,
        Comparison::Ge => Comparison::Le,
        same => same,
    }
}

/// What it is where it is false.
fn negated(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Eq => Comparison::Ne,
        Comparison::Ne => Comparison::Eq,
        Comparison::Lt => Comparison::Ge,
        Comparison::Le => Comparison::Gt,
        Comparison::Gt => Comparison::Le,
        Comparison::Ge => Comparison::Lt,
    }
}

/// `IS NOT DISTINCT FROM`
fn same(left: &Expr, right: &Expr) -> Option<Vec<Path>> {
    match (&left.node, &right.node) {
        (Node::Const(None), _) => null(right, true),
        (_, Node::Const(None)) => null(left, true),
        _ => compare(Comparison::Eq, left, right),
    }
}

/// Where an expression is NULL, or where it is not.
fn null(expr: &Expr, null: bool) -> Option<Vec<Path>> {
    match &expr.node {
        Node::Const(value) if value.is_none() == null => None,
        Node::Const(_) => Some(Vec::new()),
        _ if reads_only_the_row(expr) => {
            let by = by(vec![expr.clone()], false);
            Some(vec![Path::Null { by, null }])
        }
        _ => None,
    }
}

fn any_element(left: &Expr, array: &Expr) -> Option<Vec<Path>> {
    let Ty::Array(element) = &array.ty else {
        return None;
    };
    if !keyed(&left.ty, element) {
        return None;
    }
    match (&left.node, &array.node) {
        (Node::Const(None), _) | (_, Node::Const(None)) => Some(Vec::new()),
        (Node::Const(Some(datum)), _) if reads_only_the_row(array) => {
            let key = vec![datum.key(&left.ty).ok()?];
            let by = by(vec![array.clone()], true);
            Some(vec![Path::Equal { by, key }])
        }
        (_, Node::Const(Some(Datum::Array(array)))) if reads_only_the_row(left) => {
            if array.elements.len() > MOST {
                return None;
            }
            let by = by(vec![left.clone()], false);
            let keys = array.elements.iter().flatten().map(|datum| {
                Some(Path::Equal {
                    by: by.clone(),
                    key: vec![datum.key(element).ok()?],
                })
            });
            keys.collect()
        }
        _ => None,
    }
}

/// Equal values have equal keys. A collation that says otherwise does not get as far as here.
fn keyed(left: &Ty, right: &Ty) -> bool {
    comparable(left, right, &Collation::Default).is_some_and(|comparable| comparable.keyed)
}

/// Its value can be had of the row alone, at any time.
fn reads_only_the_row(expr: &Expr) -> bool {
    let all = |exprs: &[Expr]| exprs.iter().all(constant_or_row) && exprs.iter().any(reads_only_the_row);
    match &expr.node {
        Node::Column(_) => true,
        Node::Call(_, _, arguments) | Node::Coalesce(arguments) => all(arguments),
        Node::NullIf(left, right) => all(&[(**left).clone(), (**right).clone()]),
        _ => false,
    }
}

fn constant_or_row(expr: &Expr) -> bool {
    matches!(expr.node, Node::Const(_)) || reads_only_the_row(expr)
}
