//! Dates, times, timestamps and intervals in Postgres' text output form (`DateStyle` ISO, `IntervalStyle` postgres,
//! `TimeZone` UTC), manual section 8.5.
//!
//! Reading takes only what printing gives back unchanged: every other spelling is left to Postgres.

mod calendar;
mod interval;

use std::fmt::Write;

use super::Stop;
pub(super) use calendar::{Day, in_date_range, in_timestamp_range};
pub(super) use interval::{compare_interval, interval_key, parse_interval, print_interval};
pub(super) use interval::{finite as finite_interval, whole_months};

/// Microseconds of a second.
pub(super) const SECOND: i64 = 1_000_000;
/// Microseconds of a minute.
pub(super) const MINUTE: i64 = 60 * SECOND;
/// Microseconds of an hour.
pub(super) const HOUR: i64 = 60 * MINUTE;
/// Microseconds of a day.
pub(super) const DAY: i64 = 24 * HOUR;

/// Reads a `date`: days since 2000-01-01.
///
/// # Errors
/// [`Stop::Ask`] for text that is not its output form.
pub(super) fn parse_date(text: &str) -> Result<i32, Stop> {
    match text {
        "infinity" => return Ok(i32::MAX),
        "-infinity" => return Ok(i32::MIN),
        _ => {}
    }
    let days = day_of(text).and_then(|days| i32::try_from(days).ok());
    days.filter(|days| print_date(*days).is_ok_and(|printed| printed == text))
        .ok_or_else(|| unread("date"))
}

/// Prints a `date`.
///
/// # Errors
/// [`Stop::Ask`] for a day out of Postgres' range.
pub(super) fn print_date(days: i32) -> Result<String, Stop> {
    match days {
        i32::MAX => Ok("infinity".to_owned()),
        i32::MIN => Ok("-infinity".to_owned()),
        _ if !in_date_range(days.into()) => Err(Stop::ask("a date out of range")),
        _ => {
            let day = Day::of(days.into());
            let mut text = String::with_capacity(10);
            write_day(&mut text, day);
            Ok(text + era(day))
        }
    }
}

/// Reads a `time`: microseconds since midnight.
///
/// # Errors
/// [`Stop::Ask`] for text that is not its output form.
pub(super) fn parse_time(text: &str) -> Result<i64, Stop> {
    time_of(text)
        .filter(|micros| print_time(*micros).is_ok_and(|printed| printed == text))
        .ok_or_else(|| unread("time"))
}

/// Prints a `time`.
///
/// # Errors
/// [`Stop::Ask`] for less than nothing and for more than a day.
pub(super) fn print_time(micros: i64) -> Result<String, Stop> {
    if !(0..=DAY).contains(&micros) {
        return Err(Stop::ask("a time out of range"));
    }
    let mut text = String::with_capacity(15);
    write_time(&mut text, micros.unsigned_abs());
    Ok(text)
}

/// Reads a `timestamp` or, `with_zone`, a `timestamptz`: microseconds since 2000-01-01 00:00 UTC.
///
/// # Errors
/// [`Stop::Ask`] for text that is not its output form in UTC.
pub(super) fn parse_timestamp(text: &str, with_zone: bool) -> Result<i64, Stop> {
    match text {
        "infinity" => return Ok(i64::MAX),
        "-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    timestamp_of(text, with_zone)
        .filter(|micros| print_timestamp(*micros, with_zone).is_ok_and(|printed| printed == text))
        .ok_or_else(|| unread("timestamp"))
}

/// Prints a `timestamp` or, `with_zone`, a `timestamptz` in UTC.
///
/// # Errors
/// [`Stop::Ask`] for a moment out of Postgres' range.
pub(super) fn print_timestamp(micros: i64, with_zone: bool) -> Result<String, Stop> {
    match micros {
        i64::MAX => Ok("infinity".to_owned()),
        i64::MIN => Ok("-infinity".to_owned()),
        _ if !in_timestamp_range(micros) => Err(Stop::ask("a timestamp out of range")),
        _ => {
            let day = Day::of(micros.div_euclid(DAY));
            let mut text = String::with_capacity(29);
            write_day(&mut text, day);
            text.push(' ');
            write_time(&mut text, micros.rem_euclid(DAY).unsigned_abs());
            Ok(text + if with_zone { "+00" } else { "" } + era(day))
        }
    }
}

fn unread(what: &'static str) -> Stop {
    Stop::ask(format!("the text of a {what}"))
}

fn era(day: Day) -> &'static str {
    if day.year > 0 { "" } else { " BC" }
}

