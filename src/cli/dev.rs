//! `rowcast dev`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tokio::signal::unix::SignalKind;

use super::{Failure, block_on, logging, settings, signals};
use crate::config::{Config, Inputs};
use crate::dev::{DevError, DevOptions, own_environment, run as run_dev};
use crate::shutdown::Shutdown;

const EXAMPLES: &str = "\
Keeps a private Postgres in the data folder, with the roles, the publication and the objects that clients expect, and
serves it. Prints the URLs and tokens, and writes them to dev.json in the data folder once clients can connect.
Ctrl-C stops everything; the data stays. Needs PostgreSQL 14 or newer.

New tables in the schema public are granted to anon, authenticated and service_role, as in a Supabase project: until
you enable row-level security on a table, everybody with a token sees its rows. To follow a table, publish it:
  alter publication supabase_realtime add table my_table;

Examples:
  rowcast dev
  rowcast dev --sql schema.sql --sql seed.sql     run at every start: write `create table if not exists`
  rowcast dev --data-dir /tmp/other --port 4001

Settings of the server come from ROWCAST_ variables and --config, as for serve. Policy files are read from the directory
policies, or where ROWCAST_POLICY_DIRECTORY says.";

pub(super) fn command() -> Command {
    Command::new("dev")
        .about("Run Rowcast on a private Postgres, for development")
        .after_help(EXAMPLES)
        .arg(data_dir_argument().default_value(".rowcast"))
        .arg(
            port_argument("port")
                .default_value("4000")
                .help("Port for clients, on 127.0.0.1; 0 takes a free one"),
        )
        .arg(
            port_argument("database-port").default_value("0").help(
                "Port of the database, on 127.0.0.1; 0 keeps that of the last run, or takes a free one",
            ),
        )
        .arg(
            Arg::new("postgres")
                .long("postgres")
                .value_name("DIR")
                .value_parser(ValueParser::path_buf())
                .help("Folder of the binaries of the Postgres to run, such as /usr/lib/postgresql/17/bin; by default the one that made the data, or the newest one installed, with wal2json before without"),
        )
        .arg(
            Arg::new("sql")
                .long("sql")
                .value_name("FILE")
                .action(ArgAction::Append)
                .value_parser(ValueParser::path_buf())
                .help("SQL file to run before serving, as superuser; may be repeated"),
        )
        .arg(settings::config_argument())
}

/// `--data-dir DIR`.
pub(super) fn data_dir_argument() -> Arg {
    Arg::new("data-dir")
        .long("data-dir")
        .value_name("DIR")
        .value_parser(ValueParser::path_buf())
        .help("Folder that keeps the database and the keys")
}

fn port_argument(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("PORT")
        .value_parser(value_parser!(u16))
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let settings = Inputs {
        file: matches.get_one::<PathBuf>("config").cloned(),
        environment: own_environment(settings::environment()),
        flags: Vec::new(),
    };
    let config = Config::load(&settings).map_err(Failure::usage)?.config;
    logging::start(&config.log)?;
    let port = |name: &str| matches.get_one(name).copied().unwrap_or_default();
    let options = DevOptions {
        data_dir: matches.get_one("data-dir").cloned().unwrap_or_default(),
        port: port("port"),
        database_port: port("database-port"),
        postgres: matches.get_one("postgres").cloned(),
        sql: matches
            .get_many("sql")
            .map(|files| files.cloned().collect())
            .unwrap_or_default(),
        settings,
    };
    block_on(dev(options))??;
    Ok(ExitCode::SUCCESS)
}

async fn dev(options: DevOptions) -> Result<(), Failure> {
    let shutdown = Shutdown::new();
    // A closed terminal must not leave the database running either.
    let stopping = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    signals::cancel_on(&stopping, &shutdown, signals::Again::Waits)?;
    run_dev(options, shutdown).await.map_err(|error| match error {
        DevError::Config(error) => Failure::usage(error),
        error @ DevError::PolicyFiles(_) => Failure::usage(error),
        error => Failure::failed(error),
    })
}
