//! The compact form of a JSON Web Token (RFC 7519, RFC 7515 section 7.1), taken apart without trusting any of it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::TokenError;

/// Longest accepted token, bytes. Real ones are one or two KiB; every connection and channel keeps one, and claims travel to
/// Postgres with every verdict.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token's parts, decoded, nothing verified.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub header: Header,
    pub claims: Map<String, Value>,
    /// What the signature covers: header, dot, payload, as received.
    pub message: &'a str,
    /// The signature as received, base64url.
    pub signature: &'a str,
}

/// The header's fields that decide how to verify.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub alg: String,
    #[serde(default)]
    kid: Option<Value>,
    /// Extensions that must be understood (RFC 7515 section 4.1.11); none is.
    #[serde(default)]
    pub crit: Option<Value>,
}

impl Header {
    /// The key the token names, if it names one by a string.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_ref().and_then(Value::as_str)
    }
}

/// The token as clients meant it: percent-encoding undone and every whitespace removed.
///
/// # Errors
/// [`TokenError::Missing`] if nothing is left, [`TokenError::Malformed`] if it is too long or not UTF-8.
pub(super) fn clean(token: &str) -> Result<String, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    let decoded = percent_decode(token).ok_or(TokenError::Malformed)?;
    let cleaned: String = decoded.chars().filter(|c| !c.is_whitespace()).collect();
    if cleaned.is_empty() {
        return Err(TokenError::Missing);
    }
    Ok(cleaned)
}

/// Splits and decodes a cleaned token.
///
/// # Errors
/// [`TokenError::Malformed`].
pub(super) fn split(token: &str) -> Result<Parts<'_>, TokenError> {
    let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
    let claims: Map<String, Value> = part(payload)?;
    if claims
        .iter()
        .any(|(key, value)| key.contains('\0') || has_nul(value))
    {
        return Err(TokenError::Malformed);
    }
    Ok(Parts {
        header: part(header)?,
        claims,
        message,
        signature,
    })
}

fn part<T: serde::de::DeserializeOwned>(encoded: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

/// Postgres can hold U+0000 neither in `text` nor in `jsonb`: such claims would fail every query they take part in.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// RFC 3986 section 2.1. A `%` that starts no escape stays as it is. `None` if the result is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%'
            && let Some(([high, low], tail)) = tail.split_first_chunk::<2>()
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            decoded.push(high << 4 | low);
            rest = tail;
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn undoes_percent_encoding_and_whitespace() {
        assert_eq!(clean(" a%2Eb\n.c%20 ").unwrap(), "a.b.c");
        assert_eq!(clean("100%").unwrap(), "100%");
        assert_eq!(clean("%zz%4").unwrap(), "%zz%4");
        assert_eq!(clean(" \t%20"), Err(TokenError::Missing));
        assert_eq!(clean("%ff"), Err(TokenError::Malformed));
        assert_eq!(
            clean(&"a".repeat(MAX_TOKEN_BYTES + 1)),
            Err(TokenError::Malformed)
        );
    }

    #[test]
    fn refuses_what_is_not_three_parts_of_json() {
        for text in ["", ".", "..", "a", "a.b", "a.b.c", "eyJ9.e30.x", "ü.ü.ü"] {
            assert_eq!(split(text).unwrap_err(), TokenError::Malformed, "{text}");
        }
    }

    #[test]
    fn refuses_claims_that_postgres_cannot_hold() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        let payload = URL_SAFE_NO_PAD.encode(r#"{"a":[{"b":"x\u0000"}]}"#);
        assert_eq!(
            split(&format!("{header}.{payload}.")).unwrap_err(),
            TokenError::Malformed
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            if let Ok(token) = clean(&text) {
                let _ = split(&token);
            }
        }

        #[test]
        fn never_panics_on_nearly_tokens(header in "\\PC{0,40}", payload in "\\PC{0,40}", rest in "[.\\PC]{0,20}") {
            let token = format!("{}.{}{rest}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
            let _ = split(&token);
        }

        #[test]
        fn percent_encoding_round_trips(text in "\\PC{0,60}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(percent_decode(&encoded).unwrap(), text);
        }
    }
}
