//! From a value's text output form to the JSON that `to_jsonb(value)` would print, without asking Postgres.
//!
//! Follows the categories of the manual's "JSON Functions": numbers and booleans as such, json and jsonb as
//! themselves, arrays and composites element by element, dates and timestamps in ISO 8601, the rest as their text.
//! The text must come from a session with `DateStyle = ISO` and `TimeZone = UTC` (see [`crate::change::Value`]).
//! Types with a cast function to json ([`Type::json_cast`]) are the exception: [`asks_postgres`] tells.

mod number;
mod text;

use super::catalog::{Type, TypeKind, Types};
use text::{Element, array_elements, record_fields};

pub use text::write_string;

const BOOL: u32 = 16;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const JSON: u32 = 114;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const NUMERIC: u32 = 1700;
const JSONB: u32 = 3802;

/// How deep arrays and composites may nest before the rest is left as text. Postgres itself stops far earlier.
const MAX_DEPTH: usize = 64;

/// Appends the JSON form of a value of type `oid` whose text output form is `value`.
///
/// What does not parse as its type says (a type altered since the catalog was read) is appended as a JSON string, so
/// the output is valid JSON whatever comes in, as long as json values are what Postgres accepted as json.
pub fn write(types: &Types, oid: u32, value: &str, out: &mut String) {
    write_at_depth(types, oid, value, out, 0);
}

/// Whether only Postgres knows the JSON form of this type: somewhere in it is a type with a cast function to json.
pub fn asks_postgres(types: &Types, oid: u32) -> bool {
    fn asks(types: &Types, oid: u32, depth: usize) -> bool {
        let Some(Type { kind, json_cast, .. }) = types.0.get(&oid) else {
            return false;
        };
        let inner = |oid: u32| depth < MAX_DEPTH && asks(types, oid, depth + 1);
        match kind {
            TypeKind::Domain { base } => inner(*base),
            TypeKind::Array { element, .. } => inner(*element),
            TypeKind::Composite { fields } => *json_cast || fields.iter().any(|(_, oid)| inner(*oid)),
            TypeKind::Base | TypeKind::Enum { .. } | TypeKind::Range => *json_cast,
        }
    }
    asks(types, oid, 0)
}

fn write_at_depth(types: &Types, oid: u32, value: &str, out: &mut String, depth: usize) {
    let oid = types.base(oid);
    match oid {
        BOOL => match value {
            "t" => out.push_str("true"),
            "f" => out.push_str("false"),
            _ => write_string(value, out),
        },
        INT2 | INT4 | INT8 | NUMERIC | FLOAT4 | FLOAT8 => number::write(value, out),
        JSON | JSONB => out.push_str(value),
        TIMESTAMP | TIMESTAMPTZ => write_timestamp(value, oid == TIMESTAMPTZ, out),
        _ => match types.0.get(&oid).map(|t| &t.kind) {
            Some(TypeKind::Array { element, delimiter }) if depth < MAX_DEPTH => {
                write_array(types, *element, *delimiter, value, out, depth);
            }
            Some(TypeKind::Composite { fields }) if depth < MAX_DEPTH => {
                write_record(types, fields, value, out, depth);
            }
            _ => write_string(value, out),
        },
    }
}

/// `2026-01-02 03:04:05.678+00` → `"2026-01-02T03:04:05.678+00:00"`; `infinity` stays, ` BC` stays at the end.
fn write_timestamp(value: &str, zoned: bool, out: &mut String) {
    let (body, era) = value
        .strip_suffix(" BC")
        .map_or((value, ""), |body| (body, " BC"));
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b"-+:.".contains(&b));
    let parts = body
        .split_once(' ')
        .filter(|(date, time)| plain(date) && plain(time));
    let Some((date, time)) = parts else {
        return write_string(value, out);
    };
    out.push('"');
    out.push_str(date);
    out.push('T');
    out.push_str(time);
    // Postgres prints whole-hour offsets without minutes in ISO style, with them in XSD style, which JSON uses.
    let short_offset = time.len() >= 3 && matches!(time.as_bytes()[time.len() - 3], b'+' | b'-');
    if zoned && short_offset {
        out.push_str(":00");
    }
    out.push_str(era);
    out.push('"');
}

fn write_array(types: &Types, element: u32, delimiter: char, value: &str, out: &mut String, depth: usize) {
    let Some(elements) = array_elements(value, delimiter) else {
        return write_string(value, out);
    };
    let mut first = true;
    for piece in elements {
        match piece {
            Element::Open => {
                separate(&mut first, out);
                out.push('[');
                first = true;
            }
            Element::Close => {
                out.push(']');
                first = false;
            }
            Element::Null => {
                separate(&mut first, out);
                out.push_str("null");
            }
            Element::Text(text) => {
                separate(&mut first, out);
                write_at_depth(types, element, &text, out, depth + 1);
            }
        }
    }
}

fn separate(first: &mut bool, out: &mut String) {
    if !std::mem::take(first) {
        out.push(',');
    }
}

