//! `age` and `justify_…`: intervals with their parts in other proportions.

use super::super::arguments::{self, DATETIME_OVERFLOW, strict};
use super::super::datetime::{DAY, Day, finite_interval};
use super::super::{Builtin, Datum, Evaluated, Interval, Stop, Ty};
use super::is_infinite;

pub(super) fn function(name: &str, types: &[Ty]) -> Option<Builtin> {
    let justified = |justify: fn(Interval) -> Result<Interval, Stop>| {
        Some(strict(Ty::Interval, true, move |arguments| {
            let interval = justify(arguments::interval(arguments, 0)?)?;
            finite_interval(interval).map(|interval| Some(Datum::Interval(interval)))
        }))
    };
    match (name, types) {
        ("age", [Ty::Timestamp, Ty::Timestamp] | [Ty::Timestamptz, Ty::Timestamptz]) => {
            Some(strict(Ty::Interval, true, age))
        }
        ("justify_hours", [Ty::Interval]) => justified(justify_hours),
        ("justify_days", [Ty::Interval]) => justified(justify_days),
        ("justify_interval", [Ty::Interval]) => justified(justify_interval),
        _ => None,
    }
}

/// Days of 24 hours out of the time.
pub(super) fn justify_hours(interval: Interval) -> Result<Interval, Stop> {
    let days = day_count(interval.micros / DAY)?;
    let mut days = interval.days.checked_add(days).ok_or(DATETIME_OVERFLOW)?;
    let mut micros = interval.micros % DAY;
    if days > 0 && micros < 0 {
        micros += DAY;
        days -= 1;
    } else if days < 0 && micros > 0 {
        micros -= DAY;
        days += 1;
    }
    Ok(Interval {
        months: interval.months,
        days,
        micros,
    })
}

/// Months of 30 days out of the days.
fn justify_days(interval: Interval) -> Result<Interval, Stop> {
    let months = interval.months.checked_add(interval.days / 30);
    let (mut months, mut days) = (months.ok_or(DATETIME_OVERFLOW)?, interval.days % 30);
    if months > 0 && days < 0 {
        days += 30;
        months -= 1;
    } else if months < 0 && days > 0 {
        days -= 30;
        months += 1;
    }
    Ok(Interval {
        months,
        days,
        micros: interval.micros,
    })
}

/// Both, with one sign for all parts.
fn justify_interval(interval: Interval) -> Result<Interval, Stop> {
    // Postgres 14 does this in other steps, which overflow elsewhere.
    let overflow = || Stop::ask("an interval at the end of its range");
    let days = i64::from(interval.days) + interval.micros / DAY;
    let months = i64::from(interval.months) + days / 30;
    let (mut months, mut days, mut micros) = (months, days % 30, interval.micros % DAY);
    if months > 0 && (days < 0 || (days == 0 && micros < 0)) {
        days += 30;
        months -= 1;
    } else if months < 0 && (days > 0 || (days == 0 && micros > 0)) {
        days -= 30;
        months += 1;
    }
    if days > 0 && micros < 0 {
        micros += DAY;
        days -= 1;
    } else if days < 0 && micros > 0 {
        micros -= DAY;
        days += 1;
    }
    if interval.months.unsigned_abs() > 1 << 30 || interval.days.unsigned_abs() > 1 << 30 {
        return Err(overflow());
    }
    Ok(Interval {
        months: i32::try_from(months).map_err(|_| overflow())?,
        days: day_count(days)?,
        micros,
    })
}

fn day_count(days: i64) -> Result<i32, Stop> {
    i32::try_from(days).map_err(|_| Stop::ask("an interval of very many days"))
}

/// The difference in years, months, days and time, as people count (`timestamp_age`).
fn age(arguments: &[Option<Datum>]) -> Evaluated {
    let (left, right) = (
        arguments::timestamp(arguments, 0)?,
        arguments::timestamp(arguments, 1)?,
    );
    if is_infinite(left) || is_infinite(right) {
        return Err(Stop::ask("the age of infinite timestamps"));
    }
    let sign: i32 = if left < right { -1 } else { 1 };
    let (early, late) = (left.min(right), left.max(right));
    let (from, to) = (Day::of(early.div_euclid(DAY)), Day::of(late.div_euclid(DAY)));
    let mut micros = late.rem_euclid(DAY) - early.rem_euclid(DAY);
    let mut days = i64::from(to.day) - i64::from(from.day);
    let mut months = (to.year - from.year) * 12 + i64::from(to.month) - i64::from(from.month);
    if micros < 0 {
        micros += DAY;
        days -= 1;
    }
    // A month is borrowed with the days of the one that the count starts in, more than once if it is short.
    while days < 0 {
        days += i64::from(from.days_of_month());
        months -= 1;
    }
    let months = i32::try_from(months).map_err(|_| Stop::ask("a very long interval"))?;
    finite_interval(Interval {
        months: months * sign,
        days: day_count(days)? * sign,
        micros: micros * i64::from(sign),
    })
    .map(|interval| Some(Datum::Interval(interval)))
}
