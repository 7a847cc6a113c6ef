//! Operators and functions of `int2`, `int4` and `int8`.

use super::calls::{binary, unary, unexpected};
use crate::expression::{Builtin, Datum, Evaluated, Stop, Ty};

const OUT_OF_RANGE: Stop = Stop::Raise("22003");
const DIVISION_BY_ZERO: Stop = Stop::Raise("22012");

/// Bits of an integer type.
fn width(ty: &Ty) -> Option<u32> {
    match ty {
        Ty::Int2 => Some(16),
        Ty::Int4 => Some(32),
        Ty::Int8 => Some(64),
        _ => None,
    }
}

/// A value of this type, or 22003.
pub(super) fn ranged(value: i128, ty: &Ty) -> Evaluated {
    let fits = match ty {
        Ty::Int2 => i16::try_from(value).is_ok(),
        Ty::Int4 => i32::try_from(value).is_ok(),
        Ty::Oid => u32::try_from(value).is_ok(),
        _ => true,
    };
    let value = i64::try_from(value).ok().filter(|_| fits);
    value.map(|value| Some(Datum::Int(value))).ok_or(OUT_OF_RANGE)
}

pub(super) fn operator(symbol: &str, left: Option<&Ty>, right: &Ty) -> Option<Builtin> {
    let right_width = width(right)?;
    let Some(left) = left else {
        return prefix(symbol, right);
    };
    let left_width = width(left)?;
    let wider = if left_width < right_width { right } else { left };
    match symbol {
        "+" => Some(computed(wider, |left, right| Ok(left + right))),
        "-" => Some(computed(wider, |left, right| Ok(left - right))),
        "*" => Some(computed(wider, |left, right| Ok(left * right))),
        "/" => Some(computed(wider, |left, right| {
            left.checked_div(right).ok_or(DIVISION_BY_ZERO)
        })),
        "<<" | ">>" if *right == Ty::Int4 => Some(shift(left, left_width, symbol == "<<")),
        _ if left != right => None,
        "%" => Some(remainder(left)),
        "&" => Some(computed(left, |left, right| Ok(left & right))),
        "|" => Some(computed(left, |left, right| Ok(left | right))),
        "#" => Some(computed(left, |left, right| Ok(left ^ right))),
        _ => None,
    }
}

fn prefix(symbol: &str, ty: &Ty) -> Option<Builtin> {
    match symbol {
        "-" => Some(computed_of_one(ty, |value| -value)),
        "+" => Some(computed_of_one(ty, |value| value)),
        "~" => Some(computed_of_one(ty, |value| !value)),
        "@" => Some(computed_of_one(ty, i128::abs)),
        _ => None,
    }
}

pub(super) fn function(name: &str, arguments: &[Ty]) -> Option<Builtin> {
    match (name, arguments) {
        ("abs", [ty]) if width(ty).is_some() => Some(computed_of_one(ty, i128::abs)),
        ("mod", [left, right]) if left == right && width(left).is_some() => Some(remainder(left)),
        _ => None,
    }
}

fn remainder(ty: &Ty) -> Builtin {
    computed(ty, |left, right| left.checked_rem(right).ok_or(DIVISION_BY_ZERO))
}

fn computed(
    returns: &Ty,
    compute: impl Fn(i128, i128) -> Result<i128, Stop> + Send + Sync + 'static,
) -> Builtin {
    let ty = returns.clone();
    binary(returns.clone(), move |left, right| match (left, right) {
        (Datum::Int(left), Datum::Int(right)) => ranged(compute((*left).into(), (*right).into())?, &ty),
        _ => unexpected(),
    })
}

fn computed_of_one(returns: &Ty, compute: impl Fn(i128) -> i128 + Send + Sync + 'static) -> Builtin {
    let ty = returns.clone();
    unary(returns.clone(), move |value| match value {
        Datum::Int(value) => ranged(compute((*value).into()), &ty),
        _ => unexpected(),
    })
}

/// What is shifted out is lost. A distance that is negative or as long as the type is the processor's affair.
fn shift(ty: &Ty, width: u32, to_the_left: bool) -> Builtin {
    binary(ty.clone(), move |value, distance| {
        let (Datum::Int(value), Datum::Int(distance)) = (value, distance) else {
            return unexpected();
        };
        let distance = u32::try_from(*distance).ok().filter(|distance| *distance < width);
        let distance = distance.ok_or_else(|| Stop::ask("a shift by more than the width"))?;
        let unused = 64 - width;
        let shifted = if to_the_left {
            ((value << distance) << unused) >> unused
        } else {
            value >> distance
        };
        Ok(Some(Datum::Int(shifted)))
    })
}
