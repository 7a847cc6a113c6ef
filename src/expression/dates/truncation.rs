//! `date_trunc` (manual section 9.9.2).

use super::super::arguments::{self, strict};
use super::super::datetime::{DAY, Day, HOUR, MINUTE, SECOND};
use super::super::{Builtin, Datum, Evaluated, Interval, Stop, Ty};
use super::{is_infinite, start_of};

pub(super) fn function(name: &str, types: &[Ty]) -> Option<Builtin> {
    match (name, types) {
        ("date_trunc", [Ty::Text, ty @ (Ty::Timestamp | Ty::Timestamptz)]) => {
            Some(strict(ty.clone(), *ty == Ty::Timestamp, of_timestamp))
        }
        ("date_trunc", [Ty::Text, Ty::Interval]) => Some(strict(Ty::Interval, true, of_interval)),
        _ => None,
    }
}

fn unknown() -> Stop {
    Stop::ask("a unit that a date is truncated to")
}

fn of_timestamp(arguments: &[Option<Datum>]) -> Evaluated {
    let (unit, micros) = (
        arguments::text(arguments, 0)?,
        arguments::timestamp(arguments, 1)?,
    );
    let day = Day::of(micros.div_euclid(DAY));
    let truncated = match clock_unit(unit) {
        _ if is_infinite(micros) => known(unit).map(|()| micros),
        Some(size) => Ok(micros - micros.rem_euclid(size)),
        None => start_of(first_day(unit, day)?),
    };
    Ok(Some(Datum::Timestamp(truncated?)))
}

/// Microseconds of a unit that a day is a whole number of.
fn clock_unit(unit: &str) -> Option<i64> {
    Some(match unit {
        "microseconds" => 1,
        "milliseconds" => 1000,
        "second" => SECOND,
        "minute" => MINUTE,
        "hour" => HOUR,
        "day" => DAY,
        _ => return None,
    })
}

/// # Errors
/// [`Stop::Ask`] for a unit that is not known here.
fn known(unit: &str) -> Result<(), Stop> {
    let any = Day {
        year: 2000,
        month: 1,
        day: 1,
    };
    match clock_unit(unit) {
        Some(_) => Ok(()),
        None => first_day(unit, any).map(|_| ()),
    }
}

/// The first day of the week, month, … that a day is in.
fn first_day(unit: &str, day: Day) -> Result<Day, Stop> {
    let year = day.year;
    let (year, month) = match unit {
        "week" => return Ok(Day::of(day.number() + 1 - i64::from(day.iso_weekday()))),
        "month" => (year, day.month),
        "quarter" => (year, (day.month - 1) / 3 * 3 + 1),
        "year" => (year, 1),
        "decade" if year > 0 => (year / 10 * 10, 1),
        "decade" => (-((8 - (year - 1)) / 10) * 10, 1),
        // Those of the first year start with it, not with a year 0.
        "century" if year > 0 => ((year + 99) / 100 * 100 - 99, 1),
        "century" => (-((99 - (year - 1)) / 100) * 100 + 1, 1),
        "millennium" if year > 0 => ((year + 999) / 1000 * 1000 - 999, 1),
        "millennium" => (-((999 - (year - 1)) / 1000) * 1000 + 1, 1),
        _ => return Err(unknown()),
    };
    Ok(Day { year, month, day: 1 })
}

fn of_interval(arguments: &[Option<Datum>]) -> Evaluated {
    let (unit, interval) = (arguments::text(arguments, 0)?, arguments::interval(arguments, 1)?);
    // Postgres 14 cannot hold more hours.
    if i32::try_from(interval.micros / HOUR).is_err() {
        return Err(Stop::ask("an interval of very many hours"));
    }
    let whole_months = |unit: i32| Interval {
        months: interval.months - interval.months % unit,
        days: 0,
        micros: 0,
    };
    let whole_micros = |unit: i64| Interval {
        micros: interval.micros - interval.micros % unit,
        ..interval
    };
    let truncated = match unit {
        "millennium" => whole_months(12_000),
        "century" => whole_months(1_200),
        "decade" => whole_months(120),
        "year" => whole_months(12),
        "quarter" => whole_months(3),
        "month" => whole_months(1),
        "day" => Interval {
            micros: 0,
            ..interval
        },
        "hour" => whole_micros(HOUR),
        "minute" => whole_micros(MINUTE),
        "second" => whole_micros(SECOND),
        "milliseconds" => whole_micros(1000),
        "microseconds" => whole_micros(1),
        _ => return Err(unknown()),
    };
    Ok(Some(Datum::Interval(truncated)))
}
