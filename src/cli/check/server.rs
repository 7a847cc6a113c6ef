//! The server: version, settings, rights, room for a slot and a sender.

use tokio_postgres::Client;

use super::{CheckOptions, Level, Report};
use crate::postgres::{SqlError, quote_identifier};

/// The oldest major version that Rowcast supports, and the newest it is tested with.
const MAJORS: std::ops::RangeInclusive<i32> = 14..=18;

/// What one query tells about the server and the role we are.
pub(super) struct Facts {
    pub(super) major: i32,
    version: String,
    in_recovery: bool,
    wal_level: String,
    max_slots: i64,
    slots: i64,
    max_senders: i64,
    senders: i64,
    /// `max_slot_wal_keep_size` in megabytes; negative for no limit.
    keep_size: i64,
    pub(super) user: String,
    may_replicate: bool,
    /// Managed services hand the right out as membership in a role of this name.
    managed_role: bool,
    pub(super) may_create: bool,
}

impl Facts {
    pub(super) async fn read(client: &Client) -> Result<Self, SqlError> {
        let doing = SqlError::during("reading the server's settings");
        let row = client
            .query_one(
                "SELECT pg_catalog.current_setting('server_version_num')::int / 10000 AS major,
                        pg_catalog.current_setting('server_version') AS version,
                        pg_catalog.pg_is_in_recovery() AS in_recovery,
                        pg_catalog.current_setting('wal_level') AS wal_level,
                        pg_catalog.current_setting('max_replication_slots')::bigint AS max_slots,
                        (SELECT count(*) FROM pg_catalog.pg_replication_slots) AS slots,
                        pg_catalog.current_setting('max_wal_senders')::bigint AS max_senders,
                        (SELECT count(*) FROM pg_catalog.pg_stat_replication) AS senders,
                        (SELECT setting::bigint FROM pg_catalog.pg_settings
                          WHERE name = 'max_slot_wal_keep_size') AS keep_size,
                        CURRENT_USER::text AS name, r.rolsuper, r.rolreplication,
                        EXISTS (SELECT FROM pg_catalog.pg_roles m WHERE m.rolname = 'rds_replication') AS managed_role,
                        EXISTS (SELECT FROM pg_catalog.pg_roles m WHERE m.rolname = 'rds_replication'
                                   AND pg_catalog.pg_has_role(m.oid, 'USAGE')) AS managed,
                        pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may_create
                   FROM pg_catalog.pg_roles r WHERE r.rolname = CURRENT_USER",
                &[],
            )
            .await
            .map_err(&doing)?;
        let facts = || {
            let is_superuser: bool = row.try_get("rolsuper")?;
            Ok(Self {
                major: row.try_get("major")?,
                version: row.try_get("version")?,
                in_recovery: row.try_get("in_recovery")?,
                wal_level: row.try_get("wal_level")?,
                max_slots: row.try_get("max_slots")?,
                slots: row.try_get("slots")?,
                max_senders: row.try_get("max_senders")?,
                senders: row.try_get("senders")?,
                keep_size: row.try_get("keep_size")?,
                user: row.try_get("name")?,
                may_replicate: is_superuser || row.try_get("rolreplication")? || row.try_get("managed")?,
                managed_role: row.try_get("managed_role")?,
                may_create: row.try_get("may_create")?,
            })
        };
        facts().map_err(doing)
    }

