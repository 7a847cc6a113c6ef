//! Who is asking: JSON Web Tokens to verified [`Claims`].
//!
//! Knows keys and claims; knows no socket and no database. The rules are those of Supabase's server, so that tokens
//! which work there work here: HMAC by the shared secret, everything else by a key of the JWKS that the token names.

mod api_keys;
mod claims;
mod error;
mod jwks;
mod keys;
mod mint;
mod token;
mod verifier;

pub use claims::{Claims, Scope, User};
pub use error::{KeyError, TokenError};
pub use mint::mint;
pub use token::MAX_TOKEN_BYTES;
pub use verifier::{Settings, Verifier};
