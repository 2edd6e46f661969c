//! The command line: what to do, which layers of configuration to read, and how
//! the process ends.
//!
//! Exit codes: 0 when asked to stop or when all is well, 1 for a failure, 64 for
//! a wrong command line or configuration; `diff` has codes of its own. All
//! configuration errors are printed at once, one a line.

use std::{
    ffi::OsString,
    fmt,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::{
    app::Ended,
    config::{self, Config, ConfigError, Loaded, Sources, Unusable},
    telemetry::Telemetry,
    tls::Tls,
};

mod diff;
mod healthcheck;
mod remote;
mod show;

/// `EX_USAGE`: a wrong command line or configuration.
const USAGE: u8 = 64;

/// How long tasks that were told to end may take, once everything that is
/// waited for has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[derive(Debug, Parser)]
#[command(
    name = "faas-gateway",
    version,
    about = "An API gateway for serverless functions, compatible with OpenFaaS",
    after_help = "Without a command: serve. Every setting and its default: config/gateway.toml.",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the default)
    Serve(ServeArgs),
    /// Check a configuration file, or a directory of them, and print everything that is wrong with it
    Check {
        /// The TOML file, or a directory of which all *.toml are read in the order of their names
        file: PathBuf,
        /// Check it together with the environment of this process
        #[arg(long)]
        with_env: bool,
    },
    /// Print every setting with its value and where that came from; secrets are masked
    Config(ConfigArgs),
    /// Print what a file would change: exit code 0 nothing, 1 something, 2 cannot be told, 64 wrong
    Diff(DiffArgs),
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print the OpenAPI document
    Openapi,
    /// Ask a running gateway whether it is well (for containers)
    Healthcheck {
        #[command(flatten)]
        layers: Layers,
        /// Ask this http URL instead of the configured listeners
        #[arg(long)]
        url: Option<url::Url>,
        /// Longest wait for each answer, such as 5s
        #[arg(long, default_value = "5s", value_parser = duration)]
        timeout: Duration,
    },
    #[command(flatten)]
    Remote(remote::Command),
    /// Run one replica of a function (the process provider starts these)
    Watchdog(crate::watchdog::Args),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    layers: Layers,
    /// Refuse a changed file as a whole when a key in it needs a restart (reload.strict)
    #[arg(long)]
    strict: bool,
    /// Do a part of the work: all, gateway (answers callers) or worker (makes asynchronous calls) (server.role)
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
}

impl ServeArgs {
    fn sources(self) -> Sources {
        let mut sources = self.layers.sources();
        if self.strict {
            sources.overrides.push(("reload.strict".to_owned(), "true".to_owned()));
        }
        if let Some(role) = self.role {
            sources.overrides.push(("server.role".to_owned(), role));
        }
        sources
    }
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
struct ConfigArgs {
    #[command(flatten)]
    layers: Layers,
    #[command(subcommand)]
    command: Option<ConfigCommand>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say where the value of a key comes from, its default, what it overrides and when a change takes effect
    Explain {
        /// The key, such as invoke.upstream_timeout
        key: String,
        #[command(flatten)]
        layers: Layers,
    },
    /// Print what a file would change, as `faas-gateway diff` does
    Diff(DiffArgs),
    /// Say which configuration a running gateway has, and what became of the newest attempt to change it
    Status(remote::StatusArgs),
}

#[derive(Debug, Args)]
struct DiffArgs {
    /// The TOML file that would replace the one in use, or a directory of which all *.toml are read
    file: PathBuf,
    /// Compare with the gateway that runs here, instead of with the configuration of this command line
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "state_dir", "listen", "set"])]
    against: Option<url::Url>,
    /// User name for that gateway, if it is not in the URL; without one, what `faas-cli login` has stored for it
    #[arg(long, visible_alias = "username", requires_all = ["against", "password_file"])]
    user: Option<String>,
    /// File with the password for that gateway
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    layers: Layers,
}

