//! `faas-gateway watchdog`: one replica of a local function behind HTTP.
//!
//! Each replica is a process of its own, so that the gateway sees every
//! function as an HTTP upstream and a crashing function hurts only itself. The
//! modes, settings, health paths and log lines are those of OpenFaaS's
//! watchdogs. The function's environment is this process's environment.
//!
//! It does not restart what died, measure calls or keep logs: the provider
//! does. There is no lock file either; health is asked over HTTP, and one file
//! would be shared by all replicas of a machine.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    sync::Arc,
    time::Duration,
};

use clap::ValueEnum;
use tokio::{
    net::unix::pipe,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    config::{Sources, duration},
    shutdown::Tasks,
};

mod answer;
mod env;
mod fork;
pub mod isolation;
pub mod limits;
mod log;
mod port;
mod process;
mod rest;
mod reverse;
mod server;
mod settings;
mod stage;
mod static_files;
mod stream;

pub use process::{SECRETS_VARIABLE, is_runnable};
pub use settings::{Mode, SettingError, Settings};

use log::{Source, note};
use process::{Launcher, Running, describe};
use server::{Listener, Replica, Runner};
use stage::Bounds;

/// Command line of the watchdog. What it does not say, the environment does.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Serve on this Unix socket
    #[arg(long, value_name = "PATH", conflicts_with = "listen")]
    pub socket: Option<PathBuf>,
    /// Serve on this address; without it and --socket: 0.0.0.0 and the port in `port` (8080)
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// The function's command, quoted as in a shell [default: `function_process` or `fprocess`]
    #[arg(long, value_name = "TEXT")]
    pub command: Option<String>,
    /// How to run it [default: `mode`, or fork]
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Directory of the function's secrets, shown at /var/openfaas/secrets and named in `FAAS_SECRETS_DIR`
    #[arg(long, value_name = "PATH")]
    pub secrets_dir: Option<PathBuf>,
    /// Most memory for the function
    #[arg(long, value_name = "BYTES")]
    pub memory_limit: Option<u64>,
    /// Most processor time for the function, in thousandths of a processor; needs --cgroup
    #[arg(long, value_name = "MILLICORES")]
    pub cpu_limit: Option<u64>,
    /// An existing cgroup (version 2) for the function's processes; its limits apply then
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Stop when stdin, a pipe, is closed: its other end died
    #[arg(long)]
    pub lifeline: bool,
    /// How long to keep serving after SIGTERM when `healthcheck_interval` is unset [default: 0 with --lifeline, else `write_timeout`]
    #[arg(long, value_name = "DURATION", value_parser = read_duration)]
    pub drain_delay: Option<Duration>,
    /// Longest wait for calls in flight when stopping, if shorter than `write_timeout`
    #[arg(long, value_name = "DURATION", value_parser = read_duration)]
    pub drain_timeout: Option<Duration>,
    /// Become a function within bounds; the process id of the watchdog
    #[arg(long, value_name = "PID", hide = true)]
    pub exec_limited: Option<i32>,
    /// The program that `--exec-limited` becomes
    #[arg(last = true, hide = true)]
    pub program: Vec<OsString>,
}

fn read_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| "expected a duration such as 5, 5s or 1m30s".to_owned())
}

/// Bad usage or configuration.
const USAGE: u8 = 64;

/// How long a function may take to end after SIGTERM.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Longest drain when the gateway is gone: nobody waits for the answers.
const ORPHAN_DRAIN: Duration = Duration::from_secs(5);

