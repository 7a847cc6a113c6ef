//! Text and bytes.

use super::super::{Collation, Ty, cast, texts};
use super::values::{self, Value, value};
use super::{Case, Kind, agree};
use Ty::{Bpchar, Bytea, Int4, Name, Text, Varchar};

fn function(name: &'static str, types: &[Ty], columns: &[Vec<Value>], may_ask: usize) -> Case {
    collated(name, types, columns, &Collation::Default, may_ask)
}

fn collated(
    name: &'static str,
    types: &[Ty],
    columns: &[Vec<Value>],
    collation: &Collation,
    may_ask: usize,
) -> Case {
    let mut parameters: Vec<String> = (1..=types.len()).map(|at| format!("${at}")).collect();
    if *collation == Collation::C {
        parameters[0] += " COLLATE \"C\"";
    }
    let variadic = matches!(name, "concat" | "concat_ws" | "array_to_string");
    let builtin = texts::function(name, types, collation);
    Case {
        builtin: builtin.unwrap_or_else(|| panic!("{name} of {types:?} is not known")),
        kind: if variadic {
            Kind::Lenient(false)
        } else {
            Kind::Function(name)
        },
        types: types.to_vec(),
        sql: format!("pg_catalog.\"{name}\"({})", parameters.join(", ")),
        rows: values::rows(columns),
        may_ask,
    }
}

/// Of all values of its types.
fn on_all(name: &'static str, types: &[Ty], may_ask: usize) -> Case {
    let columns: Vec<Vec<Value>> = types.iter().map(values::of).collect();
    function(name, types, &columns, may_ask)
}

/// Numbers around the lengths of the texts.
fn counts() -> Vec<Value> {
    (-5..7)
        .map(|count: i32| count.to_string())
        .chain(["12", "2147483647", "-2147483648", "-2147483647", "1000"].map(str::to_owned))
        .map(|count| value(&Int4, &count))
        .collect()
}

#[tokio::test]
async fn functions_on_text() {
    let all = || values::of(&Text);
    let mut cases = Vec::new();
    for name in ["length", "char_length", "character_length"] {
        cases.push(on_all(name, &[Text], 0));
        cases.push(on_all(name, &[Bpchar], 0));
    }
    for ty in [Text, Bpchar, Bytea] {
        cases.push(on_all("octet_length", &[ty], 0));
    }
    for name in ["bit_length", "reverse", "btrim", "ltrim", "rtrim", "ascii", "md5"] {
        cases.push(on_all(name, &[Text], 0));
    }
    for name in ["btrim", "ltrim", "rtrim", "strpos", "position", "starts_with"] {
        cases.push(on_all(name, &[Text, Text], 0));
    }
    for name in ["left", "right", "substr", "substring", "lpad", "rpad"] {
        cases.push(function(name, &[Text, Int4], &[all(), counts()], 10));
    }
    cases.push(function("repeat", &[Text, Int4], &[all(), counts()], 10));
    for name in ["substr", "substring"] {
        cases.push(function(
            name,
            &[Text, Int4, Int4],
            &[all(), counts(), counts()],
            0,
        ));
    }
    for name in ["lpad", "rpad"] {
        cases.push(function(name, &[Text, Int4, Text], &[all(), counts(), all()], 10));
    }
    cases.push(function(
        "split_part",
        &[Text, Text, Int4],
        &[all(), all(), counts()],
        0,
    ));
    let parts = ["aXbXXc", "a,b,c", ",a,,b,", "aaa", "日本語日"].map(|text| value(&Text, text));
    let separators = ["X", "XX", ",", "a", "aa", "", "日", ",,"].map(|text| value(&Text, text));
    let columns = [parts.to_vec(), separators.to_vec(), counts()];
    cases.push(function("split_part", &[Text, Text, Int4], &columns, 0));
    for name in ["replace", "translate"] {
        let columns = [parts.to_vec(), separators.to_vec(), all()];
        cases.push(function(name, &[Text, Text, Text], &columns, 0));
        cases.push(on_all(name, &[Text, Text, Text], 0));
    }
    let numbers = [
        "1", "65", "127", "128", "255", "256", "8364", "128077", "1114111", "1114112", "55296", "0", "-1",
    ];
    let numbers = numbers.map(|number| value(&Int4, number)).to_vec();
    cases.push(function("chr", &[Int4], &[numbers], 35));
    agree(cases).await;
}

