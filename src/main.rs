//! The binary: arguments in, exit code out.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use faas_gateway::watchdog;

#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one replica of a local function
    Watchdog(watchdog::Args),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Watchdog(args) => watchdog::run(args),
    }
}
