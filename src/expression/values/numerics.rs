//! Operators and functions of `numeric`.

use super::calls::{binary, unary, unexpected};
use super::numeric_arithmetic::{
    Rounding, add, divide, divide_whole, multiply, negate, remainder, rounded, signum, subtract,
};
use crate::expression::{Builtin, Datum, Numeric, Stop, Ty};

type OfOne = fn(&Numeric) -> Result<Numeric, Stop>;
type OfTwo = fn(&Numeric, &Numeric) -> Result<Numeric, Stop>;

pub(super) fn operator(symbol: &str, left: Option<&Ty>, right: &Ty) -> Option<Builtin> {
    match (left, right) {
        (None, Ty::Numeric) => of_one(match symbol {
            "-" => |value| Ok(negate(value)),
            "+" => |value| Ok(value.clone()),
            "@" => absolute,
            _ => return None,
        }),
        (Some(Ty::Numeric), Ty::Numeric) => of_two(match symbol {
            "+" => add,
            "-" => subtract,
            "*" => multiply,
            "/" => divide,
            "%" => remainder,
            _ => return None,
        }),
        _ => None,
    }
}

pub(super) fn function(name: &str, arguments: &[Ty]) -> Option<Builtin> {
    match arguments {
        [Ty::Numeric] => of_one(match name {
            "abs" => absolute,
            "ceil" | "ceiling" => |value| rounded(value, 0, Rounding::Ceiling),
            "floor" => |value| rounded(value, 0, Rounding::Floor),
            "round" => |value| rounded(value, 0, Rounding::Nearest),
            "trunc" => |value| rounded(value, 0, Rounding::Truncate),
            "sign" => |value| Ok(signum(value).map_or(Numeric::NaN, Numeric::from_int)),
            _ => return None,
        }),
        [Ty::Numeric, Ty::Numeric] => of_two(match name {
            "mod" => remainder,
            "div" => divide_whole,
            _ => return None,
        }),
        [Ty::Numeric, Ty::Int4] => to_scale(match name {
            "round" => Rounding::Nearest,
            "trunc" => Rounding::Truncate,
            _ => return None,
        }),
        _ => None,
    }
}

fn absolute(value: &Numeric) -> Result<Numeric, Stop> {
    Ok(if signum(value) == Some(-1) {
        negate(value)
    } else {
        value.clone()
    })
}

fn of_one(compute: OfOne) -> Option<Builtin> {
    Some(unary(Ty::Numeric, move |value| match value {
        Datum::Numeric(value) => compute(value).map(|value| Some(Datum::Numeric(value))),
        _ => unexpected(),
    }))
}

fn of_two(compute: OfTwo) -> Option<Builtin> {
    Some(binary(Ty::Numeric, move |left, right| match (left, right) {
        (Datum::Numeric(left), Datum::Numeric(right)) => {
            compute(left, right).map(|value| Some(Datum::Numeric(value)))
        }
        _ => unexpected(),
    }))
}

fn to_scale(rounding: Rounding) -> Option<Builtin> {
    Some(binary(Ty::Numeric, move |value, scale| {
        let (Datum::Numeric(value), Datum::Int(scale)) = (value, scale) else {
            return unexpected();
        };
        let scale = i32::try_from(*scale).or_else(|_| unexpected())?;
        rounded(value, scale, rounding).map(|value| Some(Datum::Numeric(value)))
    }))
}
