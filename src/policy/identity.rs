//! Who somebody is to SQL: the role, and the settings that policies know them by.

use std::sync::Arc;

use serde::Serialize;
use tokio_postgres::Transaction;

use crate::auth::{Claims, Scope};
use crate::postgres::SqlError;

/// What stands in `request.headers` where there is no request. An object, so that a policy that casts it to JSON finds
/// no header instead of raising.
const NO_HEADERS: &str = "{}";

/// As the functions of sql/rowcast take it. All of it is set for everybody: on a shared connection, what is left out would
/// be somebody else's.
#[derive(Debug, Serialize)]
pub(super) struct Identity<'a> {
    pub(super) role: &'a str,
    pub(super) claims: &'a str,
    pub(super) sub: Option<&'a str>,
    pub(super) email: Option<String>,
    pub(super) topic: &'a str,
    pub(super) headers: &'a str,
}

impl<'a> Identity<'a> {
    pub(super) fn of(claims: &'a Claims) -> Self {
        let (topic, headers) = scope(claims.scope.as_ref());
        Self {
            role: &claims.role,
            claims: &claims.json,
            sub: claims.sub.as_deref(),
            email: email(&claims.json),
            topic,
            headers,
        }
    }

    /// The settings by name; one that has no value is empty.
    pub(super) fn settings(&self) -> [(&'static str, &str); 6] {
        [
            ("request.jwt.claims", self.claims),
            ("request.jwt.claim.sub", self.sub.unwrap_or_default()),
            ("request.jwt.claim.role", self.role),
            (
                "request.jwt.claim.email",
                self.email.as_deref().unwrap_or_default(),
            ),
            ("realtime.topic", self.topic),
            ("request.headers", self.headers),
        ]
    }
}

/// Makes what follows in a transaction run as somebody: the settings that policies read, and the role. The connection's own role
/// must be able to become it.
///
/// # Errors
/// The role cannot be taken, or the database did not answer.
pub async fn assume(transaction: &Transaction<'_>, claims: &Claims) -> Result<(), SqlError> {
    let doing = SqlError::during("taking a role");
    let identity = Identity::of(claims);
    // SET ROLE none would mean the login itself.
    if identity.role.eq_ignore_ascii_case("none") {
        return Err(SqlError::from_response(
            "taking a role",
            "22023",
            "no role has this name",
        ));
    }
    let (names, values): (Vec<&str>, Vec<&str>) = identity.settings().into_iter().unzip();
    let set = "select pg_catalog.set_config(name, value, true) from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) as s(name, value)";
    transaction.query(set, &[&names, &values]).await.map_err(&doing)?;
    transaction
        .query(
            "select pg_catalog.set_config('role', $1, true)",
            &[&identity.role],
        )
        .await
        .map_err(doing)?;
    Ok(())
}

/// Topic and headers as policies see them.
pub(super) fn scope(scope: Option<&Arc<Scope>>) -> (&str, &str) {
    match scope {
        Some(scope) => (&scope.topic, &scope.headers),
        None => ("", NO_HEADERS),
    }
}

/// The claim `email`, as the setting of its own that policies may read.
pub(super) fn email(claims: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Email {
        email: Option<String>,
    }
    serde_json::from_str::<Email>(claims).ok()?.email
}
