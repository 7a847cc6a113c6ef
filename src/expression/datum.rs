//! Values.

use std::cmp::Ordering;
use std::sync::Arc;

use bigdecimal::BigDecimal;

use super::inet::Inet;
use super::values::{array_text, float};
use super::{Stop, Ty, datetime, json};

/// A value that is not NULL.
#[derive(Clone, Debug)]
pub enum Datum {
    /// `bool`
    Bool(bool),
    /// `int2`, `int4`, `int8`, `oid`
    Int(i64),
    /// `numeric`
    Numeric(Numeric),
    /// `float4`
    Float4(f32),
    /// `float8`
    Float8(f64),
    /// `text`, `varchar`, `name`
    Text(Arc<str>),
    /// `char(n)`, with its blanks, which do not count when it is compared.
    Bpchar(Arc<str>),
    /// `bytea`
    Bytea(Arc<[u8]>),
    /// `uuid`
    Uuid([u8; 16]),
    /// `date`: days since 2000-01-01; the ends of the range are the infinities.
    Date(i32),
    /// `time`: microseconds since midnight.
    Time(i64),
    /// `timestamp`, `timestamptz`: microseconds since 2000-01-01 00:00 (UTC); the ends of the range are the infinities.
    Timestamp(i64),
    /// `interval`
    Interval(Interval),
    /// `json`, as it was written.
    Json(Arc<str>),
    /// `jsonb`
    Jsonb(Arc<json::Json>),
    /// An enum: index into its type's labels.
    Enum(u32),
    /// `inet`, `cidr`
    Inet(Inet),
    /// An array.
    Array(Arc<Array>),
}

/// `numeric`, with the digits behind the point that it is shown with.
#[derive(Clone, Debug)]
pub enum Numeric {
    /// Below everything.
    NegInfinity,
    /// A number. Its scale is the display scale.
    Finite(BigDecimal),
    /// Above every number.
    Infinity,
    /// Above everything, equal to itself.
    NaN,
}

/// `interval`: three parts that are only added up when intervals are compared.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Microseconds.
    pub micros: i64,
}

/// An array.
#[derive(Clone, Debug)]
pub struct Array {
    /// Length and lower bound of each dimension; none for an empty array.
    pub dimensions: Vec<(usize, i32)>,
    /// The elements in storage order (the last dimension runs fastest); `None` is NULL.
    pub elements: Vec<Option<Datum>>,
}

/// What a value is found by: two values of one type are equal (`=`) exactly if their keys are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Truth.
    Bool(bool),
    /// Whole numbers, dates, times, enum labels.
    Int(i64),
    /// Floats as ordered bits; `float4` widened.
    Float(u64),
    /// Text (without trailing blanks for `char(n)`), and numbers in canonical digits.
    Text(Arc<str>),
    /// Everything of bytes.
    Bytes(Arc<[u8]>),
    /// Arrays: dimensions, then elements.
    Array(Vec<(usize, i32)>, Vec<Option<Key>>),
}

impl Datum {
    /// Reads Postgres' text output form (ISO dates, UTC).
    ///
    /// # Errors
    /// [`Stop::Ask`] for text that is not understood here.
    pub fn parse(text: &str, ty: &Ty) -> Result<Self, Stop> {
        let int = |lowest: i64, highest: i64| {
            let value = text
                .parse()
                .ok()
                .filter(|value| (lowest..=highest).contains(value));
            // Rust reads a plus sign, Postgres never prints one.
            value.filter(|_| !text.starts_with('+')).map(Self::Int)
        };
        let read = match ty {
            Ty::Bool => match text {
                "t" => Some(Self::Bool(true)),
                "f" => Some(Self::Bool(false)),
                _ => None,
            },
            Ty::Int2 => int(i16::MIN.into(), i16::MAX.into()),
            Ty::Int4 => int(i32::MIN.into(), i32::MAX.into()),
            Ty::Int8 => int(i64::MIN, i64::MAX),
            Ty::Oid => int(0, u32::MAX.into()),
            Ty::Numeric => Numeric::parse(text).map(Self::Numeric),
            Ty::Float4 => float::parse(text).map(Self::Float4),
            Ty::Float8 => float::parse(text).map(Self::Float8),
            Ty::Text | Ty::Varchar | Ty::Name => Some(Self::Text(text.into())),
            Ty::Bpchar => Some(Self::Bpchar(text.into())),
            Ty::Bytea => text
                .strip_prefix("\\x")
                .and_then(from_hex)
                .map(|bytes| Self::Bytea(bytes.into())),
            Ty::Uuid => uuid(text).map(Self::Uuid),
            Ty::Date => Some(Self::Date(datetime::parse_date(text)?)),
            Ty::Time => Some(Self::Time(datetime::parse_time(text)?)),
            Ty::Timestamp => Some(Self::Timestamp(datetime::parse_timestamp(text, false)?)),
            Ty::Timestamptz => Some(Self::Timestamp(datetime::parse_timestamp(text, true)?)),
            Ty::Interval => Some(Self::Interval(datetime::parse_interval(text)?)),
            Ty::Json => Some(Self::Json(text.into())),
            Ty::Jsonb => Some(Self::Jsonb(Arc::new(json::parse(text)?))),
            Ty::Inet | Ty::Cidr => Inet::parse(text).map(Self::Inet),
            Ty::Enum(ty) => {
                let index = ty.labels.iter().position(|label| **label == *text);
                index.and_then(|index| u32::try_from(index).ok()).map(Self::Enum)
            }
            Ty::Array(element) => {
                let array = array_text::parse(text, &|text| Self::parse(text, element).map(Some))?;
                Some(Self::Array(Arc::new(array)))
            }
        };
        read.ok_or_else(|| Stop::ask(format!("a value of {ty:?}")))
    }

