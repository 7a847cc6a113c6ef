//! Dates, times, timestamps and intervals.

use super::super::arguments::{self, strict};
use super::super::datetime::{compare_interval, interval_key};
use super::super::{Collation, Datum, Ty, dates};
use super::values::{self, Value, value};
use super::{Case, Kind, agree};
use Ty::{Date, Float8, Int4, Interval, Text, Time, Timestamp, Timestamptz};

fn operator(symbol: &'static str, left: Option<Ty>, right: Ty, may_ask: usize) -> Case {
    let builtin = dates::operator(symbol, left.as_ref(), &right, &Collation::Default);
    let types: Vec<Ty> = left.into_iter().chain([right]).collect();
    let sql = match types.len() {
        1 => format!("{symbol} $1"),
        _ => format!("$1 {symbol} $2"),
    };
    let columns: Vec<Vec<Value>> = types.iter().map(values::of).collect();
    Case {
        builtin: builtin.unwrap_or_else(|| panic!("{sql} of {types:?} is not known")),
        kind: Kind::Operator(symbol),
        rows: values::rows(&columns),
        types,
        sql,
        may_ask,
    }
}

fn function(name: &'static str, types: &[Ty], columns: &[Vec<Value>], may_ask: usize) -> Case {
    let parameters: Vec<String> = (1..=types.len()).map(|at| format!("${at}")).collect();
    let builtin = dates::function(name, types, &Collation::Default);
    Case {
        builtin: builtin.unwrap_or_else(|| panic!("{name} of {types:?} is not known")),
        kind: match (name, types) {
            // Strict, but inlined, so that its cast may raise where the field is NULL.
            ("date_part", [_, Date]) => Kind::Lenient(true),
            _ => Kind::Function(name),
        },
        types: types.to_vec(),
        sql: format!("pg_catalog.\"{name}\"({})", parameters.join(", ")),
        rows: values::rows(columns),
        may_ask,
    }
}

fn cast(from: &Ty, to: &Ty, precision: Option<i32>, column: Vec<Value>, may_ask: usize) -> Case {
    let modifiers: Vec<i32> = precision.into_iter().collect();
    let name = match (to, precision) {
        (_, None) => super::type_name(to),
        (Time, Some(precision)) => format!("time({precision})"),
        (Timestamp, Some(precision)) => format!("timestamp({precision})"),
        (_, Some(precision)) => format!("timestamptz({precision})"),
    };
    Case {
        builtin: dates::cast(from, to, &modifiers).unwrap_or_else(|| panic!("{from:?}::{name} is not known")),
        kind: Kind::Cast(to.clone()),
        types: vec![from.clone()],
        sql: format!("CAST($1 AS {name})"),
        rows: values::rows(&[column]),
        may_ask,
    }
}

fn texts(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| value(&Text, text)).collect()
}

#[tokio::test]
async fn operators_on_dates() {
    let mut cases = vec![
        operator("+", Some(Date), Int4, 0),
        operator("+", Some(Int4), Date, 0),
        operator("-", Some(Date), Int4, 0),
        operator("-", Some(Date), Date, 0),
        operator("+", Some(Date), Time, 0),
        operator("+", Some(Time), Date, 0),
        operator("-", Some(Time), Time, 0),
        operator("+", Some(Time), Interval, 5),
        operator("-", Some(Time), Interval, 5),
        operator("+", Some(Interval), Time, 5),
        operator("-", None, Interval, 5),
        operator("+", Some(Interval), Interval, 5),
        operator("-", Some(Interval), Interval, 5),
        operator("*", Some(Interval), Float8, 75),
        operator("*", Some(Float8), Interval, 75),
        operator("/", Some(Interval), Float8, 75),
    ];
    for ty in [Timestamp, Timestamptz] {
        cases.push(operator("-", Some(ty.clone()), ty, 12));
    }
    // What policies multiply by is not strange.
    let spans = [
        "1 day", "01:00:00", "00:01:00", "7 days", "1 mon", "1 year", "30 days",
    ]
    .map(|text| value(&Interval, text));
    let factors = ["0", "1", "-2", "7", "30", "1440", "0.5"].map(|text| value(&Float8, text));
    cases.push(Case {
        rows: values::rows(&[spans.to_vec(), factors.to_vec()]),
        ..operator("*", Some(Interval), Float8, 12)
    });
    for ty in [Date, Timestamp, Timestamptz] {
        cases.push(operator("+", Some(ty.clone()), Interval, 8));
        cases.push(operator("-", Some(ty.clone()), Interval, 8));
        cases.push(operator("+", Some(Interval), ty, 8));
    }
    agree(cases).await;
}