/// Runs a replica until it is told to stop, its lifeline ends or its function
/// dies. Must be called while the process has one thread: it may enter other
/// namespaces.
///
/// Exit codes: 0 asked to stop, 1 failure (the function died among them), 64
/// bad usage or environment, 126 when the hidden second stage cannot run its
/// program.
pub fn run(mut args: Args) -> ExitCode {
    let bounds = Bounds {
        memory: args.memory_limit,
        cgroup: args.cgroup.take(),
    };
    if let Some(parent) = args.exec_limited {
        return stage::run(parent, &bounds, &args.program);
    }
    let environment = with_arguments(Sources::of_process(None, Vec::new()).environment, &args);
    let settings = match Settings::from_env(&environment) {
        Ok(settings) => settings,
        Err(errors) => {
            for error in errors {
                note(format_args!("{error}"));
            }
            return ExitCode::from(USAGE);
        }
    };
    if let Err(message) = check(&settings, &environment) {
        note(format_args!("{message}"));
        return ExitCode::from(USAGE);
    }
    if args.cpu_limit.is_some() && bounds.cgroup.is_none() {
        note(format_args!(
            "the cpu limit has no effect: it needs a cgroup, and there is none"
        ));
    }
    if let Some(secrets) = &args.secrets_dir
        && let Err(error) = isolation::mount_secrets(secrets)
    {
        note(format_args!(
            "secrets are only in ${SECRETS_VARIABLE}, not at {}: {error}",
            isolation::SECRETS_PATH
        ));
    }
    // One thread is enough for one function, and keeps a replica small.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            note(format_args!("cannot start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let launcher = Launcher {
        program: settings.command.clone(),
        bounds,
        secrets: args.secrets_dir.take(),
    };
    let ended = runtime.block_on(replica(&args, settings, launcher));
    // A reader of a slow disk must not keep a stopped replica alive.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            note(format_args!("{message}"));
            ExitCode::FAILURE
        }
    }
}

/// The environment as it would be had the arguments been variables.
fn with_arguments(mut environment: BTreeMap<String, String>, args: &Args) -> BTreeMap<String, String> {
    if let Some(command) = &args.command {
        environment.insert("function_process".to_owned(), command.clone());
    }
    if let Some(mode) = args.mode.and_then(|mode| mode.to_possible_value()) {
        environment.insert("mode".to_owned(), mode.get_name().to_owned());
    }
    environment
}

/// Finds out what would fail at the first call.
fn check(settings: &Settings, environment: &BTreeMap<String, String>) -> Result<(), String> {
    if settings.mode == Mode::Static {
        return if settings.static_path.is_dir() {
            Ok(())
        } else {
            Err(format!(
                "static_path: {} is no directory",
                settings.static_path.display()
            ))
        };
    }
    let search = environment.get("PATH").map(OsString::from);
    match settings.command.first() {
        Some(program) if is_runnable(program, search.as_deref()) => Ok(()),
        Some(program) => Err(format!(
            "the command '{program}' cannot be run: no such executable file"
        )),
        None => Err("no command was given".to_owned()),
    }
}

/// Why a replica stops.
enum Stop {
    Asked,
    LifelineEnded,
    FunctionDied(io::Result<ExitStatus>),
}

/// Everything that can make a replica stop.
struct Watch {
    terminate: Signal,
    interrupt: Signal,
    lifeline: Option<pipe::Receiver>,
}

impl Watch {
    fn new(lifeline: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            lifeline: lifeline.then(stdin_pipe).transpose()?,
        })
    }

    /// Resolves when the replica should stop; each reason once. Cancel safe.
    async fn stop(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => return Stop::Asked,
            _ = self.interrupt.recv() => return Stop::Asked,
            () = closed(self.lifeline.as_mut()) => {}
        }
        self.lifeline = None;
        Stop::LifelineEnded
    }
}

fn stdin_pipe() -> io::Result<pipe::Receiver> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    pipe::Receiver::from_owned_fd(stdin)
        .map_err(|error| io::Error::new(error.kind(), format!("--lifeline needs a pipe as stdin: {error}")))
}

