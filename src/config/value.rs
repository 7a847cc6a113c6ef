//! From a value's text to its type. All sources (flag, variable, file) give text.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::table::Unit;
use crate::secret::Secret;

/// A type of setting.
pub(super) trait FromText: Sized {
    /// What a value looks like, for error messages and the reference.
    const EXPECTED: &'static str;
    /// Whether values must not be printed.
    const SECRET: bool = false;

    /// `None` if the text is not as expected.
    fn from_text(text: &str, unit: Unit) -> Option<Self>;
}

impl FromText for String {
    const EXPECTED: &'static str = "text";

    fn from_text(text: &str, _: Unit) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl FromText for Secret {
    const EXPECTED: &'static str = "text";
    const SECRET: bool = true;

    fn from_text(text: &str, _: Unit) -> Option<Self> {
        Some(Self::new(text))
    }
}

impl FromText for Option<PathBuf> {
    const EXPECTED: &'static str = "a path";

    fn from_text(text: &str, _: Unit) -> Option<Self> {
        Some((!text.is_empty()).then(|| text.into()))
    }
}

impl FromText for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_text(text: &str, _: Unit) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Some(true),
            "false" | "off" | "no" | "0" => Some(false),
            _ => None,
        }
    }
}

impl FromText for u16 {
    const EXPECTED: &'static str = "a whole number from 0 to 65535";

    fn from_text(text: &str, _: Unit) -> Option<Self> {
        text.parse().ok()
    }
}

impl FromText for usize {
    const EXPECTED: &'static str = "a whole number";

    fn from_text(text: &str, unit: Unit) -> Option<Self> {
        let (number, suffix) = split_number(text);
        let factor: usize = match (unit, suffix) {
            (_, "") => 1,
            (Unit::Bytes, "B") => 1,
            (Unit::Bytes, "kB") => 1000,
            (Unit::Bytes, "MB") => 1_000_000,
            (Unit::Bytes, "GB") => 1_000_000_000,
            (Unit::Bytes, "KiB") => 1 << 10,
            (Unit::Bytes, "MiB") => 1 << 20,
            (Unit::Bytes, "GiB") => 1 << 30,
            _ => return None,
        };
        number.parse::<Self>().ok()?.checked_mul(factor)
    }
}

impl FromText for Duration {
    const EXPECTED: &'static str = "a duration such as 500ms, 10s, 5m or 1h";

    fn from_text(text: &str, unit: Unit) -> Option<Self> {
        let (number, suffix) = split_number(text);
        let milliseconds: u64 = match (unit, suffix) {
            (_, "ms") | (Unit::Milliseconds, "") => 1,
            (_, "s") | (Unit::Seconds, "") => 1000,
            (_, "m" | "min") => 60 * 1000,
            (_, "h") => 60 * 60 * 1000,
            (_, "d") => 24 * 60 * 60 * 1000,
            _ => return None,
        };
        let total = number.parse::<u64>().ok()?.checked_mul(milliseconds)?;
        // Deadlines are computed from these; a century is enough and cannot overflow a clock.
        (total <= 100 * 365 * 24 * 60 * 60 * 1000).then(|| Self::from_millis(total))
    }
}

/// A duration as settings are written (`500ms`, `10s`, `5m`, `1h`, `30d`); a bare number counts seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    Duration::from_text(text, Unit::Seconds)
}

/// Digits, and what follows them after optional blanks.
fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    (number, suffix.trim())
}

/// A JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonObject(pub Map<String, Value>);

impl FromText for JsonObject {
    const EXPECTED: &'static str = "a JSON object such as {\"iss\": \"https://example.com\"}";

    fn from_text(text: &str, _: Unit) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Map::new()));
        }
        serde_json::from_str(text).ok().map(Self)
    }
}

/// API keys that are no tokens, each with the role it stands for. `Debug` shows no key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiKeys(pub Vec<(Secret, String)>);

impl FromText for ApiKeys {
    const EXPECTED: &'static str = "a JSON object of keys that begin with sb_ and their roles";
    const SECRET: bool = true;

    fn from_text(text: &str, _: Unit) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let keys: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
        // Anything else is taken for a token and never found.
        let usable = |(key, role): (&String, &String)| {
            key.strip_prefix("sb_").is_some_and(|rest| !rest.is_empty())
                && !key.contains(char::is_whitespace)
                && !role.is_empty()
        };
        keys.iter().all(usable).then(|| {
            Self(
                keys.into_iter()
                    .map(|(key, role)| (Secret::new(key), role))
                    .collect(),
            )
        })
    }
}

/// A share of something, from 0 for none of it to 1 for all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl FromText for Share {
    const EXPECTED: &'static str = "a number from 0 to 1, or a percentage such as 5%";

    fn from_text(text: &str, _: Unit) -> Option<Self> {
        let (number, whole) = match text.strip_suffix('%') {
            Some(number) => (number.trim_end(), 100.0),
            None => (text, 1.0),
        };
        // Signs, exponents and names such as `inf` are read by the parser, and are slips here.
        let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let share = number.parse::<f64>().ok().filter(|_| plain)? / whole;
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }
}