    /// Postgres' text output form.
    ///
    /// # Errors
    /// [`Stop::Ask`] where it is not known.
    pub fn print(&self, ty: &Ty) -> Result<String, Stop> {
        Ok(match (self, ty) {
            (Self::Bool(value), Ty::Bool) => if *value { "t" } else { "f" }.into(),
            (Self::Int(value), Ty::Int2 | Ty::Int4 | Ty::Int8 | Ty::Oid) => value.to_string(),
            (Self::Numeric(value), Ty::Numeric) => value.print(),
            (Self::Float4(value), Ty::Float4) => float::print4(*value)?,
            (Self::Float8(value), Ty::Float8) => float::print8(*value)?,
            (Self::Text(text), Ty::Text | Ty::Varchar | Ty::Name) => text.as_ref().into(),
            (Self::Bpchar(text), Ty::Bpchar) => text.as_ref().into(),
            (Self::Bytea(bytes), Ty::Bytea) => format!("\\x{}", hex(bytes)),
            (Self::Uuid(bytes), Ty::Uuid) => {
                let digits = hex(bytes);
                [
                    &digits[..8],
                    &digits[8..12],
                    &digits[12..16],
                    &digits[16..20],
                    &digits[20..],
                ]
                .join("-")
            }
            (Self::Date(days), Ty::Date) => datetime::print_date(*days)?,
            (Self::Time(micros), Ty::Time) => datetime::print_time(*micros)?,
            (Self::Timestamp(micros), Ty::Timestamp) => datetime::print_timestamp(*micros, false)?,
            (Self::Timestamp(micros), Ty::Timestamptz) => datetime::print_timestamp(*micros, true)?,
            (Self::Interval(interval), Ty::Interval) => datetime::print_interval(interval)?,
            (Self::Json(text), Ty::Json) => text.as_ref().into(),
            (Self::Jsonb(json), Ty::Jsonb) => json::print(json)?,
            (Self::Enum(index), Ty::Enum(ty)) => {
                let label = usize::try_from(*index)
                    .ok()
                    .and_then(|index| ty.labels.get(index));
                label.ok_or_else(|| Stop::ask("an enum's label"))?.as_ref().into()
            }
            (Self::Inet(inet), Ty::Inet) => inet.print(),
            (Self::Inet(inet), Ty::Cidr) => inet.print_network(),
            (Self::Array(array), Ty::Array(element)) => array_text::print(array, element)?,
            _ => return Err(Stop::ask(format!("printing {ty:?}"))),
        })
    }

    /// What it is found by.
    ///
    /// # Errors
    /// [`Stop::Ask`] for types whose values are not found by keys ([`super::Comparable::keyed`]).
    pub fn key(&self, ty: &Ty) -> Result<Key, Stop> {
        Ok(match (self, ty) {
            (Self::Bool(value), _) => Key::Bool(*value),
            (Self::Int(value) | Self::Time(value) | Self::Timestamp(value), _) => Key::Int(*value),
            (Self::Date(days), _) => Key::Int((*days).into()),
            (Self::Enum(index), _) => Key::Int((*index).into()),
            (Self::Numeric(value), _) => value.key(),
            (Self::Float4(value), _) => float::key((*value).into()),
            (Self::Float8(value), _) => float::key(*value),
            (Self::Text(text), _) => Key::Text(Arc::clone(text)),
            (Self::Bpchar(text), _) => Key::Text(text.trim_end_matches(' ').into()),
            (Self::Bytea(bytes), _) => Key::Bytes(Arc::clone(bytes)),
            (Self::Uuid(bytes), _) => Key::Bytes(Arc::new(*bytes)),
            (Self::Interval(interval), _) => datetime::interval_key(interval),
            (Self::Jsonb(json), _) => json::key(json)?,
            (Self::Inet(inet), _) => inet.key(),
            (Self::Array(array), Ty::Array(element)) => {
                let keys = array
                    .elements
                    .iter()
                    .map(|value| value.as_ref().map(|value| value.key(element)).transpose());
                Key::Array(array.dimensions.clone(), keys.collect::<Result<_, _>>()?)
            }
            _ => return Err(Stop::ask(format!("keys of {ty:?}"))),
        })
    }
}

