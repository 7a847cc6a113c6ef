//! Everything here against Postgres.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::expression::probe::{Argument, Probe, argument, random_text, sql};

const SEED: u64 = 20_260_302;

/// Random pairs of a text and a pattern of up to so many pieces.
fn cases(
    seed: u64,
    count: usize,
    left: &Ty,
    texts: (&[&str], usize),
    patterns: (&[&str], usize),
) -> Vec<Vec<Argument>> {
    let mut random = StdRng::seed_from_u64(SEED + seed);
    let mut some = |ty: &Ty, (pieces, longest): (&[&str], usize)| {
        let length = random.random_range(0..=longest);
        argument(ty, &random_text(&mut random, pieces, length))
    };
    (0..count)
        .map(|_| vec![some(left, texts), some(&Ty::Text, patterns)])
        .collect()
}

async fn agree(
    probe: &Probe,
    symbols: &[&str],
    left: &Ty,
    (collate, collation): (&str, &Collation),
    cases: &[Vec<Argument>],
    asks: usize,
) {
    for symbol in symbols {
        let builtin = operator(symbol, Some(left), &Ty::Text, collation).expect(symbol);
        probe
            .declared(&format!("{symbol}({},text)", sql(left)), &builtin)
            .await;
        let collate = if collate.is_empty() {
            String::new()
        } else {
            format!("COLLATE \"{collate}\"")
        };
        let expression = format!("a {symbol} b {collate}");
        probe
            .agree_with(&expression, &[left.clone(), Ty::Text], cases, asks, &builtin)
            .await;
    }
}

/// Collations of all kinds. Under the first, letters beyond ASCII are no letters; some of the rest are Turkic.
fn collations() -> Vec<(&'static str, Collation)> {
    let named = |name: &'static str| (name, Collation::Named(format!("pg_catalog.{name}").into()));
    vec![
        ("C", Collation::C),
        ("", Collation::Default),
        named("en-x-icu"),
        named("tr-x-icu"),
        named("az-x-icu"),
        named("lt-x-icu"),
    ]
}

const LIKE_TEXT: (&[&str], usize) = (&["a", "b", "%", "_", "\\", "é", "ê", "😀"], 7);
const LIKE_PATTERN: (&[&str], usize) = (&["a", "b", "%", "%", "_", "_", "\\", "\\%", "é", "ê", "😀"], 6);

#[tokio::test]
async fn like_matches_as_in_postgres() {
    let probe = Probe::new().await;
    for (seed, left) in [Ty::Text, Ty::Bpchar, Ty::Name].into_iter().enumerate() {
        let cases = cases(seed as u64, 6000, &left, LIKE_TEXT, LIKE_PATTERN);
        let default = ("", &Collation::Default);
        agree(&probe, &["~~", "!~~"], &left, default, &cases, 0).await;
    }
    let cases = cases(5, 3000, &Ty::Text, LIKE_TEXT, LIKE_PATTERN);
    for (name, collation) in collations() {
        agree(&probe, &["~~"], &Ty::Text, (name, &collation), &cases, 0).await;
    }
}

#[tokio::test]
async fn ilike_matches_as_in_postgres() {
    let probe = Probe::new().await;
    let ascii = (&["a", "A", "b", "B", "i", "I", "%", "_", "\\", "k"][..], 6);
    for (name, collation) in collations() {
        for (seed, left) in [Ty::Text, Ty::Bpchar, Ty::Name].into_iter().enumerate() {
            let cases = cases(10 + seed as u64, 2000, &left, ascii, ascii);
            let symbols = ["~~*", "!~~*"];
            agree(&probe, &symbols, &left, (name, &collation), &cases, 15).await;
        }
        let wide = (
            &["a", "A", "i", "I", "ı", "İ", "é", "É", "K", "k", "%", "_"][..],
            5,
        );
        let cases = cases(20, 2000, &Ty::Text, wide, wide);
        let asks = if collation == Collation::C { 0 } else { 99 };
        agree(&probe, &["~~*"], &Ty::Text, (name, &collation), &cases, asks).await;
    }
}

#[tokio::test]
async fn escapes_of_patterns_are_replaced_as_in_postgres() {
    let probe = Probe::new().await;
    let escapes = (&["a", "\\", "é", "%"][..], 2);
    let cases = cases(30, 4000, &Ty::Text, LIKE_TEXT, escapes);
    let builtin = function("like_escape", &[Ty::Text, Ty::Text], &Collation::Default).expect("known");
    probe.declared("like_escape(text,text)", &builtin).await;
    probe
        .agree_with("like_escape(a, b)", &[Ty::Text, Ty::Text], &cases, 0, &builtin)
        .await;
}

