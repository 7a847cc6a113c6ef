//! Operators, functions and casts of dates, times and intervals (manual section 9.9), in sessions whose `TimeZone` is UTC.
//!
//! Supported servers are 14 to 18. Where they differ (infinite intervals came with 17, some overflows were not
//! noticed before 16), Postgres is asked.

mod arithmetic;
mod casts;
mod fields;
mod input;
mod spans;
mod truncation;

use super::arguments::{self, DATETIME_OVERFLOW, strict};
use super::datetime::{Day, in_date_range, in_timestamp_range};
use super::{Builtin, Collation, Datum, Evaluated, Stop, Ty};
pub(super) use arithmetic::operator;
pub(super) use casts::cast;

/// A function of `pg_catalog` on dates and times, by its lower-case name.
pub(super) fn function(name: &str, arguments: &[Ty], collation: &Collation) -> Option<Builtin> {
    let _ = collation;
    fields::function(name, arguments)
        .or_else(|| truncation::function(name, arguments))
        .or_else(|| spans::function(name, arguments))
        .or_else(|| conversion(name, arguments))
}

fn conversion(name: &str, types: &[Ty]) -> Option<Builtin> {
    match (name, types) {
        ("date" | "timestamp" | "timestamptz" | "time" | "interval", [from]) => casts::by_name(name, from),
        ("timezone", [Ty::Text, Ty::Timestamp]) => Some(strict(Ty::Timestamptz, true, at_utc)),
        ("timezone", [Ty::Text, Ty::Timestamptz]) => Some(strict(Ty::Timestamp, true, at_utc)),
        ("to_timestamp", [Ty::Float8]) => Some(strict(Ty::Timestamptz, true, |arguments| {
            from_epoch(arguments::float(arguments, 0)?)
        })),
        ("make_date", [Ty::Int4, Ty::Int4, Ty::Int4]) => Some(strict(Ty::Date, true, make_date)),
        ("isfinite", [Ty::Date]) => Some(strict(Ty::Bool, true, |arguments| {
            let date = arguments::date(arguments, 0)?;
            Ok(Some(Datum::Bool(date != i32::MIN && date != i32::MAX)))
        })),
        ("isfinite", [Ty::Timestamp | Ty::Timestamptz]) => Some(strict(Ty::Bool, true, |arguments| {
            Ok(Some(Datum::Bool(!is_infinite(arguments::timestamp(
                arguments, 0,
            )?))))
        })),
        ("isfinite", [Ty::Interval]) => Some(strict(Ty::Bool, true, |arguments| {
            arguments::interval(arguments, 0)?;
            Ok(Some(Datum::Bool(true)))
        })),
        _ => None,
    }
}

/// `AT TIME ZONE 'UTC'`, in both directions: the microseconds are those of UTC already.
fn at_utc(arguments: &[Option<Datum>]) -> Evaluated {
    match arguments::text(arguments, 0)? {
        "UTC" | "utc" => Ok(Some(Datum::Timestamp(arguments::timestamp(arguments, 1)?))),
        _ => Err(Stop::ask("a time zone other than UTC")),
    }
}

/// `to_timestamp(seconds since 1970)`, in the same steps on floats as `float8_timestamptz`.
fn from_epoch(seconds: f64) -> Evaluated {
    /// Seconds from 1970 to 2000.
    const EPOCHS: f64 = 946_684_800.0;
    if seconds.is_nan() {
        return Err(DATETIME_OVERFLOW);
    }
    if seconds.is_infinite() {
        let end = if seconds > 0.0 { i64::MAX } else { i64::MIN };
        return Ok(Some(Datum::Timestamp(end)));
    }
    // 4714-11-24 BC and 294277-01-01 in seconds since 1970.
    if !(-210_866_803_200.0..9_224_318_016_000.0).contains(&seconds) {
        return Err(DATETIME_OVERFLOW);
    }
    let micros = ((seconds - EPOCHS) * 1_000_000.0).round_ties_even();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a whole number, in range by the test above"
    )]
    valid_timestamp(micros as i64).map(|micros| Some(Datum::Timestamp(micros)))
}

fn make_date(arguments: &[Option<Datum>]) -> Evaluated {
    let part = |at| arguments::int(arguments, at).map(i64::from);
    let (year, month, day) = (part(0)?, part(1)?, part(2)?);
    // Years before Christ are counted from -1, and there is no year 0.
    let year = match year {
        0 => return Err(DATETIME_OVERFLOW),
        ..0 => year + 1,
        _ => year,
    };
    let day = u32::try_from(month)
        .ok()
        .zip(u32::try_from(day).ok())
        .and_then(|(month, day)| Day::new(year, month, day));
    day.map_or(Err(DATETIME_OVERFLOW), |day| valid_date(day.number()))
        .map(|days| Some(Datum::Date(days)))
}

fn is_infinite(micros: i64) -> bool {
    micros == i64::MIN || micros == i64::MAX
}

/// # Errors
/// What Postgres raises for a day out of range.
fn valid_date(days: i64) -> Result<i32, Stop> {
    match i32::try_from(days) {
        Ok(date) if in_date_range(days) => Ok(date),
        _ => Err(DATETIME_OVERFLOW),
    }
}

/// # Errors
/// What Postgres raises for a moment out of range.
fn valid_timestamp(micros: i64) -> Result<i64, Stop> {
    if in_timestamp_range(micros) {
        Ok(micros)
    } else {
        Err(DATETIME_OVERFLOW)
    }
}

/// The start of a day.
///
/// # Errors
/// What Postgres raises for a moment out of range.
fn start_of(day: Day) -> Result<i64, Stop> {
    day.number()
        .checked_mul(super::datetime::DAY)
        .map_or(Err(DATETIME_OVERFLOW), valid_timestamp)
}
