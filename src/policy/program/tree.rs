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
        other => compile::parts(other).is_some_and(|parts| parts.into_iter().all(is_closed)),
    }
}
