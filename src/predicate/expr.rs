use std::sync::Arc;

use super::{Condition, Operator, operator_symbol};
use crate::expression::{
    Array, Collation, Comparison, Datum, ElementTest, Expr, Node, Stop, Ty, cast, comparable, operator,
};
use crate::postgres::catalog::{DefaultCollation, Table, Types};

pub(super) fn condition(
    condition: &Condition,
    table: &Table,
    types: &Types,
    collation: DefaultCollation,
) -> Expr {
    let test = test(condition, table, types, collation)
        .unwrap_or_else(|| boolean(Node::Stop(Stop::ask("a filter that is not known here"))));
    if condition.negate {
        boolean(Node::Not(Box::new(test)))
    } else {
        test
    }
}

fn test(condition: &Condition, table: &Table, types: &Types, collation: DefaultCollation) -> Option<Expr> {
    let of = table.columns.get(condition.column)?;
    let ty = Ty::of(of.type_oid, types);
    if let Some(is) = condition.is {
        // Whether a value is NULL can be told of any type but a composite one, which only Postgres takes apart.
        let column = column(condition.column, ty?, Collation::Default);
        return Some(boolean(Node::Is(is, Box::new(column))));
    }
    let ty = ty?;
    let collation = Collation::of(of, collation);
    let column = column(condition.column, ty.clone(), collation.clone());
    let constant = |text: &Option<String>| -> Option<Expr> {
        let datum = match text {
            Some(text) => Some(Datum::parse(text, &ty).ok()?),
            None => None,
        };
        Some(Expr {
            node: Node::Const(datum),
            ty: ty.clone(),
            collation: collation.clone(),
        })
    };
    let first = || constant(condition.canonical.first()?);
    let known = |ordered: bool| {
        // Postgres has no operators for varchar: it compares as text.
        let ty = if ty == Ty::Varchar { Ty::Text } else { ty.clone() };
        comparable(&ty, &ty, &collation).is_some_and(|known| known.ordered || !ordered)
    };
    let node = match condition.operator {
        Operator::Eq | Operator::Neq | Operator::IsDistinct if !known(false) => return None,
        Operator::Lt | Operator::Lte | Operator::Gt | Operator::Gte if !known(true) => return None,
        Operator::In if !known(false) => return None,
        Operator::Eq => compare(Comparison::Eq, column, first()?),
        Operator::Neq => compare(Comparison::Ne, column, first()?),
        Operator::Lt => compare(Comparison::Lt, column, first()?),
        Operator::Lte => compare(Comparison::Le, column, first()?),
        Operator::Gt => compare(Comparison::Gt, column, first()?),
        Operator::Gte => compare(Comparison::Ge, column, first()?),
        Operator::IsDistinct => Node::Distinct(Box::new(column), Box::new(first()?)),
        Operator::In => {
            let elements = condition
                .canonical
                .iter()
                .map(|text| {
                    text.as_deref()
                        .map(|text| Datum::parse(text, &ty).ok())
                        .map_or(Some(None), |d| d.map(Some))
                })
                .collect::<Option<Vec<_>>>()?;
            let dimensions = if elements.is_empty() {
                Vec::new()
            } else {
                vec![(elements.len(), 1)]
            };
            Node::AnyElement {
                left: Box::new(column),
                test: ElementTest::Compare(Comparison::Eq),
                array: Box::new(Expr {
                    node: Node::Const(Some(Datum::Array(Arc::new(Array { dimensions, elements })))),
                    ty: Ty::Array(Box::new(ty.clone())),
                    collation: collation.clone(),
                }),
                all: false,
            }
        }
        Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch => {
            return pattern(condition, column, &collation);
        }
        Operator::Is => return None,
    };
    Some(boolean(node))
}

/// `column OP pattern`.
fn pattern(condition: &Condition, column: Expr, collation: &Collation) -> Option<Expr> {
    let symbol = operator_symbol(condition.operator)?;
    let column = match column.ty {
        Ty::Text => column,
        Ty::Varchar => Expr {
            node: Node::Call(cast(&Ty::Varchar, &Ty::Text, &[])?, "text".into(), vec![column]),
            ty: Ty::Text,
            collation: collation.clone(),
        },
        _ => return None,
    };
    let text: Arc<str> = condition.values.first()?.as_deref()?.into();
    let builtin = operator(symbol, Some(&column.ty), &Ty::Text, collation)?;
    let pattern = Expr {
        node: Node::Const(Some(Datum::Text(text))),
        ty: Ty::Text,
        collation: Collation::Default,
    };
    Some(boolean(Node::Call(builtin, symbol.into(), vec![column, pattern])))
}

fn compare(comparison: Comparison, left: Expr, right: Expr) -> Node {
    Node::Compare(comparison, Box::new(left), Box::new(right))
}

fn column(index: usize, ty: Ty, collation: Collation) -> Expr {
    Expr {
        node: Node::Column(index),
        ty,
        collation,
    }
}

fn boolean(node: Node) -> Expr {
    Expr {
        node,
        ty: Ty::Bool,
        collation: Collation::Default,
    }
}
