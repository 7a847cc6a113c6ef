//! Operators and functions of arrays (manual section 9.19).

use std::cmp::Ordering;
use std::sync::Arc;

use super::array_text::print_bounds;
use super::calls::{binary, lenient, unary, unexpected};
use super::comparison::elements;
use crate::expression::{Array, Builtin, Collation, Datum, Evaluated, Stop, Ty, equal};

pub(super) fn operator(
    symbol: &str,
    left: Option<&Ty>,
    right: &Ty,
    collation: &Collation,
) -> Option<Builtin> {
    match (symbol, left?, right) {
        ("||", Ty::Array(left), Ty::Array(right)) if left == right => Some(concatenation(left)),
        ("||", Ty::Array(element), other) if **element == *other => Some(append(element)),
        ("||", other, Ty::Array(element)) if **element == *other => Some(prepend(element)),
        ("@>", Ty::Array(left), Ty::Array(right)) if left == right => {
            containment(left, collation, |left, right| contained(right, left))
        }
        ("<@", Ty::Array(left), Ty::Array(right)) if left == right => containment(left, collation, contained),
        ("&&", Ty::Array(left), Ty::Array(right)) if left == right => containment(left, collation, overlap),
        _ => None,
    }
}

pub(super) fn function(name: &str, arguments: &[Ty], collation: &Collation) -> Option<Builtin> {
    match (name, arguments) {
        ("array_cat", [Ty::Array(left), Ty::Array(right)]) if left == right => Some(concatenation(left)),
        ("array_append", [Ty::Array(element), other]) if **element == *other => Some(append(element)),
        ("array_prepend", [other, Ty::Array(element)]) if **element == *other => Some(prepend(element)),
        ("array_remove", [Ty::Array(element), other]) if **element == *other => remove(element, collation),
        ("array_position", [Ty::Array(element), other]) if **element == *other => {
            position(element, collation)
        }
        ("array_length", [Ty::Array(_), Ty::Int4]) => {
            Some(dimension(|(length, _)| i64::try_from(length).ok()))
        }
        ("array_lower", [Ty::Array(_), Ty::Int4]) => Some(dimension(|(_, lower)| Some(lower.into()))),
        ("array_upper", [Ty::Array(_), Ty::Int4]) => Some(dimension(|(length, lower)| {
            Some(i64::from(lower) + i64::try_from(length).ok()? - 1)
        })),
        ("array_ndims", [Ty::Array(_)]) => Some(counted(|array| {
            Some(array.dimensions.len()).filter(|dimensions| *dimensions > 0)
        })),
        ("cardinality", [Ty::Array(_)]) => Some(counted(|array| Some(array.elements.len()))),
        ("array_dims", [Ty::Array(_)]) => Some(unary(Ty::Text, |value| {
            let array = array(value)?;
            Ok((!array.dimensions.is_empty()).then(|| Datum::Text(print_bounds(array).into())))
        })),
        ("array_to_string", [Ty::Array(element), Ty::Text]) => Some(Builtin {
            strict: true,
            ..to_string(element, 2)
        }),
        ("array_to_string", [Ty::Array(element), Ty::Text, Ty::Text]) => Some(to_string(element, 3)),
        _ => None,
    }
}

fn array(value: &Datum) -> Result<&Arc<Array>, Stop> {
    match value {
        Datum::Array(array) => Ok(array),
        _ => unexpected(),
    }
}

fn made(dimensions: Vec<(usize, i32)>, elements: Vec<Option<Datum>>) -> Evaluated {
    Ok(Some(Datum::Array(Arc::new(Array { dimensions, elements }))))
}

fn containment(
    element: &Ty,
    collation: &Collation,
    test: fn(&Array, &Array) -> Result<bool, Stop>,
) -> Option<Builtin> {
    elements(element, collation)?;
    Some(binary(Ty::Bool, move |left, right| {
        Ok(Some(Datum::Bool(test(array(left)?, array(right)?)?)))
    }))
}