/// `left = right` for types that [`super::comparable`] knows. Also where [`compare`] cannot tell which comes first.
///
/// # Errors
/// [`Stop::Ask`] for values of types that are not compared here.
pub fn equal(left: &Datum, right: &Datum) -> Result<bool, Stop> {
    match (left, right) {
        (Datum::Jsonb(left), Datum::Jsonb(right)) => Ok(json::equal(left, right)),
        (Datum::Array(left), Datum::Array(right)) => equal_arrays(left, right),
        _ => Ok(compare(left, right)? == Ordering::Equal),
    }
}

/// `array_eq`: NULL elements equal each other.
fn equal_arrays(left: &Array, right: &Array) -> Result<bool, Stop> {
    if left.dimensions != right.dimensions || left.elements.len() != right.elements.len() {
        return Ok(false);
    }
    for pair in left.elements.iter().zip(&right.elements) {
        let same = match pair {
            (Some(left), Some(right)) => equal(left, right)?,
            (left, right) => left.is_none() && right.is_none(),
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The order of two values of types that [`super::comparable`] knows to be ordered; never NULL.
///
/// # Errors
/// [`Stop::Ask`] for values whose order is not known here.
pub fn compare(left: &Datum, right: &Datum) -> Result<Ordering, Stop> {
    use Datum::{
        Array, Bool, Bpchar, Bytea, Date, Enum, Float4, Float8, Int, Interval, Jsonb, Text, Time, Timestamp,
    };
    Ok(match (left, right) {
        (Bool(left), Bool(right)) => left.cmp(right),
        (Int(left), Int(right)) | (Time(left), Time(right)) | (Timestamp(left), Timestamp(right)) => {
            left.cmp(right)
        }
        (Datum::Numeric(left), Datum::Numeric(right)) => left.compare(right),
        (Float4(left), Float4(right)) => float::compare((*left).into(), (*right).into()),
        (Float4(left), Float8(right)) => float::compare((*left).into(), *right),
        (Float8(left), Float4(right)) => float::compare(*left, (*right).into()),
        (Float8(left), Float8(right)) => float::compare(*left, *right),
        (Text(left), Text(right)) => left.cmp(right),
        (Bpchar(left), Bpchar(right)) => left.trim_end_matches(' ').cmp(right.trim_end_matches(' ')),
        (Bytea(left), Bytea(right)) => left.cmp(right),
        (Datum::Uuid(left), Datum::Uuid(right)) => left.cmp(right),
        (Date(left), Date(right)) => left.cmp(right),
        (Date(left), Timestamp(right)) => date_micros(*left).cmp(&timestamp_micros(*right)),
        (Timestamp(left), Date(right)) => timestamp_micros(*left).cmp(&date_micros(*right)),
        (Interval(left), Interval(right)) => datetime::compare_interval(left, right),
        (Jsonb(left), Jsonb(right)) => json::compare(left, right)?,
        (Enum(left), Enum(right)) => left.cmp(right),
        (Datum::Inet(left), Datum::Inet(right)) => left.compare(right),
        (Array(left), Array(right)) => compare_arrays(left, right)?,
        _ => return Err(Stop::ask("comparison")),
    })
}

/// A date as microseconds, which may be past the range of timestamps.
fn date_micros(days: i32) -> i128 {
    match days {
        i32::MIN => i128::MIN,
        i32::MAX => i128::MAX,
        days => i128::from(days) * 86_400_000_000,
    }
}

/// A timestamp beside a date: its infinities lie outside of every finite date.
fn timestamp_micros(micros: i64) -> i128 {
    match micros {
        i64::MIN => i128::MIN,
        i64::MAX => i128::MAX,
        micros => micros.into(),
    }
}

/// `array_cmp`: elements first, NULL above all others; then their number, then the shape.
fn compare_arrays(left: &Array, right: &Array) -> Result<Ordering, Stop> {
    for (left, right) in left.elements.iter().zip(&right.elements) {
        let order = match (left, right) {
            (Some(left), Some(right)) => compare(left, right)?,
            (left, right) => left.is_none().cmp(&right.is_none()),
        };
        if order != Ordering::Equal {
            return Ok(order);
        }
    }
    let shape = |array: &Array| {
        (
            array.elements.len(),
            array.dimensions.len(),
            array.dimensions.clone(),
        )
    };
    Ok(shape(left).cmp(&shape(right)))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |nibble: u8| DIGITS[usize::from(nibble & 15)];
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

/// Bytes from pairs of hexadecimal digits.
pub fn from_hex(digits: &str) -> Option<Vec<u8>> {
    digits.as_bytes().chunks(2).map(hex_pair).collect()
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// A uuid as Postgres prints it.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut digits = [0; 32];
    let mut free = digits.iter_mut();
    for (at, byte) in text.iter().enumerate() {
        match (at, byte) {
            (8 | 13 | 18 | 23, b'-') => {}
            (8 | 13 | 18 | 23, _) => return None,
            (_, digit) => *free.next()? = *digit,
        }
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_pair(pair)?;
    }
    Some(bytes)
}
