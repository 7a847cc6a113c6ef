//! Operators, by the exact types of their operands.

use std::cmp::Ordering;
use std::sync::Arc;

use sqlparser::ast::{self, BinaryOperator};

use super::call;
use super::literal::{sound, takes_collation};
use super::{Compiled, Opaque, Place, Scope, primary, value};
use crate::expression::{self, Builtin, Collation, Comparable, Comparison, ElementTest, Expr, Ty, compare};
use crate::postgres::catalog::DefaultCollation;

/// The symbol, if it is one of `pg_catalog`.
fn symbol(op: &BinaryOperator) -> Result<String, Opaque> {
    match op {
        BinaryOperator::PGCustomBinaryOperator(path) => match path.as_slice() {
            [schema, symbol] if schema == "pg_catalog" => Ok(symbol.clone()),
            [symbol] => Ok(symbol.clone()),
            _ => Err(Opaque(format!("the operator {op}"))),
        },
        // Words that are no operators of Postgres.
        BinaryOperator::Xor
        | BinaryOperator::DuckIntegerDivide
        | BinaryOperator::MyIntegerDivide
        | BinaryOperator::Match
        | BinaryOperator::Regexp
        | BinaryOperator::Glob
        | BinaryOperator::Spaceship
        | BinaryOperator::Overlaps
        | BinaryOperator::Assignment => Err(Opaque(format!("the operator {op}"))),
        _ => Ok(op.to_string()),
    }
}

fn comparison(symbol: &str) -> Option<Comparison> {
    Some(match symbol {
        "=" => Comparison::Eq,
        "<>" => Comparison::Ne,
        "<" => Comparison::Lt,
        "<=" => Comparison::Le,
        ">" => Comparison::Gt,
        ">=" => Comparison::Ge,
        _ => return None,
    })
}

pub(super) fn binary(
    left: &ast::Expr,
    op: &BinaryOperator,
    right: &ast::Expr,
    scope: &mut dyn Scope,
) -> Compiled {
    let symbol = symbol(op).map_err(|Opaque(why)| call::unread(why, scope))?;
    let (left, right) = both(left, right, scope)?;
    let phase = scope.phase();
    if let Some(comparison) = comparison(&symbol) {
        let comparable = compared(&left, &right, scope);
        let comparable = comparable.filter(|comparable| ordered(comparison, *comparable));
        known(comparable, &symbol, &[&left, &right], scope)?;
        return Ok(sound(Expr::compare(comparison, left, right, phase), scope));
    }
    let arguments = vec![left, right];
    let collation = collation_of(&arguments)?;
    let builtin = match arguments.as_slice() {
        [left, right] => operator(&symbol, Some(&left.ty), &right.ty, &collation, scope),
        _ => None,
    };
    let builtin = known(builtin, &symbol, &arguments.iter().collect::<Vec<_>>(), scope)?;
    let collation = result_collation(&builtin.returns, collation);
    Ok(sound(
        Expr::call(builtin, symbol.into(), arguments, collation, phase),
        scope,
    ))
}

/// An operator in front of its operand.
pub(super) fn prefix(op: &ast::UnaryOperator, operand: &ast::Expr, scope: &mut dyn Scope) -> Compiled {
    let symbol = op.to_string();
    let operand = value(primary(operand, scope)?, scope)?;
    let builtin = operator(&symbol, None, &operand.ty, &operand.collation.clone(), scope);
    let builtin = known(builtin, &symbol, &[&operand], scope)?;
    let collation = result_collation(&builtin.returns, operand.collation.clone());
    let phase = scope.phase();
    Ok(sound(
        Expr::call(builtin, symbol.into(), vec![operand], collation, phase),
        scope,
    ))
}

/// `IS DISTINCT FROM`
pub(super) fn distinct(left: &ast::Expr, right: &ast::Expr, scope: &mut dyn Scope) -> Compiled {
    let (left, right) = both(left, right, scope)?;
    let comparable = compared(&left, &right, scope);
    known(comparable, "IS DISTINCT FROM", &[&left, &right], scope)?;
    Ok(sound(Expr::distinct(left, right), scope))
}

