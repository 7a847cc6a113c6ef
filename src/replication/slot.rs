//! The permanent logical slot: is it there, is it ours, is it whole. Never recreated in silence.

use super::failure::Failure;
use super::timeline::{Identity, Relation};
use super::walsender::Walsender;
use crate::change::Lsn;

/// The extension of that name.
pub const WAL2JSON: &str = "wal2json";
/// Postgres' own.
pub const PGOUTPUT: &str = "pgoutput";

/// Which slot to stream from.
#[derive(Clone, Debug)]
pub struct SlotSettings {
    /// Its name: 1 to 63 lower-case letters, digits and underscores. Created if it does not exist.
    pub name: String,
    /// Output plugins, the preferred one first: [`WAL2JSON`], [`PGOUTPUT`] or both. A new slot gets the first that the server
    /// has; an existing slot may have any of them.
    pub plugins: Vec<String>,
    /// Whether a slot that was lost or dropped while we streamed from it is made again; changes between are gone, and
    /// [`crate::change::StreamState::Reset`] says so. Otherwise the stream stays interrupted until somebody acts.
    pub recreate_lost: bool,
    /// Whether another process that reads from the slot is terminated. Otherwise it is waited for.
    pub take_over: bool,
    /// Whether a slot that we make is one that Postgres copies to its standbys (17 and later).
    pub failover: bool,
}

/// What an earlier connection of this process knew.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) identity: Option<Identity>,
    /// End of what was passed on.
    pub(super) passed: Lsn,
    /// Why what the slot holds cannot be decoded any more, if that showed.
    pub(super) unreadable: Option<String>,
}

/// A slot that can be streamed from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) identity: Identity,
    /// Where the history that was streamed from before was left, if this is one that came from it.
    pub(super) left: Option<Lsn>,
    /// Why the stream does not continue the earlier one, if it does not.
    pub(super) reset: Option<String>,
    /// Where the slot stands.
    pub(super) confirmed: Lsn,
    /// What decodes for it.
    pub(super) plugin: String,
    /// It was made just now.
    pub(super) new: bool,
    /// The server's `wal_sender_timeout` in milliseconds, 0 for none.
    pub(super) sender_timeout_millis: u64,
}

/// Finds the slot or makes it with this plugin.
pub(super) async fn open(
    walsender: &mut Walsender,
    settings: &SlotSettings,
    plugin: &str,
    known: &Known,
) -> Result<Slot, Failure> {
    if !is_slot_name(&settings.name) {
        return Err(Failure::SlotName(settings.name.clone()));
    }
    let identity = Identity::read(walsender).await?;
    let found = look(walsender, &settings.name).await?;
    if found.wal_level != "logical" {
        return Err(Failure::WalLevel(found.wal_level));
    }
    // An ASCII-only database is plain enough to try; everything else would be misread.
    if !matches!(walsender.encoding(), "UTF8" | "SQL_ASCII") {
        return Err(Failure::Encoding(walsender.encoding().to_owned()));
    }
    let verdict = judge(&found, settings, known, &identity)?;
    let new = !matches!(verdict, Verdict::Use { .. });
    let (confirmed, plugin) = match &verdict {
        Verdict::Use { .. } => found
            .state
            .as_ref()
            .map_or((Lsn(0), plugin), |state| (state.confirmed, state.plugin.as_str())),
        Verdict::Create { .. } => (create(walsender, settings, plugin).await?, plugin),
        Verdict::Recreate { .. } => {
            let drop = format!("DROP_REPLICATION_SLOT {}", settings.name);
            walsender.query(&drop).await?;
            (create(walsender, settings, plugin).await?, plugin)
        }
        Verdict::TakeOver { pid } => {
            let terminate = format!("SELECT pg_catalog.pg_terminate_backend({pid})");
            walsender.query(&terminate).await?;
            return Err(in_use(settings, *pid));
        }
    };
    let left = known.identity.as_ref().and_then(|before| left(&identity, before));
    Ok(Slot {
        identity,
        left,
        reset: verdict.reset(),
        confirmed,
        plugin: plugin.to_owned(),
        new,
        sender_timeout_millis: found.sender_timeout_millis,
    })
}

