const DAYS_PER_400_YEARS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar.
const EPOCH_DAY: i64 = 719_468;

/// Microseconds since the Unix epoch of a timestamp as Postgres prints one under `DateStyle = ISO`:
/// `2026-11-22 05:56:01.123456+00`, the offset with optional minutes and seconds. `None` for anything else,
/// including BC and infinities, which no commit has.
pub(super) fn micros(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(' ')?;
    let (year, month_day) = date.split_once('-')?;
    let (month, day) = month_day.split_once('-')?;
    let (year, month, day) = (number(year, 4..=6)?, number(month, 2..=2)?, number(day, 2..=2)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let sign_at = time.find(['+', '-'])?;
    let (clock, offset) = time.split_at_checked(sign_at)?;
    let clock = clock_micros(clock)?;
    let shift = clock_micros_of_offset(offset.get(1..)?)?;
    let shift = if offset.starts_with('-') { -shift } else { shift };
    let days = days_from_civil(year, month, day);
    Some(days * 86_400_000_000 + clock - shift)
}

/// `HH:MM:SS` with up to six digits of a fraction.
fn clock_micros(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = whole.split(':');
    let (hours, minutes) = (number(parts.next()?, 2..=2)?, number(parts.next()?, 2..=2)?);
    let seconds = number(parts.next()?, 2..=2)?;
    if parts.next().is_some() || hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let digits = u32::try_from(fraction.len()).ok()?;
    let fraction = number(fraction, 1..=6)? * 10_i64.pow(6_u32.checked_sub(digits)?);
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction)
}

/// `HH`, `HH:MM` or `HH:MM:SS`.
fn clock_micros_of_offset(text: &str) -> Option<i64> {
    let mut seconds = 0;
    let mut unit = 3600;
    for part in text.split(':') {
        seconds += number(part, 2..=2)? * unit;
        unit /= 60;
    }
    (seconds <= 16 * 3600).then_some(seconds * 1_000_000)
}

fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    (digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. Years start in March so that the leap day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_400_YEARS + day_of_era - EPOCH_DAY
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_postgres_prints() {
        // The right-hand sides are `extract(epoch from …) * 1000000` of Postgres 15.
        for (text, expected) in [
            ("1970-01-01 00:00:00+00", 0),
            ("2026-11-22 05:56:01.123456+00", 1_795_326_961_123_456),
            ("2026-11-22 05:56:01.1+00", 1_795_326_961_100_000),
            ("2024-02-29 23:59:59+05:30", 1_709_231_399_000_000),
            ("1999-12-31 23:59:59.999999-08", 946_713_599_999_999),
            ("1883-11-18 00:00:00-04:56:02", -2_717_694_238_000_000),
        ] {
            assert_eq!(micros(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_timestamp() {
        for text in [
            "",
            " ",
            "infinity",
            "2026-11-22",
            "2026-11-22 05:56:01",
            "2026-13-01 00:00:00+00",
            "2025-02-29 00:00:00+00",
            "2026-11-22 24:00:00+00",
            "2026-11-22 05:56:01.1234567+00",
            "2026-11-22 05:56:01.+00",
            "2026-11-22 05:56+00",
            "2026-11-22 05:56:01+",
            "2026-11-22 05:56:01+0é",
            "0044-03-15 00:00:00+00 BC",
            "-026-11-22 05:56:01+00",
        ] {
            assert_eq!(micros(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn days_follow_each_other(day in -700_000_i64..2_000_000) {
            let (y, m, d) = civil(day);
            prop_assert_eq!(days_from_civil(y, m, d), day);
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = micros(&text);
        }

        #[test]
        fn never_panics_on_near_misses(text in "[0-9:. +-]{0,40}") {
            let _ = micros(&text);
        }
    }

    /// Counts days one by one within a year: slow and obviously right.
    fn civil(day: i64) -> (i64, i64, i64) {
        let year_days = |y: i64| if days_in(y, 2) == 29 { 366 } else { 365 };
        let mut year = 1970 + day.div_euclid(DAYS_PER_400_YEARS) * 400;
        let mut rest = day.rem_euclid(DAYS_PER_400_YEARS);
        while rest >= year_days(year) {
            rest -= year_days(year);
            year += 1;
        }
        let mut month = 1;
        while rest >= days_in(year, month) {
            rest -= days_in(year, month);
            month += 1;
        }
        (year, month, rest + 1)
    }
}