const REGULAR_TEXT: (&[&str], usize) = (
    &[
        "a", "b", "A", "i", "I", "1", ".", "-", " ", "\n", "]", "_", "a", "b",
    ],
    6,
);
const WIDE_TEXT: (&[&str], usize) = (
    &[
        "a", "b", "A", "i", "I", "ı", "İ", "é", "É", "😀", "1", "٣", "\u{a0}", "\u{1c}", "\u{b}", "ſ", "K",
        "k", "s", "S",
    ],
    5,
);
const REGULAR_PATTERN: (&[&str], usize) = (
    &[
        "a",
        "b",
        "a",
        "b",
        "A",
        "i",
        "I",
        "k",
        "s",
        "1",
        ".",
        "^",
        "$",
        "|",
        "(",
        ")",
        "(?:",
        "(a|b)",
        "(a|)",
        "()",
        "[ab]",
        "[^a]",
        "[a-c]",
        "[A-K]",
        "[^i-k]",
        "[]a]",
        "[^]a]",
        "[a-]",
        "[-a]",
        "[\\d_]",
        "[\\]]",
        "[[:alpha:]]",
        "[^[:digit:]]",
        "[[:space:]]",
        "[[:upper:]]",
        "[[:lower:]b]",
        "[[:xdigit:]]",
        "[a[:alnum:]]",
        "*",
        "+",
        "?",
        "*?",
        "+?",
        "??",
        "{2}",
        "{1,2}",
        "{0}",
        "{0,1}?",
        "{1,}",
        "\\d",
        "\\w",
        "\\s",
        "\\D",
        "\\W",
        "\\S",
        "\\.",
        "\\$",
        "\\n",
        "\\_",
        "-",
        "}",
        "]",
        "é",
        "\\é",
        "\n",
        " ",
    ],
    6,
);
/// What is asked, for the most part.
const ODD_PATTERN: (&[&str], usize) = (
    &[
        "a", "b", "(", ")", "[", "]", "{", "}", "\\", "*", "+", "?", "^", "$", "|", ",", "1", "2", ":", "=",
        "!", "<", "-", ".", "#", "m", "M", "y", "Z", "A", "x", "i", "***", "(?i)",
    ],
    6,
);

#[tokio::test]
async fn regular_expressions_match_as_in_postgres() {
    let probe = Probe::new().await;
    for (seed, left) in [Ty::Text, Ty::Bpchar, Ty::Name].into_iter().enumerate() {
        let cases = cases(40 + seed as u64, 500, &left, REGULAR_TEXT, REGULAR_PATTERN);
        let default = ("", &Collation::Default);
        agree(&probe, &["~", "!~"], &left, default, &cases, 45).await;
    }
    for (name, collation) in collations() {
        let plain = cases(50, 250, &Ty::Text, REGULAR_TEXT, REGULAR_PATTERN);
        let wide = cases(51, 250, &Ty::Text, WIDE_TEXT, REGULAR_PATTERN);
        let of = (name, &collation);
        agree(&probe, &["~"], &Ty::Text, of, &plain, 45).await;
        agree(&probe, &["~*", "!~*"], &Ty::Text, of, &plain, 65).await;
        agree(&probe, &["~"], &Ty::Text, of, &wide, 75).await;
        agree(&probe, &["~*"], &Ty::Text, of, &wide, 90).await;
    }
    let odd = cases(60, 1500, &Ty::Text, REGULAR_TEXT, ODD_PATTERN);
    agree(
        &probe,
        &["~", "~*"],
        &Ty::Text,
        ("", &Collation::Default),
        &odd,
        80,
    )
    .await;
}

/// Every character of ASCII, and some beyond, against every class.
#[tokio::test]
async fn classes_hold_the_characters_that_they_hold_in_postgres() {
    let probe = Probe::new().await;
    let patterns = [
        r"\d",
        r"\w",
        r"\s",
        r"\D",
        r"\W",
        r"\S",
        "[[:alpha:]]",
        "[[:digit:]]",
        "[[:alnum:]]",
        "[[:space:]]",
        "[[:xdigit:]]",
        "[[:upper:]]",
        "[[:lower:]]",
        "[^[:space:]]",
        "[a-f]",
        "[^G-k]",
        "i",
        "I",
        "[^i]",
        "k",
        "s",
        ".",
    ];
    let characters = (1..=0x7f_u8)
        .map(char::from)
        .chain("éİıKſ٣\u{85}\u{a0}\u{2028}".chars());
    let characters: Vec<String> = characters.map(String::from).collect();
    let cases: Vec<_> = patterns
        .iter()
        .flat_map(|p| {
            characters
                .iter()
                .map(|c| vec![argument(&Ty::Text, c), argument(&Ty::Text, p)])
        })
        .collect();
    for (name, collation) in collations() {
        agree(&probe, &["~"], &Ty::Text, (name, &collation), &cases, 20).await;
        agree(&probe, &["~*"], &Ty::Text, (name, &collation), &cases, 35).await;
    }
}

