//! The values that builtins are tried on.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::super::{Array, Datum, Interval, Numeric, Ty, datetime};

/// Most rows of one case.
const MOST: usize = 1200;

/// A value here and the same for Postgres.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) text: Option<String>,
    pub(super) datum: Option<Datum>,
}

/// From Postgres' output form.
pub(super) fn value(ty: &Ty, text: &str) -> Value {
    let datum = match ty {
        Ty::Bool => Datum::Bool(text == "t"),
        Ty::Int2 | Ty::Int4 | Ty::Int8 => Datum::Int(text.parse().expect("a number")),
        Ty::Float8 => Datum::Float8(text.replace("Infinity", "inf").parse().expect("a float")),
        Ty::Text | Ty::Varchar | Ty::Name => Datum::Text(text.into()),
        Ty::Bpchar => Datum::Bpchar(text.into()),
        Ty::Bytea => {
            let digits = text.strip_prefix("\\x").expect("hex");
            let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex");
            Datum::Bytea((0..digits.len()).step_by(2).map(byte).collect::<Vec<_>>().into())
        }
        Ty::Date => Datum::Date(datetime::parse_date(text).expect(text)),
        Ty::Time => Datum::Time(datetime::parse_time(text).expect(text)),
        Ty::Timestamp => Datum::Timestamp(datetime::parse_timestamp(text, false).expect(text)),
        Ty::Timestamptz => Datum::Timestamp(datetime::parse_timestamp(text, true).expect(text)),
        Ty::Interval => Datum::Interval(datetime::parse_interval(text).expect(text)),
        // Elements without commas and quotes; `NULL` is NULL, `e` is empty.
        Ty::Array(element) => {
            let elements: Vec<Option<Datum>> = text
                .split(',')
                .filter(|part| !part.is_empty())
                .map(|part| match part {
                    "NULL" => None,
                    "e" => value(element, "").datum,
                    _ => value(element, part).datum,
                })
                .collect();
            let dimensions = if elements.is_empty() {
                vec![]
            } else {
                vec![(elements.len(), 1)]
            };
            let array = Datum::Array(Array { dimensions, elements }.into());
            let quoted: Vec<String> = text
                .split(',')
                .map(|part| {
                    if part == "e" {
                        "\"\"".to_owned()
                    } else {
                        part.to_owned()
                    }
                })
                .collect();
            return Value {
                text: Some(format!("{{{}}}", quoted.join(","))),
                datum: Some(array),
            };
        }
        _ => panic!("no values of {ty:?} here"),
    };
    Value {
        text: Some(text.to_owned()),
        datum: Some(datum),
    }
}

const NULL: Value = Value {
    text: None,
    datum: None,
};

/// Postgres' output form.
pub(super) fn print(datum: &Datum, ty: &Ty) -> Option<String> {
    Some(match datum {
        Datum::Bool(truth) => if *truth { "t" } else { "f" }.to_owned(),
        Datum::Int(int) => int.to_string(),
        Datum::Float8(float) => float.to_string(),
        Datum::Numeric(Numeric::Finite(number)) => number.to_plain_string(),
        Datum::Numeric(Numeric::Infinity) => "Infinity".to_owned(),
        Datum::Numeric(Numeric::NegInfinity) => "-Infinity".to_owned(),
        Datum::Text(text) | Datum::Bpchar(text) => text.to_string(),
        Datum::Bytea(bytes) => bytes
            .iter()
            .fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
        // What could not be printed is asked for.
        Datum::Date(days) => datetime::print_date(*days).ok()?,
        Datum::Time(micros) => datetime::print_time(*micros).ok()?,
        Datum::Timestamp(micros) => datetime::print_timestamp(*micros, *ty == Ty::Timestamptz).ok()?,
        Datum::Interval(interval) => datetime::print_interval(interval).ok()?,
        Datum::Array(array) => {
            let texts: Vec<Option<String>> = array
                .elements
                .iter()
                .map(|element| element.as_ref().and_then(|element| print(element, &Ty::Text)))
                .collect();
            assert_eq!(array.dimensions.is_empty(), texts.is_empty());
            serde_json::to_string(&texts).expect("JSON")
        }
        _ => panic!("printing {datum:?}"),
    })
}

/// Floats are compared as floats, everything else as text.
pub(super) fn same(ours: &str, theirs: &str, ty: &Ty) -> bool {
    let float = |text: &str| text.strip_prefix('=').and_then(|text| text.parse::<f64>().ok());
    match (ty, float(ours), float(theirs)) {
        (Ty::Float8, Some(ours), Some(theirs)) => ours.to_bits() == theirs.to_bits(),
        _ => ours == theirs,
    }
}

