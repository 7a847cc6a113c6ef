//! From the configuration to each module's own settings.

use std::path::Path;
use std::time::Duration;

use super::stages::Times;
use crate::auth;
use crate::config::{self, Config, SETTINGS};
use crate::feed;
use crate::history;
use crate::hub::Bounds;
use crate::policy;
use crate::policy_files::Directory;
use crate::postgres::{ConnectSettings, InstallOptions, PoolOptions, Session, SslMode};
use crate::replication::{self, PGOUTPUT, SlotSettings, WAL2JSON};
use crate::room;
use crate::session::Limits;
use crate::transport;

/// Where the database is, as the configuration says.
pub fn connect(config: &Config) -> ConnectSettings {
    let database = &config.database;
    ConnectSettings {
        host: database.host.clone(),
        port: database.port,
        user: database.user.clone(),
        password: database.password.clone(),
        database: database.name.clone(),
        ssl_mode: match database.sslmode {
            config::SslMode::Disable => SslMode::Disable,
            config::SslMode::Prefer => SslMode::Prefer,
            config::SslMode::Require => SslMode::Require,
            config::SslMode::VerifyCa => SslMode::VerifyCa,
            config::SslMode::VerifyFull => SslMode::VerifyFull,
        },
        ssl_root_cert: database.sslrootcert.clone(),
        connect_timeout: database.connect_timeout,
    }
}

pub(super) fn installer_session(config: &Config) -> Session {
    let mut session = Session::new("rowcast_install");
    session.statement_timeout = Some(config.database.statement_timeout);
    session
}

pub(super) fn partitions_session(config: &Config) -> Session {
    let mut session = Session::new("rowcast_partitions");
    session.statement_timeout = Some(config.database.statement_timeout);
    // Whatever the database or the role would look for names in: nothing there takes the place of what is meant.
    session.settings.push(("search_path".to_owned(), String::new()));
    session
}

pub(super) fn install(config: &Config) -> InstallOptions {
    InstallOptions {
        publication: config.replication.publication.clone(),
        create_roles: config.database.create_roles,
        ..InstallOptions::default()
    }
}

pub(super) fn catalog_pool(config: &Config) -> PoolOptions {
    let database = &config.database;
    let mut session = Session::new("rowcast_catalog");
    session.statement_timeout = Some(database.statement_timeout);
    session.read_only = true;
    PoolOptions {
        size: database.pool_size,
        wait: database.statement_timeout,
        session,
    }
}

/// Connections for broadcasts that are replayed or kept.
pub(super) fn messages_pool(config: &Config) -> PoolOptions {
    let database = &config.database;
    let mut session = Session::new("rowcast_messages");
    session.statement_timeout = Some(database.statement_timeout);
    PoolOptions {
        size: database.messages_pool_size,
        wait: database.connect_timeout,
        session,
    }
}

/// One connection for those who ask, which is used for a while at the beginning, and one to write.
pub(super) fn places_pool(config: &Config) -> PoolOptions {
    let mut options = messages_pool(config);
    options.size = 2;
    options.session.application_name = "rowcast_places".to_owned();
    options
}

/// The connection that looks at our slot. It writes heartbeats, so it is not read-only.
pub(super) fn watch_pool(config: &Config) -> PoolOptions {
    let database = &config.database;
    let mut session = Session::new("rowcast_watch");
    session.statement_timeout = Some(database.statement_timeout);
    PoolOptions {
        size: 1,
        wait: database.statement_timeout,
        session,
    }
}

/// Connections for snapshots, which nobody else uses. A snapshot keeps VACUUM from what has been
/// deleted since, so that Postgres ends it, too, when its time is up.
pub(super) fn snapshot_pool(config: &Config) -> PoolOptions {
    let snapshot = &config.snapshot;
    let mut session = Session::new("rowcast_snapshot");
    session.statement_timeout = Some(snapshot.timeout);
    session.read_only = true;
    let idle = snapshot.timeout.as_millis().to_string();
    let settings = [("idle_in_transaction_session_timeout", idle)];
    session
        .settings
        .extend(settings.map(|(name, value)| (name.to_owned(), value)));
    PoolOptions {
        // As many again for those who read slowly.
        size: snapshot.parallel.saturating_mul(2),
        wait: config.database.connect_timeout,
        session,
    }
}