/// `left op ANY (right)`, or `ALL`.
pub(super) fn element(
    left: &ast::Expr,
    op: &BinaryOperator,
    right: &ast::Expr,
    all: bool,
    scope: &mut dyn Scope,
) -> Compiled {
    let symbol = symbol(op).map_err(|Opaque(why)| call::unread(why, scope))?;
    if let Some((query, array)) = searched(right) {
        let negated = match (symbol.as_str(), all) {
            ("=", false) => false,
            ("<>", true) => true,
            _ => {
                return Err(call::unread(
                    format!("{symbol} with ANY or ALL over a subquery"),
                    scope,
                ));
            }
        };
        let tested = searching(left, scope)?;
        // `= ANY (ARRAY(SELECT …))` means what IN means, but for what the left side raises beside an empty array: IN looks
        // at it once there is a row to compare it with.
        if !array || tested.is_harmless() {
            let found = scope.subquery(Place::In(tested), query)?;
            return Ok(if negated { found.negated() } else { found });
        }
    }
    let (left, array) = both(left, right, scope)?;
    let Ty::Array(of) = &array.ty else {
        return Err(Opaque("ANY or ALL over what is no array".into()));
    };
    let element = Expr {
        ty: (**of).clone(),
        ..array.clone()
    };
    let test = if let Some(comparison) = comparison(&symbol) {
        let comparable = compared(&left, &element, scope);
        let comparable = comparable.filter(|comparable| ordered(comparison, *comparable));
        known(comparable, &symbol, &[&left, &array], scope)?;
        ElementTest::Compare(comparison)
    } else {
        let collation = merged(&left, &element)?;
        let builtin = operator(&symbol, Some(&left.ty), &element.ty, &collation, scope);
        let builtin = known(builtin, &symbol, &[&left, &array], scope)?;
        if builtin.returns != Ty::Bool {
            return Err(Opaque(format!("{symbol} with ANY or ALL")));
        }
        ElementTest::Call(builtin, symbol.into())
    };
    Ok(sound(Expr::any_element(left, test, array, all), scope))
}

/// What is looked for in a subquery. If that is not known, nobody looks at the subquery, nor at the rights that it needs.
pub(super) fn searching(left: &ast::Expr, scope: &mut dyn Scope) -> Compiled {
    let left = value(primary(left, scope)?, scope);
    left.map_err(|Opaque(why)| call::unread(why, scope))
}

