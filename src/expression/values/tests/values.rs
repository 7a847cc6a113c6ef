//! The types, and values of each: the ordinary, the extremes, and those that look alike. All in output form.

use std::sync::Arc;

use crate::expression::{Datum, EnumTy, Ty};

/// A value with its type; NULL is one.
#[derive(Clone)]
pub(super) struct Value {
    ty: Ty,
    pub(super) text: Option<&'static str>,
    pub(super) datum: Option<Datum>,
}

impl Value {
    /// The value as SQL.
    pub(super) fn literal(&self) -> String {
        match self.text {
            None => format!("NULL::{}", sql(&self.ty)),
            Some(text) => format!("'{}'::{}", text.replace('\'', "''"), sql(&self.ty)),
        }
    }
}

fn mood() -> Ty {
    let labels = ["sad", "ok", "so happy"].map(Arc::from).to_vec();
    Ty::Enum(Arc::new(EnumTy { oid: 1, labels }))
}

/// Every type, and arrays of some.
pub(super) fn all() -> Vec<Ty> {
    let mut types = vec![
        Ty::Bool,
        Ty::Int2,
        Ty::Int4,
        Ty::Int8,
        Ty::Oid,
        Ty::Numeric,
        Ty::Float4,
        Ty::Float8,
        Ty::Text,
        Ty::Varchar,
        Ty::Bpchar,
        Ty::Name,
        Ty::Bytea,
        Ty::Uuid,
        Ty::Inet,
        Ty::Cidr,
        mood(),
    ];
    let arrays = [
        Ty::Bool,
        Ty::Int4,
        Ty::Int8,
        Ty::Text,
        Ty::Varchar,
        Ty::Bpchar,
        Ty::Numeric,
        Ty::Float8,
        Ty::Uuid,
        mood(),
    ];
    types.extend(arrays.map(|ty| Ty::Array(Box::new(ty))));
    types
}

