//! What an expression is made of, where it is not known what it comes to.

use sqlparser::ast::{self, Expr as E};

use super::{Scope, call};

/// The operands of an expression that is nothing but operators of `pg_catalog`.
pub fn parts(tree: &E) -> Option<Vec<&E>> {
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

/// Not a literal, but made of nothing but constants, or an operator with a literal NULL: Postgres computes it while it
/// plans, where it may raise, or leave out what stands beside it.
pub(super) fn is_computed_while_planning(tree: &E, scope: &dyn Scope) -> bool {
    if is_literal(tree) {
        return false;
    }
    let strict = matches!(
        tree,
        E::BinaryOp { .. } | E::UnaryOp { .. } | E::AnyOp { .. } | E::AllOp { .. }
    );
    is_constant(tree, scope) || (strict && parts(tree).is_some_and(|parts| parts.into_iter().any(is_null)))
}

/// Whether Postgres knows its value while it plans. Who calls a function of the database's own knows better.
pub(super) fn is_constant(tree: &E, scope: &dyn Scope) -> bool {
    let column = |qualifier, name: &ast::Ident| {
        let column = scope.column(qualifier, &name.value);
        column.is_some_and(|column| column.as_constant().is_some())
    };
    let all = |parts: Vec<&E>| !parts.is_empty() && parts.into_iter().all(|part| is_constant(part, scope));
    match tree {
        E::Value(_) => true,
        E::Nested(inner) | E::Cast { expr: inner, .. } => is_constant(inner, scope),
        E::Identifier(name) => column(None, name),
        E::CompoundIdentifier(path) => match path.as_slice() {
            [qualifier, name] => column(Some(qualifier.value.as_str()), name),
            _ => false,
        },
        E::Function(function) => arguments(function).is_some_and(all),
        _ => parts(tree).is_some_and(all),
    }
}

/// The arguments of a function of `pg_catalog`, unless what it answers is known to change.
fn arguments(function: &ast::Function) -> Option<Vec<&E>> {
    let (schema, name) = call::names(&function.name).ok()?;
    let builtin = schema.is_none_or(|schema| schema == "pg_catalog") && name != "current_setting";
    match &function.args {
        ast::FunctionArguments::List(list) if builtin => call::arguments(list).ok(),
        _ => None,
    }
}

fn is_literal(tree: &E) -> bool {
    match tree {
        E::Value(_) => true,
        E::Nested(inner) => is_literal(inner),
        E::Cast { expr, .. } => matches!(**expr, E::Value(_)),
        _ => false,
    }
}

fn is_null(tree: &E) -> bool {
    match tree {
        E::Value(literal) => literal.value == ast::Value::Null,
        E::Nested(inner) | E::Cast { expr: inner, .. } => is_null(inner),
        _ => false,
    }
}
