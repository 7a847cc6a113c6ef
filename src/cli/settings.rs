//! The table of settings as flags, and flags, environment and file as a configuration.

use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches};

use super::Failure;
use crate::config::{Config, Inputs, Loaded, SECTIONS, SETTINGS, Setting, Unit};

/// `--config` and a flag for every setting.
pub(super) fn arguments() -> Vec<Arg> {
    let mut arguments = vec![config_argument()];
    arguments.extend(SETTINGS.iter().map(argument));
    arguments
}

/// `--config FILE`.
pub(super) fn config_argument() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("ROWCAST_CONFIG")
        .hide_env_values(true)
        .value_parser(ValueParser::path_buf())
        .help("TOML file with settings (docs/CONFIG.md)")
}

fn argument(setting: &'static Setting) -> Arg {
    let heading = SECTIONS
        .iter()
        .find(|section| section.name == setting.section)
        .map_or(setting.section, |section| {
            section.doc.trim().trim_end_matches('.')
        });
    let argument = Arg::new(setting.key)
        .long(setting.flag())
        .value_name(placeholder(setting))
        .help(setting.meaning())
        .long_help(long_help(setting))
        .help_heading(heading)
        .allow_hyphen_values(true);
    match setting.key {
        "listen.port" => argument.visible_alias("port"),
        "listen.host" => argument.visible_alias("host"),
        _ => argument,
    }
}

fn placeholder(setting: &Setting) -> &'static str {
    match (setting.unit, setting.expected) {
        (Unit::Bytes, _) => "SIZE",
        (_, "a path") if setting.name == "directory" => "DIR",
        (_, "a path") => "FILE",
        (_, "true or false") => "BOOL",
        (_, expected) if expected.starts_with("a duration") => "DURATION",
        (_, expected) if expected.starts_with("a whole number") => "N",
        (_, expected) if expected.starts_with("a JSON") => "JSON",
        _ => "TEXT",
    }
}

fn long_help(setting: &Setting) -> String {
    let mut help = setting.meaning();
    let mut variables = setting.variable();
    for alias in setting.aliases {
        variables.push_str(" or ");
        variables.push_str(alias);
    }
    help.push_str(&format!(" [env: {variables}]"));
    if !setting.default.is_empty() {
        help.push_str(&format!(" [default: {}]", setting.default));
    }
    if setting.unit != Unit::Plain {
        help.push_str(&format!(" [a bare number counts {}]", setting.unit.name()));
    }
    help
}

/// The configuration that the flags, this process's environment and the file make.
pub(super) fn load(matches: &ArgMatches) -> Result<Loaded, Failure> {
    let given = |setting: &Setting| {
        let text = matches.get_one::<String>(setting.key)?;
        Some((setting.key.to_owned(), text.clone()))
    };
    let inputs = Inputs {
        file: matches.get_one::<PathBuf>("config").cloned(),
        environment: environment(),
        flags: SETTINGS.iter().filter_map(given).collect(),
    };
    Config::load(&inputs).map_err(Failure::usage)
}

/// This process's environment, as far as it is UTF-8.
pub(super) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