/// Every element of `inner` is in `outer`. NULL is in nothing.
fn contained(inner: &Array, outer: &Array) -> Result<bool, Stop> {
    for element in &inner.elements {
        if !holds(outer, element.as_ref())? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn overlap(left: &Array, right: &Array) -> Result<bool, Stop> {
    for element in &left.elements {
        if holds(right, element.as_ref())? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn holds(array: &Array, element: Option<&Datum>) -> Result<bool, Stop> {
    let Some(element) = element else {
        return Ok(false);
    };
    for other in array.elements.iter().flatten() {
        if equal(element, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn concatenation(element: &Ty) -> Builtin {
    lenient(Ty::Array(Box::new(element.clone())), |left, right| {
        match (left, right) {
            (None, only) | (only, None) => Ok(only.cloned()),
            (Some(left), Some(right)) => concatenated(array(left)?, array(right)?),
        }
    })
}

/// `array_cat`: of as many dimensions, or one is an element of the other's outer dimension.
fn concatenated(left: &Arc<Array>, right: &Arc<Array>) -> Evaluated {
    if right.dimensions.is_empty() {
        return Ok(Some(Datum::Array(Arc::clone(left))));
    }
    if left.dimensions.is_empty() {
        return Ok(Some(Datum::Array(Arc::clone(right))));
    }
    let (left_shape, right_shape) = (&left.dimensions[..], &right.dimensions[..]);
    let (outer, added, fits) = match left_shape.len().cmp(&right_shape.len()) {
        Ordering::Equal => (left_shape, right_shape[0].0, left_shape[1..] == right_shape[1..]),
        Ordering::Greater => (left_shape, 1, left_shape[1..] == *right_shape),
        Ordering::Less => (right_shape, 1, right_shape[1..] == *left_shape),
    };
    if !fits {
        return Err(Stop::Raise("2202E"));
    }
    let mut dimensions = outer.to_vec();
    dimensions[0].0 += added;
    made(
        dimensions,
        left.elements.iter().chain(&right.elements).cloned().collect(),
    )
}

fn append(element: &Ty) -> Builtin {
    lenient(Ty::Array(Box::new(element.clone())), |array, added| {
        extended(array, added, false)
    })
}

fn prepend(element: &Ty) -> Builtin {
    lenient(Ty::Array(Box::new(element.clone())), |added, array| {
        extended(array, added, true)
    })
}

/// A NULL array is an empty one; an added NULL is an element.
fn extended(value: Option<&Datum>, added: Option<&Datum>, in_front: bool) -> Evaluated {
    let (mut elements, lower) = match value {
        None => (Vec::new(), 1),
        Some(value) => {
            let array = array(value)?;
            match array.dimensions[..] {
                [] => (Vec::new(), 1),
                [(_, lower)] => (array.elements.clone(), lower),
                _ => return Err(Stop::Raise("22000")),
            }
        }
    };
    let upper = i64::from(lower) + i64::try_from(elements.len()).unwrap_or(i64::MAX);
    if lower == i32::MIN || i32::try_from(upper).map_or(true, |upper| upper == i32::MAX) {
        return Err(Stop::ask("the bounds of an array"));
    }
    elements.insert(if in_front { 0 } else { elements.len() }, added.cloned());
    made(vec![(elements.len(), lower)], elements)
}

fn same(left: Option<&Datum>, right: Option<&Datum>) -> Result<bool, Stop> {
    match (left, right) {
        (Some(left), Some(right)) => equal(left, right),
        (left, right) => Ok(left.is_none() && right.is_none()),
    }
}

fn remove(element: &Ty, collation: &Collation) -> Option<Builtin> {
    elements(element, collation)?;
    Some(lenient(Ty::Array(Box::new(element.clone())), |value, removed| {
        let Some(value) = value else {
            return Ok(None);
        };
        let array = array(value)?;
        if array.dimensions.len() > 1 {
            return Err(Stop::Raise("0A000"));
        }
        let mut kept = Vec::new();
        for element in &array.elements {
            if !same(element.as_ref(), removed)? {
                kept.push(element.clone());
            }
        }
        let dimensions = array.dimensions.iter().filter(|_| !kept.is_empty());
        made(dimensions.map(|(_, lower)| (kept.len(), *lower)).collect(), kept)
    }))
}

fn position(element: &Ty, collation: &Collation) -> Option<Builtin> {
    elements(element, collation)?;
    Some(lenient(Ty::Int4, |value, wanted| {
        let Some(value) = value else {
            return Ok(None);
        };
        let array = array(value)?;
        let lower = match array.dimensions[..] {
            [] => return Ok(None),
            [(_, lower)] => lower,
            _ => return Err(Stop::Raise("0A000")),
        };
        for (element, position) in array.elements.iter().zip(i64::from(lower)..) {
            if same(element.as_ref(), wanted)? {
                return Ok(Some(Datum::Int(position)));
            }
        }
        Ok(None)
    }))
}

/// Something about one dimension, counted from 1; NULL if there is no such dimension.
fn dimension(about: fn((usize, i32)) -> Option<i64>) -> Builtin {
    binary(Ty::Int4, move |value, number| {
        let Datum::Int(number) = number else {
            return unexpected();
        };
        let index = usize::try_from(*number)
            .ok()
            .and_then(|number| number.checked_sub(1));
        let found = index.and_then(|index| array(value).map(|array| array.dimensions.get(index)).transpose());
        Ok(found.transpose()?.and_then(|found| about(*found)).map(Datum::Int))
    })
}

fn counted(count: fn(&Array) -> Option<usize>) -> Builtin {
    unary(Ty::Int4, move |value| {
        Ok(count(array(value)?)
            .and_then(|count| i64::try_from(count).ok())
            .map(Datum::Int))
    })
}

/// The elements' output forms; NULLs are left out or shown as a text. Called with NULLs only if that text is given.
fn to_string(element: &Ty, count: usize) -> Builtin {
    let element = element.clone();
    let call = move |arguments: &[Option<Datum>]| {
        let null = match arguments.get(2) {
            Some(Some(Datum::Text(text))) => Some(text),
            _ => None,
        };
        match arguments {
            [None, _, ..] | [_, None, ..] => Ok(None),
            [Some(value), Some(Datum::Text(separator)), ..] if arguments.len() == count => {
                let mut shown = Vec::new();
                for value in &array(value)?.elements {
                    match value {
                        Some(value) => shown.push(value.print(&element)?),
                        None => shown.extend(null.map(|null| null.to_string())),
                    }
                }
                Ok(Some(Datum::Text(shown.join(separator).into())))
            }
            _ => unexpected(),
        }
    };
    Builtin {
        returns: Ty::Text,
        strict: false,
        immutable: false,
        call: Arc::new(call),
    }
}