/// Locales of libc that are Turkic need not be installed.
#[test]
fn the_letter_i_is_asked_where_the_collation_decides() {
    let regular = |pattern: &str, case| Regular::new(pattern, case, false).expect("known");
    for pattern in ["i", "[h-j]", "^[^i]$"] {
        assert!(
            matches!(regular(pattern, Case::Unknown).matches("I"), Err(Stop::Ask(_))),
            "{pattern}"
        );
    }
    assert_eq!(regular("i", Case::Ascii).matches("I"), Ok(true));
    assert_eq!(regular("h|i", Case::Unknown).matches("HI"), Ok(true));
    assert!(matches!(like::matches_insensitively("I", "i"), Err(Stop::Ask(_))));
    assert_eq!(like::matches_insensitively("I", "I"), Ok(true));
    assert_eq!(like::matches_insensitively("IA", "%a"), Ok(true));
}

/// Patterns as people write them are answered.
#[tokio::test]
async fn usual_patterns_are_answered() {
    let probe = Probe::new().await;
    let patterns = [
        r"^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$",
        r"^\d{3}-\d{4}$",
        r"^(public|private)/",
        r"@example\.com$",
        r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        r"^/rooms/[^/]+/messages$",
        "room:.*:[[:digit:]]+",
        "",
    ];
    let texts = [
        "a.b+c@example.com",
        "A@B",
        "555-1234",
        "public/x",
        "private",
        "x/public/",
        "0123abcd-0123-4567-89ab-0123456789ab",
        "/rooms/a b/messages",
        "/rooms//messages",
        "/rooms/ü/messages",
        "room:1:2",
        "room::x",
        "",
        "é@example.com",
    ];
    let cases: Vec<_> = texts
        .iter()
        .flat_map(|text| {
            patterns
                .iter()
                .map(|p| vec![argument(&Ty::Text, text), argument(&Ty::Text, p)])
        })
        .collect();
    agree(
        &probe,
        &["~", "!~"],
        &Ty::Text,
        ("", &Collation::Default),
        &cases,
        5,
    )
    .await;
    agree(&probe, &["~*"], &Ty::Text, ("", &Collation::Default), &cases, 20).await;
}

/// What is large and answered here is not too complex for Postgres, which would raise.
#[tokio::test]
async fn large_patterns_are_valid_for_postgres() {
    let probe = Probe::new().await;
    let nested = format!("{}a{}", "(".repeat(19), ")*".repeat(19));
    let branches = vec!["ab[0-9]+"; 100].join("|");
    let patterns = [
        r"(\w{1,250}){3}",
        "([a-z]+[0-9]?){200}",
        "(.*a){200}",
        "(a{0,30}b?){25}",
        "(((a?){7}b?){7}c?){7}",
        "([^a]{0,10}){0,80}",
        r"(\s|\w|\d){250}",
        "(a*)*(b*)*(c*){200}",
        "((a|b)+){100,}",
        &nested,
        &branches,
    ];
    let texts = ["", "a", "ab1", &"a".repeat(900), &"ab c1".repeat(60)];
    let cases: Vec<_> = texts
        .iter()
        .flat_map(|text| {
            patterns
                .iter()
                .map(|p| vec![argument(&Ty::Text, text), argument(&Ty::Text, p)])
        })
        .collect();
    agree(
        &probe,
        &["~", "~*"],
        &Ty::Text,
        ("", &Collation::Default),
        &cases,
        20,
    )
    .await;
}

#[test]
fn costly_patterns_are_asked() {
    let regular = |pattern: &str| Regular::new(pattern, Case::Exact, false);
    for pattern in [
        "(((a{200}){200}){200}){200}",
        &"(".repeat(10_000),
        &"a".repeat(5000),
        "a{256}",
        "a{2,1}",
    ] {
        assert!(matches!(regular(pattern), Err(Stop::Ask(_))), "{pattern}");
    }
    assert!(matches!(
        like::matches("a", &"%a".repeat(1000)),
        Err(Stop::Ask(_))
    ));
    let long = "a".repeat(10_000);
    assert_eq!(like::matches(&long, &("%a".repeat(60) + "%b")), Ok(false));
    let longer = "a".repeat(2 << 20);
    assert!(matches!(
        like::matches(&longer, &"a".repeat(100)),
        Err(Stop::Ask(_))
    ));
    let any = regular("a").expect("known");
    assert!(matches!(any.matches(&longer), Err(Stop::Ask(_))));
}

#[test]
fn nondeterministic_collations_are_left_to_postgres() {
    for symbol in ["~~", "~~*", "~", "~*"] {
        assert!(operator(symbol, Some(&Ty::Text), &Ty::Text, &Collation::Nondeterministic).is_none());
    }
}
