//! Equality, order, keys and text.

use std::cmp::Ordering;

use super::{ask, database, values};
use crate::expression::{Collation, Datum, Ty, builtin, compare, equal};
use values::{Value, sql};

const SYMBOLS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

fn holds(symbol: &str, order: Ordering) -> bool {
    match symbol {
        "=" => order.is_eq(),
        "<>" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    }
}

/// Text order is asked under `C`, the one that is known.
fn collated(ty: &Ty) -> &'static str {
    let element = match ty {
        Ty::Array(element) => element,
        other => other,
    };
    match element {
        Ty::Text | Ty::Varchar | Ty::Bpchar | Ty::Name => " COLLATE \"C\"",
        _ => "",
    }
}

#[tokio::test]
async fn values_compare_as_in_postgres() {
    let db = database().await;
    let types = values::all();
    let (mut expressions, mut answers) = (Vec::new(), Vec::new());
    for (left, right) in types
        .iter()
        .flat_map(|left| types.iter().map(move |right| (left, right)))
    {
        let Some(comparable) = builtin::comparable(left, right, &Collation::C) else {
            continue;
        };
        for pair in values::combinations(&[left.clone(), right.clone()]) {
            let [Value { datum: Some(a), .. }, Value { datum: Some(b), .. }] = &pair[..] else {
                continue;
            };
            let order = compare(a, b).unwrap_or_else(|stop| panic!("{left:?} {right:?}: {stop:?}"));
            assert_eq!(equal(a, b), Ok(order.is_eq()));
            let known = if comparable.ordered {
                &SYMBOLS[..]
            } else {
                &SYMBOLS[..2]
            };
            // Each pair by the symbols in turn.
            let symbol = known[expressions.len() % known.len()];
            let (a_text, b_text, collated) = (pair[0].literal(), pair[1].literal(), collated(left));
            expressions.push(format!("{a_text}{collated} {symbol} {b_text}"));
            answers.push(holds(symbol, order));
            expressions.push(format!("{a_text}{collated} = {b_text}"));
            answers.push(order.is_eq());
            assert!(comparable.keyed);
            let (a_key, b_key) = (a.key(left).expect("a key"), b.key(right).expect("a key"));
            assert_eq!(a_key == b_key, order.is_eq(), "{a_text} and {b_text}");
        }
    }
    assert!(answers.len() > 5000, "{} comparisons", answers.len());
    let expected = ask(&db, "answer", &expressions).await;
    for ((expression, ours), theirs) in expressions.iter().zip(answers).zip(expected) {
        assert_eq!(
            theirs.as_deref(),
            Some(if ours { "=t" } else { "=f" }),
            "{expression}"
        );
    }
}

/// Also dates with times of day, whose ranges differ, and the infinities.
#[tokio::test]
async fn dates_compare_with_timestamps_as_in_postgres() {
    let db = database().await;
    let day = 86_400_000_000_i64;
    let mut values: Vec<(Datum, String)> = [
        0,
        1,
        -1,
        8766,
        -2_451_507,
        107_000_000,
        106_751_991,
        i32::MAX,
        i32::MIN,
    ]
    .map(|days| match days {
        i32::MAX => (Datum::Date(days), "'infinity'::date".into()),
        i32::MIN => (Datum::Date(days), "'-infinity'::date".into()),
        _ => (Datum::Date(days), format!("('2000-01-01'::date + {days})")),
    })
    .to_vec();
    for micros in [
        0,
        1,
        day - 1,
        day,
        -day,
        8766 * day,
        9_223_371_331_199_999_999,
        i64::MAX,
        i64::MIN,
    ] {
        for ty in ["timestamp", "timestamptz"] {
            let sql = match micros {
                i64::MAX => format!("'infinity'::{ty}"),
                i64::MIN => format!("'-infinity'::{ty}"),
                // An interval's text is read as a double, which would round a long number of microseconds.
                _ => format!(
                    "('2000-01-01'::{ty} + make_interval(days => {}) + interval '{} microseconds')",
                    micros.div_euclid(day),
                    micros.rem_euclid(day)
                ),
            };
            values.push((Datum::Timestamp(micros), sql));
        }
    }
    db.batch_execute("SET TimeZone = 'UTC'").await.expect("set");
    let (mut expressions, mut answers) = (Vec::new(), Vec::new());
    for ((left, left_sql), (right, right_sql)) in values
        .iter()
        .flat_map(|left| values.iter().map(move |right| (left, right)))
    {
        let order = compare(left, right).expect("known");
        for symbol in SYMBOLS {
            expressions.push(format!("{left_sql} {symbol} {right_sql}"));
            answers.push(holds(symbol, order));
        }
    }
    let expected = ask(&db, "answer", &expressions).await;
    for ((expression, ours), theirs) in expressions.iter().zip(answers).zip(expected) {
        assert_eq!(
            theirs.as_deref(),
            Some(if ours { "=t" } else { "=f" }),
            "{expression}"
        );
    }
}

