//! Casts among dates and times, from text and to text.

use super::super::arguments::{self, DATETIME_OVERFLOW, as_text, strict};
use super::super::datetime::{self, DAY, in_timestamp_range};
use super::super::{Builtin, Datum, Evaluated, Interval, Stop, Ty};
use super::{input, is_infinite, valid_date, valid_timestamp};

type Arguments<'a> = &'a [Option<Datum>];

/// The cast that `value::to(modifiers)` is.
pub(in crate::expression) fn cast(from: &Ty, to: &Ty, modifiers: &[i32]) -> Option<Builtin> {
    let builtin = plain(from, to)?;
    match (to, modifiers) {
        (_, []) => Some(builtin),
        (Ty::Time | Ty::Timestamp | Ty::Timestamptz, [precision @ 0..=6]) => {
            Some(rounded(builtin, *precision))
        }
        _ => None,
    }
}

/// A cast that is written as a function: `date(now())`.
pub(super) fn by_name(name: &str, from: &Ty) -> Option<Builtin> {
    let to = match name {
        "date" => Ty::Date,
        "timestamp" => Ty::Timestamp,
        "timestamptz" => Ty::Timestamptz,
        "time" => Ty::Time,
        "interval" => Ty::Interval,
        _ => return None,
    };
    let dates = matches!(
        from,
        Ty::Date | Ty::Timestamp | Ty::Timestamptz | Ty::Time | Ty::Interval
    );
    (dates && *from != to).then(|| plain(from, &to)).flatten()
}

fn plain(from: &Ty, to: &Ty) -> Option<Builtin> {
    match (from, to) {
        (Ty::Text | Ty::Varchar, _) => from_text(to),
        (_, Ty::Text | Ty::Varchar) => to_text(from, to),
        (Ty::Date | Ty::Timestamp | Ty::Timestamptz | Ty::Time | Ty::Interval, _) if from == to => {
            Some(strict(to.clone(), true, |arguments: Arguments| {
                Ok(arguments.first().cloned().flatten())
            }))
        }
        _ => converted(from, to),
    }
}

/// Between two types. What involves a zone depends on a setting and so is not immutable.
fn converted(from: &Ty, to: &Ty) -> Option<Builtin> {
    let immutable = *from != Ty::Timestamptz && *to != Ty::Timestamptz;
    let call: fn(Arguments) -> Evaluated = match (from, to) {
        (Ty::Date, Ty::Timestamp | Ty::Timestamptz) => |arguments| {
            let moment = date_to_timestamp(arguments::date(arguments, 0)?)?;
            Ok(Some(Datum::Timestamp(moment)))
        },
        (Ty::Timestamp | Ty::Timestamptz, Ty::Date) => |arguments| {
            let date = match arguments::timestamp(arguments, 0)? {
                i64::MIN => i32::MIN,
                i64::MAX => i32::MAX,
                micros => valid_date(micros.div_euclid(DAY))?,
            };
            Ok(Some(Datum::Date(date)))
        },
        (Ty::Timestamp, Ty::Timestamptz) | (Ty::Timestamptz, Ty::Timestamp) => {
            |arguments| Ok(Some(Datum::Timestamp(arguments::timestamp(arguments, 0)?)))
        }
        // An infinite moment has no time of day.
        (Ty::Timestamp | Ty::Timestamptz, Ty::Time) => |arguments| {
            let micros = arguments::timestamp(arguments, 0)?;
            Ok((!is_infinite(micros)).then(|| Datum::Time(micros.rem_euclid(DAY))))
        },
        (Ty::Time, Ty::Interval) => |arguments| {
            Ok(Some(Datum::Interval(Interval {
                months: 0,
                days: 0,
                micros: arguments::time(arguments, 0)?,
            })))
        },
        (Ty::Interval, Ty::Time) => |arguments| {
            let micros = arguments::interval(arguments, 0)?.micros;
            // Postgres computes with a day less.
            if micros < i64::MIN + DAY {
                return Err(Stop::ask("an interval at the end of its range"));
            }
            Ok(Some(Datum::Time(micros.rem_euclid(DAY))))
        },
        _ => return None,
    };
    Some(strict(to.clone(), immutable, call))
}

fn from_text(to: &Ty) -> Option<Builtin> {
    let read: fn(&str) -> Result<Datum, Stop> = match to {
        Ty::Date => |text| input::date(text).map(Datum::Date),
        Ty::Time => |text| input::time(text).map(Datum::Time),
        Ty::Timestamp => |text| input::timestamp(text, false).map(Datum::Timestamp),
        Ty::Timestamptz => |text| input::timestamp(text, true).map(Datum::Timestamp),
        Ty::Interval => |text| input::interval(text).map(Datum::Interval),
        _ => return None,
    };
    Some(strict(to.clone(), false, move |arguments: Arguments| {
        read(arguments::text(arguments, 0)?).map(Some)
    }))
}

/// Only the output of times is immutable: that of the others follows `DateStyle` or `IntervalStyle`.
fn to_text(from: &Ty, to: &Ty) -> Option<Builtin> {
    let immutable = *from == Ty::Time;
    let print: fn(Arguments) -> Result<String, Stop> = match from {
        Ty::Date => |arguments| datetime::print_date(arguments::date(arguments, 0)?),
        Ty::Time => |arguments| datetime::print_time(arguments::time(arguments, 0)?),
        Ty::Timestamp => |arguments| datetime::print_timestamp(arguments::timestamp(arguments, 0)?, false),
        Ty::Timestamptz => |arguments| datetime::print_timestamp(arguments::timestamp(arguments, 0)?, true),
        Ty::Interval => |arguments| datetime::print_interval(&arguments::interval(arguments, 0)?),
        _ => return None,
    };
    Some(strict(to.clone(), immutable, move |arguments: Arguments| {
        as_text(print(arguments)?)
    }))
}

/// The same, with its result rounded to so many digits behind the second's point, half away from zero (which is 2000
/// for timestamps).
fn rounded(builtin: Builtin, precision: i32) -> Builtin {
    let unit = 10i64.pow(6u32.saturating_sub(precision.unsigned_abs()));
    let round = move |micros: i64| {
        let steps = micros.unsigned_abs().saturating_add(unit.unsigned_abs() / 2) / unit.unsigned_abs();
        i64::try_from(steps * unit.unsigned_abs()).map(|rounded| rounded * micros.signum())
    };
    let out_of_range = || Stop::ask("a moment rounded out of its range");
    let call = builtin.call;
    strict(builtin.returns, builtin.immutable, move |arguments| {
        Ok(match call(arguments)? {
            Some(Datum::Time(micros)) => Some(Datum::Time(round(micros).map_err(|_| out_of_range())?)),
            Some(Datum::Timestamp(micros)) if !is_infinite(micros) => {
                let rounded = round(micros).map_err(|_| out_of_range())?;
                if !in_timestamp_range(rounded) {
                    return Err(out_of_range());
                }
                Some(Datum::Timestamp(rounded))
            }
            other => other,
        })
    })
}

/// Its midnight; infinite for an infinite date.
///
/// # Errors
/// What Postgres raises for a date that no timestamp reaches.
pub(super) fn date_to_timestamp(date: i32) -> Result<i64, Stop> {
    match date {
        i32::MIN => Ok(i64::MIN),
        i32::MAX => Ok(i64::MAX),
        _ => i64::from(date)
            .checked_mul(DAY)
            .map_or(Err(DATETIME_OVERFLOW), valid_timestamp),
    }
}
