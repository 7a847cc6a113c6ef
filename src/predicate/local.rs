use std::cmp::Ordering;

use super::Operator;
use crate::postgres::catalog::{Column, TypeKind, Types};

/// Values that can be compared without Postgres, in the text output form of the column's type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Comparable {
    family: Family,
    values: Vec<Box<str>>,
    /// The list held a NULL: what is not found in it compares to NULL.
    null: bool,
}

/// How the text output forms of a type compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Family {
    /// Equal values have equal text; order needs Postgres.
    Text,
    /// As `Text`, and the order is that of the bytes.
    Bytes,
    /// Calendar text: equal values have equal text; four-digit years order as text, the rest needs Postgres.
    Calendar,
    /// Integers up to 64 bits.
    Integer,
    /// Decimal digits.
    Decimal,
    /// Single precision.
    Float4,
    /// Double precision.
    Float8,
}

impl Comparable {
    /// Values for a column, if its type is one whose comparison is known to agree with Postgres. `values` must be in
    /// text output form (what Postgres answered), `None` for NULL.
    pub fn new(column: &Column, types: &Types, values: Vec<Option<String>>) -> Option<Self> {
        let family = family(column, types)?;
        let null = values.iter().any(Option::is_none);
        let values = values.into_iter().flatten().map(String::into_boxed_str).collect();
        Some(Self { family, values, null })
    }

    /// The truth of `value OP values`: outer `None` if only Postgres can say, inner `None` for NULL.
    pub(super) fn compare(&self, operator: Operator, value: &str) -> Option<Option<bool>> {
        let order = |wanted: fn(Ordering) -> bool| -> Option<Option<bool>> {
            Some(Some(wanted(self.family.order(value, self.values.first()?)?)))
        };
        let equal = || -> Option<bool> { self.family.equal(value, self.values.first()?) };
        match operator {
            Operator::Eq => equal().map(Some),
            Operator::Neq | Operator::IsDistinct => equal().map(|equal| Some(!equal)),
            Operator::Lt => order(Ordering::is_lt),
            Operator::Lte => order(Ordering::is_le),
            Operator::Gt => order(Ordering::is_gt),
            Operator::Gte => order(Ordering::is_ge),
            Operator::In => {
                for candidate in &self.values {
                    if self.family.equal(value, candidate)? {
                        return Some(Some(true));
                    }
                }
                Some((!self.null).then_some(false))
            }
            Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch | Operator::Is => None,
        }
    }
}

impl Family {
    fn equal(self, a: &str, b: &str) -> Option<bool> {
        match self {
            Self::Text | Self::Bytes | Self::Calendar | Self::Integer => Some(a == b),
            Self::Decimal | Self::Float4 | Self::Float8 => self.order(a, b).map(Ordering::is_eq),
        }
    }

    fn order(self, a: &str, b: &str) -> Option<Ordering> {
        match self {
            Self::Text => None,
            Self::Bytes => Some(a.cmp(b)),
            Self::Calendar => (plain_calendar(a) && plain_calendar(b)).then(|| a.cmp(b)),
            Self::Integer => Some(a.parse::<i64>().ok()?.cmp(&b.parse::<i64>().ok()?)),
            Self::Decimal => order_decimal(a, b),
            Self::Float4 => Some(order_float(
                a.parse::<f32>().ok()?.into(),
                b.parse::<f32>().ok()?.into(),
            )),
            Self::Float8 => Some(order_float(a.parse().ok()?, b.parse().ok()?)),
        }
    }
}

fn family(column: &Column, types: &Types) -> Option<Family> {
    let base = types.base(column.type_oid);
    Some(match base {
        // bool prints f and t, which order as false and true; uuid and bytea print fixed lower-case hex.
        16 | 17 | 2950 => Family::Bytes,
        20 | 21 | 23 | 26 => Family::Integer,
        700 => Family::Float4,
        701 => Family::Float8,
        1700 => Family::Decimal,
        // text and varchar: a deterministic collation calls equal only what is the same bytes.
        25 | 1043 if column.deterministic => Family::Text,
        // date, timestamp, timestamptz, time
        1082 | 1114 | 1184 | 1083 => Family::Calendar,
        _ => match types.0.get(&base)?.kind {
            TypeKind::Enum { .. } => Family::Text,
            _ => return None,
        },
    })
}

/// `2026-01-02…` or `03:04:05…`: no era, no infinity, no year past 9999, so that text order is time order.
fn plain_calendar(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |n: usize| bytes.len() > n && bytes[..n].iter().all(u8::is_ascii_digit);
    let date = digits(4) && bytes[4] == b'-';
    let time = digits(2) && bytes[2] == b':';
    (date || time) && !text.ends_with("BC")
}

/// Postgres' order of floats: NaN equals NaN and is above everything; negative zero equals zero.
fn order_float(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Orders two plain decimals (`-12.340`); `None` for NaN and infinities.
fn order_decimal(a: &str, b: &str) -> Option<Ordering> {
    let (a_negative, a_whole, a_fraction) = decimal(a)?;
    let (b_negative, b_whole, b_fraction) = decimal(b)?;
    let magnitude = a_whole
        .len()
        .cmp(&b_whole.len())
        .then_with(|| a_whole.cmp(b_whole))
        .then_with(|| a_fraction.cmp(b_fraction));
    Some(match (a_negative, b_negative) {
        (false, false) => magnitude,
        (true, true) => magnitude.reverse(),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    })
}

/// Sign, whole digits without leading zeros, fraction digits without trailing zeros. Zero is never negative.
fn decimal(text: &str) -> Option<(bool, &str, &str)> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if rest.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    Some((
        negative && !(whole.is_empty() && fraction.is_empty()),
        whole,
        fraction,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_order_by_value() {
        for (a, b, order) in [
            ("1.0", "1.00", Ordering::Equal),
            ("-0.0", "0", Ordering::Equal),
            ("10", "9", Ordering::Greater),
            ("-10", "-9", Ordering::Less),
            ("0.1", "0.09", Ordering::Greater),
            ("-0.1", "0.01", Ordering::Less),
            (
                "123456789012345678901234567890.1",
                "123456789012345678901234567890.09",
                Ordering::Greater,
            ),
        ] {
            assert_eq!(order_decimal(a, b), Some(order), "{a} {b}");
        }
        assert_eq!(order_decimal("NaN", "1"), None);
        assert_eq!(order_decimal("", "1"), None);
    }

    #[test]
    fn floats_order_as_postgres_orders_them() {
        assert_eq!(order_float(-0.0, 0.0), Ordering::Equal);
        assert_eq!(order_float(f64::NAN, f64::NAN), Ordering::Equal);
        assert_eq!(order_float(f64::NAN, f64::INFINITY), Ordering::Greater);
        assert_eq!(order_float(1.0, f64::NAN), Ordering::Less);
    }

    #[test]
    fn eras_and_infinities_are_left_to_postgres() {
        for text in ["infinity", "-infinity", "0044-03-15 BC", "10000-01-01", ""] {
            assert!(!plain_calendar(text), "{text}");
        }
        assert!(plain_calendar("2026-01-02 03:04:05+00") && plain_calendar("03:04:05.5"));
    }
}
