//! `float4` and `float8`: text and order.

use std::cmp::Ordering;
use std::str::FromStr;

use bigdecimal::BigDecimal;

use crate::expression::{Key, Stop};

/// Reads the output form: digits with an exponent, or a name.
pub(in crate::expression) fn parse<F: FromStr + Into<f64> + Copy>(text: &str) -> Option<F> {
    let named = matches!(text, "NaN" | "Infinity" | "-Infinity");
    let read = named || is_decimal(text.strip_prefix('-').unwrap_or(text));
    let value: F = text.parse().ok().filter(|_| read)?;
    (named || value.into().is_finite()).then_some(value)
}

/// `12`, `1.5`, `.5`, `5.`, `1e-5`: what every reader of floats agrees on. Without sign.
pub(super) fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = text
        .split_once(['e', 'E'])
        .map_or((text, None), |(mantissa, exponent)| (mantissa, Some(exponent)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_ok = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_ok
}

/// The shortest digits that are read back as this value, with an exponent below -4 and from 15 on (`float8out`).
pub(in crate::expression) fn print8(value: f64) -> Result<String, Stop> {
    if let Some(name) = name(value) {
        return Ok(name.into());
    }
    let shortest = even(
        format!("{value:e}"),
        |digits| format!("{value:.digits$e}"),
        |text| text.parse() == Ok(value),
    );
    // The middle of two smaller ones has more digits than the shortest form can have.
    if !value.is_normal() || value.abs() >= 2f64.powi(50) {
        certain(&shortest, value, value.next_down(), value.next_up())?;
    }
    Ok(laid_out(&shortest, 15))
}

/// As [`print8`], with an exponent from 6 on (`float4out`).
pub(in crate::expression) fn print4(value: f32) -> Result<String, Stop> {
    if let Some(name) = name(value.into()) {
        return Ok(name.into());
    }
    let shortest = even(
        format!("{value:e}"),
        |digits| format!("{value:.digits$e}"),
        |text| text.parse() == Ok(value),
    );
    if !value.is_normal() || value.abs() >= 2f32.powi(20) {
        certain(
            &shortest,
            value.into(),
            value.next_down().into(),
            value.next_up().into(),
        )?;
    }
    Ok(laid_out(&shortest, 6))
}

fn name(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        return Some("NaN");
    }
    if value.is_infinite() {
        return Some(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    (value == 0.0).then_some(if value.is_sign_negative() { "-0" } else { "0" })
}

/// Where two decimals of the shortest length are equally near, Postgres takes the even one, as rounding to a number of
/// digits does.
fn even(shortest: String, to: impl Fn(usize) -> String, is_same: impl Fn(&str) -> bool) -> String {
    let mantissa = shortest.split('e').next().unwrap_or_default();
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let rounded = to(digits.saturating_sub(1));
    if is_same(&rounded) { rounded } else { shortest }
}

/// Postgres does not use a decimal that lies exactly between two floats, though reading it back would give the even
/// one; Rust does.
fn certain(shortest: &str, value: f64, below: f64, above: f64) -> Result<(), Stop> {
    let exact = |value: f64| BigDecimal::try_from(value).ok();
    let twice = shortest.parse::<BigDecimal>().ok().map(|decimal| decimal * 2);
    let sum = |other: f64| Some(exact(value)? + exact(other)?);
    let mut neighbours = [below, above].into_iter().filter(|other| other.is_finite());
    if twice.is_some() && neighbours.all(|other| sum(other).is_some_and(|sum| Some(sum) != twice)) {
        return Ok(());
    }
    Err(Stop::ask("the digits of a float"))
}

/// `d.ddde±x` as Postgres writes it.
fn laid_out(scientific: &str, widest: i32) -> String {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa
        .strip_prefix('-')
        .map_or(("", mantissa), |rest| ("-", rest));
    if !(-4..widest).contains(&exponent) {
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}e{direction}{:02}", exponent.abs());
    }
    let digits = mantissa.replace('.', "");
    let Ok(before) = usize::try_from(exponent + 1) else {
        return format!(
            "{sign}0.{}{digits}",
            "0".repeat(usize::try_from(-exponent - 1).unwrap_or(0))
        );
    };
    if before == 0 {
        format!("{sign}0.{digits}")
    } else if digits.len() <= before {
        format!("{sign}{digits:0<before$}")
    } else {
        format!("{sign}{}.{}", &digits[..before], &digits[before..])
    }
}

/// Postgres' order: NaN is above everything and equal to itself, -0 equals 0.
pub(in crate::expression) fn compare(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right)
        .unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
}

/// Bits whose order is that of the floats.
pub(in crate::expression) fn key(value: f64) -> Key {
    const SIGN: u64 = 1 << 63;
    let bits = if value.is_nan() {
        f64::NAN.to_bits() & !SIGN
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    };
    Key::Float(if bits & SIGN == 0 { bits | SIGN } else { !bits })
}