/// The subquery that ANY or ALL go over, and whether that is in an ARRAY.
fn searched(tree: &ast::Expr) -> Option<(&ast::Query, bool)> {
    match tree {
        ast::Expr::Nested(inner) => searched(inner),
        ast::Expr::Subquery(query) => Some((query, false)),
        ast::Expr::Function(function) => match &function.args {
            ast::FunctionArguments::Subquery(query)
                if super::names(&function.name).is_ok_and(|name| name == (None, "array".to_owned())) =>
            {
                Some((query, true))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Compiles both sides even if one is not known: what raises in the other must be noticed.
fn both(left: &ast::Expr, right: &ast::Expr, scope: &mut dyn Scope) -> Result<(Expr, Expr), Opaque> {
    let left = primary(left, scope).and_then(|left| value(left, scope));
    let right = primary(right, scope).and_then(|right| value(right, scope));
    let both = <[Expr; 2]>::try_from(every(vec![left, right], scope)?);
    both.map(|[left, right]| (left, right))
        .map_err(|_| Opaque("an operator of other than two operands".into()))
}

/// The operands or arguments of what may be strict. A constant NULL among them decides, whatever the others are.
pub(super) fn every(compiled: Vec<Compiled>, scope: &mut dyn Scope) -> Result<Vec<Expr>, Opaque> {
    let null = |one: &Compiled| matches!(one, Ok(expr) if expr.is_null());
    let null = compiled.iter().any(null);
    let all: Result<Vec<Expr>, Opaque> = compiled.into_iter().collect();
    if let (Err(Opaque(why)), true) = (&all, null) {
        scope.poison(format!("{why}, beside a constant NULL"));
    }
    all
}

/// What is found for these arguments. If it is not known here and all of them are constants, Postgres computes it while
/// planning, where it may raise; and a constant NULL among them may be all that it looks at.
pub(super) fn known<T>(
    found: Option<T>,
    name: &str,
    arguments: &[&Expr],
    scope: &mut dyn Scope,
) -> Result<T, Opaque> {
    found.ok_or_else(|| {
        let types: Vec<_> = arguments
            .iter()
            .map(|argument| format!("{:?}", argument.ty))
            .collect();
        let why = format!("{name} of {}", types.join(", "));
        if arguments.iter().all(|argument| argument.as_constant().is_some()) {
            scope.poison(format!("{why}, all constants"));
        } else if arguments.iter().any(|argument| argument.is_null()) {
            scope.poison(format!("{why}, one of them NULL"));
        }
        Opaque(why)
    })
}

/// Whether this comparison is known, where equality is.
fn ordered(comparison: Comparison, comparable: Comparable) -> bool {
    matches!(comparison, Comparison::Eq | Comparison::Ne) || comparable.ordered
}

/// How two expressions compare, with the collation that holds for both.
pub(super) fn compared(left: &Expr, right: &Expr, scope: &dyn Scope) -> Option<Comparable> {
    let collation = merged(left, right).ok()?;
    expression::comparable(&left.ty, &right.ty, &resolved(&collation, scope))
}

/// The equality of two expressions, as `NULLIF` and `CASE x WHEN` use it.
pub(super) fn equality(left: Expr, right: Expr, scope: &mut dyn Scope) -> Compiled {
    let comparable = compared(&left, &right, scope);
    known(comparable, "=", &[&left, &right], scope)?;
    let phase = scope.phase();
    Ok(sound(Expr::compare(Comparison::Eq, left, right, phase), scope))
}

/// `GREATEST` or `LEAST` of values of one type: NULLs do not count.
pub(super) fn extreme(ty: &Ty, wanted: Ordering) -> Builtin {
    Builtin {
        returns: ty.clone(),
        strict: false,
        immutable: true,
        call: Arc::new(move |values| {
            let mut best = None;
            for value in values.iter().flatten() {
                best = match best {
                    None => Some(value),
                    Some(so_far) if compare(value, so_far)? == wanted => Some(value),
                    kept => kept,
                };
            }
            Ok(best.cloned())
        }),
    }
}

/// The collation that holds for text of both. One that was chosen wins over the default.
pub(super) fn merged(left: &Expr, right: &Expr) -> Result<Collation, Opaque> {
    let of = |expr: &Expr| {
        if takes_collation(&expr.ty) {
            expr.collation.clone()
        } else {
            Collation::Default
        }
    };
    match (of(left), of(right)) {
        (Collation::Default, other) | (other, Collation::Default) => Ok(other),
        (one, other) if one == other => Ok(one),
        _ => Err(Opaque("more than one collation".into())),
    }
}

/// The collation that holds for all arguments of a call.
pub(super) fn collation_of(arguments: &[Expr]) -> Result<Collation, Opaque> {
    let mut found = Collation::Default;
    for argument in arguments.iter().filter(|argument| takes_collation(&argument.ty)) {
        found = match (found, argument.collation.clone()) {
            (Collation::Default, other) | (other, Collation::Default) => other,
            (one, other) if one == other => one,
            _ => return Err(Opaque("more than one collation".into())),
        };
    }
    Ok(found)
}

/// The collation of a result, given that of the arguments.
pub(super) fn result_collation(returns: &Ty, of_arguments: Collation) -> Collation {
    match returns {
        Ty::Name => Collation::C,
        ty if takes_collation(ty) => of_arguments,
        _ => Collation::Default,
    }
}

/// What a collation is in this database.
pub(super) fn resolved(collation: &Collation, scope: &dyn Scope) -> Collation {
    match (collation, scope.collation()) {
        (Collation::Default, DefaultCollation::C) => Collation::C,
        (collation, _) => collation.clone(),
    }
}

/// [`expression::operator`] in the collations of this database.
fn operator(
    symbol: &str,
    left: Option<&Ty>,
    right: &Ty,
    collation: &Collation,
    scope: &dyn Scope,
) -> Option<Builtin> {
    if scope.collation() == DefaultCollation::Turkic && matches!(symbol, "~~*" | "!~~*" | "~*" | "!~*") {
        return None;
    }
    expression::operator(symbol, left, right, &resolved(collation, scope))
}
