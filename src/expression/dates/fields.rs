//! `extract` and `date_part` (manual section 9.9.1).

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::BigInt;

use super::super::arguments::{self, lenient, strict};
use super::super::datetime::{DAY, Day, HOUR, MINUTE, SECOND, whole_months};
use super::super::{Builtin, Datum, Evaluated, Interval, Numeric, Stop, Ty};
use super::casts::date_to_timestamp;
use super::is_infinite;

/// Microseconds from 1970 to 2000.
const EPOCH: i64 = 946_684_800 * SECOND;

/// The value of a field.
enum Part {
    Whole(i64),
    /// Microseconds, shown as seconds.
    Seconds(i64),
    /// Microseconds, shown as milliseconds.
    Milliseconds(i64),
    /// Microseconds of an epoch, and the same in seconds as `date_part` adds them up.
    Epoch(i128, f64),
    /// Of a moment that is infinite itself: a field that grows without end.
    Infinite(bool),
    /// Of an infinite moment: a field that comes round.
    Nothing,
}

type Read = fn(&str, &Datum) -> Result<Part, Stop>;

/// `extract(field, value)`, which is `numeric`, and `date_part(field, value)`, which is `float8`.
pub(super) fn function(name: &str, types: &[Ty]) -> Option<Builtin> {
    let [Ty::Text, ty] = types else {
        return None;
    };
    let (returns, show): (_, fn(Part) -> Evaluated) = match name {
        "extract" => (Ty::Numeric, as_numeric),
        "date_part" => (Ty::Float8, as_float),
        _ => return None,
    };
    let read: Read = match (ty, name) {
        (Ty::Timestamp | Ty::Timestamptz, _) => of_timestamp,
        (Ty::Date, "extract") => of_date,
        // It is a function of timestamps that dates are cast to.
        (Ty::Date, _) => of_midnight,
        (Ty::Time, _) => of_time,
        (Ty::Interval, _) => of_interval,
        _ => return None,
    };
    let call = move |arguments: &[Option<Datum>]| match (arguments::text(arguments, 0)?, arguments.get(1)) {
        (field, Some(Some(value))) => show(read(field, value)?),
        _ => Ok(None),
    };
    if (name, ty) == ("date_part", &Ty::Date) {
        // Its cast to a timestamp comes first and may raise, also where the field is NULL.
        return Some(lenient(returns, true, move |arguments| match arguments {
            [_, None] => Ok(None),
            _ => call(arguments),
        }));
    }
    Some(strict(returns, *ty != Ty::Timestamptz, call))
}

fn unknown() -> Stop {
    Stop::ask("a field of a date or a time")
}

fn as_numeric(part: Part) -> Evaluated {
    let scaled = |digits: i128, scale| Numeric::Finite(BigDecimal::new(BigInt::from(digits), scale));
    let numeric = match part {
        Part::Whole(number) => scaled(number.into(), 0),
        Part::Seconds(micros) => scaled(micros.into(), 6),
        Part::Milliseconds(micros) => scaled(micros.into(), 3),
        Part::Epoch(micros, _) => scaled(micros, 6),
        Part::Infinite(true) => Numeric::Infinity,
        Part::Infinite(false) => Numeric::NegInfinity,
        Part::Nothing => return Ok(None),
    };
    Ok(Some(Datum::Numeric(numeric)))
}

/// In the steps in which Postgres computes on floats.
#[expect(clippy::cast_precision_loss, reason = "as Postgres rounds them")]
fn as_float(part: Part) -> Evaluated {
    let float = match part {
        Part::Whole(number) => number as f64,
        Part::Seconds(micros) => (micros / SECOND) as f64 + (micros % SECOND) as f64 / 1e6,
        Part::Milliseconds(micros) => (micros / SECOND) as f64 * 1000.0 + (micros % SECOND) as f64 / 1000.0,
        Part::Epoch(_, seconds) => seconds,
        Part::Infinite(true) => f64::INFINITY,
        Part::Infinite(false) => f64::NEG_INFINITY,
        Part::Nothing => return Ok(None),
    };
    Ok(Some(Datum::Float8(float)))
}

fn of_timestamp(field: &str, value: &Datum) -> Result<Part, Stop> {
    let Datum::Timestamp(micros) = value else {
        return Err(unknown());
    };
    if is_infinite(*micros) {
        return of_infinity(field, *micros > 0, true);
    }
    if field == "epoch" {
        let since = micros
            .checked_add(EPOCH)
            .ok_or_else(|| Stop::ask("a very late epoch"))?;
        #[expect(clippy::cast_precision_loss, reason = "as Postgres rounds it")]
        return Ok(Part::Epoch(since.into(), since as f64 / 1e6));
    }
    let day = Day::of(micros.div_euclid(DAY));
    match of_clock(field, micros.rem_euclid(DAY)) {
        Some(part) => Ok(part),
        None => of_day(field, day).ok_or_else(unknown),
    }
}

