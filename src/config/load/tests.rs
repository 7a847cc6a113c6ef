use std::io::Write;
use std::time::Duration;

use proptest::prelude::*;

use super::super::value::SslMode;
use super::*;

fn inputs(
    file: Option<&str>,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> (Inputs, Option<tempfile::NamedTempFile>) {
    let owned = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs.map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    let file = file.map(|text| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    });
    let inputs = Inputs {
        file: file.as_ref().map(|file| file.path().to_owned()),
        environment: owned(environment),
        flags: owned(flags),
    };
    (inputs, file)
}

fn load(
    file: Option<&str>,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Loaded, ConfigError> {
    let (inputs, _file) = inputs(file, environment, flags);
    Config::load(&inputs)
}

fn error(file: Option<&str>, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    load(file, environment, flags).unwrap_err().to_string()
}

#[test]
fn defaults_are_readable_and_valid() {
    let config = load(None, &[], &[]).unwrap().config;
    assert_eq!((config.listen.port, config.database.port), (4000, 5432));
    assert_eq!(config.limits.outbox_bytes, 8 << 20);
    assert_eq!(config.session.channel_error_backoff, Duration::from_secs(5));
    assert_eq!(config.replication.slot_name(), "rowcast");
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let file = Some("[database]\nhost = \"file\"\nport = 1\nuser = \"file\"\nname = \"file\"");
    let environment = [
        ("ROWCAST_DATABASE_HOST", "env"),
        ("ROWCAST_DATABASE_PORT", "2"),
        ("DB_HOST", "alias"),
        ("DB_USER", "alias"),
        ("DB_NAME", ""),
    ];
    let database = load(file, &environment, &[("database.host", "flag")])
        .unwrap()
        .config
        .database;
    assert_eq!(
        (&*database.host, database.port, &*database.user, &*database.name),
        ("flag", 2, "alias", "file")
    );
}

#[test]
fn reads_what_a_supabase_compose_file_sets() {
    let environment = [
        ("PORT", "4001"),
        ("DB_HOST", "db"),
        ("DB_PORT", "5433"),
        ("DB_USER", "supabase_admin"),
        ("DB_PASSWORD", "pw"),
        ("DB_NAME", "app"),
        ("DB_SSL", "false"),
        ("API_JWT_SECRET", "current"),
        ("API_JWT_SECRET_NEXT", "next"),
        ("JWT_CLAIM_VALIDATORS", r#"{"iss":"us"}"#),
        ("SLOT_NAME_SUFFIX", "blue"),
        ("CONNECT_ERROR_BACKOFF_MS", "50"),
        ("NO_CHANNEL_TIMEOUT_IN_MS", "700000"),
        ("MAX_CONNECTIONS", "77"),
        ("TENANT_MAX_JOINS_PER_SECOND", "5"),
        ("DB_AFTER_CONNECT_QUERY", "SET search_path TO _realtime"),
        ("SECRET_KEY_BASE", "x"),
    ];
    let config = load(None, &environment, &[]).unwrap().config;
    assert_eq!((config.listen.port, config.database.port), (4001, 5433));
    assert_eq!(config.database.sslmode, SslMode::Disable);
    assert_eq!(config.auth.jwt_secret_next.expose(), "next");
    assert_eq!(config.auth.required_claims.0["iss"], "us");
    assert_eq!(config.replication.slot_name(), "rowcast_blue");
    assert_eq!(config.session.connect_error_backoff, Duration::from_millis(50));
    assert_eq!(config.session.no_channel_timeout, Duration::from_secs(700));
    assert_eq!(
        (config.limits.connections, config.limits.joins_per_second),
        (77, 5)
    );
}

#[test]
fn a_database_url_beats_its_parts_unless_they_are_stronger() {
    let url = "postgres://u:p@h:1/n?sslmode=verify-full";
    let environment = [
        ("ROWCAST_DATABASE_URL", url),
        ("DB_HOST", "alias"),
        ("DB_USER", "alias"),
    ];
    let database = load(
        Some("[database]\nname = \"file\""),
        &environment,
        &[("database.port", "9")],
    )
    .unwrap()
    .config
    .database;
    assert_eq!(
        (&*database.host, database.port, &*database.user, &*database.name),
        ("h", 9, "u", "n")
    );
    assert_eq!(database.sslmode, SslMode::VerifyFull);
    assert_eq!(database.password.expose(), "p");
}

#[test]
fn unknown_keys_are_errors_with_a_suggestion() {
    let typo = error(Some("[database]\nhsot = \"x\""), &[], &[]);
    assert!(
        typo.contains("database.hsot") && typo.contains("did you mean database.host?"),
        "{typo}"
    );
    let section = error(Some("[colours]\nred = 1"), &[], &[]);
    assert!(
        section.contains("colours.red") && !section.contains("did you mean"),
        "{section}"
    );
    let top = error(Some("port = 1"), &[], &[]);
    assert!(top.contains("unknown setting port"), "{top}");
}

#[test]
fn bad_values_name_the_setting_its_source_and_what_is_expected() {
    let all = error(
        Some("[listen]\nport = 70000"),
        &[("DB_PORT", "tcp://10.0.0.1:5432"), ("ROWCAST_LOG_FORMAT", "xml")],
        &[("limits.frame_bytes", "lots"), ("session.idle_timeout", "1y")],
    );
    for part in [
        "listen.port (from /",
        "whole number from 0 to 65535, found \"70000\"",
        "database.port (from environment variable DB_PORT)",
        "log.format (from environment variable ROWCAST_LOG_FORMAT): expected text or json, found \"xml\"",
        "limits.frame_bytes (from --limits-frame-bytes): expected a whole number of bytes",
        "session.idle_timeout (from --session-idle-timeout): expected a duration such as",
    ] {
        assert!(all.contains(part), "{part} is not in: {all}");
    }
    assert_eq!(all.lines().count(), 1);
}

#[test]
fn values_without_sense_are_errors_too() {
    let slot = error(None, &[], &[("replication.slot", "Row-Cast")]);
    assert!(
        slot.contains("replication.slot (from --replication-slot): expected a slot name"),
        "{slot}"
    );
    let zero = error(None, &[("MAX_CONNECTIONS", "0")], &[]);
    assert!(
        zero.contains("limits.connections (from environment variable MAX_CONNECTIONS): expected at least 1"),
        "{zero}"
    );
}

#[test]
fn broken_files_are_described_without_quoting_them() {
    let missing = error_of_path("/nonexistent/rowcast.toml");
    assert!(missing.contains("/nonexistent/rowcast.toml"), "{missing}");
    let syntax = error(Some("[database]\n\npassword = hunter2\n"), &[], &[]);
    assert!(
        syntax.contains("line 3") && !syntax.contains("hunter2"),
        "{syntax}"
    );
}

fn error_of_path(path: &str) -> String {
    let inputs = Inputs {
        file: Some(path.into()),
        ..Inputs::default()
    };
    Config::load(&inputs).unwrap_err().to_string()
}

#[test]
fn no_secret_is_ever_printed() {
    let secrets: Vec<(&str, &str)> = SETTINGS
        .iter()
        .filter(|setting| setting.secret)
        .map(|setting| match setting.key {
            "auth.jwks" => (setting.key, r#"{"keys": "hunter2"}"#),
            "auth.api_keys" => (setting.key, r#"{"sb_hunter2": "anon"}"#),
            "database.url" => (setting.key, "postgres://u:hunter2@h/n"),
            key => (key, "hunter2"),
        })
        .collect();
    let loaded = load(None, &[], &secrets).unwrap();
    for text in [loaded.print(), format!("{loaded:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(
        loaded
            .print()
            .contains("jwt_secret = \"***\"  # --auth-jwt-secret")
    );
}

#[test]
fn the_printed_configuration_gives_the_same_one() {
    let given = [
        ("limits.outbox_bytes", "1MiB"),
        ("database.host", "a\"b"),
        ("auth.required_claims", r#"{"iss":"us"}"#),
    ];
    let first = load(None, &[], &given).unwrap();
    let second = load(Some(&first.print()), &[], &[]).unwrap();
    assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config));
}

#[test]
fn warns_of_variables_that_look_like_a_slip() {
    let environment = [
        ("ROWCAST_DATABSE_HOST", "x"),
        ("ROWCAST_PORT", "tcp://10.0.0.1:4000"),
    ];
    let warnings = load(None, &environment, &[]).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("ROWCAST_DATABASE_HOST"));
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(text in "\\PC{0,80}", key in "database\\.(url|port)|session\\.idle_timeout", value in "\\PC{0,30}") {
        let _ = load(Some(&text), &[], &[]);
        let _ = load(None, &[], &[(&key, &value)]);
    }
}
