//! Dates, times and intervals: their text and their order.

use std::cmp::Ordering;

use super::{Interval, Key, Stop};

fn unknown<T>() -> Result<T, Stop> {
    Err(Stop::ask("dates and times"))
}

pub(super) fn parse_date(_text: &str) -> Result<i32, Stop> {
    unknown()
}

pub(super) fn print_date(_days: i32) -> Result<String, Stop> {
    unknown()
}

pub(super) fn parse_time(_text: &str) -> Result<i64, Stop> {
    unknown()
}

pub(super) fn print_time(_micros: i64) -> Result<String, Stop> {
    unknown()
}

pub(super) fn parse_timestamp(_text: &str, _with_zone: bool) -> Result<i64, Stop> {
    unknown()
}

pub(super) fn print_timestamp(_micros: i64, _with_zone: bool) -> Result<String, Stop> {
    unknown()
}

pub(super) fn parse_interval(_text: &str) -> Result<Interval, Stop> {
    unknown()
}

pub(super) fn print_interval(_interval: &Interval) -> Result<String, Stop> {
    unknown()
}

pub(super) fn interval_key(interval: &Interval) -> Key {
    Key::Array(vec![], vec![Some(Key::Int(interval.micros))])
}

pub(super) fn compare_interval(left: &Interval, right: &Interval) -> Ordering {
    left.micros.cmp(&right.micros)
}
