//! Functions, and the forms of SQL that are functions in disguise.

use std::cmp::Ordering;

use sqlparser::ast::{self, Expr as E, FunctionArg, FunctionArgExpr, FunctionArguments};

use super::literal::{convert, sound};
use super::operator::{
    collation_of, compared, equality, every, extreme, known, merged, resolved, result_collation,
};
use super::{Compiled, Opaque, Passed, Place, Scope, condition, primary, type_names, value};
use crate::expression::fold::Phase;
use crate::expression::{self, Collation, Datum, Expr, Node, Ty};
use crate::postgres::catalog::DefaultCollation;

/// A function call, or a form that is one.
pub(super) fn call(tree: &E, scope: &mut dyn Scope) -> Compiled {
    match tree {
        E::Function(function) => function_call(function, scope),
        E::Extract { field, expr, .. } => {
            let field = field.to_string().to_ascii_lowercase();
            let field = Expr::constant(Some(Datum::Text(field.into())), Ty::Text);
            let from = value(expr, scope)?;
            builtin("extract", vec![field, from], scope)
        }
        E::AtTimeZone { timestamp, time_zone } => {
            let trees = [primary(time_zone, scope)?, primary(timestamp, scope)?];
            let arguments = texts(&trees, scope)?;
            builtin("timezone", arguments, scope)
        }
        E::Position { expr, r#in } => {
            let arguments = texts(&[r#in, expr], scope)?;
            builtin("position", arguments, scope)
        }
        E::Substring {
            expr,
            substring_from: Some(from),
            substring_for,
            special: false,
            ..
        } => {
            let trees: Vec<&E> = [expr, from]
                .into_iter()
                .chain(substring_for)
                .map(|tree| &**tree)
                .collect();
            let arguments = texts(&trees, scope)?;
            builtin("substring", arguments, scope)
        }
        E::Trim {
            expr,
            trim_where,
            trim_what,
            trim_characters: None,
        } => {
            let name = match trim_where {
                None | Some(ast::TrimWhereField::Both) => "btrim",
                Some(ast::TrimWhereField::Leading) => "ltrim",
                Some(ast::TrimWhereField::Trailing) => "rtrim",
            };
            let trees: Vec<&E> = [expr].into_iter().chain(trim_what).map(|tree| &**tree).collect();
            let arguments = texts(&trees, scope)?;
            builtin(name, arguments, scope)
        }
        E::Overlay {
            expr,
            overlay_what,
            overlay_from,
            overlay_for,
        } => {
            let trees = [expr, overlay_what, overlay_from].into_iter().chain(overlay_for);
            let trees: Vec<&E> = trees.map(|tree| &**tree).collect();
            let arguments = texts(&trees, scope)?;
            builtin("overlay", arguments, scope)
        }
        E::Ceil { expr, .. } => {
            let arguments = vec![value(expr, scope)?];
            builtin("ceil", arguments, scope)
        }
        E::Floor { expr, .. } => {
            let arguments = vec![value(expr, scope)?];
            builtin("floor", arguments, scope)
        }
        _ => Err(unread(
            "an expression of a kind that is not computed here".into(),
            scope,
        )),
    }
}

/// Of an expression that is not even looked into: its constants may raise while Postgres plans, whatever stands beside it.
pub(super) fn unread(why: String, scope: &mut dyn Scope) -> Opaque {
    scope.poison(why.clone());
    Opaque(why)
}

/// The arguments of a form in which Postgres does not print the casts that make text of its relatives.
fn texts(trees: &[&E], scope: &mut dyn Scope) -> Result<Vec<Expr>, Opaque> {
    let text = |expr: Expr, scope: &mut dyn Scope| match expr.ty {
        Ty::Varchar | Ty::Bpchar | Ty::Name => convert(expr, Ty::Text, &[], scope),
        _ => Ok(expr),
    };
    let compiled: Vec<Compiled> = trees
        .iter()
        .map(|tree| value(tree, scope).and_then(|expr| text(expr, scope)))
        .collect();
    every(compiled, scope)
}

fn function_call(function: &ast::Function, scope: &mut dyn Scope) -> Compiled {
    let plain = function.over.is_none()
        && function.filter.is_none()
        && function.within_group.is_empty()
        && function.null_treatment.is_none()
        && matches!(function.parameters, FunctionArguments::None);
    if !plain {
        let why = format!("{} is more than a function call", function.name);
        return Err(unread(why, scope));
    }
    let (schema, name) = names(&function.name).map_err(|Opaque(why)| unread(why, scope))?;
    let trees = match &function.args {
        FunctionArguments::None => Vec::new(),
        FunctionArguments::Subquery(query) if schema.is_none() && name == "array" => {
            return scope.subquery(Place::Array, query);
        }
        FunctionArguments::Subquery(_) => return Err(unread("a subquery as an argument".into(), scope)),
        FunctionArguments::List(list) if name == "count" && is_star(list) => Vec::new(),
        FunctionArguments::List(list) => arguments(list).map_err(|Opaque(why)| unread(why, scope))?,
    };
    if schema.is_none() && name == "coalesce" {
        return coalesce(&trees, scope);
    }
    let compiled: Vec<Compiled> = trees.iter().map(|tree| value(tree, scope)).collect();
    let arguments = every(compiled, scope)?;
    match (schema.as_deref(), name.as_str()) {
        (None, "nullif") => null_if(arguments, scope),
        (None, "greatest") => best("greatest", arguments, Ordering::Greater, scope),
        (None, "least") => best("least", arguments, Ordering::Less, scope),
        (None, "now" | "current_timestamp" | "transaction_timestamp") if arguments.is_empty() => {
            Ok(Expr::new(Node::Now, Ty::Timestamptz))
        }
        (None | Some("pg_catalog"), name) => builtin(name, arguments, scope),
        (Some(schema), name) => {
            let passed = |(value, tree)| Passed { value, tree };
            scope.call(
                Some(schema),
                name,
                arguments.into_iter().zip(trees).map(passed).collect(),
            )
        }
    }
}

/// Schema and name; a name without quotes is folded to lower case.
pub fn names(path: &ast::ObjectName) -> Result<(Option<String>, String), Opaque> {
    let mut parts = Vec::new();
    for part in &path.0 {
        match part {
            ast::ObjectNamePart::Identifier(ident) if ident.quote_style.is_none() => {
                parts.push(ident.value.to_ascii_lowercase());
            }
            ast::ObjectNamePart::Identifier(ident) => parts.push(ident.value.clone()),
            ast::ObjectNamePart::Function(_) => return Err(Opaque("a name that is computed".into())),
        }
    }
    match (parts.pop(), parts.pop(), parts.is_empty()) {
        (Some(name), schema, true) => Ok((schema, name)),
        _ => Err(Opaque(format!("the name {path}"))),
    }
}

/// `count(*)`
pub fn is_star(list: &ast::FunctionArgumentList) -> bool {
    matches!(
        list.args.as_slice(),
        [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]
    )
}

/// The arguments of a call that has nothing but arguments.
pub fn arguments(list: &ast::FunctionArgumentList) -> Result<Vec<&E>, Opaque> {
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return Err(Opaque("a call with clauses".into()));
    }
    let plain = |argument| match argument {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref tree)) => Ok(tree),
        _ => Err(Opaque("an argument by name, or a whole row".into())),
    };
    list.args.iter().map(plain).collect()
}

