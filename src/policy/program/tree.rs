//! Trees of SQL, as far as they are looked into.

use sqlparser::ast::{self, Expr as E};

use super::scope::sole_expression;
use crate::expression::compile;

/// The sides of `left = right`.
pub(super) fn equality(tree: &E) -> Option<(&E, &E)> {
    match tree {
        E::Nested(inner) => equality(inner),
        E::BinaryOp {
            left,
            op: ast::BinaryOperator::Eq,
            right,
        } => Some((left, right)),
        _ => None,
    }
}

/// Names no column.
pub(super) fn is_closed(tree: &E) -> bool {
    match tree {
        E::Value(_) => true,
        E::Identifier(_) | E::CompoundIdentifier(_) => false,
        E::Nested(inner) | E::Cast { expr: inner, .. } => is_closed(inner),
        E::Subquery(query) => sole_expression(query).is_some_and(is_closed),
        E::Function(function) => match &function.args {
            ast::FunctionArguments::None => true,
            ast::FunctionArguments::Subquery(_) => false,
            ast::FunctionArguments::List(list) => {
                compile::arguments(list).is_ok_and(|arguments| arguments.into_iter().all(is_closed))
            }
        },
        other => parts(other).is_some_and(|parts| parts.into_iter().all(is_closed)),
    }
}

/// The operands of an expression that is nothing but operators of `pg_catalog`.
pub(super) fn parts(tree: &E) -> Option<Vec<&E>> {
    Some(match tree {
        E::BinaryOp { left, op, right } => {
            if let ast::BinaryOperator::PGCustomBinaryOperator(path) = op
                && path.first().is_none_or(|schema| schema != "pg_catalog")
            {
                return None;
            }
            vec![left, right]
        }
        E::AnyOp { left, right, .. } | E::AllOp { left, right, .. } => vec![left, right],
        E::IsDistinctFrom(left, right) | E::IsNotDistinctFrom(left, right) => vec![left, right],
        E::UnaryOp { expr, .. }
        | E::IsNull(expr)
        | E::IsNotNull(expr)
        | E::IsTrue(expr)
        | E::IsNotTrue(expr)
        | E::IsFalse(expr)
        | E::IsNotFalse(expr)
        | E::IsUnknown(expr)
        | E::IsNotUnknown(expr)
        | E::Extract { expr, .. }
        | E::Collate { expr, .. } => vec![expr],
        E::AtTimeZone { timestamp, time_zone } => vec![timestamp, time_zone],
        E::Array(array) => array.elem.iter().collect(),
        E::Tuple(elements) => elements.iter().collect(),
        E::Case {
            operand,
            conditions,
            else_result,
            ..
        } => {
            let mut parts: Vec<&E> = operand.iter().chain(else_result).map(|e| &**e).collect();
            for when in conditions {
                parts.push(&when.condition);
                parts.push(&when.result);
            }
            parts
        }
        _ => return None,
    })
}
