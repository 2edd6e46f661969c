//! The commands that ask a running gateway: what its API does, for people and
//! scripts.
//!
//! They speak the types of [`crate::model`], from which the OpenAPI document is
//! derived, so what they understand is the contract; a client generated from the
//! document would only bring the same types again.
//!
//! Exit codes: 0 done, 1 the gateway could not be asked or said no, 64 a wrong
//! command line. What the gateway says is printed as it says it.

use std::{future::Future, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

mod asynchronous;
mod credentials;
mod functions;
mod gateway;
mod others;
mod table;

pub(super) use credentials::{Credentials, given_or_stored as credentials_of};
use gateway::{Failure, Gateway};
use table::Shown;

use super::{USAGE, complain, failed, print};

/// Which gateway, who asks, and how the answer is shown.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Gateway")]
pub(super) struct Remote {
    /// URL of the gateway
    #[arg(
        long,
        short = 'g',
        global = true,
        env = "OPENFAAS_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    gateway: url::Url,
    /// User name; without one, what `faas-cli login` has stored for the gateway
    #[arg(long, short = 'u', global = true, env = "OPENFAAS_USERNAME")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long, short = 's', global = true, conflicts_with = "password_file")]
    password_stdin: bool,
    /// Read the password from a file [env: OPENFAAS_PASSWORD has the password itself]
    #[arg(long, global = true, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Longest wait for the gateway's answer, such as 30s
    #[arg(long, global = true, default_value = "60s", value_parser = super::duration)]
    timeout: Duration,
    /// How the answer is shown
    #[arg(long, short = 'o', global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs: what the API answered
    Json,
}

/// Commands about functions.
#[derive(Debug, Args)]
pub(super) struct FunctionsArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: functions::Functions,
}

/// Commands about asynchronous calls.
#[derive(Debug, Args)]
pub(super) struct AsyncArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: asynchronous::Async,
}

/// Commands about namespaces.
#[derive(Debug, Args)]
pub(super) struct NamespacesArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Option<others::Namespaces>,
}

/// Commands about secrets.
#[derive(Debug, Args)]
pub(super) struct SecretsArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: others::Secrets,
}

/// Which configuration a gateway runs with.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    remote: Remote,
}

/// A command that asks a gateway.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List, show, deploy, call, scale and remove functions of a running gateway
    Functions(FunctionsArgs),
    /// List, show and steer asynchronous calls of a running gateway
    Async(AsyncArgs),
    /// List, create and remove namespaces of a running gateway
    Namespaces(NamespacesArgs),
    /// List, create, change and remove secrets of a running gateway
    Secrets(SecretsArgs),
}

impl Command {
    /// Asks, and shows what came back.
    pub(super) fn run(self) -> ExitCode {
        match self {
            Self::Functions(FunctionsArgs { remote, command }) => {
                asked(&remote, |to| async move { command.run(&to).await })
            }
            Self::Async(AsyncArgs { remote, command }) => asked(&remote, |to| async move { command.run(&to).await }),
            Self::Namespaces(NamespacesArgs { remote, command }) => {
                asked(&remote, |to| async move { others::Namespaces::run(command, &to).await })
            }
            Self::Secrets(SecretsArgs { remote, command }) => {
                asked(&remote, |to| async move { command.run(&to).await })
            }
        }
    }
}

impl StatusArgs {
    /// Asks, and shows what came back.
    pub(super) fn run(self) -> ExitCode {
        asked(&self.remote, |to| async move { others::config_status(&to).await })
    }
}

/// What a command comes to.
enum Answer {
    /// Something to show.
    Shown(Box<dyn Shown>),
    /// It was done; what exactly, for people.
    Done(String),
    /// It was printed as it came.
    Printed,
}

impl Answer {
    fn of(shown: impl Shown + 'static) -> Self {
        Self::Shown(Box::new(shown))
    }
}

/// Does something with a gateway, and shows what came of it.
fn asked<F>(remote: &Remote, work: impl FnOnce(Gateway) -> F) -> ExitCode
where
    F: Future<Output = Result<Answer, Failure>>,
{
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&[format!("cannot start: {error}")]),
    };
    let answer = match Gateway::new(remote) {
        Ok(gateway) => runtime.block_on(work(gateway)),
        Err(failure) => Err(failure),
    };
    match (answer, remote.output) {
        (Ok(Answer::Shown(shown)), Output::Table) => print(&shown.table()),
        (Ok(Answer::Shown(shown)), Output::Json) => print(&shown.json()),
        (Ok(Answer::Done(text)), Output::Table) => print(&text),
        (Ok(Answer::Done(_)), Output::Json) | (Ok(Answer::Printed), _) => ExitCode::SUCCESS,
        (Err(Failure::Usage(error)), _) => {
            complain(&format!("error: {error}"));
            ExitCode::from(USAGE)
        }
        (Err(Failure::Refused(error)), _) => failed(&[error]),
    }
}
