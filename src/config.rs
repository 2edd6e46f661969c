//! The gateway's configuration: one immutable value read from four layers.
//!
//! Defaults (the embedded `config/gateway.toml`) < TOML files < environment <
//! command line. Every value remembers its layer, every mistake is reported at
//! once with its place and key, and unknown keys are mistakes.
//!
//! This module only reads and checks text. It opens no socket and reads no
//! credential; [`crate::snapshot`] builds the runtime objects. Nothing outside
//! of it reads the process environment.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use figment::value::Value;
use url::Url;

mod annotations;
mod blocking;
mod calls;
mod check;
mod destination;
mod diff;
pub mod duration;
mod entry;
mod env;
mod explain;
mod files;
mod function;
mod interpolate;
mod layer;
mod level;
pub mod mount;
mod naming;
mod origins;
mod overlap;
pub mod own_paths;
mod place;
mod plausible;
mod queue;
mod ratio;
mod role;
mod scalar;
mod schedule;
pub mod schema;
mod secret;
mod sections;
mod setting;
mod size;
mod source;
mod store;
mod unusable;
pub mod watch;

pub use annotations::{CallAnnotations, QueueAnnotations};
pub use blocking::blocking;
pub use calls::{
    Algorithm, BodyLimits, Breaker, Compression, Cors, Function, FunctionQueue, FunctionScaling, HeaderEdits, Headers,
    Mirror, RateKey, RateLimit, Redirect, Retries, Route, Scheduled, SplitTarget, Sticky, Timeouts, UpstreamProtocol,
    Visibility,
};
pub use destination::Destination;
pub use diff::{Changes, Comparison, Difference, compare, diff, keep_running};
pub use duration::parse as parse_duration;
pub use entry::{Entry, dotted};
pub use explain::{Explained, explain, explain_all};
pub use files::{ConfigFile, Fingerprint, Sources};
pub use function::{
    Bound, BreakerSettings, CompressionSettings, CorsSettings, FunctionSettings, HeaderChanges, InFlightLimit,
    LimitKeys, RateBy, RateLimitSettings, RetrySettings, SizeBound,
};
pub use origins::Origins;
pub use overlap::{covers, overlap};
pub use queue::{Jitter, Order, Queue, QueueKind};
pub use ratio::Ratio;
pub use role::Role;
pub use schedule::{CronMistake, CronSeconds, CronTimes, min_at as scheduled_min};
pub use secret::{Referenced, SecretFile};
pub use sections::{
    Auth, ClientAuth, Http2, Image, Invoke, Leader, LogFormat, Logging, Metrics, ProcessProvider, Prometheus, Provider,
    ProviderKind, Reload, Scaling, Server, Signals, Tls, Tracing, Ui, WatchMode,
};
pub use setting::{ConfigError, Reader, Setting};
pub use size::Size;
pub use source::{FileChange, SetBy, Shadowed, SourceFile, changed_files, source_files};
pub use store::{EMBEDDED_STORE, Store};
pub use unusable::Unusable;

use layer::{Layer, Tier};
use origins::Stack;
use setting::section;

/// The defaults layer, which is also the manual.
pub const DEFAULTS: &str = include_str!("../config/gateway.toml");

/// Name of the defaults layer.
const DEFAULT_ORIGIN: &str = "default";

/// File of the user name, in `auth.secret_path`.
pub const USER_FILE: &str = "basic-auth-user";
/// File of the password, in `auth.secret_path`.
pub const PASSWORD_FILE: &str = "basic-auth-password";

section! {
    /// Everything that can be configured.
    pub struct Config {
        /// `[server]`
        pub server: Server,
        /// `[metrics]`
        pub metrics: Metrics,
        /// `[provider]`
        pub provider: Provider,
        /// `[invoke]`
        pub invoke: Invoke,
        /// `[auth]`
        pub auth: Auth,
        /// `[scaling]`
        pub scaling: Scaling,
        /// `[queue]`
        pub queue: Queue,
        /// `[prometheus]`
        pub prometheus: Prometheus,
        /// `[ui]`
        pub ui: Ui,
        /// `[logging]`
        pub logging: Logging,
        /// `[tracing]`
        pub tracing: Tracing,
        /// `[reload]`
        pub reload: Reload,
        /// `[functions."NAME"]`
        pub functions: BTreeMap<String, Function>,
        /// `[[routes]]`
        pub routes: Vec<Route>,
        /// `[[stores]]`
        pub stores: Vec<Store>,
    }
}

/// A configuration that passed every check.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Where each value came from.
    pub origins: Origins,
    /// Odd but permitted combinations, to be logged.
    pub warnings: Vec<String>,
    /// What it was read from; with [`load`] also the files it refers to.
    pub fingerprint: Fingerprint,
    /// The files that were read for it; with [`parse`], none.
    pub files: Vec<SourceFile>,
    /// The files that hold values of it, as they were when those were read.
    pub secrets: Vec<Referenced>,
    /// Keys that keep their running value instead of the one they have here.
    pub pending_restart: Vec<&'static str>,
}

