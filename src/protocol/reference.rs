use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::server::push_json_string;

/// A client's `ref` or `join_ref`: any JSON string or number, echoed as the same JSON value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ref(Box<str>);

/// Longest `ref` accepted, in bytes. Clients count from 1; a connection keeps one per channel.
const MAX_BYTES: usize = 255;

impl Ref {
    /// A `ref` that is a string, as binary frames carry it.
    pub fn text(text: &str) -> Self {
        let mut json = String::with_capacity(text.len() + 2);
        push_json_string(&mut json, text);
        Self(json.into())
    }

    /// The JSON value, quotes included where it is a string.
    pub fn json(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Ref {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RefVisitor;

        impl Visitor<'_> for RefVisitor {
            type Value = Ref;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a short string or a number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Ref, E> {
                if text.len() > MAX_BYTES {
                    return Err(E::custom("ref too long"));
                }
                Ok(Ref::text(text))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Ref, E> {
                Ok(Ref(number.to_string().into()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Ref, E> {
                Ok(Ref(number.to_string().into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Ref, E> {
                Ok(Ref(serde_json::Value::from(number).to_string().into()))
            }
        }

        deserializer.deserialize_any(RefVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_numbers_come_back_as_the_same_value() {
        for json in ["\"1\"", "7", "-7", "1.5", r#""a\"b""#] {
            let parsed: Ref = serde_json::from_str(json).unwrap();
            assert_eq!(parsed.json(), json);
        }
        assert_eq!(
            serde_json::from_str::<Ref>(r#""\u0031""#).unwrap(),
            Ref::text("1")
        );
    }

    #[test]
    fn other_json_and_long_strings_are_refused() {
        let long = format!("\"{}\"", "x".repeat(MAX_BYTES + 1));
        for json in ["true", "[]", "{}", long.as_str()] {
            assert!(serde_json::from_str::<Ref>(json).is_err(), "{json}");
        }
    }
}