/// A function of `pg_catalog`.
fn builtin(name: &str, arguments: Vec<Expr>, scope: &mut dyn Scope) -> Compiled {
    let types: Vec<Ty> = arguments.iter().map(|argument| argument.ty.clone()).collect();
    let collation = collation_of(&arguments)?;
    let cases = matches!(name, "lower" | "upper" | "initcap");
    let turkic = cases && scope.collation() == DefaultCollation::Turkic;
    let found = if turkic {
        None
    } else {
        expression::function(name, &types, &resolved(&collation, scope))
    };
    let Some(found) = found else {
        let constant = !arguments.is_empty() && arguments.iter().all(|a| a.as_constant().is_some())
            || arguments.iter().any(Expr::is_null);
        let types: Vec<_> = types.iter().map(|ty| format!("{ty:?}")).collect();
        let nowhere = E::value(ast::Value::Null);
        let passed = |value| Passed {
            value,
            tree: &nowhere,
        };
        let passed = arguments.into_iter().map(passed).collect();
        return scope.call(None, name, passed).map_err(|Opaque(why)| {
            // What it answers changes: Postgres does not call it while planning.
            if name == "current_setting" {
                return Opaque(why);
            }
            let why = format!("{name}({})", types.join(", "));
            if constant {
                scope.poison(format!("{why}, of constants"));
            }
            Opaque(why)
        });
    };
    let collation = result_collation(&found.returns, collation);
    let phase = scope.phase();
    Ok(sound(
        Expr::call(found, name.into(), arguments, collation, phase),
        scope,
    ))
}

