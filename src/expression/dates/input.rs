//! Dates and times from text that somebody wrote (manual appendix B.1): the ISO 8601 forms. Postgres understands
//! many more, and words that depend on the clock; all of those are left to it.

use super::super::arguments::DATETIME_OVERFLOW;
use super::super::datetime::{DAY, Day, HOUR, MINUTE, SECOND, digits, fraction_of, parse_interval};
use super::super::{Interval, Stop};

pub(super) fn date(text: &str) -> Result<i32, Stop> {
    match text {
        "infinity" => return Ok(i32::MAX),
        "-infinity" => return Ok(i32::MIN),
        _ => {}
    }
    let moment = moment(text)?;
    let day = moment.day?;
    moment.time?;
    i32::try_from(day.number()).map_err(|_| unclear())
}

pub(super) fn timestamp(text: &str, with_zone: bool) -> Result<i64, Stop> {
    match text {
        "infinity" => return Ok(i64::MAX),
        "-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let moment = moment(text)?;
    // Without a zone of its own a timestamp is taken as UTC; one that has no zone ignores what is written.
    let offset = if with_zone { moment.offset } else { 0 };
    Ok(moment.day?.number() * DAY + moment.time? - offset)
}

pub(super) fn time(text: &str) -> Result<i64, Stop> {
    if text.is_empty() {
        return Err(Stop::Raise("22007"));
    }
    clock(text).ok_or_else(unclear)?
}

/// The output form, or a whole number of one unit (`7 days`, `-1 hour`).
pub(super) fn interval(text: &str) -> Result<Interval, Stop> {
    parse_interval(text).or_else(|unread| single_unit(text).ok_or(unread))
}

fn single_unit(text: &str) -> Option<Interval> {
    let (count, unit) = text.split_once(' ')?;
    let size = digits(count.strip_prefix('-').unwrap_or(count), 6)?;
    let size = if count.starts_with('-') {
        -i64::from(size)
    } else {
        i64::from(size)
    };
    let (months, days, micros) = match unit {
        "second" | "seconds" => (0, 0, size * SECOND),
        "minute" | "minutes" => (0, 0, size * MINUTE),
        "hour" | "hours" => (0, 0, size * HOUR),
        "day" | "days" => (0, size, 0),
        "week" | "weeks" => (0, size * 7, 0),
        "month" | "months" | "mon" | "mons" => (size, 0, 0),
        "year" | "years" => (size * 12, 0, 0),
        _ => return None,
    };
    Some(Interval {
        months: i32::try_from(months).ok()?,
        days: i32::try_from(days).ok()?,
        micros,
    })
}

fn unclear() -> Stop {
    Stop::ask("text that may be a date or a time")
}

/// What text of the right shape says; what is out of range raises, once the shape of all of it is known.
struct Moment {
    day: Result<Day, Stop>,
    time: Result<i64, Stop>,
    offset: i64,
}

/// `YYYY-MM-DD[{T| }HH:MM[:SS[.ffffff]][Z|±HH[:MM]]]`
fn moment(text: &str) -> Result<Moment, Stop> {
    if text.is_empty() {
        return Err(Stop::Raise("22007"));
    }
    let (date, rest) = text.split_at_checked(10).ok_or_else(unclear)?;
    let day = day(date).ok_or_else(unclear)?;
    if rest.is_empty() {
        return Ok(Moment {
            day,
            time: Ok(0),
            offset: 0,
        });
    }
    let rest = rest.strip_prefix(['T', ' ']).ok_or_else(unclear)?;
    let zone = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone);
    Ok(Moment {
        day,
        time: clock(time).ok_or_else(unclear)?,
        offset: offset(zone).ok_or_else(unclear)?,
    })
}

/// `None` if it is not of this shape.
fn day(text: &str) -> Option<Result<Day, Stop>> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let (year, month, day) = (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?);
    // There is no year 0.
    let day = Day::new(year.into(), month, day).filter(|_| year > 0);
    Some(day.ok_or(DATETIME_OVERFLOW))
}

/// `HH:MM[:SS[.ffffff]]`; `None` if it is not of this shape, and for the hour 24 and the second 60, which both have a
/// meaning.
fn clock(text: &str) -> Option<Result<i64, Stop>> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) if clock.len() == 8 => (clock, fraction_of(fraction)?),
        Some(_) => return None,
        None => (text, 0),
    };
    let mut parts = clock.splitn(3, ':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next().unwrap_or("00"));
    if [hour, minute, second].iter().any(|part| part.len() != 2) {
        return None;
    }
    let (hour, minute, second) = (digits(hour, 2)?, digits(minute, 2)?, digits(second, 2)?);
    if hour > 24 || minute > 59 || second > 60 {
        return Some(Err(DATETIME_OVERFLOW));
    }
    let micros = i64::from(hour) * HOUR
        + i64::from(minute) * MINUTE
        + i64::from(second) * SECOND
        + i64::from(fraction);
    (hour < 24 && second < 60).then_some(Ok(micros))
}

/// `Z`, `±HH`, `±HH:MM` or nothing, as microseconds.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone
        .get(1..)
        .map(|zone| zone.split_once(':').unwrap_or((zone, "00")))?;
    if (hours.len(), minutes.len()) != (2, 2) {
        return None;
    }
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    // Postgres' own limit is higher than any zone there is.
    (hours <= 14 && minutes < 60).then(|| sign * (i64::from(hours) * HOUR + i64::from(minutes) * MINUTE))
}
