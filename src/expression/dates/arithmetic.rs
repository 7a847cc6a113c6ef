//! `+`, `-`, `*` and `/`.

use super::super::arguments::{self, DATETIME_OVERFLOW, strict};
use super::super::datetime::{DAY, Day, finite_interval};
use super::super::{Builtin, Collation, Datum, Evaluated, Interval, Stop, Ty};
use super::casts::date_to_timestamp;
use super::spans::justify_hours;
use super::{is_infinite, start_of, valid_date, valid_timestamp};

/// An operator of `pg_catalog` on dates and times.
pub(in crate::expression) fn operator(
    symbol: &str,
    left: Option<&Ty>,
    right: &Ty,
    collation: &Collation,
) -> Option<Builtin> {
    let _ = collation;
    match (symbol, left, right) {
        ("-", None, Ty::Interval) => Some(strict(Ty::Interval, true, |arguments| {
            negate(arguments::interval(arguments, 0)?, DATETIME_OVERFLOW).and_then(span)
        })),
        ("+" | "-", Some(left), right) => {
            of_dates(symbol, left, right).or_else(|| shifted(symbol, left, right))
        }
        ("*", Some(Ty::Interval), Ty::Float8) => Some(strict(Ty::Interval, true, |arguments| {
            multiply(
                arguments::interval(arguments, 0)?,
                arguments::float(arguments, 1)?,
            )
        })),
        ("*", Some(Ty::Float8), Ty::Interval) => Some(strict(Ty::Interval, true, |arguments| {
            multiply(
                arguments::interval(arguments, 1)?,
                arguments::float(arguments, 0)?,
            )
        })),
        ("/", Some(Ty::Interval), Ty::Float8) => Some(strict(Ty::Interval, true, |arguments| {
            divide(
                arguments::interval(arguments, 0)?,
                arguments::float(arguments, 1)?,
            )
        })),
        _ => None,
    }
}

/// Sums and differences without an interval on the right.
fn of_dates(symbol: &str, left: &Ty, right: &Ty) -> Option<Builtin> {
    Some(match (symbol, left, right) {
        ("+", Ty::Date, Ty::Int4) => strict(Ty::Date, true, |arguments| {
            plus_days(
                arguments::date(arguments, 0)?,
                arguments::int(arguments, 1)?.into(),
            )
        }),
        ("+", Ty::Int4, Ty::Date) => strict(Ty::Date, true, |arguments| {
            plus_days(
                arguments::date(arguments, 1)?,
                arguments::int(arguments, 0)?.into(),
            )
        }),
        ("-", Ty::Date, Ty::Int4) => strict(Ty::Date, true, |arguments| {
            plus_days(
                arguments::date(arguments, 0)?,
                -i64::from(arguments::int(arguments, 1)?),
            )
        }),
        ("-", Ty::Date, Ty::Date) => strict(Ty::Int4, true, days_between),
        ("+", Ty::Date, Ty::Time) => strict(Ty::Timestamp, true, |arguments| {
            at_time(arguments::date(arguments, 0)?, arguments::time(arguments, 1)?)
        }),
        ("+", Ty::Time, Ty::Date) => strict(Ty::Timestamp, true, |arguments| {
            at_time(arguments::date(arguments, 1)?, arguments::time(arguments, 0)?)
        }),
        ("-", Ty::Time, Ty::Time) => strict(Ty::Interval, true, |arguments| {
            span(Interval {
                months: 0,
                days: 0,
                micros: arguments::time(arguments, 0)? - arguments::time(arguments, 1)?,
            })
        }),
        ("-", Ty::Timestamp, Ty::Timestamp) | ("-", Ty::Timestamptz, Ty::Timestamptz) => {
            strict(Ty::Interval, true, time_between)
        }
        ("+", Ty::Interval, Ty::Interval) => strict(Ty::Interval, true, |arguments| {
            let (left, right) = (
                arguments::interval(arguments, 0)?,
                arguments::interval(arguments, 1)?,
            );
            added(
                left.months.checked_add(right.months),
                left.days.checked_add(right.days),
                left.micros.checked_add(right.micros),
            )
        }),
        ("-", Ty::Interval, Ty::Interval) => strict(Ty::Interval, true, |arguments| {
            let (left, right) = (
                arguments::interval(arguments, 0)?,
                arguments::interval(arguments, 1)?,
            );
            added(
                left.months.checked_sub(right.months),
                left.days.checked_sub(right.days),
                left.micros.checked_sub(right.micros),
            )
        }),
        _ => return None,
    })
}

/// A moment and an interval, in either order.
fn shifted(symbol: &str, left: &Ty, right: &Ty) -> Option<Builtin> {
    let (moment, at, negative) = match (symbol, left, right) {
        ("+", moment, Ty::Interval) => (moment, 0, false),
        ("-", moment, Ty::Interval) => (moment, 0, true),
        ("+", Ty::Interval, moment) => (moment, 1, false),
        _ => return None,
    };
    let by = move |arguments: &[Option<Datum>]| {
        let by = arguments::interval(arguments, 1 - at)?;
        if negative {
            negate(by, Stop::ask("an interval at the end of its range"))
        } else {
            Ok(by)
        }
    };
    Some(match moment {
        Ty::Date => strict(Ty::Timestamp, true, move |arguments| {
            let day = date_to_timestamp(arguments::date(arguments, at)?)?;
            shift(day, by(arguments)?).map(|micros| Some(Datum::Timestamp(micros)))
        }),
        Ty::Timestamp | Ty::Timestamptz => {
            strict(moment.clone(), *moment == Ty::Timestamp, move |arguments| {
                shift(arguments::timestamp(arguments, at)?, by(arguments)?)
                    .map(|micros| Some(Datum::Timestamp(micros)))
            })
        }
        Ty::Time => strict(Ty::Time, true, move |arguments| {
            let time = arguments::time(arguments, at)?.checked_add(by(arguments)?.micros);
            let time = time.ok_or_else(|| Stop::ask("a very long interval"))?;
            Ok(Some(Datum::Time(time.rem_euclid(DAY))))
        }),
        _ => return None,
    })
}

