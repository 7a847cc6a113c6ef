//! `rowcast policies`: what decides who sees which row, tried out without a subscriber.

mod explain;
mod list;
mod subject;
mod test;

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::{Failure, logging, settings};
use crate::config::Config;

const ABOUT: &str = "\
Policy files are in the directory policies, or where --directory says. docs/POLICIES.md tells what is in them.

The database is that of serve: the same flags, variables and file say which.

Nothing is written to the database: whatever a case sets up is rolled back.";

const TEST: &str = "\
Cases are in NAME.cases.toml beside the policy files. A case that needs rows in other tables says so by setup, which is
rolled back.

Exit codes: 0 every case is as expected, 1 some are not, 2 a file, a case, the command line or the settings are wrong.

Example: DATABASE_URL=postgres://me:secret@db/app rowcast policies test";

const EXPLAIN: &str = "\
A column that the row does not have is NULL.

Exit codes: 0 it was explained, 1 it could not be, 2 the command line or the settings are wrong.

Example:
  rowcast policies explain --table todos --claims '{\"role\": \"authenticated\", \"sub\": \"a0...\"}' --row '{\"id\": 1}'";

pub(super) fn command() -> Command {
    Command::new("policies")
        .about("Test, explain and list the policies that decide who sees which row")
        .after_help(ABOUT)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("test")
                .about("Run the cases beside the policy files, against the compiled policies and against Postgres")
                .after_help(TEST)
                .args(arguments()),
        )
        .subcommand(
            Command::new("explain")
                .about("Say step by step who sees a row, and why")
                .after_help(EXPLAIN)
                .arg(text("claims", "JSON").help("Claims of the token, with its role"))
                .arg(text("table", "TABLE").help("The table, with its schema where that is not public"))
                .arg(text("row", "JSON").help("The row, column by column"))
                .args(arguments()),
        )
        .subcommand(
            Command::new("list")
                .about("List the policies of every published table, and how each is decided")
                .args(arguments()),
        )
}

fn text(name: &'static str, placeholder: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(placeholder).required(true)
}

/// Those of every command, with a short name for what this one is about.
fn arguments() -> impl Iterator<Item = Arg> {
    settings::arguments().into_iter().map(|argument| {
        if argument.get_id() == "policy.directory" {
            argument.visible_alias("directory")
        } else {
            argument
        }
    })
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    match matches.subcommand() {
        Some(("test", matches)) => test::run(&config(matches)?),
        Some(("explain", matches)) => explain::run(&config(matches)?, matches),
        Some(("list", matches)) => list::run(&config(matches)?),
        _ => Err(Failure::usage("no such command; see rowcast policies --help")),
    }
}

fn config(matches: &ArgMatches) -> Result<Config, Failure> {
    let config = settings::load(matches)?.config;
    logging::start(&config.log)?;
    Ok(config)
}
