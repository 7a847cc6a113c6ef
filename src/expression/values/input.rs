//! Text to values, as the types' input functions read it where that is certain. What they surely refuse raises; what
//! versions, platforms or encodings may read differently is Postgres' to answer.

use bigdecimal::num_bigint::BigInt;

use super::float::is_decimal;
use super::integers::ranged;
use super::numeric::power;
use crate::expression::datum::from_hex;
use crate::expression::{Datum, Evaluated, Inet, Numeric, Stop, Ty};

const REFUSED: Stop = Stop::Raise("22P02");
const OUT_OF_RANGE: Stop = Stop::Raise("22003");

/// An input function.
pub(super) type Input = fn(&str) -> Evaluated;

/// The input function of a type that is read here.
pub(super) fn reader(ty: &Ty) -> Option<Input> {
    Some(match ty {
        Ty::Bool => boolean,
        Ty::Int2 => |text| integer(text, &Ty::Int2),
        Ty::Int4 => |text| integer(text, &Ty::Int4),
        Ty::Int8 => |text| integer(text, &Ty::Int8),
        Ty::Oid => oid,
        Ty::Numeric => numeric,
        Ty::Float4 => float4,
        Ty::Float8 => float8,
        Ty::Uuid => uuid,
        Ty::Bytea => bytea,
        Ty::Inet => |text| network(text, &Ty::Inet),
        Ty::Cidr => |text| network(text, &Ty::Cidr),
        _ => return None,
    })
}

fn unsure() -> Evaluated {
    Err(Stop::ask("text that is read as another type"))
}

/// Without the blanks around it (`isspace`). What else is a blank depends on the database's encoding.
fn trimmed(text: &str) -> Result<&str, Stop> {
    if !text.is_ascii() {
        return Err(Stop::ask("text that is not ASCII, read as another type"));
    }
    Ok(text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']))
}

/// `boolin`: unique prefixes of the words.
fn boolean(text: &str) -> Evaluated {
    let word = trimmed(text)?.to_ascii_lowercase();
    let value = match word.as_str() {
        "1" | "on" => true,
        "0" | "of" | "off" => false,
        "" => return Err(REFUSED),
        word if "true".starts_with(word) || "yes".starts_with(word) => true,
        word if "false".starts_with(word) || "no".starts_with(word) => false,
        _ => return Err(REFUSED),
    };
    Ok(Some(Datum::Bool(value)))
}

/// Sign and digits. From version 16 on Postgres reads other bases and underscores too.
fn integer(text: &str, ty: &Ty) -> Evaluated {
    let text = trimmed(text)?;
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_or(Err(OUT_OF_RANGE), |value| ranged(value, ty));
    }
    // Many digits may be out of range before what follows them is malformed.
    let safe = match ty {
        Ty::Int2 => 4,
        Ty::Int4 => 9,
        _ => 18,
    };
    if is_broken(digits, safe) {
        Err(REFUSED)
    } else {
        unsure()
    }
}

/// Whether no reader of numbers goes on after the leading digits, at most so many, and none takes them for all.
fn is_broken(text: &str, most_digits: usize) -> bool {
    let after = text.trim_start_matches(|character: char| character.is_ascii_digit());
    let digits = text.len() - after.len();
    match after.chars().next() {
        // Other bases, underscores, points and exponents.
        Some('_' | '.' | 'e' | 'E' | 'x' | 'X' | 'o' | 'O' | 'b' | 'B') => digits == 0,
        Some(_) => digits <= most_digits,
        None => digits == 0,
    }
}

fn oid(text: &str) -> Evaluated {
    let text = trimmed(text)?;
    if text.starts_with(|first: char| first.is_ascii_alphabetic()) || text.is_empty() {
        return Err(REFUSED);
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(value) if plain => Ok(Some(Datum::Int(value.into()))),
        _ => unsure(),
    }
}

/// Whether a text that is no decimal cannot be a number or the name of one.
fn no_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    !unsigned.starts_with(['.', 'i', 'I', 'n', 'N']) && is_broken(unsigned, 30)
}

