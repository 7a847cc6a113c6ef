//! The development secret and its ready-made tokens, made once and kept in the data folder.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::cluster::write_secret;
use super::error::DevError;
use crate::auth::mint;
use crate::secret::Secret;

/// How long ready-made tokens last.
const LIFETIME_SECONDS: u64 = 365 * 24 * 60 * 60;
/// Tokens with less than this left are made anew.
const RENEW_SECONDS: u64 = 30 * 24 * 60 * 60;
/// `sub` of the ready-made authenticated token.
const DEV_USER: &str = "00000000-0000-4000-8000-000000000001";

/// What a development client and backend need. No `Debug`: all of it is secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct Keys {
    /// Secret of HS256 tokens.
    pub jwt_secret: String,
    /// Password of the cluster's superuser.
    pub database_password: String,
    /// A token with role `anon`.
    pub anon_key: String,
    /// A token with role `authenticated` and a fixed `sub`.
    pub authenticated_key: String,
    /// A token with role `service_role`.
    pub service_key: String,
    /// When the tokens end, seconds since the Unix epoch.
    expires_at: u64,
}

impl Keys {
    /// Those of the folder; makes them if there are none yet, and new tokens when the old ones are about to end.
    pub(super) fn load_or_make(dir: &Path) -> Result<Self, DevError> {
        let path = file(dir);
        let kept = read(&path)?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        if let Some(kept) = &kept
            && kept.expires_at > now + RENEW_SECONDS
        {
            return Ok(kept.clone());
        }
        let (jwt_secret, database_password) = match kept {
            Some(kept) => (kept.jwt_secret, kept.database_password),
            None => (random::<48>(), random::<18>()),
        };
        let keys = Self::make(jwt_secret, database_password, now + LIFETIME_SECONDS)?;
        let text = serde_json::to_string_pretty(&keys).unwrap_or_default();
        write_secret(&path, &format!("{text}\n"))?;
        Ok(keys)
    }

    fn make(jwt_secret: String, database_password: String, expires_at: u64) -> Result<Self, DevError> {
        let secret = Secret::new(jwt_secret.as_str());
        let token = |claims| mint(&secret, &claims);
        Ok(Self {
            anon_key: token(json!({"role": "anon", "exp": expires_at}))?,
            authenticated_key: token(json!({"role": "authenticated", "sub": DEV_USER, "exp": expires_at}))?,
            service_key: token(json!({"role": "service_role", "exp": expires_at}))?,
            jwt_secret,
            database_password,
            expires_at,
        })
    }
}

/// The secret that `rowcast dev` keeps in its data folder.
///
/// # Errors
/// [`DevError::File`] if there is none.
pub fn read_jwt_secret(dir: &Path) -> Result<Secret, DevError> {
    let path = file(dir);
    let keys =
        read(&path)?.ok_or_else(|| DevError::file("read", &path, &std::io::ErrorKind::NotFound.into()))?;
    Ok(Secret::new(keys.jwt_secret))
}

fn file(dir: &Path) -> PathBuf {
    dir.join("keys.json")
}

fn read(path: &Path) -> Result<Option<Keys>, DevError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DevError::file("read", path, &error)),
    };
    serde_json::from_str(&text).map(Some).map_err(|_| DevError::File {
        action: "read",
        path: path.to_owned(),
        reason: "not as it was written; remove it to start with new keys".to_owned(),
    })
}

fn random<const N: usize>() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; N]>())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::auth::{Settings, Verifier};

    #[tokio::test]
    async fn are_made_once_and_verify() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_make(dir.path()).unwrap();
        let again = Keys::load_or_make(dir.path()).unwrap();
        assert_eq!(
            (&keys.jwt_secret, &keys.anon_key),
            (&again.jwt_secret, &again.anon_key)
        );
        let mode = std::fs::metadata(file(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let verifier = Verifier::new(Settings {
            secrets: vec![read_jwt_secret(dir.path()).unwrap()],
            ..Settings::default()
        })
        .unwrap();
        for (token, role) in [
            (&keys.anon_key, "anon"),
            (&keys.authenticated_key, "authenticated"),
            (&keys.service_key, "service_role"),
        ] {
            assert_eq!(&*verifier.verify(token).await.unwrap().role, role);
        }
    }

    #[test]
    fn tokens_about_to_end_are_renewed_and_the_secret_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut keys = Keys::load_or_make(dir.path()).unwrap();
        keys.expires_at = 1;
        write_secret(&file(dir.path()), &serde_json::to_string(&keys).unwrap()).unwrap();
        let renewed = Keys::load_or_make(dir.path()).unwrap();
        assert!(renewed.expires_at > 1);
        assert_eq!(renewed.jwt_secret, keys.jwt_secret);
        assert_eq!(renewed.database_password, keys.database_password);
    }

    #[test]
    fn a_damaged_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(file(dir.path()), "{\"jwt_secret\": \"hunter2\"").unwrap();
        let error = Keys::load_or_make(dir.path()).err().unwrap().to_string();
        assert!(
            error.contains("keys.json") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
