//! Operators, functions and casts.

use super::{Trial, ask, database, ours, values};
use crate::expression::{Collation, Datum, Ty, builtin};
use values::sql;

const SYMBOLS: [&str; 17] = [
    "+", "-", "*", "/", "%", "&", "|", "#", "~", "@", "<<", ">>", "<<=", ">>=", "&&", "||", "@>",
];

#[tokio::test]
async fn operators_answer_as_postgres_does() {
    let db = database().await;
    let mut trial = Trial::default();
    let types = values::all();
    for symbol in SYMBOLS.into_iter().chain(["<@"]) {
        for right in &types {
            if let Some(builtin) = super::super::operator(symbol, None, right, &Collation::C) {
                trial.add(&builtin, std::slice::from_ref(right), |a| {
                    format!("{symbol} ({})", a[0])
                });
            }
            for left in &types {
                if let Some(builtin) = super::super::operator(symbol, Some(left), right, &Collation::C) {
                    let arguments = [left.clone(), right.clone()];
                    trial.add(&builtin, &arguments, |a| {
                        format!("({}) {symbol} ({})", a[0], a[1])
                    });
                }
            }
        }
    }
    assert!(trial.folding.len() > 100, "{} operators", trial.folding.len());
    trial.run(&db, 6).await;
}

#[tokio::test]
async fn functions_answer_as_postgres_does() {
    const NAMES: [&str; 24] = [
        "family",
        "masklen",
        "host",
        "network",
        "abs",
        "ceil",
        "ceiling",
        "floor",
        "round",
        "trunc",
        "sign",
        "mod",
        "div",
        "array_cat",
        "array_append",
        "array_prepend",
        "array_remove",
        "array_position",
        "array_length",
        "array_lower",
        "array_upper",
        "array_ndims",
        "cardinality",
        "array_dims",
    ];
    let db = database().await;
    let mut trial = Trial::default();
    let types = values::all();
    let mut chosen: Vec<Vec<Ty>> = types.iter().map(|ty| vec![ty.clone()]).collect();
    chosen.extend(
        types
            .iter()
            .flat_map(|left| types.iter().map(move |right| vec![left.clone(), right.clone()])),
    );
    for name in NAMES {
        for arguments in &chosen {
            if let Some(builtin) = super::super::function(name, arguments, &Collation::C) {
                trial.add(&builtin, arguments, |a| format!("{name}({})", a.join(", ")));
            }
        }
    }
    for element in [Ty::Float8, Ty::Bool, Ty::Int4] {
        for texts in 1..=2 {
            let arguments = [vec![Ty::Array(Box::new(element.clone()))], vec![Ty::Text; texts]].concat();
            let builtin =
                super::super::function("array_to_string", &arguments, &Collation::C).expect("known");
            let some = values::combinations(&arguments)
                .into_iter()
                .step_by(97 * texts - 90);
            trial.add_some(&builtin, &arguments, some, |a| {
                format!("array_to_string({})", a.join(", "))
            });
        }
    }
    assert!(trial.folding.len() > 80, "{} functions", trial.folding.len());
    trial.run(&db, 6).await;
}

#[tokio::test]
async fn casts_answer_as_postgres_does() {
    let db = database().await;
    let (mut sure, mut reading, mut rare) = (Trial::default(), Trial::default(), Trial::default());
    let types = values::all();
    for (from, to) in types
        .iter()
        .flat_map(|from| types.iter().map(move |to| (from, to)))
    {
        for modifiers in [&[][..], &[3], &[12], &[5, 2], &[3, 5], &[4, -2], &[30, 10]] {
            let Some(builtin) = builtin::cast(from, to, modifiers) else {
                continue;
            };
            let written: Vec<String> = modifiers.iter().map(ToString::to_string).collect();
            let element = match to {
                Ty::Array(element) => element,
                other => other,
            };
            let mut name = sql(element);
            if !written.is_empty() {
                name = format!("{name}({})", written.join(","));
            }
            if element != to {
                name.push_str("[]");
            }
            let textual = matches!(from, Ty::Text | Ty::Varchar | Ty::Bpchar | Ty::Name);
            // Most texts are none of these, and only those in output form are read.
            let strict = matches!(to, Ty::Array(_) | Ty::Enum(_) | Ty::Inet | Ty::Cidr);
            let trial = match (textual, strict) {
                (false, _) => &mut sure,
                (true, false) => &mut reading,
                (true, true) => &mut rare,
            };
            trial.add(&builtin, std::slice::from_ref(from), |a| {
                format!("({})::{name}", a[0])
            });
        }
    }
    assert!(sure.folding.len() > 200, "{} casts", sure.folding.len());
    sure.run(&db, 6).await;
    reading.run(&db, 12).await;
    rare.run(&db, 97).await;
}

