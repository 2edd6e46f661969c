//! The program. Everything it does is in the library; see `cli`.

use std::process::ExitCode;

/// 10 to 25 % less processor time per call than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    faas_gateway::cli::run(std::env::args_os())
}
