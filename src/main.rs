//! The `rowcast` command.

use std::process::ExitCode;

/// Gives memory back after many clients have left, which the system's allocator hardly does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rowcast::cli::main(std::env::args_os())
}
