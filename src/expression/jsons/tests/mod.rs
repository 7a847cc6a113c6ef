//! Everything here against Postgres.

mod casts;
mod values;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::expression::probe::{Argument, Probe, argument, arguments, pairs, random_text, said, sql};
use values::{INTS, SEED, TEXTS, VALUES, paths, text_array, values};

async fn operators(
    probe: &Probe,
    symbols: &[&str],
    left: &Ty,
    right: &Ty,
    cases: &[Vec<Argument>],
    asks: usize,
) {
    for symbol in symbols {
        let builtin = operator(symbol, Some(left), right, &Collation::Default).expect(symbol);
        probe
            .declared(&format!("{symbol}({},{})", sql(left), sql(right)), &builtin)
            .await;
        let types = [left.clone(), right.clone()];
        probe
            .agree_with(&format!("a {symbol} b"), &types, cases, asks, &builtin)
            .await;
    }
}

#[tokio::test]
async fn operators_of_jsonb_answer_as_postgres() {
    let probe = Probe::new().await;
    let all = values(&Ty::Jsonb, 1, 60);
    let texts = pairs(&all, &arguments(&Ty::Text, &TEXTS));
    operators(&probe, &["->", "->>", "?", "-"], &Ty::Jsonb, &Ty::Text, &texts, 0).await;
    let ints = pairs(&all, &arguments(&Ty::Int4, &INTS));
    operators(&probe, &["->", "->>", "-"], &Ty::Jsonb, &Ty::Int4, &ints, 0).await;
    let paths = pairs(&all, &paths(2, 20));
    let symbols = ["#>", "#>>", "?|", "?&", "-", "#-"];
    operators(&probe, &symbols, &Ty::Jsonb, &text_array(), &paths, 0).await;
    let jsons = pairs(&all, &values(&Ty::Jsonb, 3, 40));
    operators(&probe, &["@>", "<@", "||"], &Ty::Jsonb, &Ty::Jsonb, &jsons, 0).await;
}

#[tokio::test]
async fn operators_of_json_answer_as_postgres() {
    let probe = Probe::new().await;
    let mut all = values(&Ty::Json, 4, 60);
    // Valid as json, but nothing that text could hold.
    let unreadable = [
        r#"{"a": "\u0000"}"#,
        r#"["\ud800"]"#,
        r#""\udc00""#,
        r#"{"\u0000": 1, "a": 2}"#,
        r#""\u0000""#,
    ];
    all.extend(arguments(&Ty::Json, &unreadable));
    let texts = pairs(&all, &arguments(&Ty::Text, &TEXTS));
    operators(&probe, &["->", "->>"], &Ty::Json, &Ty::Text, &texts, 0).await;
    let ints = pairs(&all, &arguments(&Ty::Int4, &INTS));
    operators(&probe, &["->", "->>"], &Ty::Json, &Ty::Int4, &ints, 0).await;
    let paths = pairs(&all, &paths(5, 40));
    operators(&probe, &["#>", "#>>"], &Ty::Json, &text_array(), &paths, 5).await;
}