/// The type as SQL.
pub(super) fn sql(ty: &Ty) -> String {
    match ty {
        Ty::Array(element) => format!("{}[]", sql(element)),
        Ty::Enum(_) => "mood".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// NULL and the values of a type.
pub(super) fn of(ty: &Ty) -> Vec<Value> {
    let value = |text: Option<&'static str>| Value {
        ty: ty.clone(),
        text,
        datum: text
            .map(|text| Datum::parse(text, ty).unwrap_or_else(|stop| panic!("{ty:?} {text}: {stop:?}"))),
    };
    let texts = texts(ty).iter().copied().map(Some);
    std::iter::once(None).chain(texts).map(value).collect()
}

/// Every way to choose a value of each type.
pub(super) fn combinations(types: &[Ty]) -> Vec<Vec<Value>> {
    types.iter().fold(vec![Vec::new()], |chosen, ty| {
        let values = of(ty);
        let longer = |chosen: &Vec<Value>| {
            let chosen = chosen.clone();
            values
                .iter()
                .map(move |value| [&chosen[..], std::slice::from_ref(value)].concat())
                .collect::<Vec<_>>()
        };
        chosen.iter().flat_map(longer).collect()
    })
}

fn texts(ty: &Ty) -> &'static [&'static str] {
    match ty {
        Ty::Bool => &["t", "f"],
        Ty::Int2 => &[
            "0", "1", "-1", "2", "7", "-7", "15", "32767", "-32768", "-32767", "181",
        ],
        Ty::Int4 => &[
            "0",
            "1",
            "-1",
            "2",
            "-3",
            "31",
            "40000",
            "46341",
            "2147483647",
            "-2147483648",
            "-2147483647",
        ],
        Ty::Int8 => &[
            "0",
            "1",
            "-1",
            "3",
            "-10",
            "63",
            "3037000500",
            "16777217",
            "9007199254740993",
            "2147483648",
            "9223372036854775807",
            "-9223372036854775808",
            "-9223372036854775807",
        ],
        Ty::Oid => &["0", "1", "16384", "2147483647", "2147483648", "4294967295"],
        Ty::Numeric => &[
            "0",
            "0.000",
            "1",
            "1.0",
            "1.00",
            "-1",
            "2",
            "3",
            "7.5",
            "-7.5",
            "0.5",
            "-0.5",
            "1.5",
            "2.5",
            "0.05",
            "0.0049",
            "10000",
            "9999",
            "9999.9999",
            "0.0001",
            "0.00012345",
            "123456789012345678901234567890.123456789",
            "-32768.4",
            "32767.5",
            "2147483647.4999",
            "-2147483648.5",
            "9223372036854775807.5",
            "1000000000000000000000",
            "99999999999999.995",
            "NaN",
            "Infinity",
            "-Infinity",
        ],
        Ty::Float4 => FLOAT4,
        Ty::Float8 => FLOAT8,
        Ty::Text => TEXT,
        Ty::Varchar => &["", "a", "abcdefgh", "12", "grüße, 世界", " x ", "true", "NULL"],
        Ty::Bpchar => &["", "a", "a   ", " a", "abcdefgh", "12  ", "f ", "grün  "],
        Ty::Name => &["", "a", "abcdefgh", "12", "x y", "sad", "1.5", "B"],
        Ty::Bytea => &["\\x", "\\x00", "\\x00ff", "\\xdeadbeef", "\\x61", "\\x6162"],
        Ty::Uuid => &[
            "00000000-0000-0000-0000-000000000000",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "80000000-0000-0000-0000-000000000000",
        ],
        Ty::Inet => &[
            "10.0.0.1",
            "10.0.0.1/8",
            "10.0.0.0/8",
            "10.0.0.0/16",
            "10.1.2.3/24",
            "0.0.0.0/0",
            "255.255.255.255",
            "0.0.0.0",
            "192.168.1.5/30",
            "::",
            "::1",
            "::/0",
            "::1.2.3.4",
            "::ffff:10.0.0.1",
            "::ffff:10.0.0.1/104",
            "2001:db8::1",
            "2001:db8::/32",
            "fe80::1:0:0:1/64",
            "1:0:0:2::3",
            "::1.0.0.0",
            "0:0:1::",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7:0",
            "0:1:2:3:4:5:6:7",
        ],
        Ty::Cidr => &[
            "10.0.0.0/8",
            "10.0.0.1/32",
            "0.0.0.0/0",
            "10.1.0.0/16",
            "::/0",
            "2001:db8::/32",
            "::1/128",
        ],
        Ty::Enum(_) => &["sad", "ok", "so happy"],
        Ty::Array(element) => arrays(element),
        other => panic!("values of {other:?}"),
    }
}

const FLOAT4: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "0.1",
    "1.5",
    "2.5",
    "-2.5",
    "1e+06",
    "999999",
    "123456.7",
    "0.0001",
    "1e-05",
    "3.4028235e+38",
    "-3.4028235e+38",
    "1e-45",
    "1.1754944e-38",
    "NaN",
    "Infinity",
    "-Infinity",
    "2.1474836e+09",
    "32767.5",
    "1.6777216e+07",
];

const FLOAT8: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "0.1",
    "0.5",
    "1.5",
    "2.5",
    "-2.5",
    "-0.5",
    "1e+15",
    "999999999999999",
    "123456.789",
    "0.0001",
    "1e-05",
    "1e+20",
    "1.7976931348623157e+308",
    "-1.7976931348623157e+308",
    "5e-324",
    "2.2250738585072014e-308",
    "1e-300",
    "1e+300",
    "NaN",
    "Infinity",
    "-Infinity",
    "2147483647.5",
    "-2147483648.5",
    "9.223372036854776e+18",
    "32767.5",
    "9.007199254740992e+15",
    "3.4028235677973366e+38",
    "1e-46",
    "0.30000000000000004",
];

