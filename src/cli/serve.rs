//! `rowcast serve`.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;

use super::{Failure, block_on, files, logging, print, settings, signals};
use crate::config::Config;
use crate::server::{self, Reload, ServeError};
use crate::shutdown::Shutdown;

const EXAMPLES: &str = "\
A flag beats the environment, the environment beats the file, the file beats the default.

Examples:
  ROWCAST_DATABASE_URL=postgres://me:secret@db/app ROWCAST_AUTH_JWT_SECRET=... rowcast serve
  rowcast serve --config rowcast.toml --port 8080
  rowcast serve --config rowcast.toml --print-config

SIGHUP reads the policy files and the TLS certificate again, although a change of them is noticed by itself.

Is anything missing on the database's side? rowcast check tells.";

pub(super) fn command() -> Command {
    Command::new("serve")
        .about("Follow a database and serve its changes")
        .after_long_help(EXAMPLES)
        .after_help("rowcast serve --help says more about every setting.")
        .args(settings::arguments())
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print every setting and where it came from, secrets masked, and exit"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let loaded = settings::load(matches)?;
    if matches.get_flag("print-config") {
        print(&loaded.print());
        return Ok(ExitCode::SUCCESS);
    }
    logging::start(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    files::allow(loaded.config.limits.connections);
    block_on(serve(loaded.config))??;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config) -> Result<(), Failure> {
    let shutdown = Shutdown::new();
    let stopping = [SignalKind::interrupt(), SignalKind::terminate()];
    signals::cancel_on(&stopping, &shutdown, signals::Again::Ends)?;
    let (host, port) = (config.listen.host.as_str(), config.listen.port);
    let listener = TcpListener::bind((host, port)).await.map_err(|error| {
        Failure::failed(format!(
            "cannot listen on {host} port {port}: {error}; choose another with --host and --port"
        ))
    })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "listening");
    }
    let reload = Reload::default();
    signals::reload_on_hangup(&reload)?;
    server::run_with(listener, config, shutdown, reload)
        .await
        .map_err(|error| match error {
            ServeError::PolicyFiles(_) | ServeError::Certificate(_) => Failure::usage(error),
            error => Failure::failed(error),
        })
}
