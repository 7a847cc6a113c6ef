//! The command line: what can be typed, and what the process answers to it.
//!
//! Results go to standard output, everything else to standard error; an error is one line that says what to do.
//! Exit codes: 0 it worked, 1 it failed, 2 the command line or the settings are wrong.

pub mod check;
mod dev;
mod files;
mod logging;
mod policies;
mod serve;
mod settings;
mod signals;
mod token;

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::server;

/// Why a command did not work.
#[derive(Debug)]
enum Failure {
    /// The command line or the settings are wrong.
    Usage(Box<dyn Error>),
    /// Everything else.
    Failed(Box<dyn Error>),
}

impl Failure {
    fn usage(error: impl Into<Box<dyn Error>>) -> Self {
        Self::Usage(error.into())
    }

    fn failed(error: impl Into<Box<dyn Error>>) -> Self {
        Self::Failed(error.into())
    }
}

/// Everything that can be typed.
pub fn command() -> Command {
    Command::new("rowcast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Live Postgres rows, under the database's own row-level policies, for supabase-js and realtime-py")
        .after_help(
            "Exit codes: 0 it worked, 1 it failed, 2 the command line or the settings are wrong.\n\n\
             Try it: rowcast dev",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve::command())
        .subcommand(dev::command())
        .subcommand(check_command())
        .subcommand(policies::command())
        .subcommand(token::command())
}

/// Runs what was typed. Sets the process's log output, so call it once.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(&matches) {
        Ok(code) => code,
        Err(Failure::Usage(error)) => complain(error.as_ref(), 2),
        Err(Failure::Failed(error)) => complain(error.as_ref(), 1),
    }
}

fn run(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        Some(("dev", matches)) => dev::run(matches),
        Some(("check", matches)) => check(matches),
        Some(("policies", matches)) => policies::run(matches),
        Some(("token", matches)) => token::run(matches),
        _ => Err(Failure::usage("no such command; see rowcast --help")),
    }
}

fn check_command() -> Command {
    Command::new("check")
        .about("Say whether serve would work with these settings, and what to run where it would not")
        .after_help(
            "Exit codes: 0 serve would work, 1 it would not, 2 the command line or the settings are wrong.\n\n\
             Example: DATABASE_URL=postgres://me:secret@db/app rowcast check",
        )
        .args(settings::arguments())
}

fn check(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let config = settings::load(matches)?.config;
    logging::start(&config.log)?;
    let options = check::CheckOptions {
        slot: config.replication.slot_name(),
        publication: config.replication.publication.clone(),
        wal_budget: u64::try_from(config.replication.wal_budget).unwrap_or(u64::MAX),
        plugins: server::output_plugins(&config),
        directory: server::policy_directory(&config),
        policies_required: config.policy.required,
        certificate: server::CertificateFiles::of(&config).map_err(Failure::usage)?,
        ..check::CheckOptions::default()
    };
    let report = block_on(check::run(&server::connect_settings(&config), &options))?;
    print(&report.render());
    Ok(ExitCode::from(report.verdict().exit_code()))
}

/// Runs a command's future on a runtime of its own.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    Ok(runtime.block_on(future))
}

/// One line on standard error: the error and what caused it.
fn complain(error: &dyn Error, code: u8) -> ExitCode {
    let mut line = format!("rowcast: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries print their cause as part of themselves.
        if !line.contains(&text) {
            let _ = write!(line, ": {text}");
        }
        cause = error.source();
    }
    let _ = writeln!(std::io::stderr().lock(), "{}", line.replace('\n', " "));
    ExitCode::from(code)
}

/// Writes a result to standard output. A reader that has gone away is no error of ours.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn serve_help_says_everything_about_every_setting() {
        let mut command = command();
        let serve = command.find_subcommand_mut("serve").unwrap();
        let help = serve.render_long_help().to_string();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let help = words(&help);
        for setting in crate::config::SETTINGS {
            for part in [
                format!("--{}", setting.flag()),
                setting.variable(),
                setting.default.to_owned(),
                words(&setting.meaning()),
            ] {
                assert!(
                    help.contains(&part),
                    "{part} of {} is not in the help",
                    setting.key
                );
            }
            for alias in setting.aliases {
                assert!(help.contains(alias), "{alias}");
            }
        }
    }
}