/// Rows of all combinations, or as many random ones as are tried; with NULLs.
pub(super) fn rows(columns: &[Vec<Value>]) -> Vec<Vec<Value>> {
    let mut random = StdRng::seed_from_u64(columns.iter().map(Vec::len).sum::<usize>() as u64);
    let columns: Vec<Vec<Value>> = columns
        .iter()
        .map(|column| column.iter().cloned().chain([NULL]).collect())
        .collect();
    let all: usize = columns.iter().map(Vec::len).product();
    if all > MOST {
        let pick = |column: &Vec<Value>, random: &mut StdRng| column.choose(random).expect("a value").clone();
        return (0..MOST)
            .map(|_| columns.iter().map(|column| pick(column, &mut random)).collect())
            .collect();
    }
    columns.iter().fold(vec![vec![]], |rows, column| {
        let longer = |row: Vec<Value>| {
            column
                .iter()
                .map(move |value| row.iter().cloned().chain([value.clone()]).collect())
        };
        rows.into_iter().flat_map(longer).collect()
    })
}

/// Values of a type: the strange ones, and random ones.
pub(super) fn of(ty: &Ty) -> Vec<Value> {
    let random = StdRng::seed_from_u64(7);
    let texts: Vec<String> = match ty {
        Ty::Bool => owned(&["t", "f"]),
        Ty::Int2 => owned(&["0", "1", "-7", "32767"]),
        Ty::Int4 => owned(&[
            "0",
            "1",
            "2",
            "3",
            "-1",
            "-2",
            "4",
            "7",
            "31",
            "-40",
            "365",
            "70",
            "100000",
            "-730000",
            "2147483647",
            "-2147483648",
            "2145000000",
            "-2145000000",
        ]),
        Ty::Int8 => owned(&["0", "-1", "9223372036854775807"]),
        Ty::Float8 => owned(&[
            "0",
            "-0",
            "1",
            "-1",
            "2",
            "0.5",
            "-0.25",
            "0.1",
            "1.5",
            "3",
            "7",
            "60",
            "1e10",
            "-3000000000",
            "1e-7",
            "1e300",
            "4503599627370496",
            "1700000000",
            "1700000000.123456",
            "-86400.0000005",
            "253402300800",
            "9224318015999.999",
            "9224318016000",
            "-210866803200",
            "-210866803201",
            "9224318015999.9999999",
            "1e-300",
            "Infinity",
            "-Infinity",
            "NaN",
            "1.0000005",
            "2.0000015",
        ]),
        Ty::Text => owned(&TEXTS),
        Ty::Varchar => owned(&["", "Abc", "äöü ", "  x", "日本語"]),
        Ty::Bpchar => owned(&["", "ab  ", "  ", "ä ", "x", " y z   "]),
        Ty::Name => owned(&["", "abc", "äöü", "pg_class"]),
        Ty::Bytea => ["", "00", "41", "5c", "ff00fe", "c3a4", "68656c6c6f20776f726c64"]
            .iter()
            .map(|hex| format!("\\x{hex}"))
            .chain([57, 56, 58, 114, 200].map(|length| format!("\\x{}", "6f".repeat(length))))
            .collect(),
        Ty::Date => dates(random),
        Ty::Time => times(random),
        Ty::Timestamp => timestamps(random, false),
        Ty::Timestamptz => timestamps(random, true),
        Ty::Interval => intervals(random),
        Ty::Array(_) => owned(&["", "a", "a,b", "NULL", "a,NULL,b", "e", "NULL,e,x,NULL", "ä,日本"]),
        _ => panic!("no values of {ty:?} here"),
    };
    texts.iter().map(|text| value(ty, text)).collect()
}