/// Also that equal intervals have equal keys, and that keys have their order.
#[tokio::test]
async fn intervals_compared() {
    let compared =
        |symbol: &'static str, holds: fn(&super::super::Interval, &super::super::Interval) -> bool| Case {
            builtin: strict(Ty::Bool, true, move |arguments| {
                let (left, right) = (
                    arguments::interval(arguments, 0)?,
                    arguments::interval(arguments, 1)?,
                );
                Ok(Some(Datum::Bool(holds(&left, &right))))
            }),
            ..operator_like(symbol)
        };
    agree(vec![
        compared("=", |left, right| compare_interval(left, right).is_eq()),
        compared("<", |left, right| compare_interval(left, right).is_lt()),
        compared("=", |left, right| interval_key(left) == interval_key(right)),
        compared("<", |left, right| interval_key(left) < interval_key(right)),
    ])
    .await;
}

/// A case of two intervals whose builtin is still to come.
fn operator_like(symbol: &'static str) -> Case {
    Case {
        kind: Kind::Operator(symbol),
        sql: format!("$1 {symbol} $2"),
        ..operator("+", Some(Interval), Interval, 0)
    }
}

#[tokio::test]
async fn casts_of_dates() {
    let mut cases = Vec::new();
    for (from, to) in [
        (Date, Timestamp),
        (Date, Timestamptz),
        (Timestamp, Date),
        (Timestamptz, Date),
        (Timestamp, Timestamptz),
        (Timestamptz, Timestamp),
        (Timestamp, Time),
        (Timestamptz, Time),
        (Time, Interval),
        (Interval, Time),
        (Date, Date),
        (Interval, Interval),
    ] {
        cases.push(cast(&from, &to, None, values::of(&from), 5));
    }
    for ty in [Date, Time, Timestamp, Timestamptz, Interval] {
        cases.push(cast(&ty, &Text, None, values::of(&ty), 5));
        cases.push(cast(&ty, &Ty::Varchar, None, values::of(&ty), 5));
    }
    for precision in [0, 3, 5, 6] {
        for ty in [Time, Timestamp, Timestamptz] {
            cases.push(cast(&ty, &ty, Some(precision), values::of(&ty), 5));
        }
        cases.push(cast(
            &Timestamptz,
            &Timestamp,
            Some(precision),
            values::of(&Timestamptz),
            5,
        ));
        cases.push(cast(&Date, &Timestamptz, Some(precision), values::of(&Date), 5));
        cases.push(cast(
            &Timestamp,
            &Time,
            Some(precision),
            values::of(&Timestamp),
            5,
        ));
    }
    for (name, from) in [
        ("date", Timestamp),
        ("date", Timestamptz),
        ("timestamp", Date),
        ("timestamp", Timestamptz),
        ("timestamptz", Date),
        ("timestamptz", Timestamp),
        ("time", Timestamp),
        ("time", Timestamptz),
        ("time", Interval),
        ("interval", Time),
    ] {
        cases.push(function(
            name,
            std::slice::from_ref(&from),
            &[values::of(&from)],
            5,
        ));
    }
    agree(cases).await;
}

