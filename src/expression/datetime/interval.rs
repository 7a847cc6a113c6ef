//! `interval`: text and comparison.

use std::cmp::Ordering;
use std::fmt::Write;

use super::super::{Interval, Key, Stop};
use super::{DAY, HOUR, time_of, unread, write_time};

/// Reads an `interval` (`-1 years +2 mons 3 days -04:05:06.7`).
///
/// # Errors
/// [`Stop::Ask`] for text that is not its output form, and for the infinities that Postgres 17 has.
pub(in crate::expression) fn parse_interval(text: &str) -> Result<Interval, Stop> {
    read(text)
        .filter(|interval| print_interval(interval).is_ok_and(|printed| printed == text))
        .ok_or_else(|| unread("interval"))
}

/// Prints an `interval`.
///
/// # Errors
/// [`Stop::Ask`] for what is an infinity in Postgres 17, and for hours that Postgres 14 cannot print.
pub(in crate::expression) fn print_interval(interval: &Interval) -> Result<String, Stop> {
    finite(*interval)?;
    if interval.micros.unsigned_abs() / HOUR.unsigned_abs() > u64::from(i32::MAX.unsigned_abs()) {
        return Err(Stop::ask("an interval of very many hours"));
    }
    let mut text = String::new();
    // A field behind a negative one shows its sign.
    let mut negative = false;
    for (value, unit) in [
        (interval.months / 12, "year"),
        (interval.months % 12, "mon"),
        (interval.days, "day"),
    ] {
        if value != 0 {
            let space = if text.is_empty() { "" } else { " " };
            let sign = if negative && value > 0 { "+" } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            let _ = write!(text, "{space}{sign}{value} {unit}{plural}");
            negative = value < 0;
        }
    }
    if text.is_empty() || interval.micros != 0 {
        if !text.is_empty() {
            text.push(' ');
        }
        match interval.micros {
            ..0 => text.push('-'),
            _ if negative => text.push('+'),
            _ => {}
        }
        write_time(&mut text, interval.micros.unsigned_abs());
    }
    Ok(text)
}

/// What an interval is found by: equal for intervals that Postgres calls equal, with months of 30 days and days of 24
/// hours. Keys have the order of the intervals.
pub(in crate::expression) fn interval_key(interval: &Interval) -> Key {
    // With the sign turned, bytes compare as the numbers do.
    let bytes = (length(interval) ^ i128::MIN).to_be_bytes();
    Key::Bytes(bytes.as_slice().into())
}

/// Compares as Postgres does, with months of 30 days and days of 24 hours.
pub(in crate::expression) fn compare_interval(left: &Interval, right: &Interval) -> Ordering {
    length(left).cmp(&length(right))
}

/// The interval, unless it is one of the two that mean infinity since Postgres 17.
///
/// # Errors
/// [`Stop::Ask`] for those.
pub(in crate::expression) fn finite(interval: Interval) -> Result<Interval, Stop> {
    let ends = |(months, days, micros)| {
        interval.months == months && interval.days == days && interval.micros == micros
    };
    if ends((i32::MIN, i32::MIN, i64::MIN)) || ends((i32::MAX, i32::MAX, i64::MAX)) {
        return Err(Stop::ask("an infinite interval"));
    }
    Ok(interval)
}

/// Years and months of a number of months, both with its sign.
pub(in crate::expression) fn whole_months(months: i32) -> (i64, i64) {
    (i64::from(months / 12), i64::from(months % 12))
}

fn length(interval: &Interval) -> i128 {
    let days = i128::from(interval.months) * 30 + i128::from(interval.days);
    days * i128::from(DAY) + i128::from(interval.micros)
}

/// Reads generously; the caller prints it to compare.
fn read(text: &str) -> Option<Interval> {
    let (mut months, mut days, mut micros) = (0i32, 0i32, 0i64);
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            let time = time_of(word.trim_start_matches(['+', '-']))?;
            micros = if word.starts_with('-') { -time } else { time };
            continue;
        }
        let value: i32 = word.parse().ok()?;
        match words.next()? {
            "year" | "years" => months = months.checked_add(value.checked_mul(12)?)?,
            "mon" | "mons" => months = months.checked_add(value)?,
            "day" | "days" => days = value,
            _ => return None,
        }
    }
    Some(Interval { months, days, micros })
}