    /// The findings that need no further question.
    pub(super) fn judge(&self, options: &CheckOptions, report: &mut Report) {
        let version = format!("PostgreSQL {}", self.version);
        if self.major < *MAJORS.start() {
            let text = format!("{version} is too old; {} or newer is needed", MAJORS.start());
            report.add(
                Level::Failure,
                "server",
                text,
                "pg_upgrade to a newer major version".to_owned(),
            );
        } else if self.major > *MAJORS.end() {
            let text = format!(
                "{version} is newer than the versions this was tested with, up to {}",
                MAJORS.end()
            );
            report.add(Level::Warning, "server", text, None);
        } else {
            report.add(Level::Ok, "server", version, None);
        }
        if self.in_recovery {
            report.add(
                Level::Failure,
                "primary",
                "this server is a standby, where no slot of ours can be made",
                "rowcast check with the address of the primary".to_owned(),
            );
        }
        if self.wal_level == "logical" {
            report.add(Level::Ok, "wal_level", "logical", None);
        } else {
            report.add(
                Level::Failure,
                "wal_level",
                format!("is {}, must be logical", self.wal_level),
                "ALTER SYSTEM SET wal_level = logical;   -- then restart Postgres".to_owned(),
            );
        }
        self.judge_rights(report);
        self.judge_keep_size(options.wal_budget, report);
    }

    fn judge_rights(&self, report: &mut Report) {
        let user = &self.user;
        if self.may_replicate {
            report.add(
                Level::Ok,
                "replication right",
                format!("{user} may replicate"),
                None,
            );
            return;
        }
        let remedy = if self.managed_role {
            format!("GRANT rds_replication TO {};", quote_identifier(user))
        } else {
            format!("ALTER ROLE {} REPLICATION;", quote_identifier(user))
        };
        report.add(
            Level::Failure,
            "replication right",
            format!("{user} may not replicate"),
            remedy,
        );
    }

    fn judge_keep_size(&self, wal_budget: u64, report: &mut Report) {
        let budget = i64::try_from(wal_budget >> 20).unwrap_or(i64::MAX);
        if self.keep_size < 0 {
            report.add(
                Level::Warning,
                "kept wal",
                "max_slot_wal_keep_size has no limit: while no server reads from the slot, wal may fill the disk",
                "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();".to_owned(),
            );
        } else if budget > self.keep_size / 2 {
            let text = format!(
                "replication.wal_budget is {budget} MB, and only half of max_slot_wal_keep_size, {} MB, is used: the rest \
                 is for the time that no server reads",
                self.keep_size / 2
            );
            let remedy = format!(
                "ALTER SYSTEM SET max_slot_wal_keep_size = '{}MB'; SELECT pg_reload_conf();",
                budget.saturating_mul(2)
            );
            report.add(Level::Warning, "kept wal", text, remedy);
        } else {
            let text = format!(
                "up to {} MB are kept for a slot that nobody reads",
                self.keep_size
            );
            report.add(Level::Ok, "kept wal", text, None);
        }
    }

    /// `GRANT … WITH SET` and `pg_has_role(…, 'SET')` came with PostgreSQL 16.
    pub(super) fn knows_set_option(&self) -> bool {
        self.major >= 16
    }

    pub(super) fn can_make_slots(&self) -> bool {
        self.wal_level == "logical" && self.may_replicate && !self.in_recovery && self.slots < self.max_slots
    }
}

/// Whether there is room for a slot and a sender of ours.
pub(super) fn judge_room(facts: &Facts, slot_exists: bool, report: &mut Report) {
    let slots = format!("{} of {} in use", facts.slots, facts.max_slots);
    if facts.slots < facts.max_slots || slot_exists {
        report.add(Level::Ok, "replication slots", slots, None);
    } else {
        report.add(
            Level::Failure,
            "replication slots",
            format!("{slots}, none is free"),
            format!(
                "SELECT slot_name, active FROM pg_replication_slots;   -- pg_drop_replication_slot what nobody needs\n\
                 ALTER SYSTEM SET max_replication_slots = {};   -- or this, then restart Postgres",
                facts.max_slots + 4
            ),
        );
    }
    let senders = format!("{} of {} in use", facts.senders, facts.max_senders);
    if facts.senders < facts.max_senders {
        report.add(Level::Ok, "wal senders", senders, None);
    } else {
        report.add(
            Level::Failure,
            "wal senders",
            format!("{senders}, none is free"),
            format!(
                "ALTER SYSTEM SET max_wal_senders = {};   -- then restart Postgres",
                facts.max_senders + 4
            ),
        );
    }
}
