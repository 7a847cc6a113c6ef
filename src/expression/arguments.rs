//! What builtins are made of: their arguments as plain values, and the two kinds of builtins.

use std::sync::Arc;

use super::{Array, Builtin, Datum, Evaluated, Interval, Json, Stop, Ty};

/// Postgres' "value out of range" for dates and times.
pub(super) const DATETIME_OVERFLOW: Stop = Stop::Raise("22008");

/// A builtin that is NULL if any argument is.
pub(super) fn strict(
    returns: Ty,
    immutable: bool,
    call: impl Fn(&[Option<Datum>]) -> Evaluated + Send + Sync + 'static,
) -> Builtin {
    Builtin {
        returns,
        strict: true,
        immutable,
        call: Arc::new(call),
    }
}

/// A builtin that is NULL if any argument is, and says the same at any time.
pub(super) fn immutable(
    returns: Ty,
    call: impl Fn(&[Option<Datum>]) -> Evaluated + Send + Sync + 'static,
) -> Builtin {
    strict(returns, true, call)
}

/// A builtin that is called with NULLs too.
pub(super) fn lenient(
    returns: Ty,
    immutable: bool,
    call: impl Fn(&[Option<Datum>]) -> Evaluated + Send + Sync + 'static,
) -> Builtin {
    Builtin {
        strict: false,
        ..strict(returns, immutable, call)
    }
}

/// An argument of a strict builtin. One that is absent or of another type is a mistake of the caller, never an answer.
fn given(arguments: &[Option<Datum>], at: usize) -> Result<&Datum, Stop> {
    arguments
        .get(at)
        .and_then(Option::as_ref)
        .ok_or_else(|| Stop::ask("an argument that is absent"))
}

pub(super) fn unexpected<T>() -> Result<T, Stop> {
    Err(Stop::ask("an argument of another type"))
}

pub(super) fn text(arguments: &[Option<Datum>], at: usize) -> Result<&str, Stop> {
    match given(arguments, at)? {
        Datum::Text(text) | Datum::Bpchar(text) => Ok(text),
        _ => unexpected(),
    }
}

pub(super) fn bytes(arguments: &[Option<Datum>], at: usize) -> Result<&[u8], Stop> {
    match given(arguments, at)? {
        Datum::Bytea(bytes) => Ok(bytes),
        _ => unexpected(),
    }
}

/// An `int4`.
pub(super) fn int(arguments: &[Option<Datum>], at: usize) -> Result<i32, Stop> {
    match given(arguments, at)? {
        Datum::Int(int) => i32::try_from(*int).or_else(|_| unexpected()),
        _ => unexpected(),
    }
}

pub(super) fn float(arguments: &[Option<Datum>], at: usize) -> Result<f64, Stop> {
    match given(arguments, at)? {
        Datum::Float8(float) => Ok(*float),
        _ => unexpected(),
    }
}

pub(super) fn date(arguments: &[Option<Datum>], at: usize) -> Result<i32, Stop> {
    match given(arguments, at)? {
        Datum::Date(days) => Ok(*days),
        _ => unexpected(),
    }
}

pub(super) fn time(arguments: &[Option<Datum>], at: usize) -> Result<i64, Stop> {
    match given(arguments, at)? {
        Datum::Time(micros) => Ok(*micros),
        _ => unexpected(),
    }
}

pub(super) fn timestamp(arguments: &[Option<Datum>], at: usize) -> Result<i64, Stop> {
    match given(arguments, at)? {
        Datum::Timestamp(micros) => Ok(*micros),
        _ => unexpected(),
    }
}

/// A finite `interval`.
pub(super) fn interval(arguments: &[Option<Datum>], at: usize) -> Result<Interval, Stop> {
    match given(arguments, at)? {
        Datum::Interval(interval) => super::datetime::finite_interval(*interval),
        _ => unexpected(),
    }
}

pub(super) fn jsonb(arguments: &[Option<Datum>], at: usize) -> Result<&Arc<Json>, Stop> {
    match given(arguments, at)? {
        Datum::Jsonb(json) => Ok(json),
        _ => unexpected(),
    }
}

pub(super) fn array(arguments: &[Option<Datum>], at: usize) -> Result<&Arc<Array>, Stop> {
    match given(arguments, at)? {
        Datum::Array(array) => Ok(array),
        _ => unexpected(),
    }
}

/// A text result.
pub(super) fn as_text(text: impl Into<Arc<str>>) -> Evaluated {
    Ok(Some(Datum::Text(text.into())))
}

/// A count of what is in memory; `int4` holds it, as Postgres keeps values below 1 GB.
pub(super) fn as_count(count: usize) -> Evaluated {
    match i32::try_from(count) {
        Ok(count) => Ok(Some(Datum::Int(count.into()))),
        Err(_) => Err(Stop::ask("a very long value")),
    }
}