/// What `pg_cast` knows among these types is known here.
#[tokio::test]
async fn no_cast_is_forgotten() {
    let db = database().await;
    let types = values::all();
    let pairs: Vec<(&Ty, &Ty)> = types
        .iter()
        .flat_map(|from| types.iter().map(move |to| (from, to)))
        .collect();
    let expressions: Vec<String> = pairs
        .iter()
        .map(|(from, to)| format!("NULL::{}::{}", sql(from), sql(to)))
        .collect();
    for ((from, to), answer) in pairs.into_iter().zip(ask(&db, "answer", &expressions).await) {
        let (exists, known) = (answer.is_none(), builtin::cast(from, to, &[]).is_some());
        assert_eq!(exists, known, "{from:?} to {to:?}");
    }
}

/// Floats of any bits print the same digits.
#[tokio::test]
async fn floats_print_as_postgres_prints_them() {
    let db = database().await;
    let mut expressions = Vec::new();
    let mut answers = Vec::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..6000_u64 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Any bits, then numbers near powers of two and ten, where the shortest digits are disputed.
        let value = match round % 3 {
            0 => f64::from_bits(state),
            1 => {
                2f64.powi(i32::try_from(state >> 53).expect("small") - 1040)
                    * (1.0 + f64::EPSILON * (round % 5) as f64)
            }
            _ => 10f64.powi(i32::try_from(state >> 55).expect("small") - 256) * (round % 7) as f64,
        };
        if !value.is_finite() {
            continue;
        }
        expressions.push(format!("'{value:e}'::float8"));
        answers.push(Datum::Float8(value).print(&Ty::Float8).ok());
        let narrow = value as f32;
        if narrow.is_finite() && (narrow != 0.0 || value == 0.0) {
            expressions.push(format!("'{narrow:e}'::float4"));
            answers.push(Datum::Float4(narrow).print(&Ty::Float4).ok());
        }
    }
    let expected = ask(&db, "answer", &expressions).await;
    let left = answers.iter().filter(|answer| answer.is_none()).count();
    for ((expression, ours), theirs) in expressions.iter().zip(answers).zip(expected) {
        if let Some(ours) = ours {
            assert_eq!(Some(format!("={ours}")), theirs, "{expression}");
        }
    }
    assert!(
        left * 50 < expressions.len(),
        "{left} of {} left to Postgres",
        expressions.len()
    );
}

/// Arithmetic on numbers of any length and scale.
#[tokio::test]
async fn numerics_are_computed_as_postgres_computes_them() {
    let db = database().await;
    let mut trial = Trial::default();
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut number = || {
        let sign = if random(3) == 0 { "-" } else { "" };
        let digits = |count: u64, random: &mut dyn FnMut(u64) -> u64| -> String {
            (0..count)
                .map(|_| char::from(b"0123456789990"[usize::try_from(random(13)).expect("small")]))
                .collect()
        };
        let (whole, fraction) = (random(22), random(14));
        let (whole, fraction) = (digits(whole, &mut random), digits(fraction, &mut random));
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let text = if fraction.is_empty() {
            format!("{sign}{whole}")
        } else {
            format!("{sign}{whole}.{fraction}")
        };
        let datum = Datum::parse(&text, &Ty::Numeric).expect("a number");
        (text, datum)
    };
    for round in 0..4000 {
        let symbol = ["+", "-", "*", "/", "%"][round % 5];
        let builtin =
            super::super::operator(symbol, Some(&Ty::Numeric), &Ty::Numeric, &Collation::C).expect("known");
        let ((left, left_datum), (right, right_datum)) = (number(), number());
        trial
            .expressions
            .push(format!("'{left}'::numeric {symbol} '{right}'::numeric"));
        trial.answers.push(ours(
            &builtin,
            &[
                values::Value::numeric(left_datum),
                values::Value::numeric(right_datum),
            ],
        ));
    }
    trial.run(&db, 0).await;
}
