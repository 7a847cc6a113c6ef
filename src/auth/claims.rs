//! What a verified token says, and the checks on it that need no key.

use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::error::TokenError;

/// The claims of a token whose signature, expiry and required fields have been verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claims {
    /// `role`: the Postgres role that rows are judged as.
    pub role: Arc<str>,
    /// `sub`, if it is a string.
    pub sub: Option<Arc<str>>,
    /// `exp`: seconds since the Unix epoch.
    pub exp: i64,
    /// The whole claims object as JSON text, as policies see it in `request.jwt.claims`.
    pub json: Arc<str>,
    /// What policies may know beside the token; `None` for rows.
    pub scope: Option<Arc<Scope>>,
}

/// What the policies on `realtime.messages` may know beside the token: the settings `realtime.topic` and
/// `request.headers`. Elsewhere there is no topic (an empty text), and no header (an empty object).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The channel's topic, without `realtime:`.
    pub topic: Arc<str>,
    /// The headers of the request as a JSON object of texts: `x-…` of a connection's, all of a publishing one's.
    pub headers: Arc<str>,
}

/// Tells users apart: a digest of the role and the `sub`, which is the same on every server and with every token of theirs, and
/// says nothing of either. Tokens without `sub` are of one user for each role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct User(pub u64);

impl Claims {
    /// Whose they are.
    pub fn user(&self) -> User {
        let mut digest = Sha256::new();
        for part in [Some(&self.role), self.sub.as_ref()].into_iter().flatten() {
            digest.update(part.as_bytes());
            // Ends it: no UTF-8 has it.
            digest.update([0xff]);
        }
        let first = digest
            .finalize()
            .iter()
            .take(8)
            .fold(0, |first, byte| first << 8 | u64::from(*byte));
        User(first)
    }

    /// The same, within a scope.
    #[must_use]
    pub fn within(&self, scope: Arc<Scope>) -> Self {
        Self {
            scope: Some(scope),
            ..self.clone()
        }
    }
}

/// What the settings want of every token.
#[derive(Debug, Default)]
pub(super) struct Required {
    /// Claims with exactly these values.
    pub(super) values: Map<String, Value>,
    /// `iss`.
    pub(super) issuer: Option<String>,
    /// `aud`, which may be a list (RFC 7519, section 4.1.3).
    pub(super) audience: Option<String>,
}

impl Required {
    fn hold(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        let rejected = |claim: &str| TokenError::ClaimRejected {
            claim: claim.to_owned(),
        };
        for (claim, expected) in &self.values {
            if claims.get(claim) != Some(expected) {
                return Err(rejected(claim));
            }
        }
        let is = |value: &Value, text: &str| value.as_str() == Some(text);
        if let Some(issuer) = &self.issuer
            && !claims.get("iss").is_some_and(|iss| is(iss, issuer))
        {
            return Err(rejected("iss"));
        }
        if let Some(audience) = &self.audience
            && !claims.get("aud").is_some_and(|aud| match aud {
                Value::Array(several) => several.iter().any(|one| is(one, audience)),
                one => is(one, audience),
            })
        {
            return Err(rejected("aud"));
        }
        Ok(())
    }
}

/// Checks times, required claims and what the settings want at `now` (seconds since the Unix epoch).
pub(super) fn check(
    mut claims: Map<String, Value>,
    required: &Required,
    now: i64,
) -> Result<Claims, TokenError> {
    let exp = match claims.get("exp") {
        None => return Err(TokenError::MissingClaims),
        Some(value) => expiry(value, now)?,
    };
    if let Some(iat) = claims.get("iat") {
        let iat = iat.as_f64().and_then(whole).ok_or(TokenError::Malformed)?;
        claims.insert("iat".to_owned(), iat.into());
    }
    required.hold(&claims)?;
    let role: Arc<str> = match claims.get("role").and_then(Value::as_str) {
        Some(role) => role.into(),
        None => return Err(TokenError::MissingClaims),
    };
    let sub = claims.get("sub").and_then(Value::as_str).map(Arc::from);
    claims.insert("exp".to_owned(), exp.into());
    Ok(Claims {
        role,
        sub,
        exp,
        json: Value::Object(claims).to_string().into(),
        scope: None,
    })
}

fn expiry(value: &Value, now: i64) -> Result<i64, TokenError> {
    let exact = value.as_f64().ok_or(TokenError::ExpirationInvalid)?;
    let exp = whole(exact).ok_or(TokenError::ExpirationInvalid)?;
    // Seconds since 1970 are far below 2^53, where f64 is exact.
    if exact <= now as f64 {
        return Err(TokenError::Expired {
            seconds_ago: now.saturating_sub(exp),
        });
    }
    if exp <= now {
        return Err(TokenError::ExpirationInvalid);
    }
    Ok(exp)
}