/// Exactly the pairs of types that `pg_operator` has an `=` for are comparable. `cidr` is compared as `inet`.
#[tokio::test]
async fn pairs_that_compare_are_those_of_the_catalog() {
    let db = database().await;
    let mut types = values::all();
    types.retain(|ty| !matches!(ty, Ty::Array(_) | Ty::Enum(_) | Ty::Cidr));
    types.extend([
        Ty::Date,
        Ty::Time,
        Ty::Timestamp,
        Ty::Timestamptz,
        Ty::Interval,
        Ty::Json,
        Ty::Jsonb,
    ]);
    for (left, right) in types
        .iter()
        .flat_map(|left| types.iter().map(move |right| (left, right)))
    {
        let query = format!(
            "SELECT FROM pg_operator WHERE oprname = '=' AND oprleft = '{}'::regtype AND oprright = '{}'::regtype",
            sql(left),
            sql(right)
        );
        let exists = !db.query(&query, &[]).await.expect("operators").is_empty();
        let known = builtin::comparable(left, right, &Collation::Default).is_some();
        assert_eq!(exists, known, "{left:?} = {right:?}");
    }
}

#[test]
fn text_that_may_be_equal_in_other_bytes_does_not_compare() {
    let texts = Ty::Array(Box::new(Ty::Text));
    for ty in [Ty::Text, Ty::Bpchar, texts] {
        assert!(builtin::comparable(&ty, &ty, &Collation::Nondeterministic).is_none());
        let default = builtin::comparable(&ty, &ty, &Collation::Default).expect("equality");
        assert!(!default.ordered && default.keyed);
    }
}

/// What Postgres prints is read, and printed the same.
#[tokio::test]
async fn values_are_read_and_printed_as_postgres_does() {
    let db = database().await;
    for ty in values::all() {
        let values = values::of(&ty);
        let expressions: Vec<String> = values.iter().map(Value::literal).collect();
        for (value, theirs) in values.iter().zip(ask(&db, "answer", &expressions).await) {
            let text = theirs.as_deref().and_then(|text| text.strip_prefix('='));
            assert_eq!(
                value.text, text,
                "{ty:?}: the list of values is to be in output form"
            );
            let printed = value
                .datum
                .as_ref()
                .map(|datum| datum.print(&ty).expect("printed"));
            assert_eq!(printed.as_deref(), text, "{ty:?}");
        }
    }
}

#[test]
fn nothing_but_the_output_form_is_read() {
    for (ty, text) in [
        (Ty::Bool, "true"),
        (Ty::Int4, "2147483648"),
        (Ty::Int4, "+1"),
        (Ty::Int4, ""),
        (Ty::Int2, "40000"),
        (Ty::Oid, "-1"),
        (Ty::Float8, "1e999"),
        (Ty::Float8, "inf"),
        (Ty::Float8, "0x1"),
        (Ty::Bytea, "abc"),
        (Ty::Bytea, "\\x0"),
        (Ty::Uuid, "a0eebc999c0b4ef8bb6d6bb9bd380a11"),
        (Ty::Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g"),
        (Ty::Inet, "10"),
        (Ty::Inet, "10.0.0.1/33"),
        (Ty::Inet, "10.0.0.1/+8"),
    ] {
        assert!(Datum::parse(text, &ty).is_err(), "{ty:?} {text}");
    }
}