/// What is certain of text, and that what is not is left to Postgres.
#[tokio::test]
async fn dates_from_text() {
    let certain = texts(&[
        "",
        "infinity",
        "-infinity",
        "2026-01-02",
        "2024-02-29",
        "2023-02-29",
        "2026-13-01",
        "2026-00-10",
        "2026-01-00",
        "2026-04-31",
        "0000-01-01",
        "0001-01-01",
        "9999-12-31",
        "2026-01-02 03:04:05",
        "2026-01-02T03:04:05.678",
        "2026-01-02 03:04",
        "2026-01-02T03:04:05Z",
        "2026-01-02 03:04:05.123456+02",
        "2026-01-02 00:30:00-05:30",
        "2026-01-02 23:30:00+14",
        "2026-01-02 25:00:00",
        "2026-01-02 03:60:00",
        "2026-01-02 03:00:61",
        "2026-02-30T99:00",
        "9999-12-31 23:59:59.999999-14",
        "0001-01-01T00:00:00+14",
        "2026-01-02 03:04:05.5",
        "2026-13-02 25:00",
        "2026-01-02T03:04+01:45",
        "2000-01-01 00:00:00.000005",
    ]);
    let times = texts(&[
        "",
        "00:00",
        "03:04",
        "03:04:05",
        "03:04:05.6",
        "23:59:59.999999",
        "25:00:00",
        "03:60",
        "03:04:61",
        "12:34:56.1",
    ]);
    // Whatever is said of these has to be right as well.
    let unclear = texts(&[
        "now",
        "today",
        "tomorrow",
        "yesterday",
        "epoch",
        "allballs",
        "Infinity",
        " 2026-01-02",
        "2026-01-02 ",
        "2026-1-2",
        "1/2/2026",
        "20260102",
        "Jan 2 2026",
        "2026-01-02 24:00:00",
        "2026-01-02 23:59:60",
        "2026-01-02 03:04:05 UTC",
        "2026-01-02 03:04:05+15",
        "2026-01-02 03:04:05+16",
        "2026-01-02 03:04:05+0200",
        "2026-01-02 03:04:05 +02",
        "2026-01-02 03:04:05.1234567",
        "2026-01-02T",
        "2026-01-02 3:04:05",
        "2026-01-02 03:04:05 PM",
        "2026-01-02 03:04:05 BC",
        "2026-01-02 BC",
        "12026-01-02",
        "-2026-01-02",
        "nonsense",
        "2026-01-02Z",
        "2026-01-02+01",
        "03:04:05+01",
        "T03:04:05",
        "030405",
        "24:00:00",
        "23:59:60",
        "2026-01-02 03:04:05.",
        "2026-01-02  03:04",
        "2026-01-02 03:04:05+02:60",
        "2026-01-02 03:04:05+02:00:30",
        "2026-01-02t03:04:05",
        "2026-01-02 03",
        "٢026-01-02",
        "2026-01-0٢",
        "2026-366",
        "2026-01-02 03:04:05+1",
        "2026-01-02 03:04:05zulu",
        "J2451545",
        "1 day",
        "P1D",
        "2026-01-02 03:04:05+",
    ]);
    let intervals = values::of(&Interval);
    let spans = intervals.iter().map(|value| super::Value {
        datum: value
            .text
            .as_deref()
            .and_then(|text| values::value(&Text, text).datum),
        ..value.clone()
    });
    let mut cases = vec![
        cast(&Text, &Time, None, times.clone(), 0),
        cast(&Text, &Time, Some(0), times, 0),
        cast(&Text, &Interval, None, spans.collect(), 0),
        cast(
            &Text,
            &Interval,
            None,
            texts(&[
                "PT1H",
                "1 day 1 day",
                "1",
                "",
                "1.5 hours",
                "1 decade",
                "1  day",
                "+1 day",
                "1day",
                "1 d",
                "9999999 years",
                "999999 years",
                "1 day ago",
                "1 Day",
                "--1 day",
                "- 1 day",
                "1 hours ",
                "3 milliseconds",
            ]),
            100,
        ),
        cast(
            &Text,
            &Interval,
            None,
            texts(&[
                "7 days",
                "1 days",
                "-1 hour",
                "24 hours",
                "90 minutes",
                "1 week",
                "-3 weeks",
                "3 months",
                "1 month",
                "2 years",
                "999999 seconds",
                "999999 hours",
                "-5 mons",
                "0 days",
                "-0 days",
                "007 minutes",
                "1 second",
                "999999 weeks",
                "-100000 years",
            ]),
            0,
        ),
        cast(&Text, &Time, None, unclear.clone(), 100),
    ];
    for ty in [Date, Timestamp, Timestamptz] {
        cases.push(cast(&Text, &ty, None, certain.clone(), 0));
        cases.push(cast(&Text, &ty, None, unclear.clone(), 100));
        cases.push(cast(&Ty::Varchar, &ty, None, certain.clone(), 0));
    }
    for precision in [0, 2, 5] {
        cases.push(cast(&Text, &Timestamp, Some(precision), certain.clone(), 0));
        cases.push(cast(&Text, &Timestamptz, Some(precision), certain.clone(), 0));
    }
    agree(cases).await;
}