#[tokio::test]
async fn case_of_letters() {
    let all = || vec![values::of(&Text)];
    let mut cases = vec![on_all("lower", &[Text], 50), on_all("upper", &[Text], 50)];
    for name in ["lower", "upper", "initcap"] {
        cases.push(collated(name, &[Text], &all(), &Collation::C, 0));
    }
    agree(cases).await;
    assert!(texts::function("initcap", &[Text], &Collation::Default).is_none());
}

#[tokio::test]
async fn many_texts_and_one() {
    let all = || values::of(&Text);
    let texts = Ty::Array(Box::new(Text));
    let mut cases = vec![
        on_all("concat", &[Text], 0),
        on_all("concat", &[Text, Text, Text], 0),
        on_all("concat", &[Varchar, Bpchar, Name], 0),
        on_all("concat", &[Ty::Bool, Ty::Int4, Ty::Int2, Ty::Int8], 0),
        on_all("concat_ws", &[Text, Text], 0),
        on_all("concat_ws", &[Text, Varchar, Bpchar, Ty::Int4], 0),
        on_all("array_to_string", &[texts.clone(), Text], 0),
        on_all("array_to_string", &[texts, Text, Text], 0),
        on_all("string_to_array", &[Text, Text], 0),
        on_all("string_to_array", &[Text, Text, Text], 0),
    ];
    // They are found by their declared types, which are not these.
    cases.retain(|case| !case.builtin.strict || case.sql.contains("string_to_array"));
    let separators = ["X", "XX", ",", "a", ""].map(|text| value(&Text, text)).to_vec();
    let columns = [all(), separators, all()];
    cases.push(function("string_to_array", &[Text, Text, Text], &columns, 0));
    agree(cases).await;
}

#[tokio::test]
async fn bytes_and_digests() {
    let forms = ["hex", "base64", "escape"]
        .map(|text| value(&Text, text))
        .to_vec();
    let written = [
        "",
        "00ff",
        "ABcd",
        "abc",
        "zz",
        "a b ",
        "aGVsbG8=",
        "aGVsbG8",
        "aGVs\nbG8=",
        "plain",
        "b\\\\c",
        "\\001",
        "ä",
        "é\u{0}".trim_end_matches('\0'),
    ];
    let written = written.map(|text| value(&Text, text)).to_vec();
    let cases = vec![
        on_all("length", &[Bytea], 0),
        on_all("octet_length", &[Bytea], 0),
        on_all("bit_length", &[Bytea], 0),
        on_all("md5", &[Bytea], 0),
        on_all("sha256", &[Bytea], 0),
        function("encode", &[Bytea, Text], &[values::of(&Bytea), forms.clone()], 0),
        function("decode", &[Text, Text], &[written, forms], 60),
    ];
    agree(cases).await;
}

#[tokio::test]
async fn operators_on_text() {
    let operator = |symbol: &'static str, ty: Ty| Case {
        builtin: texts::operator(symbol, Some(&ty), &ty, &Collation::Default).expect("an operator"),
        kind: Kind::Operator(symbol),
        rows: values::rows(&[values::of(&ty), values::of(&ty)]),
        types: vec![ty.clone(), ty],
        sql: format!("$1 {symbol} $2"),
        may_ask: 0,
    };
    let cases = vec![operator("||", Text), operator("||", Bytea), operator("^@", Text)];
    agree(cases).await;
    assert!(texts::operator("^@", Some(&Text), &Text, &Collation::Nondeterministic).is_none());
}

#[tokio::test]
async fn casts_of_text() {
    let mut cases = Vec::new();
    let long = "äöü日本語".repeat(20);
    for from in [Text, Varchar, Bpchar, Name] {
        for (to, length) in [
            (Text, None),
            (Varchar, None),
            (Varchar, Some(1)),
            (Varchar, Some(3)),
            (Bpchar, None),
            (Bpchar, Some(1)),
            (Bpchar, Some(4)),
            (Name, None),
        ] {
            let modifiers: Vec<i32> = length.into_iter().collect();
            let name = super::type_name(&to).replace("character varying", "varchar");
            let name = match length {
                Some(length) => format!("{}({length})", name.replace("bpchar", "character")),
                None => name,
            };
            let mut column = values::of(&from);
            if from != Name {
                let ends = [long.clone(), format!("x{long}"), "y".repeat(62) + "  z  "];
                column.extend(ends.map(|text| value(&from, &text)));
            }
            cases.push(Case {
                builtin: cast(&from, &to, &modifiers).expect("a cast"),
                types: vec![from.clone()],
                sql: format!("CAST($1 AS {name})"),
                rows: values::rows(&[column]),
                // A name that is cut is left to Postgres.
                may_ask: if to == Name { 35 } else { 0 },
                kind: Kind::Cast(to),
            });
        }
    }
    agree(cases).await;
}