/// Resolves when the other end of a pipe is closed; never without a pipe.
async fn closed(pipe: Option<&mut pipe::Receiver>) {
    let Some(pipe) = pipe else {
        return std::future::pending().await;
    };
    let mut ignored = [0; 64];
    // Whatever is written has no meaning; an error means that nothing more will come.
    while let Ok(1..) = tokio::io::AsyncReadExt::read(pipe, &mut ignored).await {}
}

async fn replica(args: &Args, settings: Settings, launcher: Launcher) -> Result<(), String> {
    let mut watch = Watch::new(args.lifeline).map_err(|error| format!("cannot watch for the end: {error}"))?;
    let listener = match (&args.socket, args.listen) {
        (Some(path), _) => {
            Listener::unix(path).map_err(|error| format!("cannot listen on {}: {error}", path.display()))
        }
        (None, address) => {
            let address = address.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.port)));
            Listener::tcp(address)
                .await
                .map_err(|error| format!("cannot listen on {address}: {error}"))
        }
    }?;
    // A gateway that holds the lifeline has stopped sending calls before it
    // asks for the end; others learn it from health.
    let usual_delay = if args.lifeline {
        Duration::ZERO
    } else {
        settings.write_timeout
    };
    let delay = settings
        .healthcheck_interval
        .or(args.drain_delay)
        .unwrap_or(usual_delay);
    let bound = args
        .drain_timeout
        .map_or(settings.write_timeout, |longest| longest.min(settings.write_timeout));
    let (runner, server) = match settings.mode {
        Mode::Fork => (Runner::Classic, None),
        Mode::Serializing => (Runner::Serializing, None),
        Mode::Streaming => (Runner::Streaming, None),
        Mode::Static => (Runner::Static(static_files::files(&settings.static_path)), None),
        Mode::Http => {
            let (port, claim) = port::choose(&settings)?;
            let server = Arc::new(reverse::Server::at(settings.upstream_url.as_ref(), port, claim));
            (Runner::Http(Arc::clone(&server)), Some(server))
        }
    };
    let tasks = Tasks::new();
    let replica = Arc::new(Replica::new(settings, launcher, runner, tasks.clone()));
    let output = Tasks::new();
    let mut function = match server {
        Some(server) => Some(Function::start(&replica, server, &output)?),
        None => None,
    };
    tasks.spawn(server::serve(listener, Arc::clone(&replica)));

    let stop = tokio::select! {
        stop = watch.stop() => stop,
        died = ended(function.as_mut()) => Stop::FunctionDied(died),
    };
    let result = match stop {
        Stop::FunctionDied(died) => {
            tasks.abort();
            Err(match died {
                Ok(status) => format!("the function ended: {}", describe(status)),
                Err(error) => format!("the function cannot be watched: {error}"),
            })
        }
        Stop::Asked => {
            replica.retire();
            drain(&tasks, &mut watch, delay, bound).await;
            Ok(())
        }
        Stop::LifelineEnded => {
            note(format_args!("the gateway is gone; stopping"));
            replica.retire();
            drain(&tasks, &mut watch, Duration::ZERO, bound.min(ORPHAN_DRAIN)).await;
            Ok(())
        }
    };
    tasks.abort();
    tasks.ended().await;
    if let Some(function) = &mut function {
        function.running.stop(STOP_GRACE).await;
    }
    // Its last words; a process that outlived its group may keep the pipe open.
    let _ = tokio::time::timeout(Duration::from_millis(500), output.ended()).await;
    output.abort();
    result
}

/// Keeps serving for `delay`, then finishes what runs, for at most `bound`. A
/// further signal, or the end of the lifeline, cuts it short.
async fn drain(tasks: &Tasks, watch: &mut Watch, delay: Duration, bound: Duration) {
    let calm = async {
        tokio::time::sleep(delay).await;
        tasks.drain();
        if tokio::time::timeout(bound, tasks.ended()).await.is_err() {
            note(format_args!("calls were still running after {bound:?}; stopping them"));
        }
    };
    tokio::select! {
        () = calm => {}
        _ = watch.stop() => note(format_args!("stopping at once")),
    }
}