/// What the server says, once per connection.
#[derive(Clone, Debug)]
struct Found {
    wal_level: String,
    sender_timeout_millis: u64,
    database: String,
    state: Option<State>,
}

/// The row of `pg_replication_slots`.
#[derive(Clone, Debug)]
struct State {
    kind: String,
    plugin: String,
    database: String,
    active_pid: Option<u32>,
    /// Why it is lost, if it is.
    lost: Option<String>,
    confirmed: Lsn,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Use { reset: Option<String> },
    Create { reset: Option<String> },
    Recreate { reset: String },
    TakeOver { pid: u32 },
}

impl Verdict {
    fn reset(self) -> Option<String> {
        match self {
            Self::Use { reset } | Self::Create { reset } => reset,
            Self::Recreate { reset } => Some(reset),
            Self::TakeOver { .. } => None,
        }
    }
}

/// Decides; no I/O.
fn judge(
    found: &Found,
    settings: &SlotSettings,
    known: &Known,
    identity: &Identity,
) -> Result<Verdict, Failure> {
    let slot = &settings.name;
    let relation = known.identity.as_ref().map(|before| identity.relation(before));
    let moved = match relation {
        None | Some(Relation::Same) => None,
        Some(Relation::Descends(_)) if found.state.is_some() => None,
        Some(Relation::Descends(_)) => Some(format!(
            "the database failed over to a server that had no slot {slot}; changes may have been missed"
        )),
        Some(Relation::OtherTimeline) => Some(elsewhere("on another timeline")),
        Some(Relation::OtherSystem) => Some(elsewhere("another database system")),
    };
    let passed = match relation {
        Some(Relation::Descends(left)) => known.passed.min(left),
        _ => known.passed,
    };
    let Some(state) = &found.state else {
        return match (&known.identity, moved) {
            (None, _) => Ok(Verdict::Create { reset: None }),
            (Some(_), Some(moved)) => Ok(Verdict::Create { reset: Some(moved) }),
            (Some(_), None) if settings.recreate_lost => Ok(Verdict::Create {
                reset: Some(format!(
                    "slot {slot} was dropped and made again; changes between are gone"
                )),
            }),
            (Some(_), None) => Err(Failure::SlotGone { slot: slot.clone() }),
        };
    };
    if let Some(owner) = foreign(state, found, settings) {
        return Err(Failure::ForeignSlot {
            slot: slot.clone(),
            owner,
        });
    }
    if let Some(reason) = state.lost.as_ref().or(known.unreadable.as_ref()) {
        return if settings.recreate_lost {
            let reset = format!("slot {slot} was lost ({reason}) and made again; changes between are gone");
            Ok(Verdict::Recreate { reset })
        } else {
            Err(Failure::SlotLost {
                slot: slot.clone(),
                reason: reason.clone(),
            })
        };
    }
    match state.active_pid {
        Some(pid) if settings.take_over => return Ok(Verdict::TakeOver { pid }),
        Some(pid) => return Err(in_use(settings, pid)),
        None => {}
    }
    let advanced = (known.identity.is_some() && state.confirmed > passed).then(|| advanced(slot));
    Ok(Verdict::Use {
        reset: moved.or(advanced),
    })
}

fn elsewhere(what: &str) -> String {
    format!("the server is {what} than before; changes may have been missed")
}

/// Where an earlier history was left for this one.
fn left(identity: &Identity, before: &Identity) -> Option<Lsn> {
    match identity.relation(before) {
        Relation::Descends(left) => Some(left),
        Relation::Same | Relation::OtherTimeline | Relation::OtherSystem => None,
    }
}

/// Why a stream from a slot that others moved does not continue the earlier one.
pub(super) fn advanced(slot: &str) -> String {
    format!("slot {slot} was advanced or read by somebody else; changes may have been missed")
}

