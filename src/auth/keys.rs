//! A JSON Web Key Set (RFC 7517) as keys that can verify, found by their `kid`.

use std::collections::HashMap;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::error::{KeyError, TokenError};

/// The usable keys of one set. Entries without a `kid`, of another use than signing, or of a kind we cannot verify
/// with are left out, so that one odd key does not take the others down.
#[derive(Debug, Default)]
pub(super) struct KeySet(HashMap<String, Key>);

#[derive(Debug)]
pub(super) struct Key {
    kind: Kind,
    /// The only algorithm the key may be used with, where the set says so.
    alg: Option<String>,
    material: DecodingKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hmac,
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// The fields of RFC 7517 section 4 and RFC 7518 section 6 that we read.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl KeySet {
    /// Reads `{"keys": [...]}`; `origin` names the document in errors.
    pub(super) fn parse(text: &str, origin: &str) -> Result<Self, KeyError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_str(text).map_err(|error| KeyError::NotAKeySet {
            origin: origin.to_owned(),
            reason: describe(&error),
        })?;
        let mut keys = HashMap::new();
        for entry in document.keys {
            let Ok(jwk) = serde_json::from_value::<Jwk>(entry) else {
                tracing::warn!(origin, "left out a key that is not a JSON Web Key");
                continue;
            };
            match (jwk.kid.clone(), Key::of(&jwk)) {
                (Some(kid), Some(key)) => {
                    keys.insert(kid, key);
                }
                (kid, _) => tracing::warn!(origin, ?kid, kty = jwk.kty, "left out a key that cannot verify"),
            }
        }
        Ok(Self(keys))
    }

    pub(super) fn get(&self, kid: &str) -> Option<&Key> {
        self.0.get(kid)
    }
}

/// Where and what kind, without the document's text, which may hold symmetric keys.
fn describe(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Eof => "ends too early",
        _ => "no list of keys",
    };
    format!("{kind} (line {}, column {})", error.line(), error.column())
}

impl Key {
    /// A key of the shared secret.
    pub(super) fn from_secret(secret: &str) -> Self {
        Self {
            kind: Kind::Hmac,
            alg: None,
            material: DecodingKey::from_secret(secret.as_bytes()),
        }
    }

    fn of(jwk: &Jwk) -> Option<Self> {
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let (kind, material) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("oct", _) => (Kind::Hmac, hmac(jwk.k.as_deref()?)),
            ("RSA", _) => (
                Kind::Rsa,
                DecodingKey::from_rsa_components(jwk.n.as_deref()?, jwk.e.as_deref()?).ok(),
            ),
            ("EC", Some("P-256")) => (Kind::P256, point(jwk)),
            ("EC", Some("P-384")) => (Kind::P384, point(jwk)),
            ("OKP", Some("Ed25519")) => (
                Kind::Ed25519,
                DecodingKey::from_ed_components(jwk.x.as_deref()?).ok(),
            ),
            _ => return None,
        };
        Some(Self {
            kind,
            alg: jwk.alg.clone(),
            material: material?,
        })
    }

    /// Whether the key may verify this algorithm.
    pub(super) fn fits(&self, alg: &str) -> bool {
        accepted(alg).is_some_and(|(kind, _)| kind == self.kind)
            && self.alg.as_deref().is_none_or(|only| same(only, alg))
    }

    /// Checks a base64url signature over `message`.
    pub(super) fn verify(&self, alg: &str, message: &str, signature: &str) -> Result<(), TokenError> {
        let (_, algorithm) = accepted(alg).ok_or(TokenError::Signer { kid: None })?;
        match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.material, algorithm) {
            Ok(true) => Ok(()),
            _ => Err(TokenError::Signature),
        }
    }
}

/// Whether an algorithm is one of the shared-secret kind.
pub(super) fn is_hmac(alg: &str) -> bool {
    accepted(alg).is_some_and(|(kind, _)| kind == Kind::Hmac)
}

/// Whether an algorithm is accepted at all. `none` is not.
pub(super) fn is_accepted(alg: &str) -> bool {
    accepted(alg).is_some()
}

/// The accepted algorithms (RFC 7518 section 3, RFC 8037, RFC 9864) and the kind of key each needs.
fn accepted(alg: &str) -> Option<(Kind, Algorithm)> {
    Some(match alg {
        "HS256" => (Kind::Hmac, Algorithm::HS256),
        "HS384" => (Kind::Hmac, Algorithm::HS384),
        "HS512" => (Kind::Hmac, Algorithm::HS512),
        "RS256" => (Kind::Rsa, Algorithm::RS256),
        "RS384" => (Kind::Rsa, Algorithm::RS384),
        "RS512" => (Kind::Rsa, Algorithm::RS512),
        "ES256" => (Kind::P256, Algorithm::ES256),
        "ES384" => (Kind::P384, Algorithm::ES384),
        "EdDSA" | "Ed25519" => (Kind::Ed25519, Algorithm::EdDSA),
        _ => return None,
    })
}

/// Two names of one algorithm.
fn same(left: &str, right: &str) -> bool {
    left == right || matches!((left, right), ("EdDSA", "Ed25519") | ("Ed25519", "EdDSA"))
}

fn hmac(value: &str) -> Option<DecodingKey> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(value.trim_end_matches('='))
        .ok()?;
    // An empty key would accept what anybody signs.
    (!bytes.is_empty()).then(|| DecodingKey::from_secret(&bytes))
}

fn point(jwk: &Jwk) -> Option<DecodingKey> {
    DecodingKey::from_ec_components(jwk.x.as_deref()?, jwk.y.as_deref()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn leaves_out_what_cannot_verify_and_keeps_the_rest() {
        let text = r#"{"keys": [
            {"kty": "oct", "kid": "a", "k": "c2VjcmV0", "alg": "HS256"},
            {"kty": "oct", "kid": "empty", "k": ""},
            {"kty": "oct", "k": "c2VjcmV0"},
            {"kty": "oct", "kid": "enc", "k": "c2VjcmV0", "use": "enc"},
            {"kty": "EC", "kid": "curve", "crv": "secp256k1", "x": "AA", "y": "AA"},
            {"kty": "RSA", "kid": "half", "n": "AQAB"},
            {"kty": 7}, 12, null
        ]}"#;
        let set = KeySet::parse(text, "auth.jwks").unwrap();
        assert_eq!(set.0.keys().collect::<Vec<_>>(), ["a"]);
        let key = set.get("a").unwrap();
        assert!(key.fits("HS256"));
        assert!(!key.fits("HS512"), "the set allows HS256 only");
        assert!(!key.fits("RS256") && !key.fits("none"));
    }

    #[test]
    fn names_the_source_of_a_bad_document_and_not_its_text() {
        for text in ["", "{", "[]", r#"{"keys": "hunter2"}"#] {
            let error = KeySet::parse(text, "auth.jwks").unwrap_err().to_string();
            assert!(
                error.contains("auth.jwks") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,80}", kty in "oct|RSA|EC|OKP|x", crv in "P-256|P-384|Ed25519", value in "\\PC{0,20}") {
            let _ = KeySet::parse(&text, "test");
            let jwk = serde_json::json!({"keys": [{"kty": kty, "kid": "k", "crv": crv, "x": value, "y": value,
                "n": value, "e": value, "k": value}]});
            if let Some(key) = KeySet::parse(&jwk.to_string(), "test").unwrap().get("k") {
                for alg in ["HS256", "RS256", "ES256", "ES384", "EdDSA"] {
                    prop_assert!(!key.fits(alg) || key.verify(alg, "message", &value).is_err());
                }
            }
        }
    }
}