/// Which layers of configuration to read, besides defaults and environment.
#[derive(Debug, Clone, Default, Args)]
struct Layers {
    /// The TOML file, or a directory of which all *.toml are read in the order of their names [env: FAAS_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the process provider keeps its state
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Address of the API, the functions and the portal
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Set any key of the file, such as invoke.upstream_timeout=5m; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.to_owned()))
        .ok_or_else(|| "expected KEY=VALUE".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    config::duration::parse(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a duration such as 5s".to_owned())
}

impl Layers {
    fn sources(self) -> Sources {
        let named = [
            ("server.listen", self.listen),
            (
                "provider.process.state_dir",
                self.state_dir.map(|path| path.to_string_lossy().into_owned()),
            ),
        ];
        let named = named
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Sources::of_process(self.config, self.set.into_iter().chain(named).collect())
    }
}

/// Does what the command line says, until it is done.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. There is no one left to tell
            // when printing fails.
            let _unprinted = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(arguments) => serve(&arguments.sources()),
        Command::Check { file, with_env } => check(file, with_env),
        Command::Config(ConfigArgs { layers, command: None }) => {
            with_configuration(&layers.sources(), |loaded| print(&show::Effective(loaded)))
        }
        Command::Config(ConfigArgs {
            command: Some(ConfigCommand::Explain { key, layers }),
            ..
        }) => with_configuration(&layers.sources(), |loaded| explain(&key, loaded)),
        Command::Config(ConfigArgs {
            command: Some(ConfigCommand::Diff(arguments)),
            ..
        })
        | Command::Diff(arguments) => differences(&arguments),
        Command::Config(ConfigArgs {
            command: Some(ConfigCommand::Status(arguments)),
            ..
        }) => arguments.run(),
        Command::Remote(command) => command.run(),
        Command::Schema => print(&config::schema::document().trim_end()),
        Command::Openapi => print(&crate::api::openapi_document().trim_end()),
        Command::Healthcheck { layers, url, timeout } => match url {
            Some(url) => healthcheck(&[url], timeout),
            None => with_configuration(&layers.sources(), |loaded| {
                healthcheck(&health_urls(&loaded.config), timeout)
            }),
        },
        Command::Watchdog(arguments) => crate::watchdog::run(arguments),
        Command::Version => print(&concat!("faas-gateway ", env!("CARGO_PKG_VERSION"))),
    }
}

fn serve(sources: &Sources) -> ExitCode {
    with_configuration(sources, |loaded| {
        // https://no-color.org/
        let no_colours = sources
            .environment
            .get("NO_COLOR")
            .is_some_and(|value| !value.is_empty());
        let telemetry = match Telemetry::start(&loaded.config.logging, no_colours) {
            Ok(telemetry) => telemetry,
            Err(error) => return failed(&[Unusable::new(&["logging.level"], error).at(&loaded.origins).to_string()]),
        };
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        raise_open_files();
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                telemetry.flush(LAST_WORDS);
                return failed(&[format!("cannot start worker threads: {error}")]);
            }
        };
        let ended = runtime.block_on(crate::app::run(sources.clone(), loaded.clone(), telemetry.clone()));
        runtime.shutdown_timeout(LAST_WORDS);
        if let Ok(ended) = &ended {
            info!(?ended, "stopped");
        }
        // If it cannot be done in time, nobody reads, and there is nobody to tell.
        telemetry.flush(LAST_WORDS);
        match ended {
            Ok(Ended::Drained) => ExitCode::SUCCESS,
            Ok(Ended::Aborted) => ExitCode::FAILURE,
            Err(errors) => failed(&errors),
        }
    })
}

/// Allows as many open files as this process may have. The usual first limit,
/// 1024, is there for programs that call select(2); 200 functions reach it, and
/// then neither callers nor functions get a connection.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(())
    });
    if let Err(error) = raised {
        warn!(%error, "cannot raise the limit on open files");
    }
}

fn check(file: PathBuf, with_env: bool) -> ExitCode {
    let mut sources = Sources::of_process(Some(file), Vec::new());
    if !with_env {
        sources = sources.without_environment();
        // Only where state is kept by default: that is a matter of the machine
        // that will run it, not of the file.
        sources.environment.insert("HOME".to_owned(), "/".to_owned());
    }
    with_configuration(&sources, |loaded| {
        for warning in &loaded.warnings {
            complain(&format!("warning: {warning}"));
        }
        if let Err(errors) = Tls::load(&loaded.config.server.tls, None) {
            for error in errors {
                complain(&one_line(&error.at(&loaded.origins)));
            }
            return ExitCode::from(USAGE);
        }
        print(&"ok")
    })
}

fn explain(key: &str, loaded: &Loaded) -> ExitCode {
    match config::explain(key, &loaded.config, &loaded.origins, &loaded.pending_restart) {
        Ok(explained) => print(&show::Explanation(explained)),
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::from(USAGE)
        }
    }
}