/// A setting with a few words to choose from.
macro_rules! choice {
    ($(#[doc = $doc:literal])+ $type:ident expects $expected:literal {
        $( $(#[doc = $variant_doc:literal])+ $variant:ident = $($word:literal)|+, )+
    }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $( $(#[doc = $variant_doc])+ $variant, )+
        }

        impl FromText for $type {
            const EXPECTED: &'static str = $expected;

            fn from_text(text: &str, _: Unit) -> Option<Self> {
                match text.to_ascii_lowercase().as_str() {
                    $( $($word)|+ => Some(Self::$variant), )+
                    _ => None,
                }
            }
        }
    };
}

choice! {
    /// libpq's `sslmode` values that are offered.
    SslMode expects "disable, prefer, require, verify-ca or verify-full" {
        /// Never TLS.
        Disable = "disable" | "false",
        /// TLS if the server offers it, its certificate unchecked.
        Prefer = "prefer" | "allow",
        /// TLS or nothing, certificate unchecked.
        Require = "require" | "true",
        /// TLS, certificate signed by a trusted authority.
        VerifyCa = "verify-ca",
        /// TLS, certificate signed by a trusted authority and issued for this host.
        VerifyFull = "verify-full",
    }
}

choice! {
    /// What is sent of a DELETE that policies cannot be asked about.
    UnjudgedDeletes expects "key or deny" {
        /// The key columns only.
        Key = "key",
        /// Nothing.
        Deny = "deny",
    }
}

choice! {
    /// Which output plugin decodes the WAL.
    Plugin expects "auto, wal2json or pgoutput" {
        /// wal2json where the database has it, otherwise pgoutput.
        Auto = "auto",
        /// The extension of that name.
        Wal2json = "wal2json",
        /// Postgres' own.
        Pgoutput = "pgoutput",
    }
}

choice! {
    /// How log lines look.
    LogFormat expects "text or json" {
        /// For people.
        Text = "text",
        /// For machines, one object per line.
        Json = "json",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_units() {
        let read = |text| Duration::from_text(text, Unit::Seconds);
        assert_eq!(read("10"), Some(Duration::from_secs(10)));
        assert_eq!(read("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(read("5 m"), Some(Duration::from_secs(300)));
        assert_eq!(read("1h"), Some(Duration::from_secs(3600)));
        for bad in [
            "",
            "s",
            "-1",
            "1.5s",
            "1y",
            "99999999999999999999",
            "18446744073709551615",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(
            Duration::from_text("7", Unit::Milliseconds),
            Some(Duration::from_millis(7))
        );
    }

    #[test]
    fn sizes_have_units_only_where_they_count_bytes() {
        assert_eq!(usize::from_text("8MiB", Unit::Bytes), Some(8 << 20));
        assert_eq!(usize::from_text("5 MB", Unit::Bytes), Some(5_000_000));
        assert_eq!(usize::from_text("8MiB", Unit::Plain), None);
        assert_eq!(usize::from_text("99999999999GiB", Unit::Bytes), None);
    }

    #[test]
    fn shares_are_parts_of_one() {
        let read = |text| Share::from_text(text, Unit::Plain).map(|share| share.0);
        for (text, share) in [
            ("0", 0.0),
            ("1", 1.0),
            ("0.25", 0.25),
            ("5%", 0.05),
            ("100 %", 1.0),
        ] {
            assert_eq!(read(text), Some(share), "{text}");
        }
        for bad in ["", "%", "1.1", "101%", "-0", "1e-3", "nan", "inf", "half"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn api_keys_have_a_prefix_and_a_role() {
        let read = |text| ApiKeys::from_text(text, Unit::Plain).map(|keys| keys.0);
        assert_eq!(read(""), Some(Vec::new()));
        assert_eq!(read("{}"), Some(Vec::new()));
        let one = vec![(Secret::new("sb_publishable_1"), "anon".to_owned())];
        assert_eq!(read(r#"{"sb_publishable_1": "anon"}"#), Some(one));
        for bad in [
            "sb_publishable_1",
            r#"["sb_publishable_1"]"#,
            r#"{"sb_publishable_1": 1}"#,
            r#"{"sb_publishable_1": ""}"#,
            r#"{"sb_": "anon"}"#,
            r#"{"sb_a b": "anon"}"#,
            r#"{"publishable": "anon"}"#,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let shown = format!("{:?}", ApiKeys::from_text(r#"{"sb_x": "anon"}"#, Unit::Plain));
        assert!(!shown.contains("sb_x"), "{shown}");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,30}", number in "[0-9]{0,25}", suffix in "ms|s|m|h|KiB|GiB|x") {
            for text in [text, format!("{number}{suffix}")] {
                for unit in [Unit::Plain, Unit::Milliseconds, Unit::Seconds, Unit::Bytes] {
                    let _ = (Duration::from_text(&text, unit), usize::from_text(&text, unit));
                    let _ = (u16::from_text(&text, unit), bool::from_text(&text, unit));
                    let _ = (JsonObject::from_text(&text, unit), SslMode::from_text(&text, unit));
                    let _ = Share::from_text(&text, unit);
                }
            }
        }
    }
}