#[tokio::test]
async fn functions_answer_as_postgres() {
    let probe = Probe::new().await;
    let unreadable = [
        r#"{"a": "\u0000"}"#,
        r#"["\ud800"]"#,
        r#""\udc00""#,
        r#""\u0000""#,
    ];
    for (name, ty) in [
        ("jsonb_typeof", Ty::Jsonb),
        ("jsonb_array_length", Ty::Jsonb),
        ("json_typeof", Ty::Json),
        ("json_array_length", Ty::Json),
    ] {
        let mut all = values(&ty, 6, 40);
        if ty == Ty::Json {
            all.extend(arguments(&ty, &unreadable));
        }
        let cases: Vec<_> = all.into_iter().map(|value| vec![value]).collect();
        let builtin = function(name, std::slice::from_ref(&ty), &Collation::Default).expect(name);
        probe.declared(&format!("{name}({})", sql(&ty)), &builtin).await;
        probe
            .agree_with(&format!("{name}(a)"), &[ty], &cases, 0, &builtin)
            .await;
    }
    for ty in [Ty::Jsonb, Ty::Json] {
        let cases = pairs(&values(&ty, 7, 40), &paths(8, 20));
        for suffix in ["", "_text"] {
            let name = format!("{}_extract_path{suffix}", sql(&ty));
            let types = [ty.clone(), text_array()];
            let builtin = function(&name, &types, &Collation::Default).expect("known");
            probe
                .declared(&format!("{name}({},text[])", sql(&ty)), &builtin)
                .await;
            let called = format!("{name}(a, VARIADIC b)");
            probe.agree_with(&called, &types, &cases, 5, &builtin).await;
            let types = [ty.clone(), Ty::Text, Ty::Text];
            let builtin = function(&name, &types, &Collation::Default).expect("known");
            let texts = arguments(&Ty::Text, &TEXTS);
            let cases = pairs(&arguments(&ty, &VALUES), &texts);
            let cases: Vec<_> = cases
                .into_iter()
                .enumerate()
                .map(|(i, mut case)| {
                    case.push(texts[i * 7 % texts.len()].clone());
                    case
                })
                .collect();
            let called = format!("{name}(a, b, c)");
            probe.agree_with(&called, &types, &cases, 20, &builtin).await;
        }
    }
    for (ty, texts) in [
        (Ty::Text, &TEXTS[..]),
        (Ty::Varchar, &["a", "\u{1}\"\\"]),
        (Ty::Bool, &["true", "false"]),
        (Ty::Int4, &INTS),
        (Ty::Jsonb, &VALUES),
    ] {
        let cases: Vec<_> = arguments(&ty, texts)
            .into_iter()
            .map(|value| vec![value])
            .collect();
        let builtin = function("to_jsonb", std::slice::from_ref(&ty), &Collation::Default).expect("known");
        probe.declared("to_jsonb(anyelement)", &builtin).await;
        probe.agree_with("to_jsonb(a)", &[ty], &cases, 0, &builtin).await;
    }
}

#[tokio::test]
async fn sets_are_those_of_postgres() {
    let probe = Probe::new().await;
    let one = |values: Vec<Argument>| values.into_iter().map(|value| vec![value]).collect::<Vec<_>>();
    let unreadable = [
        r#"{"a": "\u0000"}"#,
        r#"["\ud800"]"#,
        r#""\udc00""#,
        r#"[1, "\u0000"]"#,
        r#""\u0000""#,
        r#"{"\u0000": 1}"#,
    ];
    let mut jsons = values(&Ty::Json, 9, 60);
    jsons.extend(arguments(&Ty::Json, &unreadable));
    let mut splits = Vec::new();
    let mut random = StdRng::seed_from_u64(SEED + 10);
    let null = Argument {
        sql: None,
        datum: None,
    };
    for _ in 0..400 {
        let mut some = |longest: usize| {
            let length = random.random_range(0..=longest + 1);
            let text = random_text(&mut random, &["a", "b", ",", "é"], length.min(longest));
            if length > longest {
                null.clone()
            } else {
                argument(&Ty::Text, &text)
            }
        };
        splits.push(vec![some(6), some(2), some(1)]);
    }
    type Cases = Vec<Vec<Argument>>;
    let sets: Vec<(&str, Vec<Ty>, Cases)> = vec![
        (
            "jsonb_array_elements",
            vec![Ty::Jsonb],
            one(values(&Ty::Jsonb, 9, 60)),
        ),
        (
            "jsonb_array_elements_text",
            vec![Ty::Jsonb],
            one(values(&Ty::Jsonb, 9, 60)),
        ),
        (
            "jsonb_object_keys",
            vec![Ty::Jsonb],
            one(values(&Ty::Jsonb, 9, 60)),
        ),
        ("json_array_elements", vec![Ty::Json], one(jsons.clone())),
        ("json_array_elements_text", vec![Ty::Json], one(jsons.clone())),
        ("json_object_keys", vec![Ty::Json], one(jsons)),
        ("unnest", vec![text_array()], one(paths(11, 40))),
        (
            "string_to_table",
            vec![Ty::Text; 2],
            splits.iter().map(|s| s[..2].to_vec()).collect(),
        ),
        ("string_to_table", vec![Ty::Text; 3], splits),
    ];
    for (name, types, mut cases) in sets {
        cases.push(vec![null.clone(); types.len()]);
        let (column, rows) = set(name, &types, &Collation::Default).expect(name);
        let parameters = ["a", "b", "c"][..types.len()].join(", ");
        let expression = format!(
            "(SELECT string_agg(coalesce('=' || x::text, 'NULL'), E'\\n' ORDER BY n) FROM {name}({parameters})
              WITH ORDINALITY AS t (x, n) WHERE pg_typeof(x) = '{}'::regtype)",
            sql(&column)
        );
        let ours = |datums: &[Option<Datum>]| match rows(datums) {
            Err(stop) => said(Err(stop)),
            Ok(rows) if rows.is_empty() => "NULL".into(),
            Ok(rows) => {
                let rows: Vec<_> = rows.into_iter().map(|row| said(Ok(row))).collect();
                format!("={}", rows.join("\n"))
            }
        };
        probe.agree(&expression, &types, &cases, 0, ours).await;
    }
}