/// Digits, a point, an exponent: what the number does not need behind the point is not shown.
fn numeric(text: &str) -> Evaluated {
    let text = trimmed(text)?;
    let (negative, unsigned) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let value = match unsigned.to_ascii_lowercase().as_str() {
        "nan" if unsigned == text => Numeric::NaN,
        "inf" | "infinity" if negative => Numeric::NegInfinity,
        "inf" | "infinity" => Numeric::Infinity,
        _ if is_decimal(unsigned) && unsigned.len() < 1000 => match decimal(unsigned) {
            Some((digits, scale)) => Numeric::finite(if negative { -digits } else { digits }, scale),
            None => return unsure(),
        },
        _ if no_number(text) => return Err(REFUSED),
        _ => return unsure(),
    };
    Ok(Some(Datum::Numeric(value)))
}

fn decimal(text: &str) -> Option<(BigInt, usize)> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent
        .parse()
        .ok()
        .filter(|exponent: &i64| exponent.abs() < 1000)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = BigInt::parse_bytes(format!("{whole}{fraction}").as_bytes(), 10)?;
    let scale = i64::try_from(fraction.len()).ok()? - exponent;
    match usize::try_from(scale) {
        Ok(scale) => Some((digits, scale)),
        Err(_) => Some((digits * power(usize::try_from(-scale).ok()?), 0)),
    }
}

fn float8(text: &str) -> Evaluated {
    let value: f64 = float(text)?;
    Ok(Some(Datum::Float8(value)))
}

fn float4(text: &str) -> Evaluated {
    let value: f32 = float(text)?;
    Ok(Some(Datum::Float4(value)))
}

/// What `strtod` and Rust both read. Too large and too small raise.
fn float<F: std::str::FromStr + Into<f64> + Copy>(text: &str) -> Result<F, Stop> {
    let text = trimmed(text)?;
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let named = matches!(unsigned.to_ascii_lowercase().as_str(), "inf" | "infinity")
        || text.eq_ignore_ascii_case("nan");
    if !named && !is_decimal(unsigned) {
        let refused = if no_number(text) {
            REFUSED
        } else {
            Stop::ask("text that is read as a float")
        };
        return Err(refused);
    }
    let value: F = text
        .parse()
        .map_err(|_| Stop::ask("text that is read as a float"))?;
    let wide: f64 = value.into();
    let mantissa = unsigned.split(['e', 'E']).next().unwrap_or_default();
    let vanished = wide == 0.0 && mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    if !named && (wide.is_infinite() || vanished) {
        return Err(OUT_OF_RANGE);
    }
    Ok(value)
}

/// `uuid_in`: pairs of digits with a hyphen after any two of them, in braces or not.
fn uuid(text: &str) -> Evaluated {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or(REFUSED)?,
        None => text,
    };
    let mut digits = String::with_capacity(32);
    let mut after_hyphen = true;
    for character in inner.chars() {
        match character {
            '-' if !after_hyphen && digits.len() < 32 && digits.len().is_multiple_of(4) => {
                after_hyphen = true
            }
            digit if digit.is_ascii_hexdigit() => {
                digits.push(digit);
                after_hyphen = false;
            }
            _ => return Err(REFUSED),
        }
    }
    let bytes = from_hex(&digits).and_then(|bytes| bytes.try_into().ok());
    bytes.map(|bytes| Some(Datum::Uuid(bytes))).ok_or(REFUSED)
}

/// `\x` and digits, or text without escapes.
fn bytea(text: &str) -> Evaluated {
    let bytes = match text.strip_prefix("\\x") {
        Some(digits) => from_hex(digits),
        None if text.is_ascii() && !text.contains('\\') => Some(text.as_bytes().to_vec()),
        None => None,
    };
    bytes.map_or_else(unsure, |bytes| Ok(Some(Datum::Bytea(bytes.into()))))
}

/// Addresses with all of their parts. Postgres reads more.
fn network(text: &str, ty: &Ty) -> Evaluated {
    let known = Inet::parse(text).filter(|inet| *ty == Ty::Inet || inet.network() == *inet);
    known.map_or_else(unsure, |inet| Ok(Some(Datum::Inet(inet))))
}