const FIELDS: [&str; 18] = [
    "microseconds",
    "milliseconds",
    "second",
    "minute",
    "hour",
    "day",
    "month",
    "quarter",
    "year",
    "decade",
    "century",
    "millennium",
    "isoyear",
    "week",
    "dow",
    "isodow",
    "doy",
    "epoch",
];

#[tokio::test]
async fn fields_of_dates() {
    let mut cases = Vec::new();
    let mut strange = FIELDS.to_vec();
    strange.extend(["julian", "timezone", "YEAR", "nonsense", ""]);
    for field in strange {
        for ty in [Date, Time, Timestamp, Timestamptz, Interval] {
            let columns = [texts(&[field]), values::of(&ty)];
            for name in ["extract", "date_part"] {
                // Which other fields a type has is for Postgres to say.
                let of_day = !matches!(
                    field,
                    "microseconds" | "milliseconds" | "second" | "minute" | "hour"
                );
                let known = FIELDS.contains(&field)
                    && match ty {
                        Date => of_day || name == "date_part",
                        Time => !of_day || field == "epoch",
                        Interval => !matches!(field, "isoyear" | "week" | "dow" | "isodow" | "doy"),
                        _ => true,
                    };
                let may_ask = if !known {
                    100
                } else if ty == Date && name == "date_part" {
                    // Half of the fields are NULL.
                    52
                } else if field == "quarter" {
                    35
                } else {
                    6
                };
                cases.push(function(name, &[Text, ty.clone()], &columns, may_ask));
            }
        }
    }
    for ty in [Timestamp, Timestamptz, Interval] {
        for unit in FIELDS {
            let known = !matches!(unit, "isoyear" | "dow" | "isodow" | "doy" | "epoch")
                && (unit != "week" || ty != Interval);
            let columns = [texts(&[unit]), values::of(&ty)];
            let may_ask = if known { 5 } else { 100 };
            cases.push(function("date_trunc", &[Text, ty.clone()], &columns, may_ask));
        }
    }
    agree(cases).await;
}

#[tokio::test]
async fn functions_on_dates() {
    let mut cases = vec![
        function("to_timestamp", &[Float8], &[values::of(&Float8)], 0),
        function(
            "make_date",
            &[Int4, Int4, Int4],
            &[
                [
                    "-4714",
                    "-4713",
                    "-1",
                    "0",
                    "1",
                    "2023",
                    "2024",
                    "5874897",
                    "5874898",
                    "2147483647",
                    "-2147483648",
                ]
                .map(|text| value(&Int4, text))
                .to_vec(),
                ["-1", "0", "1", "2", "6", "11", "12", "13"]
                    .map(|text| value(&Int4, text))
                    .to_vec(),
                ["-1", "0", "1", "24", "28", "29", "30", "31", "32"]
                    .map(|text| value(&Int4, text))
                    .to_vec(),
            ],
            0,
        ),
    ];
    let zones = texts(&["UTC", "utc"]);
    for ty in [Timestamp, Timestamptz] {
        let times = values::of(&ty);
        let two = [ty.clone(), ty.clone()];
        cases.push(function("age", &two, &[times.clone(), times.clone()], 12));
        cases.push(function(
            "timezone",
            &[Text, ty.clone()],
            &[zones.clone(), times.clone()],
            0,
        ));
        let others = [texts(&["Europe/Berlin", "Utc", "CET", "x"]), times.clone()];
        cases.push(function("timezone", &[Text, ty.clone()], &others, 100));
        cases.push(function("isfinite", std::slice::from_ref(&ty), &[times], 0));
    }
    for ty in [Date, Interval] {
        cases.push(function(
            "isfinite",
            std::slice::from_ref(&ty),
            &[values::of(&ty)],
            0,
        ));
    }
    for name in ["justify_hours", "justify_days", "justify_interval"] {
        cases.push(function(name, &[Interval], &[values::of(&Interval)], 12));
    }
    agree(cases).await;
}