/// The long-lived process of mode `http`.
struct Function {
    running: Running,
    server: Arc<reverse::Server>,
}

impl Function {
    fn start(replica: &Replica, server: Arc<reverse::Server>, output: &Tasks) -> Result<Self, String> {
        let mut command = replica.launcher.for_life();
        let port = server.port().to_string();
        command.env("PORT", &port).env("port", &port);
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        note(format_args!("Forking {}", replica.launcher.program.join(" ")));
        let mut running = Running::start(command).map_err(|error| format!("cannot start the function: {error}"))?;
        if let Some(stdout) = running.child.stdout.take() {
            output.spawn(replica.lines().copy(Source::Stdout, stdout));
        }
        if let Some(stderr) = running.child.stderr.take() {
            output.spawn(replica.lines().copy(Source::Stderr, stderr));
        }
        let waiting = Arc::clone(&server);
        let draining = replica.tasks.draining().clone();
        replica.tasks.spawn(async move {
            tokio::select! {
                () = waiting.wait_until_ready() => {}
                () = draining.cancelled() => {}
            }
        });
        Ok(Self { running, server })
    }
}

/// Resolves when the long-lived process has failed; never without one. A
/// process that ended well but whose server still listens has put itself in the
/// background, as some servers do.
async fn ended(function: Option<&mut Function>) -> io::Result<ExitStatus> {
    let Some(function) = function else {
        return std::future::pending().await;
    };
    let status = function.running.child.wait().await?;
    if status.success() && function.server.accepts().await {
        note(format_args!("the function went to the background"));
        return std::future::pending().await;
    }
    Ok(status)
}

/// How long to wait before looking again at something that starts, for so long
/// already: a fiftieth of that, so that a fast start is seen at once and a slow one
/// costs little.
pub fn next_look(elapsed: Duration) -> Duration {
    (elapsed / 50).clamp(Duration::from_millis(1), Duration::from_millis(250))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn arguments_win_over_the_environment() {
        let cli = Cli::parse_from([
            "x",
            "--command",
            "node 'a b.js'",
            "--mode",
            "http",
            "--drain-delay",
            "0s",
        ]);
        assert_eq!(cli.args.drain_delay, Some(Duration::ZERO));
        let environment = BTreeMap::from([
            ("fprocess".to_owned(), "cat".to_owned()),
            ("mode".to_owned(), "static".to_owned()),
        ]);
        let settings = Settings::from_env(&with_arguments(environment, &cli.args)).expect("valid");
        assert_eq!(settings.command, ["node", "a b.js"]);
        assert_eq!(settings.mode, Mode::Http);
    }

    #[test]
    fn the_second_stage_reads_its_own_arguments() {
        let bounds = Bounds {
            memory: Some(9),
            cgroup: None,
        };
        let arguments = bounds.arguments(42, &["cat".to_owned(), "--socket".to_owned()]);
        let cli = Cli::parse_from(arguments);
        assert_eq!((cli.args.exec_limited, cli.args.memory_limit), (Some(42), Some(9)));
        assert_eq!(cli.args.program, ["cat", "--socket"]);
    }

    #[test]
    fn what_would_fail_at_the_first_call_fails_at_the_start() {
        let path = std::iter::once(("PATH".to_owned(), "/usr/bin:/bin".to_owned()));
        for (variables, fine) in [
            (vec![("fprocess", "sh -c true")], true),
            (vec![("fprocess", "no-such-command")], false),
            (vec![("mode", "static"), ("static_path", "/")], true),
            (vec![("mode", "static"), ("static_path", "/no/such/directory")], false),
        ] {
            let environment: BTreeMap<String, String> = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .chain(path.clone())
                .collect();
            let settings = Settings::from_env(&environment).expect("valid");
            assert_eq!(check(&settings, &environment).is_ok(), fine, "{variables:?}");
        }
    }
}