/// The nearest whole number, if it fits.
fn whole(value: f64) -> Option<i64> {
    let rounded = value.round();
    // 2^63, the first value that does not fit.
    (rounded.abs() < 9_223_372_036_854_775_808.0).then_some(rounded as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(claims: Value, required: Value) -> Result<Claims, TokenError> {
        let (Value::Object(claims), Value::Object(values)) = (claims, required) else {
            panic!("objects expected");
        };
        let required = Required {
            values,
            ..Required::default()
        };
        check(claims, &required, 1000)
    }

    #[test]
    fn keeps_role_sub_and_the_whole_object() {
        let claims = checked(
            json!({"role": "authenticated", "sub": "u1", "exp": 2000.4, "iat": 999.9, "x": [1]}),
            json!({}),
        )
        .unwrap();
        assert_eq!(
            (&*claims.role, claims.sub.as_deref(), claims.exp),
            ("authenticated", Some("u1"), 2000)
        );
        assert_eq!(
            &*claims.json,
            r#"{"exp":2000,"iat":1000,"role":"authenticated","sub":"u1","x":[1]}"#
        );
    }

    #[test]
    fn users_are_told_apart_by_role_and_sub_alone() {
        let user = |claims: Value| checked(claims, json!({})).unwrap().user();
        let ann = user(json!({"role": "authenticated", "sub": "ann", "exp": 2000}));
        assert_eq!(
            ann,
            User(0x33c8_07f4_48a0_a3f7),
            "it is in the database, and what comes next has to know it"
        );
        let later = json!({"role": "authenticated", "sub": "ann", "exp": 3000, "session_id": "x"});
        assert_eq!(user(later), ann);
        for other in [
            json!({"role": "authenticated", "sub": "ben", "exp": 2000}),
            json!({"role": "admin", "sub": "ann", "exp": 2000}),
            json!({"role": "authenticated", "exp": 2000}),
            json!({"role": "authenticatedann", "exp": 2000}),
            json!({"role": "authenticated", "sub": "", "exp": 2000}),
        ] {
            assert_ne!(user(other), ann);
        }
        let nobody = user(json!({"role": "authenticated", "exp": 2000}));
        assert_ne!(
            user(json!({"role": "authenticated", "sub": "", "exp": 2000})),
            nobody
        );
    }

    #[test]
    fn refuses_by_time_and_by_what_is_missing() {
        let expired = |exp: Value| checked(json!({"role": "anon", "exp": exp}), json!({})).unwrap_err();
        assert_eq!(expired(json!(1000)), TokenError::Expired { seconds_ago: 0 });
        assert_eq!(expired(json!(993)), TokenError::Expired { seconds_ago: 7 });
        assert_eq!(expired(json!(1000.4)), TokenError::ExpirationInvalid);
        assert_eq!(expired(json!("2000")), TokenError::ExpirationInvalid);
        assert_eq!(expired(json!(1e300)), TokenError::ExpirationInvalid);
        assert_eq!(expired(json!(null)), TokenError::ExpirationInvalid);
        for claims in [
            json!({"role": "anon"}),
            json!({"exp": 2000}),
            json!({"exp": 2000, "role": 1}),
        ] {
            assert_eq!(checked(claims, json!({})), Err(TokenError::MissingClaims));
        }
        let iat = checked(json!({"role": "anon", "exp": 2000, "iat": "now"}), json!({}));
        assert_eq!(iat, Err(TokenError::Malformed));
    }

    #[test]
    fn holds_claims_to_the_required_values() {
        let claims = json!({"role": "anon", "exp": 2000, "iss": "us"});
        assert!(checked(claims.clone(), json!({"iss": "us"})).is_ok());
        for required in [json!({"iss": "them"}), json!({"aud": "x"})] {
            let error = checked(claims.clone(), required).unwrap_err();
            assert!(matches!(error, TokenError::ClaimRejected { .. }), "{error:?}");
        }
    }

    #[test]
    fn issuer_and_audience_are_those_of_the_settings() {
        let required = Required {
            values: Map::new(),
            issuer: Some("us".to_owned()),
            audience: Some("app".to_owned()),
        };
        let rejected = |claim: &str| TokenError::ClaimRejected {
            claim: claim.to_owned(),
        };
        for (iss, aud, outcome) in [
            (json!("us"), json!("app"), Ok(())),
            (json!("us"), json!(["web", "app"]), Ok(())),
            (json!("them"), json!("app"), Err(rejected("iss"))),
            (json!(["us"]), json!("app"), Err(rejected("iss"))),
            (json!(null), json!("app"), Err(rejected("iss"))),
            (json!("us"), json!("web"), Err(rejected("aud"))),
            (json!("us"), json!(["web", ["app"]]), Err(rejected("aud"))),
            (json!("us"), json!({"app": "app"}), Err(rejected("aud"))),
            (json!("us"), json!(null), Err(rejected("aud"))),
        ] {
            let claims = json!({"role": "anon", "exp": 2000, "iss": iss, "aud": aud});
            let Value::Object(claims) = claims else { continue };
            assert_eq!(check(claims, &required, 1000).map(drop), outcome, "{iss} {aud}");
        }
    }
}
