//! Literals, typed constants and casts.

use std::sync::Arc;

use sqlparser::ast::{self, Value};

use super::operator::collation_of;
use super::{Compiled, Opaque, Scope, array, primary, type_names, value};
use crate::expression::{self, Collation, Datum, Expr, Node, Stop, Ty};

/// A literal without a cast: `5`, `1.5`, `true`.
/// <https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-CONSTANTS-NUMERIC>
pub(super) fn plain(literal: &Value) -> Compiled {
    let ty = match literal {
        Value::Boolean(value) => return Ok(Expr::bool(Some(*value))),
        Value::Number(digits, false) => match () {
            () if digits.parse::<i32>().is_ok() => Ty::Int4,
            () if digits.parse::<i64>().is_ok() => Ty::Int8,
            () => Ty::Numeric,
        },
        _ => return Err(Opaque("a literal without a type".into())),
    };
    match (literal, &ty) {
        (Value::Number(digits, _), Ty::Int4 | Ty::Int8) => {
            let number = digits.parse().map_err(|_| Opaque("a number".into()))?;
            Ok(Expr::constant(Some(Datum::Int(number)), ty))
        }
        (Value::Number(digits, _), _) => parsed(digits, ty),
        _ => Err(Opaque("a literal without a type".into())),
    }
}

/// `'…'::type`, `NULL::type`, `expression::type`.
pub(super) fn cast(tree: &ast::Expr, ty: &ast::DataType, scope: &mut dyn Scope) -> Compiled {
    let target = type_names::of(ty, scope);
    if let ast::Expr::Value(literal) = tree {
        let text = match &literal.value {
            Value::Null => return Ok(Expr::constant(None, target?.0)),
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            _ => None,
        };
        if let Some(text) = text {
            // A cast of a constant to a length of its own type is printed like a constant of that length.
            let (ty, modifiers) = target?;
            let constant = parsed(text, ty.clone())?;
            return convert(constant, ty, &modifiers, scope);
        }
    }
    let from = value(primary(tree, scope)?, scope)?;
    let (ty, modifiers) = target?;
    convert(from, ty, &modifiers, scope)
}

fn parsed(text: &str, ty: Ty) -> Compiled {
    match Datum::parse(text, &ty) {
        Ok(datum) => Ok(Expr::constant(Some(datum), ty)),
        Err(Stop::Ask(why)) => Err(Opaque(why.into_owned())),
        Err(_) => Err(Opaque(format!("a constant of {ty:?}"))),
    }
}

/// `from::ty`
pub(super) fn convert(from: Expr, ty: Ty, modifiers: &[i32], scope: &mut dyn Scope) -> Compiled {
    if from.ty == ty && modifiers.is_empty() {
        return Ok(from);
    }
    let collation = if takes_collation(&ty) {
        collation_of(std::slice::from_ref(&from))?
    } else {
        Collation::Default
    };
    let builtin = expression::cast(&from.ty, &ty, modifiers)
        .or_else(|| array::element_cast(&from.ty, &ty, modifiers))
        .ok_or_else(|| {
            if from.as_constant().is_some() {
                scope.poison(format!("the cast of a constant to {ty:?}"));
            }
            Opaque(format!("the cast of {:?} to {ty:?}", from.ty))
        })?;
    let name: Arc<str> = format!("::{ty:?}{modifiers:?}").into();
    Ok(sound(
        Expr::call(builtin, name, vec![from], collation, scope.phase()),
        scope,
    ))
}

/// Values of this type compare by a collation.
pub(super) fn takes_collation(ty: &Ty) -> bool {
    match ty {
        Ty::Text | Ty::Varchar | Ty::Bpchar | Ty::Name => true,
        Ty::Array(element) => takes_collation(element),
        _ => false,
    }
}

/// A constant that has no value raises while Postgres plans, wherever it stands in the expression.
pub(super) fn sound(expr: Expr, scope: &mut dyn Scope) -> Expr {
    if let Node::Stop(stop) = &expr.node {
        scope.poison(format!("a constant expression has no value here ({stop:?})"));
    }
    expr
}
