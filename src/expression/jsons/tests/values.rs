//! What is tried.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::expression::Ty;
use crate::expression::probe::{Argument, argument, arguments, random_text};

pub(super) const SEED: u64 = 20_260_301;

pub(super) const VALUES: [&str; 78] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0",
    "0.00",
    "1",
    "1.0",
    "1.50",
    "1e2",
    "1E+2",
    "1.5e1",
    "1e-5",
    "-1.10",
    "12345678901234567890123456789.123456789",
    "1e30",
    "2.5",
    "-2.5",
    "32767.5",
    "2147483647.4",
    "9223372036854775807.5",
    "9223372036854775807",
    "1e-400",
    "1e400",
    "1e39",
    "1e-50",
    "3.4028235e38",
    "3.4028236e38",
    "1.7976931348623157e308",
    "0.1",
    "16777217",
    r#""""#,
    r#""a""#,
    r#""b""#,
    r#""1""#,
    r#""é\u00e9😀\ud83d\ude00""#,
    r#""\b\f\n\r\t\"\\\/\u001f\u007f""#,
    r#""null""#,
    "[]",
    "{}",
    "[[]]",
    "[{}]",
    r#"{"a": {}}"#,
    r#"{"a": []}"#,
    "[null]",
    "[1]",
    "[1.0]",
    "[1, 1]",
    "[0, 1]",
    r#"["a"]"#,
    r#"["a", "b", "a"]"#,
    r#"["b", 1, null, true, {"a": 1}]"#,
    r#"[[1, 2], [3]]"#,
    r#"[[1, 2, 3], "a"]"#,
    r#"[{"a": 1, "b": 2}, {"a": 2}]"#,
    r#"[{"a": 1}]"#,
    r#"{"a": 1}"#,
    r#"{"a": 1.0}"#,
    r#"{"a": null}"#,
    r#"{"b": 1}"#,
    r#"{"a": "1", "b": 2}"#,
    r#"{"b": 1, "a": 2, "aa": 3, "": 4}"#,
    r#"{"a": 1, "a": 2}"#,
    r#"{"a": {"b": 1}, "a": {"c": 2}}"#,
    r#"{"a": {"b": 1}, "a": 5}"#,
    r#"{"a": {"b": "x"}, "a": {"b": null}}"#,
    r#"{"a": [1, 2, {"b": [3]}], "b": "a"}"#,
    r#"{"a": {"b": {"c": [1, {"a": "deep"}]}}}"#,
    r#"{"é": "ü", "\u0061": 1}"#,
    r#"{"0": "zero", "-1": "x", "1": [0]}"#,
    " {\"a\" :\t[ 1 ,\n2 ] , \"b\":{ } } ",
    " [ \"a\" , { \"b\" : 1 } , null ] ",
    r#"{"A": true, "a b": false, "\"": 0}"#,
    r#"{"role": "authenticated", "app_metadata": {"teams": ["x", "y"], "level": 3}}"#,
    r#"["authenticated", "anon"]"#,
    r#"[1, "1", true, "true", null, "null"]"#,
    r#"[[["a"]], [{"a": [{"a": 0}]}]]"#,
];

pub(super) const TEXTS: [&str; 24] = [
    "",
    "a",
    "b",
    "c",
    "A",
    "aa",
    "é",
    "1",
    "0",
    "-1",
    "-2",
    " 1",
    "\t0",
    "+1",
    "1 ",
    "1x",
    "0x1",
    "null",
    "a b",
    "\"",
    "2147483647",
    "-2147483648",
    "99999999999",
    "role",
];

pub(super) const INTS: [&str; 10] = [
    "0",
    "1",
    "2",
    "3",
    "5",
    "-1",
    "-2",
    "-3",
    "2147483647",
    "-2147483648",
];

pub(super) const PATHS: [&str; 30] = [
    "[]",
    "[null]",
    r#"[""]"#,
    r#"["a"]"#,
    r#"["b"]"#,
    r#"["0"]"#,
    r#"["-1"]"#,
    r#"["1"]"#,
    r#"["x"]"#,
    r#"["a", null]"#,
    r#"["a", "b"]"#,
    r#"["a", "c"]"#,
    r#"["a", "0"]"#,
    r#"["a", "-1"]"#,
    r#"["a", "2", "b"]"#,
    r#"["a", "2", "b", "0"]"#,
    r#"["0", "1"]"#,
    r#"["0", "a"]"#,
    r#"["1", "0"]"#,
    r#"["1", "-1"]"#,
    r#"["a", "x"]"#,
    r#"["a", " 1"]"#,
    r#"["a", "b", "c"]"#,
    r#"["a", "b", "c", "1", "a"]"#,
    r#"["app_metadata", "level"]"#,
    r#"["-3"]"#,
    r#"["9"]"#,
    r#"["-9"]"#,
    r#"["0", "0", "0"]"#,
    r#"["a", "b", null]"#,
];

pub(super) fn text_array() -> Ty {
    Ty::Array(Box::new(Ty::Text))
}

/// Random values, of few keys so that they have something in common.
pub(super) fn random_values(random: &mut StdRng, count: usize) -> Vec<String> {
    (0..count).map(|_| random_value(random, 3)).collect()
}

pub(super) fn random_value(random: &mut StdRng, depth: usize) -> String {
    const SCALARS: [&str; 12] = [
        "null",
        "true",
        "false",
        "0",
        "1",
        "1.0",
        "-2.50",
        "3e1",
        r#""a""#,
        r#""b""#,
        r#""""#,
        r#""\u00e9""#,
    ];
    const KEYS: [&str; 6] = ["a", "b", "c", "aa", "", "0"];
    let kind = if depth == 0 { 0 } else { random.random_range(0..4) };
    let length = random.random_range(0..4);
    match kind {
        0 | 1 => SCALARS[random.random_range(0..SCALARS.len())].to_owned(),
        2 => {
            let elements: Vec<_> = (0..length).map(|_| random_value(random, depth - 1)).collect();
            format!("[{}]", elements.join(", "))
        }
        _ => {
            let members: Vec<_> = (0..length)
                .map(|_| {
                    let key = KEYS[random.random_range(0..KEYS.len())];
                    format!("\"{key}\":{}", random_value(random, depth - 1))
                })
                .collect();
            format!("{{{}}}", members.join(" ,"))
        }
    }
}

/// The fixed values and random ones.
pub(super) fn values(ty: &Ty, seed: u64, count: usize) -> Vec<Argument> {
    let mut random = StdRng::seed_from_u64(SEED + seed);
    let mut all = arguments(ty, &VALUES);
    all.extend(arguments(ty, &random_values(&mut random, count)));
    all
}

pub(super) fn paths(seed: u64, count: usize) -> Vec<Argument> {
    let mut random = StdRng::seed_from_u64(SEED + seed);
    let mut all = arguments(&text_array(), &PATHS);
    for _ in 0..count {
        let length = random.random_range(1..4);
        let steps: Vec<_> = (0..length)
            .map(|_| {
                random_text(
                    &mut random,
                    &["\"a\"", "\"b\"", "\"c\"", "\"0\"", "\"1\"", "\"aa\"", "null"],
                    1,
                )
            })
            .collect();
        all.push(argument(&text_array(), &format!("[{}]", steps.join(","))));
    }
    all
}