fn write_record(
    types: &Types,
    fields: &[(std::sync::Arc<str>, u32)],
    value: &str,
    out: &mut String,
    depth: usize,
) {
    let Some(values) = record_fields(value).filter(|values| values.len() == fields.len()) else {
        return write_string(value, out);
    };
    out.push('{');
    for (i, ((name, oid), value)) in fields.iter().zip(values).enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_string(name, out);
        out.push(':');
        match value {
            None => out.push_str("null"),
            Some(text) => write_at_depth(types, *oid, &text, out, depth + 1),
        }
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn types() -> Types {
        let t = |oid, name: &str, kind| {
            (
                oid,
                Type {
                    oid,
                    name: Arc::from(name),
                    sql: Arc::from(name),
                    kind,
                    json_cast: oid == 9000,
                },
            )
        };
        Types(
            [
                t(
                    1007,
                    "_int4",
                    TypeKind::Array {
                        element: INT4,
                        delimiter: ',',
                    },
                ),
                t(
                    1009,
                    "_text",
                    TypeKind::Array {
                        element: 25,
                        delimiter: ',',
                    },
                ),
                t(
                    1020,
                    "_box",
                    TypeKind::Array {
                        element: 603,
                        delimiter: ';',
                    },
                ),
                t(5000, "positive", TypeKind::Domain { base: 5001 }),
                t(5001, "number", TypeKind::Domain { base: INT4 }),
                t(
                    6000,
                    "pair",
                    TypeKind::Composite {
                        fields: vec![
                            (Arc::from("n"), INT4),
                            (Arc::from("t"), 25),
                            (Arc::from("a"), 1007),
                        ],
                    },
                ),
                t(
                    6001,
                    "_pair",
                    TypeKind::Array {
                        element: 6000,
                        delimiter: ',',
                    },
                ),
                t(9000, "hstore", TypeKind::Base),
                t(
                    9001,
                    "_hstore",
                    TypeKind::Array {
                        element: 9000,
                        delimiter: ',',
                    },
                ),
            ]
            .into(),
        )
    }

    fn json(oid: u32, value: &str) -> String {
        let mut out = String::new();
        write(&types(), oid, value, &mut out);
        out
    }

    #[test]
    fn scalars() {
        for (oid, text, expected) in [
            (BOOL, "t", "true"),
            (INT8, "9007199254740993", "9007199254740993"),
            (NUMERIC, "1.50", "1.50"),
            (NUMERIC, "NaN", "\"NaN\""),
            (FLOAT8, "1e+20", "100000000000000000000"),
            (FLOAT8, "-0", "0"),
            (25, "a\"b\\c\n\u{1}", r#""a\"b\\c\n\u0001""#),
            (JSONB, r#"{"a": [1]}"#, r#"{"a": [1]}"#),
            (TIMESTAMP, "2026-01-02 03:04:05.6", "\"2026-01-02T03:04:05.6\""),
            (
                TIMESTAMPTZ,
                "2026-01-02 03:04:05+00",
                "\"2026-01-02T03:04:05+00:00\"",
            ),
            (
                TIMESTAMPTZ,
                "0044-03-15 00:00:00+00 BC",
                "\"0044-03-15T00:00:00+00:00 BC\"",
            ),
            (TIMESTAMPTZ, "infinity", "\"infinity\""),
            (5000, "7", "7"),
            (26, "16384", "\"16384\""),
        ] {
            assert_eq!(json(oid, text), expected, "{oid} {text}");
        }
    }

    #[test]
    fn arrays() {
        for (oid, text, expected) in [
            (1007, "{}", "[]"),
            (1007, "{1,NULL,3}", "[1,null,3]"),
            (1007, "{{1,2},{3,4}}", "[[1,2],[3,4]]"),
            (1007, "[0:1]={5,6}", "[5,6]"),
            (
                1009,
                r#"{a,"NULL","b,c","d\"e\\f",""}"#,
                r#"["a","NULL","b,c","d\"e\\f",""]"#,
            ),
            (
                1020,
                "{(2,2),(1,1);(4,4),(3,3)}",
                r#"["(2,2),(1,1)","(4,4),(3,3)"]"#,
            ),
            (1007, "not an array", "\"not an array\""),
        ] {
            assert_eq!(json(oid, text), expected, "{oid} {text}");
        }
    }

    #[test]
    fn composites() {
        assert_eq!(
            json(6000, r#"(1,"a ""b""","{1,2}")"#),
            r#"{"n":1,"t":"a \"b\"","a":[1,2]}"#
        );
        assert_eq!(json(6000, "(,,)"), r#"{"n":null,"t":null,"a":null}"#);
        assert_eq!(
            json(6001, r#"{"(1,x,\"{1}\")","(2,,)"}"#),
            r#"[{"n":1,"t":"x","a":[1]},{"n":2,"t":null,"a":null}]"#
        );
        assert_eq!(json(6000, "(1,2)"), "\"(1,2)\"");
    }

    #[test]
    fn a_cast_function_to_json_is_postgres_business() {
        assert!(asks_postgres(&types(), 9000));
        assert!(asks_postgres(&types(), 9001));
        assert!(!asks_postgres(&types(), 6001));
    }

    proptest! {
        #[test]
        fn whatever_the_text_the_output_is_json(text in ".{0,40}", shape in "[{}(),;\"\\\\a1 -]{0,30}") {
            for value in [&text, &shape] {
                for oid in [BOOL, INT4, NUMERIC, FLOAT8, 25, TIMESTAMPTZ, 1007, 1009, 1020, 5000, 6000, 6001] {
                    let out = json(oid, value);
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{oid} {value:?} {out}");
                }
            }
        }
    }
}