fn foreign(state: &State, found: &Found, settings: &SlotSettings) -> Option<String> {
    if state.kind != "logical" {
        Some("physical replication".to_owned())
    } else if !settings.plugins.contains(&state.plugin) {
        let own = matches!(state.plugin.as_str(), WAL2JSON | PGOUTPUT);
        let allow = if own {
            ", which replication.plugin does not allow"
        } else {
            ""
        };
        Some(format!("output plugin {}{allow}", state.plugin))
    } else if state.database != found.database {
        Some(format!("database {}", state.database))
    } else {
        None
    }
}

fn in_use(settings: &SlotSettings, pid: u32) -> Failure {
    Failure::SlotInUse {
        slot: settings.name.clone(),
        by: format!("process {pid}"),
    }
}

/// Which start of which server this is: its time, if it is no standby.
///
/// # Errors
/// [`Failure::InRecovery`] where it is.
pub(super) async fn primary(walsender: &mut Walsender) -> Result<String, Failure> {
    let sql = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_postmaster_start_time()::text";
    let rows = walsender.query(sql).await?;
    let mut row = rows.into_iter().next().unwrap_or_default().into_iter();
    let (in_recovery, started) = (row.next().flatten(), row.next().flatten());
    match in_recovery.as_deref() {
        Some("t") => Err(Failure::InRecovery),
        _ => Ok(started.unwrap_or_default()),
    }
}

/// `name` must have been checked. The newer columns of the view (`conflicting` from 16, `invalidation_reason` from 17, with
/// `idle_timeout` from 18) are read by way of JSON, so that one query serves all versions.
async fn look(walsender: &mut Walsender, name: &str) -> Result<Found, Failure> {
    let sql = format!(
        "SELECT current_setting('wal_level'), \
         (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'), current_database(), \
         s.slot_type, s.plugin, s.database, s.active_pid, \
         CASE WHEN to_jsonb(s)->>'invalidation_reason' = 'idle_timeout' \
         THEN 'nobody read from it for longer than idle_replication_slot_timeout allows' \
         WHEN to_jsonb(s)->>'invalidation_reason' <> 'wal_removed' THEN to_jsonb(s)->>'invalidation_reason' \
         WHEN to_jsonb(s)->>'conflicting' = 'true' THEN 'conflict with recovery' \
         WHEN s.wal_status = 'lost' THEN 'it needed more WAL than max_slot_wal_keep_size allows' END, \
         s.confirmed_flush_lsn \
         FROM (VALUES (1)) one LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = '{name}'"
    );
    let row = walsender
        .query(&sql)
        .await?
        .into_iter()
        .next()
        .unwrap_or_default();
    let mut row = row.into_iter();
    let mut next = || row.next().flatten();
    let (wal_level, timeout, database) = (next(), next(), next());
    let (kind, plugin, owner) = (next(), next(), next());
    let (active_pid, lost, confirmed) = (next(), next(), next());
    Ok(Found {
        wal_level: wal_level.unwrap_or_default(),
        sender_timeout_millis: timeout.and_then(|text| text.parse().ok()).unwrap_or(0),
        database: database.unwrap_or_default(),
        state: kind.map(|kind| State {
            kind,
            plugin: plugin.unwrap_or_default(),
            database: owner.unwrap_or_default(),
            active_pid: active_pid.and_then(|pid| pid.parse().ok()),
            lost,
            confirmed: confirmed.and_then(|lsn| lsn.parse().ok()).unwrap_or_default(),
        }),
    })
}

/// Insufficient privilege after the login of a role that may replicate: the server keeps a list of plugins (minor releases
/// since late 2026) and this one is not on it. Only superusers may read the list.
pub(super) fn not_allowed(failure: Failure, plugin: &str) -> Failure {
    match failure {
        Failure::Server(error) if error.code == "42501" => Failure::PluginNotAllowed {
            plugin: plugin.to_owned(),
            cause: error,
        },
        failure => failure,
    }
}

