//! Numbers in JSON, as `numeric` reads and prints them.

use std::cmp::Ordering;

use bigdecimal::num_bigint::BigInt;
use bigdecimal::{BigDecimal, RoundingMode, ToPrimitive};

use super::invalid;
use crate::expression::{Numeric, Stop};

/// More digits than this, before or behind the point, are left to Postgres, whose own limits are 131072 and 16383.
const MAX_DIGITS: usize = 1000;

/// `numeric_value_out_of_range`
const OUT_OF_RANGE: Stop = Stop::Raise("22003");

/// A number token: its digits behind the point, less its exponent, are the scale it is shown with.
pub(super) fn parse(text: &str) -> Result<Numeric, Stop> {
    let many = || Stop::ask("a number of many digits");
    if text.len() > MAX_DIGITS {
        return Err(many());
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().map_err(|_| many())?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    let mut scale = i64::try_from(fraction.len())
        .ok()
        .and_then(|length| length.checked_sub(exponent))
        .ok_or_else(many)?;
    if usize::try_from(scale.unsigned_abs()).map_or(true, |scale| scale > MAX_DIGITS) {
        return Err(many());
    }
    while scale < 0 {
        digits.push('0');
        scale += 1;
    }
    let digits = match digits.parse::<i64>() {
        Ok(small) => BigInt::from(small),
        Err(_) => BigInt::parse_bytes(digits.as_bytes(), 10).ok_or_else(invalid)?,
    };
    Ok(Numeric::Finite(BigDecimal::new(digits, scale)))
}

/// Plain digits, as many behind the point as its scale says.
pub(super) fn print(number: &Numeric) -> Result<String, Stop> {
    match number {
        Numeric::Finite(number) => Ok(digits(number)),
        _ => Err(Stop::ask("a number in jsonb that is not finite")),
    }
}

/// Plain digits, as many behind the point as its scale says.
pub(in crate::expression) fn digits(number: &BigDecimal) -> String {
    let (unscaled, scale) = number.as_bigint_and_exponent();
    let text = unscaled.to_string();
    let (sign, digits) = text
        .strip_prefix('-')
        .map_or(("", text.as_str()), |digits| ("-", digits));
    match usize::try_from(scale) {
        Ok(0) => text,
        Ok(scale) => {
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Err(_) => {
            let zeros = usize::try_from(scale.unsigned_abs()).unwrap_or(0);
            if digits == "0" {
                text
            } else {
                format!("{text}{}", "0".repeat(zeros))
            }
        }
    }
}

/// The same digits for equal numbers.
pub(super) fn canonical(number: &Numeric) -> Result<String, Stop> {
    let text = print(number)?;
    if !text.contains('.') {
        return Ok(text);
    }
    Ok(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// By value, with infinities at the ends and NaN above all.
pub(super) fn compare(left: &Numeric, right: &Numeric) -> Ordering {
    let rank = |number: &Numeric| match number {
        Numeric::NegInfinity => 0,
        Numeric::Finite(_) => 1,
        Numeric::Infinity => 2,
        Numeric::NaN => 3,
    };
    match (left, right) {
        (Numeric::Finite(a), Numeric::Finite(b)) => a.cmp(b),
        _ => rank(left).cmp(&rank(right)),
    }
}

/// `numeric::int8` and narrower ones: rounded, halves away from zero.
pub(in crate::expression) fn to_int(number: &BigDecimal, min: i64, max: i64) -> Result<i64, Stop> {
    let rounded = number.with_scale_round(0, RoundingMode::HalfUp);
    let rounded = rounded.to_i64().ok_or(OUT_OF_RANGE)?;
    if (min..=max).contains(&rounded) {
        Ok(rounded)
    } else {
        Err(OUT_OF_RANGE)
    }
}

/// `numeric::float8`, by way of its digits.
pub(in crate::expression) fn to_f64(number: &BigDecimal) -> Result<f64, Stop> {
    let float: f64 = digits(number).parse().map_err(|_| OUT_OF_RANGE)?;
    let underflow = float == 0.0 && number.as_bigint_and_exponent().0 != BigInt::ZERO;
    if float.is_infinite() || underflow {
        return Err(OUT_OF_RANGE);
    }
    Ok(float)
}

/// `numeric::float4`, by way of its digits.
pub(in crate::expression) fn to_f32(number: &BigDecimal) -> Result<f32, Stop> {
    let float: f32 = digits(number).parse().map_err(|_| OUT_OF_RANGE)?;
    let underflow = float == 0.0 && number.as_bigint_and_exponent().0 != BigInt::ZERO;
    if float.is_infinite() || underflow {
        return Err(OUT_OF_RANGE);
    }
    Ok(float)
}