#[tokio::test]
async fn jsonb_compares_as_in_postgres() {
    let probe = Probe::new().await;
    let cases = pairs(&values(&Ty::Jsonb, 15, 80), &values(&Ty::Jsonb, 16, 80));
    let both = |datums: &[Option<Datum>]| match datums {
        [Some(Datum::Jsonb(a)), Some(Datum::Jsonb(b))] => (Arc::clone(a), Arc::clone(b)),
        other => panic!("{other:?}"),
    };
    let types = [Ty::Jsonb, Ty::Jsonb];
    let order = "(a > b)::int - (a < b)::int";
    probe
        .agree(order, &types, &cases, 5, |datums| {
            let (a, b) = both(datums);
            said(json::compare(&a, &b).map(|order| Some(Datum::Int(order as i64))))
        })
        .await;
    probe
        .agree("a = b", &types, &cases, 0, |datums| {
            let (a, b) = both(datums);
            said(truth(json::equal(&a, &b)))
        })
        .await;
    probe
        .agree("a = b", &types, &cases, 0, |datums| {
            let (a, b) = both(datums);
            said(truth(
                json::key(&a).expect("a key") == json::key(&b).expect("a key"),
            ))
        })
        .await;
}

#[test]
fn deep_and_long_values_are_asked() {
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    assert!(matches!(json::parse(&deep(100_000)), Err(Stop::Ask(_))));
    assert!(matches!(
        json::validate(&deep(100_000), json::Escapes::Keep),
        Err(Stop::Ask(_))
    ));
    let json = json::parse(&deep(250)).expect("not too deep");
    assert_eq!(json::print(&json).expect("printed"), deep(250));
    let opened = "{\"a\":".repeat(100_000);
    assert!(matches!(json::parse(&opened), Err(Stop::Ask(_))));
    let long = format!("\"{}\"", "x".repeat(17 << 20));
    assert!(matches!(json::parse(&long), Err(Stop::Ask(_))));
    assert!(matches!(json::parse("1e1001"), Err(Stop::Ask(_))));
    let many = |of: &str| json::parse(&format!("[{}]", vec![of; 3000].join(","))).expect("json");
    assert!(matches!(contains::contains(&many("1"), &many("2")), Ok(false)));
    assert!(matches!(contains::contains(&many("[1]"), &many("[1]")), Ok(true)));
    assert!(matches!(
        contains::contains(&many("[1, 2]"), &json::parse("[[2, 1], [3]]").expect("json")),
        Ok(false)
    ));
    let mixed = json::parse(&format!("[{}, 2]", vec!["1"; 3000].join(","))).expect("json");
    assert!(matches!(
        contains::contains(&mixed, &many("2")),
        Err(Stop::Ask(_))
    ));
    assert!(contains::existing(&many("1"), vec![Some("a"); 3000]).is_err());
    assert!(matches!(
        json::parse("1e-99999999999999999999"),
        Err(Stop::Ask(_))
    ));
}

#[test]
fn a_path_of_two_dimensions_is_refused_where_postgres_refuses_it() {
    let array = two_dimensions();
    let json: Arc<Json> = json::parse("{}").expect("json").into();
    for (symbol, expected) in [
        ("#-", "!2202E"),
        ("-", "!2202E"),
        ("#>", "NULL"),
        ("?|", "=false"),
    ] {
        let builtin = operator(symbol, Some(&Ty::Jsonb), &text_array(), &Collation::Default).expect(symbol);
        let datums = [Some(Datum::Jsonb(Arc::clone(&json))), Some(array.clone())];
        assert_eq!(said((builtin.call)(&datums)), expected, "{symbol}");
    }
}

/// `{{a},{b}}`
fn two_dimensions() -> Datum {
    let elements = ["a", "b"].map(|text| Some(Datum::Text(text.into()))).to_vec();
    Datum::Array(Arc::new(crate::expression::Array {
        dimensions: vec![(2, 1), (1, 1)],
        elements,
    }))
}
