//! The proleptic Gregorian calendar in days since 2000-01-01, with Postgres' ranges (manual table 8.9).

use super::DAY;

/// The first date and the first timestamp: 4714-11-24 BC, Julian day 0.
const FIRST_DAY: i64 = -2_451_545;
/// Behind the last date, 5874897-12-31 (`DATE_END_JULIAN` ends in June of the year after).
const DATE_END: i64 = 2_147_483_494 - 2_451_545;
/// Behind the last timestamp, 294276-12-31 23:59:59.999999.
const TIMESTAMP_END_DAY: i64 = 109_203_528 - 2_451_545;
/// Days from 0000-03-01 to 2000-01-01.
const ERA_OFFSET: i64 = 730_425;

/// Whether a day can be a `date`.
pub(in crate::expression) fn in_date_range(days: i64) -> bool {
    (FIRST_DAY..DATE_END).contains(&days)
}

/// Whether microseconds since 2000-01-01 can be a finite timestamp.
pub(in crate::expression) fn in_timestamp_range(micros: i64) -> bool {
    (FIRST_DAY * DAY..TIMESTAMP_END_DAY * DAY).contains(&micros)
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::expression) struct Day {
    /// Astronomical: 0 is 1 BC.
    pub(in crate::expression) year: i64,
    /// 1 to 12.
    pub(in crate::expression) month: u32,
    /// 1 to 31.
    pub(in crate::expression) day: u32,
}

impl Day {
    /// The day of that name, if there is one.
    pub(in crate::expression) fn new(year: i64, month: u32, day: u32) -> Option<Self> {
        let exists = (1..=12).contains(&month) && (1..=days_of_month(year, month)).contains(&day);
        exists.then_some(Self { year, month, day })
    }

    /// The day that is so many days after 2000-01-01. Counts years from March, so that the leap day is the last.
    pub(in crate::expression) fn of(days: i64) -> Self {
        let days = days + ERA_OFFSET;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: small(month),
            day: small(day),
        }
    }

    /// Days since 2000-01-01.
    pub(in crate::expression) fn number(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let from_march = i64::from((self.month + 9) % 12);
        let of_year = (153 * from_march + 2) / 5 + i64::from(self.day) - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - ERA_OFFSET
    }

    /// The same day so many months later, or the last one of a month that is shorter.
    pub(in crate::expression) fn plus_months(self, months: i64) -> Self {
        let count = self.year * 12 + i64::from(self.month) - 1 + months;
        let (year, month) = (count.div_euclid(12), small(count.rem_euclid(12)) + 1);
        let day = self.day.min(days_of_month(year, month));
        Self { year, month, day }
    }

    /// How many days its month has.
    pub(in crate::expression) fn days_of_month(self) -> u32 {
        days_of_month(self.year, self.month)
    }

    /// Monday is 1, Sunday is 7.
    pub(in crate::expression) fn iso_weekday(self) -> u32 {
        // 2000-01-01 was a Saturday.
        small((self.number() + 5).rem_euclid(7)) + 1
    }

    /// The first of January is 1.
    pub(in crate::expression) fn of_year(self) -> i64 {
        let first = Self {
            year: self.year,
            month: 1,
            day: 1,
        };
        self.number() - first.number() + 1
    }

    /// Year and week of ISO 8601: those of the week's Thursday.
    pub(in crate::expression) fn iso_week(self) -> (i64, i64) {
        let thursday = Self::of(self.number() + 4 - i64::from(self.iso_weekday()));
        (thursday.year, (thursday.of_year() - 1) / 7 + 1)
    }
}

fn days_of_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Of numbers that fit by what they are made of.
fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_their_numbers_agree() {
        for days in (-2_451_545..3_000_000).step_by(97).chain(-800..800) {
            let day = Day::of(days);
            assert_eq!(day.number(), days, "{day:?}");
            assert_eq!(Day::new(day.year, day.month, day.day), Some(day));
        }
        assert_eq!(Day::new(2000, 1, 1).map(Day::number), Some(0));
        assert_eq!(Day::new(-4713, 11, 24).map(Day::number), Some(FIRST_DAY));
        assert_eq!(Day::new(294_277, 1, 1).map(Day::number), Some(TIMESTAMP_END_DAY));
        assert_eq!(Day::new(1900, 2, 29), None);
    }
}
