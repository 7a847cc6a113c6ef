//! How we tell what we made: by a comment with a fingerprint of the definition and, for functions, of the body that
//! Postgres stored, so that a later replacement by somebody else shows.

use sha2::{Digest, Sha256};
use tokio_postgres::{GenericClient, Transaction};

use super::objects::{Kind, Object};
use crate::postgres::SqlError;

/// What is found in the database under an object's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Missing,
    Ours { current: bool },
    Foreign,
}

/// Each gives one row if the object exists: its comment, and the fingerprint of its stored body. Names are compared
/// with the catalog, since `to_regprocedure` and its kin need rights that an installer may lack.
fn query(kind: Kind) -> &'static str {
    match kind {
        Kind::Role => "SELECT NULL::text, '' FROM pg_catalog.pg_roles WHERE rolname = $1::text",
        Kind::Schema => {
            "SELECT pg_catalog.obj_description(oid, 'pg_namespace'), ''
               FROM pg_catalog.pg_namespace WHERE nspname = $1::text"
        }
        Kind::Type => {
            "SELECT pg_catalog.obj_description(t.oid, 'pg_type'), ''
               FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
              WHERE n.nspname || '.' || t.typname = $1::text"
        }
        Kind::Table => {
            "SELECT pg_catalog.obj_description(c.oid, 'pg_class'), ''
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname || '.' || c.relname = $1::text"
        }
        Kind::Function => {
            "SELECT pg_catalog.obj_description(p.oid, 'pg_proc'), pg_catalog.md5(p.prosrc)
               FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
              WHERE n.nspname = pg_catalog.split_part($1::text, '.', 1)
                AND n.nspname || '.' || p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')' = $1::text"
        }
        Kind::Publication => {
            "SELECT pg_catalog.obj_description(oid, 'pg_publication'), ''
               FROM pg_catalog.pg_publication WHERE pubname = $1::text"
        }
        Kind::EventTrigger => {
            "SELECT pg_catalog.obj_description(oid, 'pg_event_trigger'), ''
               FROM pg_catalog.pg_event_trigger WHERE evtname = $1::text"
        }
    }
}

pub(super) async fn state(transaction: &Transaction<'_>, object: &Object) -> Result<State, SqlError> {
    let found = find(transaction, object)
        .await
        .map_err(|e| SqlError::new(format!("looking for {}", object.title()), e))?;
    let Some((comment, body)) = found else {
        return Ok(State::Missing);
    };
    let Some(mark) = comment.as_deref().and_then(|text| text.strip_prefix("rowcast:")) else {
        return Ok(State::Foreign);
    };
    let mut parts = mark.split(' ').next().unwrap_or_default().splitn(2, ':');
    let (definition, stored) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if stored != body {
        return Ok(State::Foreign);
    }
    Ok(State::Ours {
        current: definition == fingerprint(object),
    })
}

/// Comments the object, which must exist, as ours.
pub(super) async fn mark(
    transaction: &Transaction<'_>,
    object: &Object,
) -> Result<(), tokio_postgres::Error> {
    let Some(target) = object.comment_target() else {
        return Ok(());
    };
    let body = find(transaction, object)
        .await?
        .map(|(_, body)| body)
        .unwrap_or_default();
    transaction
        .batch_execute(&format!(
            "COMMENT ON {target} IS 'rowcast:{}:{body} made by Rowcast, which replaces it when its own definition \
             changes; change this comment to keep it as it is'",
            fingerprint(object)
        ))
        .await
}

async fn find(
    client: &impl GenericClient,
    object: &Object,
) -> Result<Option<(Option<String>, String)>, tokio_postgres::Error> {
    let row = client.query_opt(query(object.kind), &[&object.name]).await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

fn fingerprint(object: &Object) -> String {
    Sha256::digest(object.sql.as_bytes())
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