/// `COALESCE`: what is behind a constant is not looked at.
fn coalesce(trees: &[&E], scope: &mut dyn Scope) -> Compiled {
    let mut compiled = Vec::new();
    for tree in trees {
        let argument = value(tree, scope);
        let ends = matches!(&argument, Ok(a) if matches!(a.as_constant(), Some(Some(_))));
        compiled.push(argument);
        if ends && scope.phase() == Phase::Planned {
            break;
        }
    }
    let arguments: Vec<Expr> = compiled.into_iter().collect::<Result<_, _>>()?;
    let (ty, collation) = common(&arguments)?;
    Ok(Expr::coalesce(arguments, ty, collation))
}

/// The one type of all, and their collation.
fn common(arguments: &[Expr]) -> Result<(Ty, Collation), Opaque> {
    let first = arguments.first().map(|first| first.ty.clone());
    let ty = first.ok_or_else(|| Opaque("a call without arguments".into()))?;
    if arguments.iter().any(|argument| argument.ty != ty) {
        return Err(Opaque("values of several types".into()));
    }
    Ok((ty, collation_of(arguments)?))
}

fn null_if(arguments: Vec<Expr>, scope: &mut dyn Scope) -> Compiled {
    let Ok([left, right]) = <[Expr; 2]>::try_from(arguments) else {
        return Err(Opaque("NULLIF".into()));
    };
    merged(&left, &right)?;
    let comparable = compared(&left, &right, scope);
    known(comparable, "NULLIF", &[&left, &right], scope)?;
    Ok(sound(Expr::null_if(left, right), scope))
}

fn best(name: &str, arguments: Vec<Expr>, wanted: Ordering, scope: &mut dyn Scope) -> Compiled {
    let (ty, collation) = common(&arguments)?;
    let comparable = expression::comparable(&ty, &ty, &resolved(&collation, scope));
    let ordered = comparable.filter(|comparable| comparable.ordered);
    known(ordered, name, &arguments.iter().collect::<Vec<_>>(), scope)?;
    let phase = scope.phase();
    let call = Expr::call(extreme(&ty, wanted), name.into(), arguments, collation, phase);
    Ok(sound(call, scope))
}

/// Both forms of CASE. What Postgres' planner does not look at is not looked at.
pub(super) fn case(tree: &E, scope: &mut dyn Scope) -> Compiled {
    let E::Case {
        operand,
        conditions,
        else_result,
        ..
    } = tree
    else {
        return Err(Opaque("CASE".into()));
    };
    let operand = operand
        .as_ref()
        .map(|operand| primary(operand, scope).and_then(|operand| value(operand, scope)));
    let planned = scope.phase() == Phase::Planned;
    let mut branches: Vec<(Compiled, Compiled)> = Vec::new();
    let mut decided = false;
    for when in conditions {
        let test = match &operand {
            None => Ok(condition(&when.condition, scope)),
            Some(operand) => match (operand.clone(), value(&when.condition, scope)) {
                (Ok(operand), Ok(wanted)) => equality(operand, wanted, scope),
                (Err(why), _) | (_, Err(why)) => Err(why),
            },
        };
        let truth = test.as_ref().ok().and_then(Expr::as_truth);
        // A branch that is never taken still has a type.
        if planned && matches!(truth, Some(Some(false) | None)) {
            continue;
        }
        branches.push((test, value(&when.result, scope)));
        if planned && truth == Some(Some(true)) {
            decided = true;
            break;
        }
    }
    let otherwise = match else_result {
        Some(tree) if !decided => Some(value(tree, scope)),
        _ => None,
    };
    finish(branches, otherwise)
}

/// A result that is not known makes only its own branch opaque, if another one tells that this is a condition.
fn finish(branches: Vec<(Compiled, Compiled)>, otherwise: Option<Compiled>) -> Compiled {
    let results = || branches.iter().map(|(_, result)| result).chain(&otherwise);
    let boolean = results().any(|result| matches!(result, Ok(expr) if expr.ty == Ty::Bool));
    let kept = |result: Compiled| match result {
        Err(Opaque(why)) if boolean => Ok(Expr::stop(expression::Stop::ask(why))),
        result => result,
    };
    if branches.is_empty() && otherwise.is_none() {
        return Err(Opaque("a CASE of which nothing is left".into()));
    }
    let mut known = Vec::new();
    for (condition, result) in branches {
        known.push((condition?, kept(result)?));
    }
    let otherwise = otherwise.map(kept).transpose()?;
    let all: Vec<Expr> = known
        .iter()
        .map(|(_, result)| result.clone())
        .chain(otherwise.clone())
        .collect();
    let (ty, collation) = common(&all)?;
    Ok(Expr::case(known, otherwise, ty, collation))
}

/// Names types for the error text of those who look at trees themselves.
pub fn type_name(ty: &ast::DataType, scope: &dyn Scope) -> Result<Ty, Opaque> {
    Ok(type_names::of(ty, scope)?.0)
}