/// Makes the slot, in a command of its own as Postgres demands, and returns where it starts. Waits until every
/// transaction that is running now has ended.
async fn create(walsender: &mut Walsender, settings: &SlotSettings, plugin: &str) -> Result<Lsn, Failure> {
    let major = walsender.major_version().parse().unwrap_or(0);
    if settings.failover && major < FAILOVER_SINCE {
        tracing::warn!(
            major,
            "replication.failover_slot needs PostgreSQL {FAILOVER_SINCE}: the slot is not copied to standbys"
        );
    }
    let sql = create_command(settings, plugin, major);
    let rows = walsender.query(&sql).await.map_err(|failure| match failure {
        Failure::Server(error) if matches!(error.code.as_str(), "58P01" | "42704" | "42883") => {
            Failure::PluginMissing {
                plugin: plugin.to_owned(),
                version: walsender.major_version().to_owned(),
            }
        }
        failure => not_allowed(failure, plugin),
    })?;
    let start = rows.into_iter().next().and_then(|row| row.into_iter().nth(1)?);
    start
        .and_then(|lsn| lsn.parse().ok())
        .ok_or(Failure::Protocol("empty answer to CREATE_REPLICATION_SLOT"))
}

/// The major version that copies slots to standbys (manual, "Replication Slot Synchronization").
const FAILOVER_SINCE: u32 = 17;

/// Options in parentheses came with 15 (manual, "CREATE_REPLICATION_SLOT").
fn create_command(settings: &SlotSettings, plugin: &str, major: u32) -> String {
    let plugin = plugin.replace('"', "\"\"");
    let options = match settings.failover && major >= FAILOVER_SINCE {
        true => "(SNAPSHOT 'nothing', FAILOVER true)",
        false => "NOEXPORT_SNAPSHOT",
    };
    format!(
        "CREATE_REPLICATION_SLOT {} LOGICAL \"{plugin}\" {options}",
        settings.name
    )
}