fn differences(arguments: &DiffArgs) -> ExitCode {
    let Some(url) = &arguments.against else {
        return diff::offline(&arguments.file, &arguments.layers.clone().sources());
    };
    let given = arguments.user.as_deref().zip(arguments.password_file.as_deref());
    match remote::credentials_of(url, given) {
        Ok(credentials) => diff::against(url, &arguments.file, credentials.as_ref()),
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::from(USAGE)
        }
    }
}

/// Reads the configuration, or prints everything that is wrong with it.
fn with_configuration(sources: &Sources, then: impl FnOnce(&Loaded) -> ExitCode) -> ExitCode {
    match config::load(sources) {
        Ok(loaded) => then(&loaded),
        Err(errors) => {
            for error in &errors {
                complain(&one_line(error));
            }
            ExitCode::from(USAGE)
        }
    }
}

/// An error on a line of its own, whatever the value in it looks like.
fn one_line(error: &ConfigError) -> String {
    let text = error.to_string();
    let escape = |character: char| {
        if character.is_control() {
            character.escape_default().to_string()
        } else {
            character.to_string()
        }
    };
    format!("error: {}", text.chars().map(escape).collect::<String>())
}

/// The health routes of the configured listeners, metrics first: it answers
/// for the process, the other for what it needs too. A listener with TLS is not
/// asked: its certificate is for a name that is not this machine's loopback.
fn health_urls(config: &Config) -> Vec<url::Url> {
    let main = Some(config.listen()).filter(|_| config.server.tls.cert_file.is_none());
    [Some(config.metrics_listen()), main]
        .into_iter()
        .flatten()
        .filter_map(|address| url::Url::parse(&format!("http://{}/healthz", healthcheck::reachable(address))).ok())
        .collect()
}

fn healthcheck(urls: &[url::Url], timeout: Duration) -> ExitCode {
    for url in urls {
        if let Err(error) = healthcheck::ask(url, timeout) {
            return failed(&[format!("{url}: {error}")]);
        }
    }
    ExitCode::SUCCESS
}

fn failed(errors: &[String]) -> ExitCode {
    for error in errors {
        complain(&format!("error: {error}"));
    }
    ExitCode::FAILURE
}

/// Writes a line to standard error. When that is closed, nobody is there to read it.
fn complain(line: &str) {
    let _unread = writeln!(io::stderr(), "{line}");
}

/// Writes to standard output. A reader that closed it early (`| head`) had enough.
fn print(text: &impl fmt::Display) -> ExitCode {
    match writeln!(io::stdout(), "{text}").and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => failed(&[format!("cannot write: {error}")]),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Cli {
        Cli::try_parse_from([&["faas-gateway"], arguments].concat()).expect("valid")
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default() {
        for arguments in [
            &["--config", "a.toml", "--listen", "127.0.0.1:1"][..],
            &["serve", "--config", "a.toml", "--listen", "127.0.0.1:1"],
        ] {
            let cli = parse(arguments);
            let Command::Serve(arguments) = cli.command.unwrap_or(Command::Serve(cli.serve)) else {
                panic!("serve expected");
            };
            let sources = arguments.sources();
            assert_eq!(sources.file, Some(PathBuf::from("a.toml")));
            assert_eq!(
                sources.overrides,
                [("server.listen".to_owned(), "127.0.0.1:1".to_owned())]
            );
        }
    }

    #[test]
    fn strict_is_a_key_too() {
        for arguments in [
            &["--strict"][..],
            &["serve", "--set", "reload.strict=false", "--strict"],
        ] {
            let cli = parse(arguments);
            let Command::Serve(arguments) = cli.command.unwrap_or(Command::Serve(cli.serve)) else {
                panic!("serve expected");
            };
            let last = arguments.sources().overrides.pop();
            assert_eq!(last, Some(("reload.strict".to_owned(), "true".to_owned())));
        }
    }

    #[test]
    fn named_flags_win_over_set() {
        let layers = Layers {
            listen: Some("127.0.0.1:2".to_owned()),
            set: vec![("server.listen".to_owned(), "127.0.0.1:1".to_owned())],
            ..Layers::default()
        };
        let last = layers.sources().overrides.pop();
        assert_eq!(last, Some(("server.listen".to_owned(), "127.0.0.1:2".to_owned())));
    }

    #[test]
    fn errors_stay_on_their_line() {
        let error = ConfigError {
            origin: "f".to_owned(),
            key: "k".to_owned(),
            message: "found 'a\nb'".to_owned(),
        };
        assert_eq!(one_line(&error), "error: f: k: found 'a\\nb'");
    }
}