/// How it ends.
pub(super) fn stages(config: &Config) -> Times {
    Times {
        notice: config.listen.drain_notice,
        drain: config.listen.drain,
        grace: config.listen.shutdown_grace,
    }
}

/// What becomes of our slot.
pub(super) fn watch(config: &Config) -> replication::WatchSettings {
    let replication = &config.replication;
    replication::WatchSettings {
        slot: replication.slot_name(),
        interval: replication.slot_interval,
        wal_budget: wal_budget(config),
        heartbeat: replication.heartbeat,
    }
}

/// In bytes.
pub(super) fn wal_budget(config: &Config) -> u64 {
    u64::try_from(config.replication.wal_budget).unwrap_or(u64::MAX)
}

pub(super) fn judge_pool(config: &Config) -> PoolOptions {
    let policy = &config.policy;
    let mut session = Session::new("rowcast_judge");
    session.statement_timeout = Some(policy.timeout);
    // Policies only look: one that writes is refused rather than run for every row.
    session.read_only = true;
    PoolOptions {
        size: policy.pool_size,
        wait: policy.timeout,
        session,
    }
}

/// One connection: the shadow must not take what changes wait for.
pub(super) fn shadow_pool(config: &Config) -> PoolOptions {
    let mut options = judge_pool(config);
    options.size = 1;
    options.session.application_name = "rowcast_shadow".to_owned();
    options
}

/// How the shadow asks; `None` if it is off.
pub(super) fn shadow(config: &Config) -> Option<(f64, policy::Settings)> {
    let share = config.policy.shadow_share.0;
    let settings = policy::Settings {
        parallel: 1,
        ..judge(config)
    };
    (share > 0.0).then_some((share, settings))
}

pub(super) fn judge(config: &Config) -> policy::Settings {
    policy::Settings {
        timeout: config.policy.timeout,
        quarantine: QUARANTINE,
        parallel: config.policy.pool_size,
        batch: config.policy.batch_size,
        relation_rows: config.policy.relation_rows,
        relation_rows_total: config.policy.relation_rows_total,
    }
}

/// Where policy files are, if they are anywhere. A directory that somebody named has to be there: without it more would be
/// seen than they think.
pub fn policy_directory(config: &Config) -> Option<Directory> {
    let path = config.policy.directory.as_ref()?;
    let by_default = SETTINGS
        .iter()
        .any(|setting| setting.key == "policy.directory" && Path::new(setting.default) == path);
    Some(Directory::new(path, by_default))
}

/// How long a policy or filter that ran out of time by itself is not evaluated for the subscribers it was slow for.
const QUARANTINE: Duration = Duration::from_secs(10);

pub(super) fn feed(config: &Config) -> feed::Settings {
    feed::Settings {
        publication: config.replication.publication.clone(),
        catalog_refresh: config.database.catalog_interval,
        max_record_bytes: config.limits.record_bytes,
        max_broadcast_bytes: config.limits.payload_bytes,
        max_in_values: config.limits.in_list_values,
        policies_required: config.policy.required,
        in_memory: config.policy.in_memory,
        snapshot: feed::SnapshotSettings {
            parallel: config.snapshot.parallel,
            timeout: config.snapshot.timeout,
            rows: config.snapshot.rows,
            record_bytes: config.limits.record_bytes,
        },
        logical_broadcasts: config.replication.logical_broadcasts,
        channel_recheck: config.policy.channel_recheck,
        window: history::Bounds {
            age: config.resume.window,
            bytes: config.resume.window_bytes,
        },
        unjudged_deletes: match config.policy.unjudged_deletes {
            config::UnjudgedDeletes::Key => feed::UnjudgedDeletes::Key,
            config::UnjudgedDeletes::Deny => feed::UnjudgedDeletes::Deny,
        },
    }
}

/// What rooms keep of what was said.
pub(super) fn rooms(config: &Config) -> room::Keeps {
    room::Keeps {
        age: config.resume.window,
        bytes: config.resume.broadcasts_bytes,
    }
}

