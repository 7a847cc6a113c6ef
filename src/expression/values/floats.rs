//! Operators and functions of `float4` and `float8` (`utils/float.h`): IEEE, but what overflows, underflows or
//! divides by zero raises.

use super::calls::{binary, unary, unexpected};
use crate::expression::{Builtin, Datum, Evaluated, Stop, Ty};

/// The part of IEEE arithmetic that is the same for both widths.
macro_rules! checked {
    ($name:ident, $float:ty) => {
        fn $name(symbol: char, left: $float, right: $float) -> Result<$float, Stop> {
            const OUT_OF_RANGE: Stop = Stop::Raise("22003");
            let result = match symbol {
                '+' => left + right,
                '-' => left - right,
                '*' => left * right,
                _ if right == 0.0 && !left.is_nan() => return Err(Stop::Raise("22012")),
                _ => left / right,
            };
            let (overflows, underflows) = match symbol {
                '+' | '-' => (left.is_finite() && right.is_finite(), false),
                '*' => (
                    left.is_finite() && right.is_finite(),
                    left != 0.0 && right != 0.0,
                ),
                _ => (left.is_finite(), left != 0.0 && !right.is_infinite()),
            };
            if result.is_infinite() && overflows || result == 0.0 && underflows {
                return Err(OUT_OF_RANGE);
            }
            Ok(result)
        }
    };
}

checked!(checked4, f32);
checked!(checked8, f64);

pub(super) fn operator(symbol: &str, left: Option<&Ty>, right: &Ty) -> Option<Builtin> {
    let known = matches!(right, Ty::Float4 | Ty::Float8);
    let Some(left) = left.filter(|_| known) else {
        return known.then(|| prefix(symbol, right))?;
    };
    let symbol = match symbol {
        "+" => '+',
        "-" => '-',
        "*" => '*',
        "/" => '/',
        _ => return None,
    };
    match (left, right) {
        (Ty::Float4, Ty::Float4) => Some(binary(Ty::Float4, move |left, right| match (left, right) {
            (Datum::Float4(left), Datum::Float4(right)) => {
                checked4(symbol, *left, *right).map(|value| Some(Datum::Float4(value)))
            }
            _ => unexpected(),
        })),
        (Ty::Float4 | Ty::Float8, _) => Some(binary(Ty::Float8, move |left, right| {
            checked8(symbol, wide(left)?, wide(right)?).map(|value| Some(Datum::Float8(value)))
        })),
        _ => None,
    }
}

fn wide(value: &Datum) -> Result<f64, Stop> {
    match value {
        Datum::Float4(value) => Ok((*value).into()),
        Datum::Float8(value) => Ok(*value),
        _ => unexpected(),
    }
}

fn prefix(symbol: &str, ty: &Ty) -> Option<Builtin> {
    match symbol {
        "-" => Some(unary(ty.clone(), |value| match value {
            Datum::Float4(value) => Ok(Some(Datum::Float4(-value))),
            Datum::Float8(value) => Ok(Some(Datum::Float8(-value))),
            _ => unexpected(),
        })),
        "+" => Some(unary(ty.clone(), |value| Ok(Some(value.clone())))),
        "@" => Some(absolute(ty)),
        _ => None,
    }
}

pub(super) fn function(name: &str, arguments: &[Ty]) -> Option<Builtin> {
    let [ty @ (Ty::Float4 | Ty::Float8)] = arguments else {
        return None;
    };
    if name == "abs" {
        return Some(absolute(ty));
    }
    let compute: fn(f64) -> f64 = match (name, ty) {
        ("ceil" | "ceiling", Ty::Float8) => f64::ceil,
        ("floor", Ty::Float8) => f64::floor,
        ("round", Ty::Float8) => f64::round_ties_even,
        ("trunc", Ty::Float8) => f64::trunc,
        ("sign", Ty::Float8) => sign,
        _ => return None,
    };
    Some(unary(Ty::Float8, move |value| {
        Ok(Some(Datum::Float8(compute(wide(value)?))))
    }))
}

fn sign(value: f64) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        0.0
    }
}

fn absolute(ty: &Ty) -> Builtin {
    unary(ty.clone(), |value| -> Evaluated {
        match value {
            Datum::Float4(value) => Ok(Some(Datum::Float4(value.abs()))),
            Datum::Float8(value) => Ok(Some(Datum::Float8(value.abs()))),
            _ => unexpected(),
        }
    })
}
