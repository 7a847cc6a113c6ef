//! Arrays: constructors, subscripts and casts of their elements.

use std::sync::Arc;

use sqlparser::ast::{self, AccessExpr, Subscript};

use super::call;
use super::literal::sound;
use super::operator::collation_of;
use super::{Compiled, Opaque, Scope, primary, value};
use crate::expression::{self, Array, Builtin, Datum, Expr, Stop, Ty};

/// `ARRAY[…]` of one dimension. Postgres prints the casts that give all elements one type.
pub(super) fn constructor(elements: &[ast::Expr], scope: &mut dyn Scope) -> Compiled {
    let elements: Vec<Compiled> = elements.iter().map(|element| value(element, scope)).collect();
    let elements: Vec<Expr> = elements.into_iter().collect::<Result<_, _>>()?;
    let Some(first) = elements.first() else {
        return Err(Opaque("an empty array without a type".into()));
    };
    let ty = first.ty.clone();
    if matches!(ty, Ty::Array(_)) || elements.iter().any(|element| element.ty != ty) {
        return Err(Opaque("an array of several dimensions or types".into()));
    }
    let collation = collation_of(&elements)?;
    Ok(Expr::array(elements, Ty::Array(Box::new(ty)), collation))
}

/// `array[5]`: NULL outside the bounds, and for an array that has not one dimension.
pub(super) fn subscript(root: &ast::Expr, chain: &[AccessExpr], scope: &mut dyn Scope) -> Compiled {
    let [AccessExpr::Subscript(Subscript::Index { index })] = chain else {
        return Err(call::unread("a field or slice".into(), scope));
    };
    let array = primary(root, scope).and_then(|root| value(root, scope));
    let index = value(index, scope);
    let (array, index) = (array?, index?);
    let (Ty::Array(element), Ty::Int4) = (&array.ty, &index.ty) else {
        return Err(Opaque("a subscript of what is no array".into()));
    };
    let builtin = Builtin {
        returns: (**element).clone(),
        strict: true,
        immutable: true,
        call: Arc::new(|arguments| match arguments {
            [Some(Datum::Array(array)), Some(Datum::Int(index))] => Ok(at(array, *index)),
            _ => Err(Stop::ask("a subscript")),
        }),
    };
    let collation = array.collation.clone();
    let phase = scope.phase();
    Ok(sound(
        Expr::call(builtin, "[]".into(), vec![array, index], collation, phase),
        scope,
    ))
}

fn at(array: &Array, index: i64) -> Option<Datum> {
    let [(_, lower)] = array.dimensions.as_slice() else {
        return None;
    };
    let place = usize::try_from(index.checked_sub(i64::from(*lower))?).ok()?;
    array.elements.get(place).cloned().flatten()
}

/// The cast of an array is the cast of each of its elements.
pub(super) fn element_cast(from: &Ty, to: &Ty, modifiers: &[i32]) -> Option<Builtin> {
    let (Ty::Array(from), Ty::Array(element)) = (from, to) else {
        return None;
    };
    let same = from == element && modifiers.is_empty();
    let cast = if same {
        None
    } else {
        Some(expression::cast(from, element, modifiers)?)
    };
    let immutable = cast.as_ref().is_none_or(|cast| cast.immutable);
    Some(Builtin {
        returns: to.clone(),
        strict: true,
        immutable,
        call: Arc::new(move |arguments| {
            let [Some(Datum::Array(array))] = arguments else {
                return Err(Stop::ask("the cast of an array"));
            };
            let Some(cast) = &cast else {
                return Ok(Some(Datum::Array(Arc::clone(array))));
            };
            let each = |element: &Option<Datum>| match element {
                None => Ok(None),
                Some(_) => (cast.call)(std::slice::from_ref(element)),
            };
            let elements = array.elements.iter().map(each).collect::<Result<_, _>>()?;
            let dimensions = array.dimensions.clone();
            Ok(Some(Datum::Array(Arc::new(Array { dimensions, elements }))))
        }),
    })
}