/// For every input function what it reads, what it refuses, and what it may read.
const TEXT: &[&str] = &[
    "",
    " ",
    "a",
    "B",
    "abc",
    "x y",
    "it's",
    "grüße",
    "sad",
    "so happy",
    "bad",
    "t",
    "f",
    "TRUE",
    " yes ",
    "tru",
    "y",
    "n",
    "on",
    "of",
    "o",
    "ON",
    "truee",
    "0",
    "1",
    "00",
    "-0",
    "+5",
    " 42 ",
    "4 2",
    "12abc",
    "12-ab",
    "1.5.2",
    "1,5",
    "5 x",
    "123456789a",
    "1234567890a",
    "0b1",
    "0o7",
    "1z9",
    "7f3e",
    ".e1",
    "_1.5",
    "32767z",
    "99999z",
    "abc12",
    "0x1F",
    "1_000",
    "_1",
    "32767",
    "32768",
    "-32769",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775808",
    "-9223372036854775808",
    "--5",
    "-",
    "+",
    "1.5",
    "-1.50",
    ".5",
    "5.",
    ".",
    "1e3",
    "1.5e-3",
    "1.25E+1",
    "1e",
    "1e400",
    "1e-400",
    "1e39",
    "1e-50",
    "3.4028236e38",
    "1e-46",
    "nan",
    "NaN",
    "-nan",
    "inf",
    "-inf",
    "+Infinity",
    "infinity",
    "Infinit",
    "1.7976931348623159e308",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
    "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
    "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
    "a0eebc99--9c0b4ef8bb6d6bb9bd380a11",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-",
    "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
    "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
    "a0-eebc999c0b4ef8bb6d6bb9bd380a11",
    " a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "\\x00ff",
    "\\xF",
    "\\000",
    "a\\b",
    "10.0.0.1",
    "10.0.0.1/8",
    "10.0.0.0/8",
    "10",
    "10.0.0.1/33",
    "::1",
    "::1/64",
    "fe80::/10",
    "10.0.0.1/",
    "{}",
    "{1,2}",
    "{1,NULL}",
    "{a,\"b c\"}",
    "{t,f}",
    "{{1,2},{3,4}}",
    "[2:3]={1,2}",
    "{1.5,x}",
    "{sad,ok}",
    "{1,",
    "NULL",
];

fn arrays(element: &Ty) -> &'static [&'static str] {
    match element {
        Ty::Bool => &["{}", "{t}", "{f,NULL,t}", "{{t,f},{f,t}}"],
        Ty::Int4 | Ty::Int8 => &[
            "{}",
            "{1}",
            "{NULL}",
            "{1,2,3}",
            "{3,2,1}",
            "{1,NULL,3}",
            "{{1,2},{3,4}}",
            "[2:3]={1,2}",
            "{{1,2,3}}",
            "[0:1][2:3]={{1,2},{3,4}}",
            "{1,2}",
            "{{{1}}}",
            "{2,2,5}",
            "[-5:-4]={7,NULL}",
        ],
        Ty::Text | Ty::Varchar => &[
            "{}",
            "{a}",
            "{A,b}",
            "{\"\",\"NULL\",NULL}",
            "{\"a b\",\"q\\\"\\\\\",\"{\",\"x,y\"}",
            "{{a,b},{c,d}}",
            "[3:4]={a,b}",
            "{a,b}",
            "{1,2}",
        ],
        Ty::Bpchar => &["{}", "{a}", "{\"a  \"}", "{\"a \",NULL}", "{12,b}"],
        Ty::Numeric => &["{}", "{1}", "{1.0,NULL}", "{1.00,2.5}", "{NaN,-Infinity,0.000}"],
        Ty::Float8 => &["{}", "{0}", "{-0}", "{NaN,1.5,NULL}", "{1e+20,-2.5}"],
        Ty::Uuid => &[
            "{}",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}",
        ],
        Ty::Enum(_) => &["{}", "{sad}", "{ok,\"so happy\"}", "{ok,NULL}"],
        other => panic!("arrays of {other:?}"),
    }
}

impl Value {
    /// A number that was made up.
    pub(super) fn numeric(datum: Datum) -> Self {
        Self {
            ty: Ty::Numeric,
            text: None,
            datum: Some(datum),
        }
    }
}
