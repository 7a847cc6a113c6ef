//! Brings the objects of `sql/` into a database, as often as it is asked to, and leaves alone what others made.

mod marker;
mod objects;
mod report;

pub use objects::ADD_MESSAGES_PARTITION;
pub use report::{Entry, InstallReport, Outcome};

use std::time::Duration;

use tokio_postgres::{Client, Transaction};

use self::marker::State;
use self::objects::{Group, Kind, Object};
use super::{ErrorKind, SqlError};

/// All installers of one database take this advisory lock, one transaction each (any number will do, but for ever).
const LOCK: i64 = 0x526f_7763_6173_7401;

/// What to install.
#[derive(Clone, Debug)]
pub struct InstallOptions {
    /// Publication that is created empty if it does not exist.
    pub publication: String,
    /// Create `anon`, `authenticated` and `service_role` where they are missing. Roles belong to the whole cluster,
    /// so this is asked for, never assumed.
    pub create_roles: bool,
    /// Longest wait for another installer, or for a lock on an object.
    pub lock_timeout: Duration,
}

impl Default for InstallOptions {
    /// Everything, for the publication `supabase_realtime`.
    fn default() -> Self {
        Self {
            publication: "supabase_realtime".to_owned(),
            create_roles: true,
            lock_timeout: Duration::from_secs(10),
        }
    }
}

/// Installs everything that is missing and replaces what is ours and out of date.
///
/// A right that is missing skips the object it is needed for, and the report says so. Groups of objects are
/// transactions: an error other than a missing right undoes the group it happened in and ends the installation.
///
/// # Errors
/// The database did not answer, is read-only, or refused a statement for another reason than a missing right.
pub async fn install(client: &mut Client, options: &InstallOptions) -> Result<InstallReport, SqlError> {
    let mut report = InstallReport::default();
    for group in objects::groups(&options.publication) {
        let doing = SqlError::during("installing database objects");
        let mut transaction = client.transaction().await.map_err(&doing)?;
        let settings = format!(
            "SET LOCAL lock_timeout = {}; SET LOCAL search_path = ''",
            options.lock_timeout.as_millis()
        );
        transaction.batch_execute(&settings).await.map_err(&doing)?;
        transaction
            .execute("SELECT pg_catalog.pg_advisory_xact_lock($1)", &[&LOCK])
            .await
            .map_err(SqlError::during("waiting for another installation to finish"))?;
        let entries = install_group(&mut transaction, &group, options).await?;
        transaction.commit().await.map_err(&doing)?;
        report.entries.extend(entries);
    }
    Ok(report)
}

async fn install_group(
    transaction: &mut Transaction<'_>,
    group: &Group,
    options: &InstallOptions,
) -> Result<Vec<Entry>, SqlError> {
    let mut states = Vec::with_capacity(group.objects.len());
    for object in &group.objects {
        states.push(marker::state(transaction, object).await?);
    }
    let mut closed = (group.objects.iter().zip(&states))
        .any(|(object, state)| object.decides_group && *state == State::Foreign)
        .then(|| Outcome::Skipped(group.not_ours.to_owned()));
    if !options.create_roles && group.roles {
        closed = Some(Outcome::Skipped("creating roles was not asked for".to_owned()));
    }
    let mut entries = Vec::with_capacity(group.objects.len());
    for (object, state) in group.objects.iter().zip(states) {
        let outcome = match (state, &closed) {
            (State::Foreign, _) => Outcome::LeftAlone,
            (State::Missing, Some(skipped)) => skipped.clone(),
            (State::Missing, None) => create(transaction, object, Outcome::Created).await?,
            (State::Ours { current: true }, _) => Outcome::Current,
            (State::Ours { current: false }, _) if object.kind.is_replaceable() => {
                create(transaction, object, Outcome::Updated).await?
            }
            (State::Ours { current: false }, _) => Outcome::Current,
        };
        entries.push(Entry {
            object: object.title(),
            outcome,
            essential: object.essential,
        });
    }
    if let Some(sql) = group.afterwards {
        entries.extend(finish(transaction, group, sql).await?);
    }
    Ok(entries)
}

/// Runs an object's SQL and marks it as ours, both or neither.
async fn create(
    transaction: &mut Transaction<'_>,
    object: &Object,
    done: Outcome,
) -> Result<Outcome, SqlError> {
    let doing = || format!("creating {}", object.title());
    let attempt = transaction
        .savepoint("object")
        .await
        .map_err(|e| SqlError::new(doing(), e))?;
    let result = async {
        attempt.batch_execute(&object.sql).await?;
        marker::mark(&attempt, object).await
    };
    match result.await {
        Ok(()) => {
            attempt.commit().await.map_err(|e| SqlError::new(doing(), e))?;
            Ok(done)
        }
        Err(error) => {
            let raced = matches!(error.code().map(|c| c.code()), Some("42710" | "23505"))
                && object.kind == Kind::Role;
            let error = SqlError::new(doing(), error);
            attempt.rollback().await.map_err(|e| SqlError::new(doing(), e))?;
            match error.kind() {
                // Roles are shared between databases, and the lock is not.
                _ if raced => Ok(Outcome::LeftAlone),
                ErrorKind::InsufficientPrivilege | ErrorKind::Undefined => {
                    Ok(Outcome::Skipped(error.chain()))
                }
                _ => Err(error),
            }
        }
    }
}

/// The statement that follows a group; a missing right is an entry of its own, success is silent.
async fn finish(
    transaction: &mut Transaction<'_>,
    group: &Group,
    sql: &str,
) -> Result<Option<Entry>, SqlError> {
    let doing = || format!("finishing {}", group.title);
    let attempt = transaction
        .savepoint("finish")
        .await
        .map_err(|e| SqlError::new(doing(), e))?;
    match attempt.batch_execute(sql).await {
        Ok(()) => {
            attempt.commit().await.map_err(|e| SqlError::new(doing(), e))?;
            Ok(None)
        }
        Err(error) => {
            let error = SqlError::new(doing(), error);
            attempt.rollback().await.map_err(|e| SqlError::new(doing(), e))?;
            match error.kind() {
                ErrorKind::InsufficientPrivilege | ErrorKind::Undefined => Ok(Some(Entry {
                    object: group.title.to_owned(),
                    outcome: Outcome::Skipped(error.chain()),
                    essential: false,
                })),
                _ => Err(error),
            }
        }
    }
}
