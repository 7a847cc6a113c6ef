//! Why a token or a key was refused. The texts are part of the wire: clients and dashboards match on them.

/// Why a token was refused. `Display` is the text for the client, without the code in front.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token at all.
    #[error("API key is missing")]
    Missing,
    /// `exp` has passed.
    #[error("Token has expired {seconds_ago} seconds ago")]
    Expired {
        /// Whole seconds since then.
        seconds_ago: i64,
    },
    /// `exp` is not a number, or not in the future once rounded to a whole second.
    #[error("Token expiration time is invalid")]
    ExpirationInvalid,
    /// `role` (a string) or `exp` is not there.
    #[error("Fields `role` and `exp` are required in JWT")]
    MissingClaims,
    /// A claim does not have the value that the server's settings require.
    #[error("Claim `{claim}` does not have the required value")]
    ClaimRejected {
        /// Its name, from the settings.
        claim: String,
    },
    /// Not a JSON Web Token.
    #[error("The token provided is not a valid JWT")]
    Malformed,
    /// Signed with another key, or changed since it was signed.
    #[error("Failed to validate JWT signature")]
    Signature,
    /// No key to check it with: the algorithm is not accepted, it names no key, or it names one we do not have.
    #[error("Failed to generate JWT signer{}, check your JWT secret or JWKS configuration", for_key(.kid))]
    Signer {
        /// The key it names.
        kid: Option<String>,
    },
}

fn for_key(kid: &Option<String>) -> String {
    kid.as_ref()
        .map_or_else(String::new, |kid| format!(" for key ID (kid) \"{kid}\""))
}

impl TokenError {
    /// The error code that stands in front of the text in answers to a join, and in logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAPIKey",
            Self::Expired { .. }
            | Self::ExpirationInvalid
            | Self::MissingClaims
            | Self::ClaimRejected { .. } => "InvalidJWTToken",
            Self::Malformed => "MalformedJWT",
            Self::Signature => "JwtSignatureError",
            Self::Signer { .. } => "JwtSignerError",
        }
    }

    /// The text for a refused connection, which says less about expiry than the answer to a join does.
    pub fn connect_text(&self) -> String {
        match self {
            Self::Expired { .. } => "Token has expired".to_owned(),
            other => other.to_string(),
        }
    }
}

/// Why keys could not be used. Names the source, never a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither a secret nor a JWKS nor API keys: nobody could ever be let in.
    #[error(
        "no key to verify tokens with: set auth.jwt_secret, or auth.jwks, auth.jwks_file or auth.jwks_url"
    )]
    NoKeys,
    /// The document is not a JWKS.
    #[error("{origin} is not a JSON Web Key Set, expected {{\"keys\": [...]}}: {reason}")]
    NotAKeySet {
        /// Which setting, file or URL.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file or URL could not be read.
    #[error("cannot read the JSON Web Key Set from {origin}: {reason}")]
    Unreadable {
        /// Which file or URL.
        origin: String,
        /// What went wrong.
        reason: String,
    },
    /// Signing failed.
    #[error("cannot sign the token: {0}")]
    Sign(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_wire() {
        let signer = TokenError::Signer { kid: None };
        assert_eq!(
            signer.to_string(),
            "Failed to generate JWT signer, check your JWT secret or JWKS configuration"
        );
        let unknown = TokenError::Signer {
            kid: Some("k1".into()),
        };
        assert_eq!(
            unknown.to_string(),
            "Failed to generate JWT signer for key ID (kid) \"k1\", check your JWT secret or JWKS configuration"
        );
        let expired = TokenError::Expired { seconds_ago: 7 };
        assert_eq!(expired.to_string(), "Token has expired 7 seconds ago");
        assert_eq!(expired.connect_text(), "Token has expired");
        assert_eq!(expired.code(), "InvalidJWTToken");
    }
}
