//! Tokens of our own, for development and tests.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::Value;

use super::error::KeyError;
use crate::secret::Secret;

/// Signs a claims object with HS256. Nothing is added: give `role` and `exp` (seconds since the Unix epoch).
///
/// # Errors
/// [`KeyError::Sign`].
pub fn mint(secret: &Secret, claims: &Value) -> Result<String, KeyError> {
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    encode(&Header::default(), claims, &key).map_err(|error| KeyError::Sign(error.to_string()))
}
