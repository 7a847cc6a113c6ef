//! Arithmetic of `numeric`, with the display scales that Postgres gives (`utils/adt/numeric.c`).

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::{BigInt, Sign};

use super::numeric::{aligned, parts, power};
use crate::expression::{Numeric, Stop};

/// Numbers of more digits are left to Postgres, which has limits of its own far above.
const MAX_DIGITS: u64 = 1000;
/// `NUMERIC_MIN_SIG_DIGITS`
const MIN_SIGNIFICANT: i64 = 16;
/// `NUMERIC_MAX_DISPLAY_SCALE`
const MAX_DISPLAY_SCALE: i64 = 1000;
/// `DEC_DIGITS`: digits of the base that Postgres computes in.
const BASE_DIGITS: i64 = 4;

/// Which way digits are dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    /// Half away from zero.
    Nearest,
    /// Toward zero.
    Truncate,
    /// Up.
    Ceiling,
    /// Down.
    Floor,
}

/// `left + right`
pub(super) fn add(left: &Numeric, right: &Numeric) -> Result<Numeric, Stop> {
    use Numeric::{Finite, Infinity, NaN, NegInfinity};
    Ok(match (left, right) {
        (Finite(left), Finite(right)) => {
            bounded(left, right)?;
            let (left, right, scale) = aligned(left, right);
            Numeric::finite(left + right, scale)
        }
        (NaN, _) | (_, NaN) | (Infinity, NegInfinity) | (NegInfinity, Infinity) => NaN,
        (Infinity, _) | (_, Infinity) => Infinity,
        (NegInfinity, _) | (_, NegInfinity) => NegInfinity,
    })
}

/// `left - right`
pub(super) fn subtract(left: &Numeric, right: &Numeric) -> Result<Numeric, Stop> {
    add(left, &negate(right))
}

/// `- value`
pub(super) fn negate(value: &Numeric) -> Numeric {
    match value {
        Numeric::Finite(number) => {
            let (digits, scale) = parts(number);
            Numeric::finite(-digits, scale)
        }
        Numeric::Infinity => Numeric::NegInfinity,
        Numeric::NegInfinity => Numeric::Infinity,
        Numeric::NaN => Numeric::NaN,
    }
}

/// `left * right`
pub(super) fn multiply(left: &Numeric, right: &Numeric) -> Result<Numeric, Stop> {
    if let (Numeric::Finite(left), Numeric::Finite(right)) = (left, right) {
        bounded(left, right)?;
        let ((left, left_scale), (right, right_scale)) = (parts(left), parts(right));
        return Ok(Numeric::finite(left * right, left_scale + right_scale));
    }
    Ok(match (signum(left), signum(right)) {
        (Some(left), Some(right)) => match left * right {
            0 => Numeric::NaN,
            1 => Numeric::Infinity,
            _ => Numeric::NegInfinity,
        },
        _ => Numeric::NaN,
    })
}

/// `left / right`
pub(super) fn divide(left: &Numeric, right: &Numeric) -> Result<Numeric, Stop> {
    quotient(left, right, |left, right| {
        (division_scale(left, right), Rounding::Nearest)
    })
}

/// `div(left, right)`: the whole part of the quotient.
pub(super) fn divide_whole(left: &Numeric, right: &Numeric) -> Result<Numeric, Stop> {
    quotient(left, right, |_, _| (0, Rounding::Truncate))
}

fn quotient(
    left: &Numeric,
    right: &Numeric,
    choose: impl Fn(&BigDecimal, &BigDecimal) -> (usize, Rounding),
) -> Result<Numeric, Stop> {
    match (left, right) {
        (Numeric::NaN, _) | (_, Numeric::NaN) => Ok(Numeric::NaN),
        (Numeric::Finite(left), Numeric::Finite(right)) => {
            bounded(left, right)?;
            let (scale, rounding) = choose(left, right);
            let ((left, left_scale), (right, right_scale)) = (parts(left), parts(right));
            if right.sign() == Sign::NoSign {
                return Err(Stop::Raise("22012"));
            }
            let numerator = left * power(scale + right_scale);
            Ok(Numeric::finite(
                divided(&numerator, &(right * power(left_scale)), rounding),
                scale,
            ))
        }
        (Numeric::Finite(_), _) => Ok(Numeric::from_int(0)),
        (_, Numeric::Finite(_)) => match (signum(left), signum(right)) {
            (_, Some(0)) => Err(Stop::Raise("22012")),
            (left, right) if left == right => Ok(Numeric::Infinity),
            _ => Ok(Numeric::NegInfinity),
        },
        _ => Ok(Numeric::NaN),
    }
}

/// `left % right`, with the sign of `left`.
pub(super) fn remainder(left: &Numeric, right: &Numeric) -> Result<Numeric, Stop> {
    match (left, right) {
        (Numeric::NaN, _) | (_, Numeric::NaN) => Ok(Numeric::NaN),
        (Numeric::Finite(left), Numeric::Finite(right)) => {
            bounded(left, right)?;
            let (left, right, scale) = aligned(left, right);
            if right.sign() == Sign::NoSign {
                return Err(Stop::Raise("22012"));
            }
            Ok(Numeric::finite(left % right, scale))
        }
        (Numeric::Finite(_), _) => Ok(left.clone()),
        _ if signum(right) == Some(0) => Err(Stop::Raise("22012")),
        _ => Ok(Numeric::NaN),
    }
}

