//! `numeric` values: text, order and keys.

use std::cmp::Ordering;

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::{BigInt, Sign};

use crate::expression::{Key, Numeric};

/// Longer texts take too long to read.
const MAX_LENGTH: usize = 10_000;

impl Numeric {
    /// A whole number.
    pub(in crate::expression) fn from_int(value: impl Into<BigInt>) -> Self {
        Self::finite(value.into(), 0)
    }

    /// `digits / 10^scale`.
    pub(super) fn finite(digits: BigInt, scale: usize) -> Self {
        Self::Finite(BigDecimal::new(digits, i64::try_from(scale).unwrap_or(i64::MAX)))
    }

    /// Reads `numeric`'s output form: digits with at most one point and no exponent, or a name.
    pub(in crate::expression) fn parse(text: &str) -> Option<Self> {
        match text {
            "NaN" => return Some(Self::NaN),
            "Infinity" => return Some(Self::Infinity),
            "-Infinity" => return Some(Self::NegInfinity),
            _ => {}
        }
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || digits.len() > MAX_LENGTH {
            return None;
        }
        let digits = BigInt::parse_bytes(format!("{whole}{fraction}").as_bytes(), 10)?;
        Some(Self::finite(
            if negative { -digits } else { digits },
            fraction.len(),
        ))
    }

    /// The output form: as many digits behind the point as the scale says.
    pub(in crate::expression) fn print(&self) -> String {
        let number = match self {
            Self::NaN => return "NaN".into(),
            Self::Infinity => return "Infinity".into(),
            Self::NegInfinity => return "-Infinity".into(),
            Self::Finite(number) => number,
        };
        let (digits, scale) = parts(number);
        let sign = if digits.sign() == Sign::Minus { "-" } else { "" };
        let digits = digits.magnitude().to_string();
        if scale == 0 {
            return format!("{sign}{digits}");
        }
        let digits = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        format!("{sign}{whole}.{fraction}")
    }

    /// The order of `numeric`: NaN is above everything and equal to itself.
    pub(in crate::expression) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Finite(left), Self::Finite(right)) => {
                let (left_digits, left_scale) = left.as_bigint_and_scale();
                let (right_digits, right_scale) = right.as_bigint_and_scale();
                if left_scale == right_scale {
                    return left_digits.cmp(&right_digits);
                }
                let (left, right, _) = aligned(left, right);
                left.cmp(&right)
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::NegInfinity => 0,
            Self::Finite(_) => 1,
            Self::Infinity => 2,
            Self::NaN => 3,
        }
    }

    /// The same for equal numbers, whatever their scale: significant digits and exponent.
    pub(in crate::expression) fn key(&self) -> Key {
        let Self::Finite(number) = self else {
            return Key::Text(self.print().into());
        };
        let (digits, scale) = parts(number);
        if digits.sign() == Sign::NoSign {
            return Key::Text("0".into());
        }
        let digits = digits.to_string();
        let significant = digits.trim_end_matches('0');
        let zeros = digits.len() - significant.len();
        let exponent =
            i128::try_from(zeros).unwrap_or(i128::MAX) - i128::try_from(scale).unwrap_or(i128::MAX);
        Key::Text(format!("{significant}e{exponent}").into())
    }
}

/// Digits and display scale. A scale below zero, which nothing here makes, is written out.
pub(super) fn parts(number: &BigDecimal) -> (BigInt, usize) {
    let (digits, scale) = number.as_bigint_and_exponent();
    match usize::try_from(scale) {
        Ok(scale) => (digits, scale),
        Err(_) => (
            digits * power(usize::try_from(scale.unsigned_abs()).unwrap_or(0)),
            0,
        ),
    }
}

/// Both numbers with the digits of the greater scale, and that scale.
pub(super) fn aligned(left: &BigDecimal, right: &BigDecimal) -> (BigInt, BigInt, usize) {
    let (left, left_scale) = parts(left);
    let (right, right_scale) = parts(right);
    let scale = left_scale.max(right_scale);
    let widen = |digits: BigInt, from: usize| {
        if from == scale {
            digits
        } else {
            digits * power(scale - from)
        }
    };
    (widen(left, left_scale), widen(right, right_scale), scale)
}

/// `10^exponent`
pub(super) fn power(exponent: usize) -> BigInt {
    BigInt::from(10u8).pow(u32::try_from(exponent).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_digits_behind_the_point() {
        for text in [
            "0",
            "0.00",
            "-0.05",
            "1.50",
            "12345678901234567890.123456789",
            "-7",
            "NaN",
            "Infinity",
        ] {
            assert_eq!(Numeric::parse(text).expect(text).print(), text);
        }
        for text in ["", "-", ".5", "1e5", "+1", "1.2.3", "0x1", " 1", "nan"] {
            assert!(Numeric::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn equal_numbers_have_one_key() {
        let key = |text: &str| Numeric::parse(text).expect(text).key();
        assert_eq!(key("1.0"), key("1.00"));
        assert_eq!(key("100"), key("100.0"));
        assert_eq!(key("0"), key("0.000"));
        assert_ne!(key("1"), key("10"));
        assert_ne!(key("1"), key("-1"));
    }
}