fn is_slot_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> SlotSettings {
        SlotSettings {
            name: "rowcast".to_owned(),
            plugins: vec![WAL2JSON.to_owned()],
            recreate_lost: false,
            take_over: false,
            failover: false,
        }
    }

    fn identity(system: &str, timeline: u32) -> Identity {
        Identity::of(system, timeline, &[])
    }

    fn known(passed: u64) -> Known {
        Known {
            identity: Some(identity("1", 1)),
            passed: Lsn(passed),
            unreadable: None,
        }
    }

    fn found(change: impl FnOnce(&mut State)) -> Found {
        let mut state = State {
            kind: "logical".to_owned(),
            plugin: "wal2json".to_owned(),
            database: "app".to_owned(),
            active_pid: None,
            lost: None,
            confirmed: Lsn(100),
        };
        change(&mut state);
        Found {
            wal_level: "logical".to_owned(),
            sender_timeout_millis: 60_000,
            database: "app".to_owned(),
            state: Some(state),
        }
    }

    fn missing() -> Found {
        Found {
            state: None,
            ..found(|_| {})
        }
    }

    fn verdict(found: &Found, known: &Known) -> Result<Verdict, String> {
        judge(found, &settings(), known, &identity("1", 1)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_whole_slot_is_used_and_a_missing_one_made_once() {
        assert_eq!(
            verdict(&found(|_| {}), &Known::default()),
            Ok(Verdict::Use { reset: None })
        );
        assert_eq!(
            verdict(&found(|_| {}), &known(100)),
            Ok(Verdict::Use { reset: None })
        );
        assert_eq!(
            verdict(&missing(), &Known::default()),
            Ok(Verdict::Create { reset: None })
        );
        assert!(
            verdict(&missing(), &known(100))
                .unwrap_err()
                .contains("was dropped")
        );
    }

    #[test]
    fn lost_is_told_with_the_remedy() {
        let lost = found(|state| state.lost = Some("wal_removed".to_owned()));
        let text = verdict(&lost, &known(100)).unwrap_err();
        assert!(text.contains("pg_drop_replication_slot('rowcast')"), "{text}");
        let recreate = SlotSettings {
            recreate_lost: true,
            ..settings()
        };
        let here = identity("1", 1);
        let again = judge(&lost, &recreate, &known(100), &here).unwrap();
        assert!(matches!(again, Verdict::Recreate { .. }));
        let again = judge(&missing(), &recreate, &known(100), &here).unwrap();
        assert!(matches!(again, Verdict::Create { reset: Some(_) }));
    }

    #[test]
    fn foreign_and_busy_slots_are_left_alone() {
        for (found, word) in [
            (found(|s| s.kind = "physical".to_owned()), "physical"),
            (found(|s| s.plugin = "pgoutput".to_owned()), "pgoutput"),
            (found(|s| s.database = "other".to_owned()), "database other"),
            (found(|s| s.active_pid = Some(4711)), "process 4711"),
        ] {
            let text = verdict(&found, &known(100)).unwrap_err();
            assert!(text.contains(word), "{text}");
        }
        let take_over = SlotSettings {
            take_over: true,
            ..settings()
        };
        let busy = found(|s| s.active_pid = Some(4711));
        assert_eq!(
            judge(&busy, &take_over, &known(100), &identity("1", 1)).unwrap(),
            Verdict::TakeOver { pid: 4711 }
        );
    }

    #[test]
    fn another_history_is_a_reset() {
        for (identity, word) in [
            (identity("2", 1), "another database"),
            (identity("1", 2), "timeline"),
        ] {
            let used = judge(&found(|_| {}), &settings(), &known(100), &identity).unwrap();
            assert!(used.reset().is_some_and(|text| text.contains(word)));
            let made = judge(&missing(), &settings(), &known(100), &identity).unwrap();
            assert!(made.reset().is_some_and(|text| text.contains(word)));
        }
        let advanced = verdict(&found(|s| s.confirmed = Lsn(101)), &known(100)).unwrap();
        assert!(
            advanced
                .reset()
                .is_some_and(|text| text.contains("somebody else"))
        );
    }

    #[test]
    fn a_slot_that_a_promoted_standby_has_continues_the_stream() {
        let promoted = Identity::of("1", 2, &[(1, 90)]);
        let verdict = |found: &Found, passed| judge(found, &settings(), &known(passed), &promoted).unwrap();
        let behind = found(|slot| slot.confirmed = Lsn(80));
        assert_eq!(verdict(&behind, 85), Verdict::Use { reset: None });
        assert_eq!(verdict(&behind, 95), Verdict::Use { reset: None });
        let at = found(|slot| slot.confirmed = Lsn(90));
        assert_eq!(verdict(&at, 95), Verdict::Use { reset: None });
        let advanced = |found: &Found, passed| {
            verdict(found, passed)
                .reset()
                .is_some_and(|text| text.contains("advanced"))
        };
        assert!(advanced(&at, 89));
        let beyond = found(|slot| slot.confirmed = Lsn(91));
        assert!(advanced(&beyond, 95), "what was passed on behind 90 says nothing");
        let made = verdict(&missing(), 85).reset();
        assert!(made.is_some_and(|text| text.contains("had no slot rowcast")));
    }

    #[test]
    fn a_slot_is_copied_to_standbys_where_postgres_can_do_that() {
        let failover = SlotSettings {
            failover: true,
            ..settings()
        };
        let plain = "CREATE_REPLICATION_SLOT rowcast LOGICAL \"wal2json\" NOEXPORT_SNAPSHOT";
        assert_eq!(create_command(&settings(), WAL2JSON, 17), plain);
        assert_eq!(create_command(&failover, WAL2JSON, 16), plain);
        assert_eq!(
            create_command(&failover, WAL2JSON, 17),
            "CREATE_REPLICATION_SLOT rowcast LOGICAL \"wal2json\" (SNAPSHOT 'nothing', FAILOVER true)"
        );
    }

    #[test]
    fn slot_names() {
        assert!(is_slot_name("rowcast_1"));
        let long = "x".repeat(64);
        for name in ["", "Rowcast", "row cast", "row'cast", "ü", long.as_str()] {
            assert!(!is_slot_name(name), "{name}");
        }
    }
}
