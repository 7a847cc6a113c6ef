//! The `rowcast` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    rowcast::cli::main(std::env::args_os())
}