const TEXTS: [&str; 34] = [
    "",
    "a",
    "b",
    "ab",
    "abc",
    "Abc",
    "ABC",
    "aa",
    "aaa",
    "aaaa",
    " ",
    "  b ",
    "xX",
    "hello world",
    "O'Neil-smith x2y",
    "a,b,c",
    ",",
    ",a,,b,",
    "aXbXXc",
    "XX",
    "äöü",
    "ÄÖÜ",
    "ä",
    "日本語",
    "日",
    "👍x👍",
    "e\u{301}x",
    "İI",
    "ıi",
    "ß",
    "Straße",
    "a\\b\\",
    "\t\n",
    "I ",
];

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn dates(mut random: StdRng) -> Vec<String> {
    let mut texts = owned(&[
        "2000-01-01",
        "1999-12-31",
        "2000-02-29",
        "2024-02-29",
        "2023-02-28",
        "2024-01-31",
        "2023-03-31",
        "2026-06-15",
        "1970-01-01",
        "1900-02-28",
        "2100-03-01",
        "0001-01-01",
        "0001-12-31 BC",
        "0004-02-29",
        "0005-02-28 BC",
        "0044-03-15 BC",
        "0100-12-31",
        "0101-01-01",
        "0101-06-01 BC",
        "1000-12-31",
        "1001-01-01",
        "1001-01-01 BC",
        "4714-11-24 BC",
        "4714-12-31 BC",
        "4713-01-01 BC",
        "9999-12-31",
        "10000-01-01",
        "294276-12-31",
        "294277-01-01",
        "5874897-12-31",
        "2020-12-31",
        "2021-01-03",
        "2021-01-04",
        "2018-12-31",
        "2016-01-03",
        "infinity",
        "-infinity",
    ]);
    for most in [100_000, 2_400_000] {
        texts
            .extend((0..15).map(|_| datetime::print_date(random.random_range(-most..most)).expect("a date")));
    }
    texts
}

fn times(mut random: StdRng) -> Vec<String> {
    let mut texts = owned(&[
        "00:00:00",
        "00:00:00.000001",
        "12:00:00",
        "23:59:59.999999",
        "24:00:00",
        "03:04:05.6",
        "23:59:59.5",
        "00:00:00.5",
        "12:30:00.0005",
        "12:30:00.00049",
    ]);
    texts.extend(
        (0..15).map(|_| datetime::print_time(random.random_range(0..datetime::DAY)).expect("a time")),
    );
    texts
}

fn timestamps(mut random: StdRng, with_zone: bool) -> Vec<String> {
    let midnights = dates(random.clone());
    let days = midnights
        .iter()
        .map(|text| datetime::parse_date(text).expect("a date"));
    let micros: Vec<i64> = days
        .filter(|days| *days < 109_203_528 - 2_451_545 && *days > i32::MIN)
        .flat_map(|days| {
            let midnight = i64::from(days) * datetime::DAY;
            [midnight, midnight + random.random_range(0..datetime::DAY)]
        })
        .chain([
            i64::MIN,
            i64::MAX,
            -1,
            1,
            500,
            499_999,
            500_000,
            -500_000,
            -1_500_000,
            -946_684_800_000_001,
        ])
        // The last one there is.
        .chain([(109_203_528 - 2_451_545) * datetime::DAY - 1])
        .collect();
    let print = |micros: &i64| datetime::print_timestamp(*micros, with_zone).expect("a timestamp");
    micros.iter().map(print).collect()
}

fn intervals(mut random: StdRng) -> Vec<String> {
    let mut texts = owned(&[
        "00:00:00",
        "1 day",
        "-1 days",
        "1 mon",
        "-1 mons",
        "1 year",
        "-1 years",
        "1 year 2 mons 3 days 04:05:06.7",
        "24:00:00",
        "-24:00:00",
        "00:00:00.000001",
        "-00:00:00.5",
        "1 day -01:00:00",
        "-1 days +01:00:00",
        "-1 years +1 day",
        "-1 mons -30 days",
        "1 mon -1 days",
        "30 days",
        "31 days",
        "-31 days -25:00:00",
        "11 mons 29 days 23:59:59.999999",
        "-1 years -2 mons +3 days -04:05:06.7",
        "100 years",
        "-4000 years",
        "4000 years",
        "200000 years",
        "178956970 years 7 mons",
        "-178956970 years -8 mons",
        "2147483647 days",
        "-2147483648 days",
        "-2451545 days",
        "3000000 days",
        "2147483647:00:00",
        "-2147483647:59:59.999999",
        "01:30:00",
        "90:00:00",
        "10 days",
        "100 days 2400:00:00",
        "-15 mons",
        "-10 mons +5 days",
        "999 years 11 mons",
        "1 day 02:03:04.5",
    ]);
    texts.retain(|text| text != "-15 mons");
    texts.extend((0..20).map(|_| {
        let interval = Interval {
            months: random.random_range(-60..60),
            days: random.random_range(-80..80),
            micros: random.random_range(-3 * datetime::DAY..3 * datetime::DAY),
        };
        datetime::print_interval(&interval).expect("an interval")
    }));
    texts
}