/// Months first, which end in the month's last day at the latest, then days, then time (`timestamp_pl_interval`).
fn shift(micros: i64, by: Interval) -> Result<i64, Stop> {
    // Postgres 14 and 15 go on with what an overflow left.
    let overflow = || Stop::ask("an interval too long to be added");
    if is_infinite(micros) {
        return Ok(micros);
    }
    let (mut day, time) = (Day::of(micros.div_euclid(DAY)), micros.rem_euclid(DAY));
    if by.months != 0 {
        by.months.checked_add(12).ok_or_else(overflow)?;
        day = day.plus_months(by.months.into());
        start_of(day)?;
    }
    if by.days != 0 {
        // Counted from Julian day 0, in 32 bits.
        let julian = day.number() + i64::from(by.days) + 2_451_545;
        i32::try_from(julian).map_err(|_| overflow())?;
        day = Day::of(day.number() + i64::from(by.days));
    }
    let moment = start_of(day)? + time;
    moment
        .checked_add(by.micros)
        .ok_or_else(overflow)
        .and_then(valid_timestamp)
}

fn plus_days(date: i32, days: i64) -> Evaluated {
    if date == i32::MIN || date == i32::MAX {
        return Ok(Some(Datum::Date(date)));
    }
    valid_date(i64::from(date) + days).map(|date| Some(Datum::Date(date)))
}

fn days_between(arguments: &[Option<Datum>]) -> Evaluated {
    let (left, right) = (arguments::date(arguments, 0)?, arguments::date(arguments, 1)?);
    if [left, right]
        .iter()
        .any(|date| *date == i32::MIN || *date == i32::MAX)
    {
        return Err(DATETIME_OVERFLOW);
    }
    // Both are in the range of dates, so that the difference is an int4.
    Ok(Some(Datum::Int(i64::from(left) - i64::from(right))))
}

fn at_time(date: i32, time: i64) -> Evaluated {
    let midnight = date_to_timestamp(date)?;
    let moment = if is_infinite(midnight) {
        midnight
    } else {
        valid_timestamp(midnight + time)?
    };
    Ok(Some(Datum::Timestamp(moment)))
}

/// In days and time, never months (`timestamp_mi`).
fn time_between(arguments: &[Option<Datum>]) -> Evaluated {
    let (left, right) = (
        arguments::timestamp(arguments, 0)?,
        arguments::timestamp(arguments, 1)?,
    );
    if is_infinite(left) || is_infinite(right) {
        return Err(Stop::ask("the difference of infinite timestamps"));
    }
    let micros = left
        .checked_sub(right)
        .ok_or_else(|| Stop::ask("a very long interval"))?;
    justify_hours(Interval {
        months: 0,
        days: 0,
        micros,
    })
    .and_then(span)
}

fn negate(interval: Interval, overflow: Stop) -> Result<Interval, Stop> {
    let parts = || {
        Some(Interval {
            months: interval.months.checked_neg()?,
            days: interval.days.checked_neg()?,
            micros: interval.micros.checked_neg()?,
        })
    };
    parts().ok_or(overflow)
}

fn added(months: Option<i32>, days: Option<i32>, micros: Option<i64>) -> Evaluated {
    match (months, days, micros) {
        (Some(months), Some(days), Some(micros)) => span(Interval { months, days, micros }),
        _ => Err(DATETIME_OVERFLOW),
    }
}

fn multiply(interval: Interval, factor: f64) -> Evaluated {
    scaled(interval, factor, |part| {
        let product = part * factor;
        (product, part.mul_add(factor, -product) == 0.0)
    })
}

fn divide(interval: Interval, divisor: f64) -> Evaluated {
    if divisor == 0.0 {
        return Err(Stop::Raise("22012"));
    }
    scaled(interval, divisor, |part| {
        let quotient = part / divisor;
        (quotient, quotient.mul_add(divisor, -part) == 0.0)
    })
}

/// Each part scaled, where every result is exact and whole: what is left over of a part goes into the next one by
/// way of rounded floats, and that is left to Postgres.
fn scaled(interval: Interval, factor: f64, scale: impl Fn(f64) -> (f64, bool)) -> Evaluated {
    /// Whole numbers up to here are floats.
    const EXACT: u64 = 1 << 53;
    let inexact = || Stop::ask("an interval scaled to a fraction");
    // The smallest floats have no room for what is behind their last digit.
    let plain = factor == 0.0 || (1e-9..1e15).contains(&factor.abs());
    if !plain || interval.micros.unsigned_abs() >= EXACT {
        return Err(inexact());
    }
    #[expect(clippy::cast_precision_loss, reason = "below 2^53, as just tested")]
    let micros = interval.micros as f64;
    let part = |value: f64| {
        let (scaled, exact) = scale(value);
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        if exact && scaled.fract() == 0.0 && scaled.abs() < 9e15 {
            Ok(scaled as i64)
        } else {
            Err(inexact())
        }
    };
    let (months, days, micros) = (
        part(interval.months.into())?,
        part(interval.days.into())?,
        part(micros)?,
    );
    added(i32::try_from(months).ok(), i32::try_from(days).ok(), Some(micros))
}

fn span(interval: Interval) -> Evaluated {
    finite_interval(interval).map(|interval| Some(Datum::Interval(interval)))
}
