//! The `rowcast` command.

use std::process::ExitCode;

/// Gives memory back after many clients have left, which the system's allocator hardly does.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    rowcast::cli::main(std::env::args_os())
}