pub(super) fn replication(config: &Config, connect: ConnectSettings) -> replication::Settings {
    let replication = &config.replication;
    replication::Settings {
        connect,
        slot: SlotSettings {
            name: replication.slot_name(),
            plugins: output_plugins(config),
            recreate_lost: replication.recreate_lost_slot,
            take_over: replication.takeover,
            failover: replication.failover_slot,
        },
        application_name: "rowcast_replication".to_owned(),
        peer_timeout: PEER_TIMEOUT,
        logical_broadcasts: replication.logical_broadcasts,
    }
}

/// The output plugins that the slot may have, the preferred one first.
pub fn output_plugins(config: &Config) -> Vec<String> {
    let names: &[&str] = match config.replication.plugin {
        config::Plugin::Auto => &[WAL2JSON, PGOUTPUT],
        config::Plugin::Wal2json => &[WAL2JSON],
        config::Plugin::Pgoutput => &[PGOUTPUT],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Silence after which a replication connection is given up, although the server was asked for an answer.
const PEER_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn auth(config: &Config) -> auth::Settings {
    let auth = &config.auth;
    auth::Settings {
        secrets: [&auth.jwt_secret, &auth.jwt_secret_next]
            .into_iter()
            .filter(|secret| !secret.is_empty())
            .cloned()
            .collect(),
        jwks: (!auth.jwks.is_empty()).then(|| auth.jwks.clone()),
        jwks_file: auth.jwks_file.clone(),
        jwks_url: (!auth.jwks_url.is_empty()).then(|| auth.jwks_url.clone()),
        required_claims: auth.required_claims.0.clone(),
        issuer: (!auth.issuer.is_empty()).then(|| auth.issuer.clone()),
        audience: (!auth.audience.is_empty()).then(|| auth.audience.clone()),
        api_keys: auth.api_keys.0.clone(),
        jwks_min_interval: auth.jwks_min_interval,
        jwks_max_age: auth.jwks_max_age,
        jwks_timeout: auth.jwks_timeout,
    }
}

/// Per second; 0 stays no limit.
fn rate(setting: usize) -> u32 {
    u32::try_from(setting).unwrap_or(u32::MAX)
}

pub(super) fn session(config: &Config) -> Limits {
    let (limits, session) = (&config.limits, &config.session);
    Limits {
        channels_per_connection: limits.channels_per_connection,
        bindings_per_channel: limits.bindings_per_channel,
        joins_per_second: rate(limits.connection_joins_per_second),
        messages_per_second: rate(limits.connection_messages_per_second),
        bytes_per_second: rate(limits.connection_bytes_per_second),
        payload_bytes: limits.payload_bytes,
        presence_bytes: limits.presence_bytes,
        presence_calls: limits.presence_calls,
        presence_window: limits.presence_window,
        private_only: session.private_only,
        presence_enabled: session.presence_enabled,
        expiry_warning: session.expiry_warning,
        join_error_delay: session.channel_error_backoff,
        reply_wait: session.join_wait,
        idle_timeout: session.idle_timeout,
        no_channel_timeout: session.no_channel_timeout,
        ..Limits::default()
    }
}

pub(super) fn transport(config: &Config) -> transport::Settings {
    let (limits, session) = (&config.limits, &config.session);
    transport::Settings {
        connections: limits.connections,
        joins_per_second: rate(limits.joins_per_second),
        events_per_second: rate(limits.events_per_second),
        bytes_per_second: rate(limits.bytes_per_second),
        presence_per_second: rate(limits.presence_per_second),
        connect_error_delay: session.connect_error_backoff,
        message_bytes: limits.frame_bytes,
        request_bytes: limits.request_bytes,
        outbox: Bounds {
            frames: limits.outbox_frames,
            bytes: limits.outbox_bytes,
        },
        outboxes_bytes: limits.outboxes_bytes,
        write_timeout: session.write_timeout,
        acknowledge: config.resume.acknowledge,
        window: config.resume.window,
        keep_alive: session.keep_alive,
        poll_wait: session.poll_wait,
        cookie: (!config.auth.cookie.is_empty()).then(|| config.auth.cookie.clone()),
        query_token: config.auth.query_token,
        metrics_token: (!config.metrics.token.is_empty()).then(|| config.metrics.token.clone()),
        ..transport::Settings::default()
    }
}
