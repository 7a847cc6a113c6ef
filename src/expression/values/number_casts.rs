//! Casts among truth and numbers.

use bigdecimal::ToPrimitive;

use super::calls::{unary, unexpected};
use super::input::reader;
use super::integers::ranged;
use super::numeric::parts;
use super::numeric_arithmetic::{Rounding, rounded};
use crate::expression::{Builtin, Datum, Evaluated, Numeric, Stop, Ty};

const OUT_OF_RANGE: Stop = Stop::Raise("22003");

pub(super) fn convert(from: &Ty, to: &Ty) -> Option<Builtin> {
    use Ty::{Bool, Float4, Float8, Int2, Int4, Int8, Oid};
    let target = to.clone();
    let convert: Box<dyn Fn(&Datum) -> Evaluated + Send + Sync> = match (from, to) {
        (Bool, Int4) => Box::new(|value| match value {
            Datum::Bool(value) => Ok(Some(Datum::Int((*value).into()))),
            _ => unexpected(),
        }),
        (Int4, Bool) => Box::new(|value| Ok(Some(Datum::Bool(integer(value)? != 0)))),
        (Int2 | Int4 | Int8, Int2 | Int4 | Int8) | (Oid, Int8) | (Int8, Oid) => {
            Box::new(move |value| ranged(integer(value)?.into(), &target))
        }
        // The same 32 bits.
        (Int2 | Int4, Oid) => Box::new(|value| Ok(Some(Datum::Int(integer(value)? & i64::from(u32::MAX))))),
        (Oid, Int4) => Box::new(|value| {
            let bits = integer(value)?;
            Ok(Some(Datum::Int(if bits > i64::from(i32::MAX) {
                bits - (1 << 32)
            } else {
                bits
            })))
        }),
        (Int2 | Int4 | Int8, Ty::Numeric) => {
            Box::new(|value| Ok(Some(Datum::Numeric(Numeric::from_int(integer(value)?)))))
        }
        #[expect(clippy::cast_precision_loss, reason = "to the nearest, as in C")]
        (Int2 | Int4 | Int8, Float4) => Box::new(|value| Ok(Some(Datum::Float4(integer(value)? as f32)))),
        #[expect(clippy::cast_precision_loss, reason = "to the nearest, as in C")]
        (Int2 | Int4 | Int8, Float8) => Box::new(|value| Ok(Some(Datum::Float8(integer(value)? as f64)))),
        (Float4 | Float8, Int2 | Int4 | Int8) => {
            Box::new(move |value| float_to_integer(float(value)?, &target))
        }
        (Float4, Float8) => Box::new(|value| Ok(Some(Datum::Float8(float(value)?)))),
        (Float8, Float4) => Box::new(|value| narrowed(float(value)?)),
        (Float4, Ty::Numeric) => Box::new(|value| float_to_numeric(float(value)?, 6)),
        (Float8, Ty::Numeric) => Box::new(|value| float_to_numeric(float(value)?, 15)),
        (Ty::Numeric, Int2 | Int4 | Int8) => {
            Box::new(move |value| numeric_to_integer(numeric(value)?, &target))
        }
        (Ty::Numeric, Float4 | Float8) => {
            let read = reader(to)?;
            Box::new(move |value| read(&numeric(value)?.print()))
        }
        _ => return None,
    };
    Some(unary(to.clone(), convert))
}

fn integer(value: &Datum) -> Result<i64, Stop> {
    match value {
        Datum::Int(value) => Ok(*value),
        _ => unexpected(),
    }
}

fn float(value: &Datum) -> Result<f64, Stop> {
    match value {
        Datum::Float4(value) => Ok((*value).into()),
        Datum::Float8(value) => Ok(*value),
        _ => unexpected(),
    }
}

fn numeric(value: &Datum) -> Result<&Numeric, Stop> {
    match value {
        Datum::Numeric(value) => Ok(value),
        _ => unexpected(),
    }
}

/// Half to even.
fn float_to_integer(value: f64, ty: &Ty) -> Evaluated {
    // Above the range of every integer type; a float below it is exact in 128 bits.
    let limit = 2f64.powi(64);
    let rounded = value.round_ties_even();
    if rounded.is_nan() || rounded.abs() > limit {
        return Err(OUT_OF_RANGE);
    }
    rounded
        .to_i128()
        .map_or(Err(OUT_OF_RANGE), |value| ranged(value, ty))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "to the nearest, as in C; what does not fit is found out"
)]
fn narrowed(value: f64) -> Evaluated {
    let narrow = value as f32;
    if narrow.is_infinite() && !value.is_infinite() || narrow == 0.0 && value != 0.0 {
        return Err(OUT_OF_RANGE);
    }
    Ok(Some(Datum::Float4(narrow)))
}

/// Through `%.*g`: the digits that the type is sure of.
fn float_to_numeric(value: f64, digits: usize) -> Evaluated {
    let value = if value.is_finite() {
        format!("{value:.*e}", digits - 1)
    } else {
        value.to_string()
    };
    let (mantissa, exponent) = value.split_once('e').unwrap_or((&value, ""));
    let text = match exponent {
        "" => value.clone(),
        _ if mantissa.contains('.') => {
            format!(
                "{}e{exponent}",
                mantissa.trim_end_matches('0').trim_end_matches('.')
            )
        }
        _ => value.clone(),
    };
    reader(&Ty::Numeric).map_or_else(unexpected, |read| read(&text))
}

/// Half away from zero.
fn numeric_to_integer(value: &Numeric, ty: &Ty) -> Evaluated {
    let Numeric::Finite(number) = rounded(value, 0, Rounding::Nearest)? else {
        return Err(Stop::Raise("0A000"));
    };
    parts(&number)
        .0
        .to_i128()
        .map_or(Err(OUT_OF_RANGE), |value| ranged(value, ty))
}
