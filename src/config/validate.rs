//! Values that can be read but make no sense.

use std::time::Duration;

use super::settings::Config;

/// Every key with such a value, and what is expected of it.
pub(super) fn validate(config: &Config) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    let mut require = |key: &'static str, holds: bool, expected: &str| {
        if !holds {
            problems.push((key, format!("expected {expected}")));
        }
    };
    bounds(config, &mut require);
    names(config, &mut require);
    times(config, &mut require);
    problems
}

type Require<'a> = dyn FnMut(&'static str, bool, &str) + 'a;

fn bounds(config: &Config, require: &mut Require<'_>) {
    let limits = &config.limits;
    for (key, value) in [
        ("database.pool_size", config.database.pool_size),
        ("policy.pool_size", config.policy.pool_size),
        ("policy.batch_size", config.policy.batch_size),
        ("limits.connections", limits.connections),
        ("limits.channels_per_connection", limits.channels_per_connection),
        ("limits.bindings_per_channel", limits.bindings_per_channel),
        ("limits.in_list_values", limits.in_list_values),
    ] {
        require(key, value > 0, "at least 1");
    }
    for (key, value) in [
        ("database.pool_size", config.database.pool_size),
        ("policy.pool_size", config.policy.pool_size),
    ] {
        require(key, value <= 1000, "at most 1000 connections");
    }
    for (key, value) in [
        ("limits.frame_bytes", limits.frame_bytes),
        ("limits.record_bytes", limits.record_bytes),
        ("limits.outbox_bytes", limits.outbox_bytes),
    ] {
        require(key, value >= 1024, "at least 1KiB");
    }
    require("limits.outbox_frames", limits.outbox_frames >= 16, "at least 16");
}

fn names(config: &Config, require: &mut Require<'_>) {
    let replication = &config.replication;
    // Manual, "Replication Slots": lower-case letters, digits and underscore, at most 63 bytes.
    let slot = replication.slot_name();
    let slot_is_valid = (1..=63).contains(&slot.len())
        && slot
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    let slot_key = if replication.slot_suffix.is_empty() {
        "replication.slot"
    } else {
        "replication.slot_suffix"
    };
    require(
        slot_key,
        slot_is_valid,
        "a slot name of 1 to 63 lower-case letters, digits and underscores",
    );
    require(
        "replication.publication",
        !replication.publication.is_empty(),
        "the name of a publication",
    );
    require(
        "listen.host",
        !config.listen.host.is_empty(),
        "an address to listen on",
    );
    let listen = &config.listen;
    let (certificate, key) = (listen.tls_certificate.is_some(), listen.tls_key.is_some());
    require(
        "listen.tls_certificate",
        certificate || !key,
        "a file, as listen.tls_key is set",
    );
    require(
        "listen.tls_key",
        key || !certificate,
        "a file, as listen.tls_certificate is set",
    );
    let database = &config.database;
    require("database.host", !database.host.is_empty(), "a host");
    require("database.user", !database.user.is_empty(), "a role");
    require("database.name", !database.name.is_empty(), "a database");
    let url = &config.auth.jwks_url;
    require(
        "auth.jwks_url",
        url.is_empty() || url.starts_with("https://") || url.starts_with("http://"),
        "an http:// or https:// URL",
    );
}

fn times(config: &Config, require: &mut Require<'_>) {
    for (key, value) in [
        ("database.connect_timeout", config.database.connect_timeout),
        ("database.statement_timeout", config.database.statement_timeout),
        ("database.catalog_interval", config.database.catalog_interval),
        ("policy.timeout", config.policy.timeout),
        ("auth.jwks_timeout", config.auth.jwks_timeout),
        ("session.idle_timeout", config.session.idle_timeout),
        ("session.write_timeout", config.session.write_timeout),
        ("session.no_channel_timeout", config.session.no_channel_timeout),
        ("session.join_wait", config.session.join_wait),
        ("replication.slot_interval", config.replication.slot_interval),
    ] {
        require(key, value > Duration::ZERO, "more than 0");
    }
    let listen = &config.listen;
    require(
        "listen.shutdown_grace",
        listen.shutdown_grace > listen.drain.saturating_add(listen.drain_notice),
        "more than listen.drain_notice and listen.drain together",
    );
}
