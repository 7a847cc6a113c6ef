//! Ways to a predicate: conditions one of which holds for every row that the predicate is true for, and that rows can be
//! looked up by.

use crate::expression::{
    Collation, Comparison, Datum, ElementTest, Expr, Is, Key, Node, Relation, Stop, Ty, comparable,
};

/// One way to a predicate.
#[derive(Clone, Debug)]
pub(super) enum Path {
    /// These expressions have these values.
    Equal { by: By, key: Vec<Key> },
    /// This expression has a value in this range.
    Range { by: By, range: std::ops::Range<End> },
}

/// What rows are looked up by: expressions that read nothing but the row.
#[derive(Clone, Debug)]
pub(super) struct By {
    /// Their values.
    pub(super) of: Vec<Expr>,
    /// There is one, an array, and its elements are looked up.
    pub(super) each: bool,
    /// Equal for equal ones.
    pub(super) name: String,
}

/// An end of a range, so that all ranges are half open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// No bound below.
    Lowest,
    /// Just below or just above a value.
    At(u64, Side),
    /// No bound above.
    Highest,
}

impl End {
    /// At the value of a key, if keys of that kind have the order of their values.
    pub(super) fn at(key: &Key, side: Side) -> Option<Self> {
        match key {
            // Shifted so that the negative ones come first.
            Key::Int(value) => Some(Self::At(value.cast_unsigned() ^ (1 << 63), side)),
            Key::Float(bits) => Some(Self::At(*bits, side)),
            _ => None,
        }
    }
}

/// See [`End::At`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Below,
    Above,
}

/// Most ways to one predicate: past that, looking at it for every row is cheaper.
const MOST: usize = 50_000;

/// The ways to a predicate: none for one that is never true. `None` if it has to be looked at for every row.
pub(super) fn paths<'a>(
    predicate: &Expr,
    relation: &dyn Fn(usize) -> Result<&'a Relation, Stop>,
) -> Option<Vec<Path>> {
    Finder { relation }.of(predicate)
}

struct Finder<'f, 'a> {
    relation: &'f dyn Fn(usize) -> Result<&'a Relation, Stop>,
}

impl Finder<'_, '_> {
    fn of(&self, predicate: &Expr) -> Option<Vec<Path>> {
        match &predicate.node {
            Node::Const(Some(Datum::Bool(true))) => None,
            Node::Const(_) => Some(Vec::new()),
            Node::And(all) => self.and(all),
            Node::Or(any) => {
                let mut found = Vec::new();
                for one in any {
                    found.extend(self.of(one)?);
                    if found.len() > MOST {
                        return None;
                    }
                }
                Some(found)
            }
            Node::Column(_) if predicate.ty == Ty::Bool => equal(predicate, Key::Bool(true)),
            Node::Not(inner) if matches!(inner.node, Node::Column(_)) => equal(inner, Key::Bool(false)),
            Node::Is(Is::True, inner) => self.of(inner),
            Node::Compare(comparison, left, right) => compare(*comparison, left, right),
            Node::AnyElement {
                left,
                test: ElementTest::Compare(Comparison::Eq),
                array,
                all: false,
            } => any_element(left, array),
            Node::In { keys, relation, .. } => self.member(keys, *relation),
            _ => None,
        }
    }

    /// The best way to any of them will do.
    fn and(&self, all: &[Expr]) -> Option<Vec<Path>> {
        let mut best: Option<Vec<Path>> = None;
        let mut ranges: Vec<(By, std::ops::Range<End>)> = Vec::new();
        for one in all {
            let Some(found) = self.of(one) else { continue };
            if let [Path::Range { by, range }] = found.as_slice() {
                match ranges.iter_mut().find(|(other, _)| other.name == by.name) {
                    Some((_, narrowed)) => {
                        narrowed.start = narrowed.start.max(range.start);
                        narrowed.end = narrowed.end.min(range.end);
                    }
                    None => ranges.push((by.clone(), range.clone())),
                }
            } else if best.as_ref().is_none_or(|best| cost(&found) < cost(best)) {
                best = Some(found);
            }
        }
        if ranges.iter().any(|(_, range)| range.start >= range.end) {
            return Some(Vec::new());
        }
        let bounded = |range: &std::ops::Range<End>| range.start != End::Lowest && range.end != End::Highest;
        let narrowest = ranges.iter().position(|(_, range)| bounded(range)).unwrap_or(0);
        best.or_else(|| {
            let (by, range) = ranges.get(narrowest)?.clone();
            Some(vec![Path::Range { by, range }])
        })
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

/// Few equalities are better than many, and any number of them better than a range.
fn cost(paths: &[Path]) -> (bool, usize) {
    let ranges = paths.iter().any(|path| matches!(path, Path::Range { .. }));
    (ranges, paths.len())
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
    if comparison == Comparison::Ne || !reads_only_the_row(tested) || !keyed(&left.ty, &right.ty) {
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
        Comparison::Ne => return None,
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
