//! The gateway's configuration: one immutable value read from four layers.
//!
//! Defaults (the embedded `config/gateway.toml`) < TOML file < environment <
//! command line. Every value remembers its layer, every mistake is reported at
//! once with that layer and its key, and unknown keys are mistakes.
//!
//! This module only reads and checks text. It opens no socket and reads no
//! credential; [`crate::snapshot`] builds the runtime objects. Nothing outside
//! of it reads the process environment.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use figment::{Figment, value::Value};
use sha2::{Digest, Sha256};
use url::Url;

mod check;
mod diff;
pub mod duration;
mod entry;
mod env;
mod explain;
mod function;
mod layer;
pub mod schema;
mod sections;
mod setting;
mod size;
mod source;
pub mod watch;

pub use diff::{Changes, Difference, diff, differences, keep_running};
pub use entry::{Entry, dotted};
pub use explain::{Explained, explain, explain_all};
pub use function::{Bound, FunctionSettings};
pub use sections::{
    Auth, Function, FunctionTimeouts, Image, Invoke, LogFormat, Logging, Metrics, ProcessProvider, Prometheus,
    Provider, ProviderKind, Queue, Scaling, Server, Ui,
};
pub use setting::{ConfigError, Reader, Setting};
pub use size::Size;
pub use source::{SetBy, Shadowed, SourceFile, source_files};

use layer::Layer;
use setting::section;

/// The defaults layer, which is also the manual.
pub const DEFAULTS: &str = include_str!("../config/gateway.toml");

/// Name of the defaults layer.
const DEFAULT_ORIGIN: &str = "default";

/// Variable that names the file.
const FILE_VARIABLE: &str = "FAAS_CONFIG";

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
        /// `[functions."NAME"]`
        pub functions: BTreeMap<String, Function>,
    }
}

/// Where configuration comes from, apart from the built-in defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// The process environment, or what a test says it is.
    pub environment: BTreeMap<String, String>,
    /// Dotted keys and their values from the command line.
    pub overrides: Vec<(String, String)>,
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
    /// What it was read from: the file, and with [`load`] the files it refers to.
    pub fingerprint: Fingerprint,
    /// The files that were read for it; with [`parse`], none.
    pub files: Vec<SourceFile>,
    /// Keys that keep their running value instead of the one they have here.
    pub pending_restart: Vec<&'static str>,
}

/// SHA-256 over a configuration file and the files it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Reads `files`; one that cannot be read counts as different from any content.
    pub fn of(content: Option<&str>, files: &[PathBuf]) -> Self {
        let mut hash = Sha256::new();
        let mut add = |part: Option<&[u8]>| {
            // The length in front keeps neighbours apart.
            hash.update(part.map_or(u64::MAX, |bytes| bytes.len() as u64).to_be_bytes());
            hash.update(part.unwrap_or_default());
        };
        add(content.map(str::as_bytes));
        for file in files {
            add(std::fs::read(file).ok().as_deref());
        }
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Knows which layer set each key.
#[derive(Debug, Clone)]
pub struct Origins {
    figment: Figment,
    root: Value,
    /// Each layer, weakest first.
    layers: Vec<Layer>,
    /// How many layers are weaker than the environment.
    written: usize,
}

impl Sources {
    /// Puts sources together; without `file` the variable `FAAS_CONFIG` names it.
    pub fn new(environment: BTreeMap<String, String>, file: Option<PathBuf>, overrides: Vec<(String, String)>) -> Self {
        let named = || environment.get(FILE_VARIABLE).filter(|path| !path.is_empty());
        Self {
            file: file.or_else(|| named().map(PathBuf::from)),
            environment,
            overrides,
        }
    }

    /// The sources of this process: its environment and the given file.
    ///
    /// A variable that is not UTF-8 is kept with replacement characters, so
    /// that a malformed value is reported rather than overlooked.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the process environment"
    )]
    pub fn of_process(file: Option<PathBuf>, overrides: Vec<(String, String)>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .collect();
        Self::new(environment, file, overrides)
    }

    /// The file's content; `None` when there is no file.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8 or is empty.
    pub fn content(&self) -> Result<Option<String>, ConfigError> {
        self.file.as_deref().map(read_file).transpose()
    }

    /// The name of the file, as errors show it.
    fn file_name(&self) -> String {
        self.file
            .as_deref()
            .map_or_else(|| "file".to_owned(), |path| path.display().to_string())
    }
}

/// Reads the file, puts the layers together and checks the result.
///
/// # Errors
/// Every mistake found, in the order of the file's sections.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<ConfigError>> {
    let content = sources.content().map_err(|error| vec![error])?;
    let mut loaded = parse(content.as_deref(), sources)?;
    let referenced = loaded.config.referenced_files();
    loaded.fingerprint = Fingerprint::of(content.as_deref(), &referenced);
    loaded.files = source_files(sources.file.as_deref(), content.as_deref(), &referenced);
    Ok(loaded)
}