/// Reads the files, puts the layers together and checks the result.
///
/// # Errors
/// Every mistake found, in the order of the sections.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<ConfigError>> {
    let files = sources.read().map_err(|error| vec![error])?;
    let mut loaded = parse_files(&files, sources)?;
    loaded.note_files(sources, &files);
    Ok(loaded)
}

/// Like [`load`], with the content of the one file given.
///
/// # Errors
/// Every mistake found.
pub fn parse(content: Option<&str>, sources: &Sources) -> Result<Loaded, Vec<ConfigError>> {
    let file = content.map(|content| ConfigFile {
        path: sources.file_name(),
        content: content.to_owned(),
    });
    parse_files(file.as_slice(), sources)
}

/// Like [`load`], with the files given; later ones win.
///
/// # Errors
/// Every mistake found.
pub fn parse_files(files: &[ConfigFile], sources: &Sources) -> Result<Loaded, Vec<ConfigError>> {
    attempt(files, sources).0
}

/// Like [`parse_files`], with the files that were read for values, whichever
/// way it ended: one of them may be what was wrong.
pub fn attempt(files: &[ConfigFile], sources: &Sources) -> (Result<Loaded, Vec<ConfigError>>, Vec<Referenced>) {
    let mut secrets = Vec::new();
    let loaded = put_together(files, sources, &mut secrets);
    (loaded, secrets)
}

fn put_together(
    files: &[ConfigFile],
    sources: &Sources,
    secrets: &mut Vec<Referenced>,
) -> Result<Loaded, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let defaults = Layer::toml(DEFAULT_ORIGIN, DEFAULTS).map_err(|error| vec![error])?;
    let mut stack = Stack::on(defaults);
    // The keys of values that could not be made, to be left out of the checks.
    let mut unmade = Vec::new();
    for file in files {
        match stack.add_file(file, &sources.environment) {
            Ok(mistakes) => {
                for (path, error) in mistakes {
                    errors.push(error);
                    unmade.push(path);
                }
            }
            Err(error) => errors.push(error),
        }
    }
    let overrides = sources.overrides.iter();
    let written = overrides.map(|(key, value)| (Tier::CommandLine, Layer::written("command line", key, value)));
    for (tier, layer) in env::layers(&sources.environment).into_iter().chain(written) {
        match layer {
            Ok(layer) => stack.add(layer, tier),
            Err(error) => errors.push(error),
        }
    }
    let mut origins = stack.merge()?;
    let (mistakes, read_for_values) = origins.resolve(&mut unmade);
    secrets.extend(read_for_values);
    for (path, error) in mistakes {
        errors.push(error);
        unmade.push(path);
    }
    let (config, mut warnings) = read(&origins, &sources.environment, unmade, &mut errors);
    for error in &mut errors {
        error.message = origins.masked(std::mem::take(&mut error.message));
    }
    for warning in &mut warnings {
        *warning = origins.masked(std::mem::take(warning));
    }
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded {
            config,
            origins,
            warnings,
            fingerprint: Fingerprint::of(sources, files, &[]),
            files: Vec::new(),
            secrets: secrets.clone(),
            pending_restart: Vec::new(),
        }),
        _ => Err(errors),
    }
}

/// Reads and checks every value. After a mistake, the other values are still
/// checked against each other, with the default in its place, so that mending
/// one mistake does not bring up the next.
fn read(
    origins: &Origins,
    environment: &BTreeMap<String, String>,
    unmade: Vec<Vec<String>>,
    errors: &mut Vec<ConfigError>,
) -> (Option<Config>, Vec<String>) {
    let mut reader = Reader::new(origins);
    let mut config = Config::read(origins.root(), &mut reader);
    let found = reader.wrong.into_iter().zip(reader.errors);
    // A text whose variables could not be put in was told about already.
    let (mut wrong, new): (Vec<_>, Vec<_>) = found.filter(|(path, _)| !unmade.contains(path)).unzip();
    wrong.extend(unmade);
    errors.extend(new);
    if !wrong.is_empty() {
        let (root, removed) = without(origins.root(), &wrong);
        wrong.extend(removed);
        let mut reader = Reader::new(origins);
        config = Config::read(&root, &mut reader).filter(|_| reader.errors.is_empty());
    }
    let mut warnings = env::without_effect(environment);
    if let Some(config) = &mut config {
        if config.provider.process.state_dir.is_none() {
            config.provider.process.state_dir = default_state_dir(environment);
        }
        let below = config.server.base_path.trim_end_matches('/').len();
        config.server.base_path.truncate(below);
        for base in [&mut config.provider.url, &mut config.provider.logs_url] {
            base.iter_mut().for_each(end_in_slash);
        }
        let found = check::relations(config);
        errors.extend(found.errors.into_iter().filter_map(|problem| {
            // A check that looks at a wrong value says nothing.
            let unclear = problem.keys.iter().any(|key| wrong.contains(key));
            (!unclear).then(|| problem.into_error(origins))
        }));
        warnings.extend(found.warnings);
    }
    (config, warnings)
}

