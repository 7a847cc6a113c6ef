//! Casts against Postgres.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::*;
use super::values::{SEED, VALUES, random_value, values};
use crate::expression::probe::{Argument, Probe, argument, arguments, random_text, sql};

#[tokio::test]
async fn casts_answer_as_postgres() {
    let probe = Probe::new().await;
    let mut random = StdRng::seed_from_u64(SEED + 12);
    let mut texts: Vec<String> = VALUES.iter().map(|text| (*text).to_owned()).collect();
    texts.extend(
        [
            "",
            " ",
            "nul",
            "nulll",
            "True",
            "tru",
            "01",
            "-",
            "-01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1a",
            "1_0",
            "+1",
            "NaN",
            "'a'",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            r#""\u0000""#,
            r#""\ud800""#,
            r#""\ud800\u0041""#,
            r#""\ud800x""#,
            r#""\udc00""#,
            r#""\ud800\ud800""#,
            r#""\ud83d\ude00\ud83d""#,
            r#""\ud800\u0000""#,
            r#"["\u0000" x"#,
            r#"[x "\u0000""#,
            r#"{"a" "\u0000"}"#,
            "\"\n\"",
            "\"\u{7f}\"",
            "[",
            "]",
            "[,]",
            "[1,]",
            "[1 2]",
            "{",
            "}",
            "{1: 2}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "1 2",
            "[] []",
            "\u{feff}1",
            "\u{a0}1",
            "\u{b}1",
            "\u{c}1",
            "é",
            "1é",
            "truee",
            "[truefalse]",
            "1e99999999999",
            "1e-99999999999",
            "1e5000",
            "1e-5000",
            "{\"a\":{\"a\":{\"a\":[[[1]]]}}}",
        ]
        .map(str::to_owned),
    );
    for _ in 0..4000 {
        let mut text = random_value(&mut random, 3);
        for _ in 0..random.random_range(0..3) {
            let at = random.random_range(0..=text.len());
            if !text.is_char_boundary(at) {
                continue;
            }
            if random.random_bool(0.4) && at < text.len() {
                text.remove(at);
            } else {
                let piece = random_text(
                    &mut random,
                    &[
                        "\"", "\\", "{", "}", "[", "]", ",", ":", "0", "e", "-", ".", " ", "u", "\t",
                    ],
                    1,
                );
                text.insert_str(at, &piece);
            }
        }
        texts.push(text);
    }
    let one = |ty: &Ty, texts: &[String]| -> Vec<Vec<Argument>> {
        arguments(ty, texts)
            .into_iter()
            .map(|value| vec![value])
            .collect()
    };
    let cases = one(&Ty::Text, &texts);
    for to in [Ty::Json, Ty::Jsonb] {
        casts(&probe, &Ty::Text, &to, &cases, 1).await;
    }
    for from in [Ty::Varchar, Ty::Bpchar] {
        let cases = one(&from, &texts[..200]);
        for to in [Ty::Json, Ty::Jsonb] {
            casts(&probe, &from, &to, &cases, 5).await;
        }
    }
    let unreadable = [r#"{"a": "\u0000"}"#, r#"["\ud800"]"#, r#""\udc00""#];
    let mut jsons = values(&Ty::Json, 13, 100);
    jsons.extend(arguments(&Ty::Json, &unreadable));
    let jsons: Vec<_> = jsons.into_iter().map(|value| vec![value]).collect();
    for to in [Ty::Text, Ty::Varchar, Ty::Jsonb] {
        casts(&probe, &Ty::Json, &to, &jsons, 0).await;
    }
    let mut jsonbs = values(&Ty::Jsonb, 14, 100);
    for _ in 0..1000 {
        let digits = random.random_range(-99_999_999_999_i64..99_999_999_999);
        let exponent = random.random_range(-60..45);
        jsonbs.push(argument(&Ty::Jsonb, &format!("{digits}e{exponent}")));
    }
    let jsonbs: Vec<_> = jsonbs.into_iter().map(|value| vec![value]).collect();
    for to in [
        Ty::Text,
        Ty::Varchar,
        Ty::Json,
        Ty::Bool,
        Ty::Int2,
        Ty::Int4,
        Ty::Int8,
        Ty::Numeric,
        Ty::Float4,
        Ty::Float8,
    ] {
        casts(&probe, &Ty::Jsonb, &to, &jsonbs, 5).await;
    }
}

#[tokio::test]
async fn casts_to_narrower_types_answer_as_postgres() {
    let probe = Probe::new().await;
    let all: Vec<_> = values(&Ty::Jsonb, 17, 20)
        .into_iter()
        .map(|value| vec![value])
        .collect();
    let builtin = cast(&Ty::Jsonb, &Ty::Numeric, &[4, 1]).expect("known");
    probe
        .agree_with("a::numeric(4,1)", &[Ty::Jsonb], &all, 20, &builtin)
        .await;
}

async fn casts(probe: &Probe, from: &Ty, to: &Ty, cases: &[Vec<Argument>], asks: usize) {
    let builtin = cast(from, to, &[]).expect("known");
    // Immutable if the function of the cast is, or both of those that go through text.
    let query = format!(
        "SELECT bool_and(p.provolatile = 'i') FROM pg_type f, pg_type t, pg_proc p
         WHERE f.oid = '{}'::regtype AND t.oid = '{}'::regtype AND p.oid = ANY (coalesce(
            (SELECT ARRAY[castfunc] FROM pg_cast WHERE castsource = f.oid AND casttarget = t.oid AND castmethod = 'f'),
            ARRAY[f.typoutput::oid, t.typinput::oid]))",
        sql(from),
        sql(to)
    );
    let immutable: bool = probe.db.query_one(&query, &[]).await.expect("a row").get(0);
    assert_eq!(builtin.immutable, immutable, "{from:?}::{to:?}");
    let expression = format!("a::{}", sql(to));
    probe
        .agree_with(&expression, std::slice::from_ref(from), cases, asks, &builtin)
        .await;
}