/// Like [`load`], with the file's content given.
///
/// # Errors
/// Every mistake found.
pub fn parse(content: Option<&str>, sources: &Sources) -> Result<Loaded, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let mut figment = Figment::new();
    let mut layers = Vec::new();
    let mut add = |layer: Result<Layer, ConfigError>| match layer {
        Ok(layer) => {
            layers.push(layer.clone());
            figment = std::mem::take(&mut figment).merge(layer);
        }
        Err(error) => errors.push(error),
    };
    add(Layer::toml(DEFAULT_ORIGIN, DEFAULTS));
    if let Some(content) = content {
        add(Layer::toml(&sources.file_name(), content));
    }
    env::layers(&sources.environment).into_iter().for_each(&mut add);
    for (key, value) in &sources.overrides {
        add(Layer::written("command line", key, value));
    }
    let root = figment.find_value("").map_err(|error| {
        error
            .into_iter()
            .map(|error| ConfigError {
                origin: error.metadata.as_ref().map_or_else(String::new, |m| m.name.to_string()),
                key: error.path.join("."),
                message: error.kind.to_string(),
            })
            .collect::<Vec<_>>()
    })?;
    let origins = Origins {
        figment,
        root,
        layers,
        written: 1 + usize::from(content.is_some()),
    };
    let (config, warnings) = read(&origins, &sources.environment, &mut errors);
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded {
            config,
            origins,
            warnings,
            fingerprint: Fingerprint::of(content, &[]),
            files: Vec::new(),
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
    errors: &mut Vec<ConfigError>,
) -> (Option<Config>, Vec<String>) {
    let mut reader = Reader::new(&origins.figment);
    let mut config = Config::read(&origins.root, &mut reader);
    let wrong = reader.wrong;
    errors.append(&mut reader.errors);
    if !wrong.is_empty() {
        config = without(&origins.root, &wrong).and_then(|root| {
            let mut reader = Reader::new(&origins.figment);
            Config::read(&root, &mut reader).filter(|_| reader.errors.is_empty())
        });
    }
    let mut warnings = env::without_effect(environment);
    if let Some(config) = &mut config {
        if config.provider.process.state_dir.is_none() {
            config.provider.process.state_dir = default_state_dir(environment);
        }
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

/// The values with each wrong one replaced by its default, or left out.
fn without(root: &Value, wrong: &[Vec<String>]) -> Option<Value> {
    let defaults = layer::toml_dict(DEFAULTS).ok().map(Value::from)?;
    let mut root = root.clone();
    for path in wrong {
        let (key, parents) = path.split_last()?;
        let Some(Value::Dict(_, table)) = layer::at_mut(&mut root, parents) else {
            continue;
        };
        match layer::at(&defaults, path) {
            Some(default) => table.insert(key.clone(), default.clone()),
            None => table.remove(key),
        };
    }
    Some(root)
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let failed = |message: String| ConfigError {
        origin: path.display().to_string(),
        key: String::new(),
        message,
    };
    let content = std::fs::read_to_string(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    if content.trim().is_empty() {
        return Err(failed(
            "is empty; a file that is being written looks like this, so it is not taken as \"all defaults\"".to_owned(),
        ));
    }
    Ok(content)
}

fn default_state_dir(environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(home).join(".local/state")))
        .map(|base| base.join("faas-gateway"))
}

/// The name of the layer a value came from.
pub(crate) fn origin(figment: &Figment, value: &Value) -> String {
    figment
        .get_metadata(value.tag())
        .map_or_else(|| "configuration".to_owned(), |metadata| metadata.name.to_string())
}

impl Origins {
    /// The layer that set a key, such as `environment variable read_timeout`;
    /// `None` when no layer did.
    pub fn of(&self, path: &[String]) -> Option<String> {
        layer::at(&self.root, path).map(|value| origin(&self.figment, value))
    }

    /// The layer to blame for a relation between keys: the first that is not
    /// the defaults.
    fn to_blame(&self, keys: &[Vec<String>]) -> String {
        keys.iter()
            .filter_map(|key| self.of(key))
            .find(|origin| origin != DEFAULT_ORIGIN)
            .unwrap_or_else(|| DEFAULT_ORIGIN.to_owned())
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
            "metrics.listen" => Some(quoted(&self.metrics_listen().to_string())),
            "provider.kind" => Some(quoted(self.provider_kind().as_str())),
            "provider.default_namespace" => Some(quoted(self.default_namespace())),
            "scaling.from_zero" => Some(self.from_zero().to_string()),
            _ => None,
        }
    }

    /// Files whose content matters as much as the configuration's own.
    pub fn referenced_files(&self) -> Vec<PathBuf> {
        if self.auth.basic {
            vec![
                self.auth.secret_path.join(USER_FILE),
                self.auth.secret_path.join(PASSWORD_FILE),
            ]
        } else {
            Vec::new()
        }
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