/// Makes a URL one that others can be joined to: that drops the last segment of
/// a path unless it ends in a slash.
fn end_in_slash(base: &mut Url) {
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
}

/// The values with each wrong one replaced by its default, or left out; and the
/// keys that were left out with it, because they need it or hold it in a list.
fn without(root: &Value, wrong: &[Vec<String>]) -> (Value, Vec<Vec<String>>) {
    let defaults = Value::from(layer::toml_dict(DEFAULTS).unwrap_or_default());
    let mut root = root.clone();
    let mut removed = Vec::new();
    for path in wrong {
        let mut path = path.as_slice();
        while let Some((key, parents)) = path.split_last() {
            match layer::at_mut(&mut root, parents) {
                Some(Value::Dict(_, table)) => {
                    let default = layer::at(&defaults, path).cloned();
                    let there = match default {
                        Some(default) => table.insert(key.clone(), default),
                        None => table.remove(key),
                    };
                    // A table is nothing without a key that it needs.
                    if there.is_some() || layer::at(&defaults, path).is_some() || parents.len() < 2 {
                        break;
                    }
                }
                Some(_) => {}
                // Left out already.
                None => break,
            }
            removed.push(parents.to_vec());
            path = parents;
        }
    }
    (root, removed)
}

fn default_state_dir(environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(home).join(".local/state")))
        .map(|base| base.join("faas-gateway"))
}

impl Loaded {
    /// Notes what it was read from: its own files, and those it refers to.
    /// What is known of one of these counts, or else what it is like now.
    pub fn note_files(&mut self, sources: &Sources, files: &[ConfigFile]) {
        let referenced: Vec<_> = self
            .config
            .referenced_files()
            .into_iter()
            .map(|path| {
                let known = self.secrets.iter().find(|file| file.path == path);
                known.cloned().unwrap_or_else(|| Referenced::look(&path))
            })
            .collect();
        self.fingerprint = Fingerprint::of(sources, files, &referenced);
        self.files = source_files(files, &referenced, &self.origins);
    }
}

impl Config {
    /// Every key with its value, in the order of the file.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        Setting::entries(self, &[], &mut entries);
        entries
    }

    /// The value that an unset key comes to because of others, as TOML writes it.
    pub fn derived(&self, key: &str) -> Option<String> {
        let quoted = |text: &str| format!("\"{text}\"");
        match key {
            "server.listen" => Some(quoted(&self.listen().to_string())),
            "server.idle_timeout" | "server.header_timeout" | "server.http2.keep_alive_interval" => {
                Some(quoted(&duration::format(self.server.read_timeout)))
            }
            "server.tls.client_auth" => Some(quoted(self.server.tls.client_auth().as_str())),
            "metrics.listen" => Some(quoted(&self.metrics_listen().to_string())),
            "provider.kind" => Some(quoted(self.provider_kind().as_str())),
            "provider.default_namespace" => Some(quoted(self.default_namespace())),
            "scaling.from_zero" => Some(self.from_zero().to_string()),
            _ => None,
        }
    }

    /// Files whose content matters as much as the configuration's own.
    pub fn referenced_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        if self.auth.basic {
            files.extend([USER_FILE, PASSWORD_FILE].map(|name| self.auth.secret_path.join(name)));
        }
        files.extend(self.server.tls.certificates().cloned());
        Setting::files(self, &mut files);
        files
    }

    /// Which provider to use: as said, else `http` when it has a URL.
    pub fn provider_kind(&self) -> ProviderKind {
        self.provider.kind.unwrap_or(match self.provider.url {
            Some(_) => ProviderKind::Http,
            None => ProviderKind::Process,
        })
    }

    /// Address of API, functions and portal.
    pub fn listen(&self) -> SocketAddr {
        self.server.listen.unwrap_or_else(|| {
            let host = match self.provider_kind() {
                ProviderKind::Process => Ipv4Addr::LOCALHOST,
                ProviderKind::Http | ProviderKind::Memory => Ipv4Addr::UNSPECIFIED,
            };
            SocketAddr::new(IpAddr::V4(host), 8080)
        })
    }

    /// Address of the metrics.
    pub fn metrics_listen(&self) -> SocketAddr {
        self.metrics
            .listen
            .unwrap_or_else(|| SocketAddr::new(self.listen().ip(), 8082))
    }

    /// Whether the API asks who is calling.
    pub fn is_protected(&self) -> bool {
        self.auth.basic || self.auth.proxy_url.is_some()
    }

    /// Namespace of functions named without one; may be empty.
    pub fn default_namespace(&self) -> &str {
        match (&self.provider.default_namespace, self.provider_kind()) {
            (Some(namespace), _) => namespace,
            (None, ProviderKind::Process | ProviderKind::Memory) => "openfaas-fn",
            (None, ProviderKind::Http) => "",
        }
    }

    /// Whether a call starts a function that is at zero.
    pub fn from_zero(&self) -> bool {
        self.scaling
            .from_zero
            .unwrap_or(self.provider_kind() == ProviderKind::Process)
    }
}