fn of_date(field: &str, value: &Datum) -> Result<Part, Stop> {
    let Datum::Date(date) = value else {
        return Err(unknown());
    };
    match (*date, field) {
        (i32::MIN | i32::MAX, _) => of_infinity(field, *date > 0, false),
        (_, "epoch") => Ok(Part::Whole(i64::from(*date) * (DAY / SECOND) + EPOCH / SECOND)),
        (_, "julian") => Ok(Part::Whole(i64::from(*date) + 2_451_545)),
        _ => of_day(field, Day::of((*date).into())).ok_or_else(unknown),
    }
}

fn of_midnight(field: &str, value: &Datum) -> Result<Part, Stop> {
    match value {
        Datum::Date(date) => of_timestamp(field, &Datum::Timestamp(date_to_timestamp(*date)?)),
        _ => Err(unknown()),
    }
}

fn of_time(field: &str, value: &Datum) -> Result<Part, Stop> {
    match (value, field) {
        #[expect(clippy::cast_precision_loss, reason = "less than 2^53")]
        (Datum::Time(micros), "epoch") => Ok(Part::Epoch((*micros).into(), *micros as f64 / 1e6)),
        (Datum::Time(micros), _) => of_clock(field, *micros).ok_or_else(unknown),
        _ => Err(unknown()),
    }
}

fn of_interval(field: &str, value: &Datum) -> Result<Part, Stop> {
    let Datum::Interval(interval) = value else {
        return Err(unknown());
    };
    let interval = super::super::datetime::finite_interval(*interval)?;
    // Postgres 14 cannot hold more hours.
    if i32::try_from(interval.micros / HOUR).is_err() {
        return Err(Stop::ask("an interval of very many hours"));
    }
    let (years, months) = whole_months(interval.months);
    if let Some(part) = of_clock(field, interval.micros) {
        return Ok(part);
    }
    Ok(match field {
        "epoch" => epoch_of(interval),
        "day" => Part::Whole(interval.days.into()),
        "month" => Part::Whole(months),
        "quarter" if months >= 0 => Part::Whole(months / 3 + 1),
        "year" => Part::Whole(years),
        "decade" => Part::Whole(years / 10),
        "century" => Part::Whole(years / 100),
        "millennium" => Part::Whole(years / 1000),
        _ => return Err(unknown()),
    })
}

/// With years of 365.25 days and months of 30.
#[expect(clippy::cast_precision_loss, reason = "as Postgres rounds them")]
fn epoch_of(interval: Interval) -> Part {
    const YEAR: i64 = 31_557_600;
    const MONTH: i64 = 30 * DAY / SECOND;
    let (years, months) = whole_months(interval.months);
    let days = i64::from(interval.days);
    let seconds = years * YEAR + months * MONTH + days * (DAY / SECOND);
    let mut float = interval.micros as f64 / 1e6;
    float += YEAR as f64 * years as f64;
    float += MONTH as f64 * months as f64;
    float += (DAY / SECOND) as f64 * days as f64;
    Part::Epoch(
        i128::from(seconds) * i128::from(SECOND) + i128::from(interval.micros),
        float,
    )
}

/// Fields of a time of day, and of an interval's time, which may be negative.
fn of_clock(field: &str, micros: i64) -> Option<Part> {
    Some(match field {
        "microseconds" => Part::Whole(micros % MINUTE),
        "milliseconds" => Part::Milliseconds(micros % MINUTE),
        "second" => Part::Seconds(micros % MINUTE),
        "minute" => Part::Whole(micros / MINUTE % 60),
        "hour" => Part::Whole(micros / HOUR),
        _ => return None,
    })
}

fn of_day(field: &str, day: Day) -> Option<Part> {
    let year = day.year;
    Some(Part::Whole(match field {
        "day" => day.day.into(),
        "month" => day.month.into(),
        "quarter" => i64::from(day.month - 1) / 3 + 1,
        "week" => day.iso_week().1,
        "year" => without_zero(year),
        "isoyear" => without_zero(day.iso_week().0),
        // The decade of 1 BC to 10 BC is -1, and so on; centuries and millennia start in year 1.
        "decade" if year >= 0 => year / 10,
        "decade" => -((8 - (year - 1)) / 10),
        "century" if year > 0 => (year + 99) / 100,
        "century" => -((99 - (year - 1)) / 100),
        "millennium" if year > 0 => (year + 999) / 1000,
        "millennium" => -((999 - (year - 1)) / 1000),
        "dow" => (day.iso_weekday() % 7).into(),
        "isodow" => day.iso_weekday().into(),
        "doy" => day.of_year(),
        _ => return None,
    }))
}

/// 1 BC is -1.
fn without_zero(year: i64) -> i64 {
    if year > 0 { year } else { year - 1 }
}

fn of_infinity(field: &str, positive: bool, with_clock: bool) -> Result<Part, Stop> {
    match field {
        "year" | "decade" | "century" | "millennium" | "isoyear" | "epoch" => Ok(Part::Infinite(positive)),
        "day" | "month" | "quarter" | "week" | "dow" | "isodow" | "doy" => Ok(Part::Nothing),
        "microseconds" | "milliseconds" | "second" | "minute" | "hour" if with_clock => Ok(Part::Nothing),
        _ => Err(unknown()),
    }
}
