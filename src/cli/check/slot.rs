//! Our slot and its output plugin.

use tokio_postgres::Client;

use super::server::Facts;
use super::{CheckOptions, Level, Report};
use crate::postgres::{ErrorKind, SqlError};

/// Our slot, as `pg_replication_slots` shows it.
pub(super) struct Slot {
    plugin: Option<String>,
    database: Option<String>,
    here: bool,
    active_pid: Option<i32>,
    wal_status: Option<String>,
    /// Bytes of WAL between what was confirmed and now.
    behind: Option<i64>,
}

impl Slot {
    pub(super) async fn read(client: &Client, name: &str) -> Result<Option<Self>, SqlError> {
        let doing = SqlError::during("reading the replication slot");
        let row = client
            .query_opt(
                "SELECT plugin::text, database::text, coalesce(database = pg_catalog.current_database(), false) AS here,
                        active_pid, wal_status,
                        CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN
                            pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), confirmed_flush_lsn)::bigint
                        END AS behind
                   FROM pg_catalog.pg_replication_slots WHERE slot_name = $1::text",
                &[&name],
            )
            .await
            .map_err(&doing)?;
        let Some(row) = row else { return Ok(None) };
        let slot = || {
            Ok(Self {
                plugin: row.try_get("plugin")?,
                database: row.try_get("database")?,
                here: row.try_get("here")?,
                active_pid: row.try_get("active_pid")?,
                wal_status: row.try_get("wal_status")?,
                behind: row.try_get("behind")?,
            })
        };
        slot().map(Some).map_err(doing)
    }
}

/// The output plugin that `serve` would use: seen on our slot, or tried with a temporary one.
pub(super) async fn judge_plugin(
    client: &Client,
    facts: &Facts,
    slot: Option<&Slot>,
    options: &CheckOptions,
    report: &mut Report,
) -> Option<String> {
    let plugins = &options.plugins;
    if let Some(plugin) = slot.and_then(|slot| slot.plugin.as_ref())
        && plugins.contains(plugin)
    {
        let text = format!("{plugin}, seen on the slot");
        report.add(Level::Ok, "output plugin", text, None);
        return Some(plugin.clone());
    }
    let preferred = plugins.first()?;
    if !facts.can_make_slots() {
        let text = format!("whether {preferred} is installed shows only once a slot can be made");
        report.add(Level::Warning, "output plugin", text, None);
        return plugins.last().cloned();
    }
    let mut refused = None;
    for plugin in plugins {
        let error = match try_plugin(client, plugin).await {
            Ok(()) => {
                let text = match &refused {
                    None => format!("{plugin} loads"),
                    Some(_) => format!("{preferred} cannot be used here, so it is {plugin}, which loads"),
                };
                report.add(Level::Ok, "output plugin", text, None);
                return Some(plugin.clone());
            }
            Err(error) => error,
        };
        let other = matches!(
            error.kind(),
            ErrorKind::FileMissing | ErrorKind::InsufficientPrivilege
        );
        refused.get_or_insert(error);
        if !other {
            break;
        }
    }
    if let Some(error) = refused {
        refuse_plugin(&error, preferred, facts, report);
    }
    None
}

fn refuse_plugin(error: &SqlError, plugin: &str, facts: &Facts, report: &mut Report) {
    match error.kind() {
        ErrorKind::FileMissing => report.add(
            Level::Failure,
            "output plugin",
            format!("{plugin} is not installed on the server"),
            format!("apt-get install postgresql-{}-{plugin}", facts.major),
        ),
        ErrorKind::Cancelled => report.add(
            Level::Warning,
            "output plugin",
            "a slot could not be made in time: it waits for transactions that write to end",
            "SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start;"
                .to_owned(),
        ),
        ErrorKind::InsufficientPrivilege => report.add(
            Level::Failure,
            "output plugin",
            format!("the server does not allow {plugin}: it is not in output_plugin_libraries"),
            format!(
                "ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, {plugin}; SELECT pg_reload_conf();"
            ),
        ),
        _ => report.add(Level::Failure, "output plugin", error.chain(), None),
    }
}

/// A temporary slot is gone with the session at the latest, and belongs to it alone until then.
async fn try_plugin(client: &Client, plugin: &str) -> Result<(), SqlError> {
    let doing = SqlError::during("trying the output plugin");
    client
        .query_one(
            "SELECT pg_catalog.pg_create_logical_replication_slot(
                'rowcast_check_' || pg_catalog.pg_backend_pid(), $1::text, true)::text",
            &[&plugin],
        )
        .await
        .map_err(&doing)?;
    client
        .query_one(
            "SELECT pg_catalog.pg_drop_replication_slot('rowcast_check_' || pg_catalog.pg_backend_pid())::text",
            &[],
        )
        .await
        .map_err(&doing)?;
    Ok(())
}

/// The state of our slot.
pub(super) fn judge_slot(facts: &Facts, slot: Option<&Slot>, options: &CheckOptions, report: &mut Report) {
    let name = &options.slot;
    let drop = || format!("SELECT pg_drop_replication_slot('{}');", name.replace('\'', "''"));
    let Some(slot) = slot else {
        let level = if facts.can_make_slots() {
            Level::Ok
        } else {
            Level::Warning
        };
        report.add(
            level,
            "slot",
            format!("{name} does not exist yet; serve makes it"),
            None,
        );
        return;
    };
    let plugin = slot.plugin.as_deref().unwrap_or("(none)");
    if !slot.here || !options.plugins.iter().any(|allowed| allowed == plugin) {
        let text = format!(
            "{name} belongs to database {} and plugin {plugin}; choose another slot name, set replication.plugin, or drop it \
             if nobody needs it",
            slot.database.as_deref().unwrap_or("(none)"),
        );
        report.add(Level::Failure, "slot", text, drop());
        return;
    }
    let behind = slot.behind.unwrap_or_default() / 1024;
    match (slot.wal_status.as_deref(), slot.active_pid) {
        (Some("lost"), _) => report.add(
            Level::Failure,
            "slot",
            format!("{name} is lost: postgres removed wal that it needed, and changes since are gone"),
            drop(),
        ),
        (Some("unreserved"), _) => report.add(
            Level::Warning,
            "slot",
            format!("{name} is {behind} kB behind, and postgres is about to remove wal that it needs"),
            "rowcast serve   -- soon, or raise max_slot_wal_keep_size".to_owned(),
        ),
        (_, Some(pid)) => report.add(
            Level::Warning,
            "slot",
            format!("{name} is being read by process {pid}, {behind} kB behind; a second server waits as its standby"),
            format!("SELECT application_name, client_addr FROM pg_stat_activity WHERE pid = {pid};"),
        ),
        _ => report.add(Level::Ok, "slot", format!("{name} is free, {behind} kB behind"), None),
    }
}