/// Writing to a `String` does not fail, so its result is not looked at.
fn write_day(text: &mut String, day: Day) {
    let year = if day.year > 0 { day.year } else { 1 - day.year };
    let _ = write!(text, "{year:04}-{:02}-{:02}", day.month, day.day);
}

/// `HH:MM:SS[.ffffff]`, without zeros at the end.
fn write_time(text: &mut String, micros: u64) {
    let seconds = micros / SECOND.unsigned_abs();
    let _ = write!(
        text,
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    let fraction = micros % SECOND.unsigned_abs();
    if fraction != 0 {
        let digits = format!(".{fraction:06}");
        text.push_str(digits.trim_end_matches('0'));
    }
}

/// `YYYY-MM-DD[ BC]` as days since 2000-01-01, of any such day that exists. The caller prints it to compare.
fn day_of(text: &str) -> Option<i64> {
    let (text, before_christ) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let year: i64 = digits(year, 7)?.into();
    let year = if before_christ { 1 - year } else { year };
    Day::new(year, digits(month, 2)?, digits(day, 2)?).map(Day::number)
}

/// `HH:MM:SS[.ffffff]` as microseconds, of as many hours as 10 digits hold.
fn time_of(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let (seconds, fraction) = match seconds.split_once('.') {
        Some((seconds, fraction)) => (seconds, fraction_of(fraction)?),
        None => (seconds, 0),
    };
    if hours.is_empty() || hours.len() > 10 || !hours.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (minutes, seconds) = (digits(minutes, 2)?, digits(seconds, 2)?);
    if minutes > 59 || seconds > 59 {
        return None;
    }
    let time = i64::from(minutes) * MINUTE + i64::from(seconds) * SECOND + i64::from(fraction);
    hours.parse::<i64>().ok()?.checked_mul(HOUR)?.checked_add(time)
}

fn timestamp_of(text: &str, with_zone: bool) -> Option<i64> {
    let (rest, suffix) = match text.strip_suffix(" BC") {
        Some(rest) => (rest, " BC"),
        None => (text, ""),
    };
    let rest = if with_zone {
        rest.strip_suffix("+00")?
    } else {
        rest
    };
    let (day, time) = rest.split_once(' ')?;
    let day = if suffix.is_empty() {
        day_of(day)
    } else {
        day_of(&format!("{day}{suffix}"))
    };
    day?.checked_mul(DAY)?.checked_add(time_of(time)?)
}

/// One to six digits behind a point, as microseconds.
pub(super) fn fraction_of(text: &str) -> Option<u32> {
    let scale = 10u32.pow(6u32.checked_sub(u32::try_from(text.len()).ok()?)?);
    Some(digits(text, 6)? * scale)
}

/// A number of one to `most` (at most nine) digits and nothing else.
pub(super) fn digits(text: &str, most: usize) -> Option<u32> {
    if text.is_empty() || text.len() > most || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_output_form_is_read() {
        assert_eq!(parse_date("2000-01-02"), Ok(1));
        assert_eq!(parse_timestamp("1999-12-31 23:59:59.5+00", true), Ok(-SECOND / 2));
        for text in [
            "",
            "2000-1-2",
            "02000-01-02",
            "2000-02-30",
            "0000-01-01",
            "2000-01-02 ",
            "Infinity",
            "4714-11-23 BC",
        ] {
            assert!(matches!(parse_date(text), Err(Stop::Ask(_))), "{text}");
        }
        for text in [
            "",
            "1:02:03",
            "01:02",
            "01:02:03.50",
            "24:00:00.1",
            "01:02:60",
            "+1:02:03",
        ] {
            assert!(matches!(parse_time(text), Err(Stop::Ask(_))), "{text}");
        }
        for text in [
            "2000-01-01",
            "2000-01-01 00:00:00",
            "2000-01-01 00:00:00+01",
            "2000-01-01T00:00:00+00",
            "2000-01-01 24:00:00+00",
            "294277-01-01 00:00:00+00",
        ] {
            assert!(matches!(parse_timestamp(text, true), Err(Stop::Ask(_))), "{text}");
        }
        assert!(parse_timestamp("2000-01-01 00:00:00+00", false).is_err());
        for text in [
            "",
            "1 days",
            "13 mons",
            "1 day  01:00:00",
            "infinity",
            "-infinity",
            "00:00:00 1 day",
            "@ 1 day",
        ] {
            assert!(matches!(parse_interval(text), Err(Stop::Ask(_))), "{text}");
        }
    }
}
