//! From a token's text to verified claims.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::api_keys::{self, ApiKeys};
use super::claims::{self, Claims, Required};
use super::error::{KeyError, TokenError};
use super::jwks::{Pace, RemoteKeys};
use super::keys::{self, Key, KeySet};
use super::token::{self, Parts};
use crate::secret::Secret;

/// The keys that tokens are verified with, and what they must say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Shared secrets; a token may be signed with any of them (the current and the next one while they change).
    pub secrets: Vec<Secret>,
    /// A JSON Web Key Set as text. May hold symmetric keys.
    pub jwks: Option<Secret>,
    /// A file with one.
    pub jwks_file: Option<PathBuf>,
    /// An HTTP(S) URL that answers with one.
    pub jwks_url: Option<String>,
    /// Claims that must be there with exactly this value.
    pub required_claims: Map<String, Value>,
    /// The `iss` that must be there, if any must.
    pub issuer: Option<String>,
    /// The `aud` that must be there, alone or in a list, if any must.
    pub audience: Option<String>,
    /// Keys that are no tokens (`sb_…`), each with the role it stands for.
    pub api_keys: Vec<(Secret, String)>,
    /// Shortest time between two readings of the file or URL.
    pub jwks_min_interval: Duration,
    /// Age at which the file or URL is read again although no key is missing.
    pub jwks_max_age: Duration,
    /// Longest time for one reading.
    pub jwks_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            jwks: None,
            jwks_file: None,
            jwks_url: None,
            required_claims: Map::new(),
            issuer: None,
            audience: None,
            api_keys: Vec::new(),
            jwks_min_interval: Duration::from_secs(10),
            jwks_max_age: Duration::from_secs(600),
            jwks_timeout: Duration::from_secs(5),
        }
    }
}

/// Verifies tokens. Cloning shares the keys.
#[derive(Clone, Debug)]
pub struct Verifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    secrets: Vec<Key>,
    fixed: KeySet,
    remote: Vec<RemoteKeys>,
    required: Required,
    api_keys: ApiKeys,
}

impl Verifier {
    /// Reads the settings' keys. The URL, if any, is not contacted yet.
    ///
    /// # Errors
    /// If there is no key at all, or the text or the file is not a JSON Web Key Set.
    pub fn new(settings: Settings) -> Result<Self, KeyError> {
        let pace = Pace {
            min_interval: settings.jwks_min_interval,
            max_age: settings.jwks_max_age,
            timeout: settings.jwks_timeout,
        };
        let fixed = match &settings.jwks {
            Some(text) => KeySet::parse(text.expose(), "auth.jwks")?,
            None => KeySet::default(),
        };
        let mut remote = Vec::new();
        if let Some(path) = settings.jwks_file {
            remote.push(RemoteKeys::file(path, pace)?);
        }
        if let Some(url) = settings.jwks_url {
            remote.push(RemoteKeys::url(url, pace)?);
        }
        let secrets: Vec<Key> = settings
            .secrets
            .iter()
            // An empty secret would accept what anybody signs.
            .filter(|secret| !secret.is_empty())
            .map(|secret| Key::from_secret(secret.expose()))
            .collect();
        let api_keys = ApiKeys::new(settings.api_keys, now());
        if secrets.is_empty() && settings.jwks.is_none() && remote.is_empty() && api_keys.is_empty() {
            return Err(KeyError::NoKeys);
        }
        Ok(Self(Arc::new(Inner {
            secrets,
            fixed,
            remote,
            required: Required {
                values: settings.required_claims,
                issuer: settings.issuer,
                audience: settings.audience,
            },
            api_keys,
        })))
    }

    /// The claims of a token that is signed with one of our keys and not expired, or of one of the API keys, of which
    /// nothing else is asked.
    ///
    /// Waits only when the token names a key that is not known yet (for one reading of the file or URL at most).
    ///
    /// # Errors
    /// See [`TokenError`].
    pub async fn verify(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let token = token::clean(token)?;
        if api_keys::is_api_key(&token) {
            return self.0.api_keys.find(&token).ok_or(TokenError::Malformed);
        }
        let parts = token::split(&token)?;
        self.check_signature(&parts).await?;
        claims::check(parts.claims, &self.0.required, now()).map(Arc::new)
    }

    async fn check_signature(&self, parts: &Parts<'_>) -> Result<(), TokenError> {
        let header = &parts.header;
        let alg = header.alg.as_str();
        if !keys::is_accepted(alg) || header.crit.is_some() {
            return Err(TokenError::Signer { kid: None });
        }
        if let Some(kid) = header.kid() {
            if let Some(verdict) = self.check_with_named_key(kid, parts).await {
                return verdict;
            }
            if !keys::is_hmac(alg) {
                return Err(TokenError::Signer {
                    kid: Some(kid.to_owned()),
                });
            }
        } else if !keys::is_hmac(alg) {
            return Err(TokenError::Signer { kid: None });
        }
        self.check_with_secrets(parts)
    }

    /// `None` if no key of that name fits the algorithm.
    async fn check_with_named_key(&self, kid: &str, parts: &Parts<'_>) -> Option<Result<(), TokenError>> {
        let alg = parts.header.alg.as_str();
        let verdict = |set: &KeySet| {
            let key = set.get(kid).filter(|key| key.fits(alg))?;
            Some(key.verify(alg, parts.message, parts.signature))
        };
        if let Some(verdict) = verdict(&self.0.fixed) {
            return Some(verdict);
        }
        for remote in &self.0.remote {
            if let Some(verdict) = verdict(&*remote.knowing(kid).await) {
                return Some(verdict);
            }
        }
        None
    }

    fn check_with_secrets(&self, parts: &Parts<'_>) -> Result<(), TokenError> {
        if self.0.secrets.is_empty() {
            return Err(TokenError::Signer {
                kid: parts.header.kid().map(str::to_owned),
            });
        }
        self.0
            .secrets
            .iter()
            .map(|key| key.verify(&parts.header.alg, parts.message, parts.signature))
            .find(Result::is_ok)
            .unwrap_or(Err(TokenError::Signature))
    }
}

/// Seconds since the Unix epoch.
fn now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
