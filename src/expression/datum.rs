//! Values.

use std::cmp::Ordering;
use std::sync::Arc;

use bigdecimal::BigDecimal;

use super::{Stop, Ty};

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
    /// `text`, `varchar`, `char(n)` (with its blanks), `name`
    Text(Arc<str>),
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
    Jsonb(Arc<super::json::Json>),
    /// An enum: index into its type's labels.
    Enum(u32),
    /// `inet`, `cidr`
    Inet(super::inet::Inet),
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
        let _ = text;
        Err(Stop::ask(format!("values of {ty:?}")))
    }

    /// Postgres' text output form.
    ///
    /// # Errors
    /// [`Stop::Ask`] where it is not known.
    pub fn print(&self, ty: &Ty) -> Result<String, Stop> {
        Err(Stop::ask(format!("printing {ty:?}")))
    }

    /// What it is found by.
    ///
    /// # Errors
    /// [`Stop::Ask`] for types whose values are not found by keys ([`super::Comparable::keyed`]).
    pub fn key(&self, ty: &Ty) -> Result<Key, Stop> {
        Err(Stop::ask(format!("keys of {ty:?}")))
    }
}

/// Compares two values of types that [`super::comparable`] knows: by value, never NULL.
///
/// # Errors
/// [`Stop::Ask`] for values whose order is not known here.
pub fn compare(left: &Datum, right: &Datum) -> Result<Ordering, Stop> {
    let _ = (left, right);
    Err(Stop::ask("comparison"))
}
