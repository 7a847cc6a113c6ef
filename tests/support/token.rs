//! Tokens as an auth server would issue them.

use std::time::{SystemTime, UNIX_EPOCH};

use rowcast::secret::Secret;
use serde_json::{Value, json};

/// The secret of every test server.
pub const SECRET: &str = "test-secret-of-at-least-32-characters";

/// A token for `role`, valid for an hour, with further claims.
pub fn token(role: &str, more: Value) -> String {
    let mut claims = json!({"role": role, "exp": now() + 3600, "iat": now()});
    merge(&mut claims, more);
    signed(SECRET, &claims)
}

/// A token for the role `authenticated` and this user.
pub fn user(sub: &str) -> String {
    token("authenticated", json!({"sub": sub}))
}

/// A token for the role `service_role`, which policies do not restrict.
pub fn service() -> String {
    token("service_role", json!({}))
}

/// Any claims, signed with any secret.
pub fn signed(secret: &str, claims: &Value) -> String {
    rowcast::auth::mint(&Secret::new(secret), claims).expect("claims can be signed")
}

/// Seconds since the Unix epoch.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_secs()).expect("before the end of time")
}

fn merge(claims: &mut Value, more: Value) {
    if let (Some(claims), Value::Object(more)) = (claims.as_object_mut(), more) {
        claims.extend(more);
    }
}