/// `value` with `scale` digits behind the point, or, below zero, zeros before it.
pub(super) fn rounded(value: &Numeric, scale: i32, rounding: Rounding) -> Result<Numeric, Stop> {
    let Numeric::Finite(number) = value else {
        return Ok(value.clone());
    };
    bounded(number, number)?;
    if u64::from(scale.unsigned_abs()) > MAX_DIGITS {
        return Err(Stop::ask("a numeric of many digits"));
    }
    let (digits, from) = parts(number);
    let shown = usize::try_from(scale).unwrap_or(0);
    let dropped = usize::try_from(scale.min(0).unsigned_abs()).unwrap_or(0);
    let wide = digits * power(shown);
    let unit = power(from + dropped);
    Ok(Numeric::finite(
        divided(&wide, &unit, rounding) * power(dropped),
        shown,
    ))
}

/// As `numeric(precision, scale)` holds it.
pub(super) fn fitted(value: &Numeric, precision: i32, scale: i32) -> Result<Numeric, Stop> {
    let number = match value {
        Numeric::NaN => return Ok(Numeric::NaN),
        Numeric::Infinity | Numeric::NegInfinity => return Err(Stop::Raise("22003")),
        Numeric::Finite(_) => rounded(value, scale, Rounding::Nearest)?,
    };
    match &number {
        Numeric::Finite(finite)
            if leading(finite).is_some_and(|exponent| exponent + 1 > i64::from(precision - scale)) =>
        {
            Err(Stop::Raise("22003"))
        }
        _ => Ok(number),
    }
}

/// -1, 0 or 1; nothing for NaN.
pub(super) fn signum(value: &Numeric) -> Option<i8> {
    match value {
        Numeric::NaN => None,
        Numeric::Infinity => Some(1),
        Numeric::NegInfinity => Some(-1),
        Numeric::Finite(number) => Some(match number.sign() {
            Sign::Minus => -1,
            Sign::NoSign => 0,
            Sign::Plus => 1,
        }),
    }
}

fn divided(numerator: &BigInt, denominator: &BigInt, rounding: Rounding) -> BigInt {
    let negative = (numerator.sign() == Sign::Minus) != (denominator.sign() == Sign::Minus);
    let (numerator, denominator) = (numerator.magnitude(), denominator.magnitude());
    let (whole, rest) = (numerator / denominator, numerator % denominator);
    let away = match rounding {
        Rounding::Nearest => &rest + &rest >= *denominator,
        Rounding::Truncate => false,
        Rounding::Ceiling => !negative && rest.bits() > 0,
        Rounding::Floor => negative && rest.bits() > 0,
    };
    let magnitude = BigInt::from(if away { whole + 1u8 } else { whole });
    if negative { -magnitude } else { magnitude }
}

/// `select_div_scale`: at least 16 significant digits, estimated from the first digits in base 10000.
fn division_scale(left: &BigDecimal, right: &BigDecimal) -> usize {
    let ((left_weight, left_first), (right_weight, right_first)) = (first_digit(left), first_digit(right));
    let weight = left_weight - right_weight - i64::from(left_first <= right_first);
    let shown = |number: &BigDecimal| i64::try_from(parts(number).1).unwrap_or(i64::MAX);
    let scale = (MIN_SIGNIFICANT - weight * BASE_DIGITS)
        .max(shown(left))
        .max(shown(right))
        .clamp(0, MAX_DISPLAY_SCALE);
    usize::try_from(scale).unwrap_or(0)
}

/// Weight and value of the first digit that is not zero, in base 10000 aligned to the point.
fn first_digit(number: &BigDecimal) -> (i64, u32) {
    let Some(exponent) = leading(number) else {
        return (0, 0);
    };
    let weight = exponent.div_euclid(BASE_DIGITS);
    let length = usize::try_from(exponent.rem_euclid(BASE_DIGITS) + 1).unwrap_or(1);
    let digits = parts(number).0.magnitude().to_string();
    let first = digits.bytes().chain(std::iter::repeat(b'0')).take(length);
    (
        weight,
        first.fold(0, |value, digit| value * 10 + u32::from(digit - b'0')),
    )
}

/// The power of ten of the first digit that is not zero.
fn leading(number: &BigDecimal) -> Option<i64> {
    let (digits, scale) = parts(number);
    let length = i64::try_from(digits.magnitude().to_string().len()).unwrap_or(i64::MAX);
    (digits.sign() != Sign::NoSign).then(|| length - 1 - i64::try_from(scale).unwrap_or(i64::MAX))
}

fn bounded(left: &BigDecimal, right: &BigDecimal) -> Result<(), Stop> {
    let long = |number: &BigDecimal| {
        let (digits, scale) = parts(number);
        // A decimal digit is more than three bits.
        digits.bits() / 3 > MAX_DIGITS || u64::try_from(scale).unwrap_or(u64::MAX) > MAX_DIGITS
    };
    if long(left) || long(right) {
        return Err(Stop::ask("a numeric of many digits"));
    }
    Ok(())
}
