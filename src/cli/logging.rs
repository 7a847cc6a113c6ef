//! Log lines on standard error.

use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::config::{Log, LogFormat};

/// Sets the process's log output.
pub(super) fn start(log: &Log) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(directives(&log.level)).map_err(|error| {
        Failure::usage(format!(
            "log.level: expected error, warn, info, debug, trace or directives such as rowcast=debug, found {:?} ({error})",
            log.level
        ))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colour).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::failed(error.to_string()))
}

/// A bare word is about us: the libraries below say little that an operator needs.
fn directives(level: &str) -> String {
    match level {
        // Elixir's name for it, which LOG_LEVEL may carry over.
        "warning" => "warn".to_owned(),
        "info" => "info,tokio_postgres=warn".to_owned(),
        "debug" | "trace" => format!("info,tokio_postgres=warn,rowcast={level}"),
        other => other.to_owned(),
    }
}
