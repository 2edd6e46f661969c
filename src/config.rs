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
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use figment::{Figment, value::Value};
use url::Url;

mod calls;
mod check;
mod diff;
pub mod duration;
mod entry;
mod env;
mod explain;
mod files;
mod function;
mod interpolate;
mod layer;
pub mod mount;
mod place;
mod plausible;
mod ratio;
mod scalar;
pub mod schema;
mod sections;
mod setting;
mod size;
mod source;
pub mod watch;

pub use calls::{
    BodyLimits, Breaker, Cors, Function, HeaderEdits, Headers, Mirror, RateKey, RateLimit, Redirect, Retries, Route,
    SplitTarget, Sticky, Timeouts, Visibility,
};
pub use diff::{Changes, Difference, diff, differences, keep_running};
pub use entry::{Entry, dotted};
pub use explain::{Explained, explain, explain_all};
pub use files::{ConfigFile, Fingerprint, Sources};
pub use function::{
    Bound, BreakerSettings, CorsSettings, FunctionSettings, HeaderChanges, InFlightLimit, RateBy, RateLimitSettings,
    RetrySettings,
};
pub use plausible::implausible;
pub use ratio::Ratio;
pub use sections::{
    Auth, Image, Invoke, LogFormat, Logging, Metrics, ProcessProvider, Prometheus, Provider, ProviderKind, Queue,
    Reload, Scaling, Server, Ui, WatchMode,
};
pub use setting::{ConfigError, Reader, Setting};
pub use size::Size;
pub use source::{FileChange, SetBy, Shadowed, SourceFile, changed_files, source_files};

use interpolate::Secrets;
use layer::Layer;
use place::Places;
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
        /// `[reload]`
        pub reload: Reload,
        /// `[functions."NAME"]`
        pub functions: BTreeMap<String, Function>,
        /// `[[routes]]`
        pub routes: Vec<Route>,
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
    /// Keys that keep their running value instead of the one they have here.
    pub pending_restart: Vec<&'static str>,
}

/// Knows which layer set each key, where in a file, and what is secret.
#[derive(Clone)]
pub struct Origins {
    figment: Figment,
    root: Value,
    /// Each layer, weakest first.
    layers: Vec<Layer>,
    /// How many layers are weaker than the environment.
    written: usize,
    places: Places,
    secrets: Secrets,
}

/// Of no layer at all.
impl Default for Origins {
    fn default() -> Self {
        Self {
            figment: Figment::new(),
            root: Value::from(figment::value::Dict::new()),
            layers: Vec::new(),
            written: 0,
            places: Places::default(),
            secrets: Secrets::default(),
        }
    }
}

/// Without the values, which may be credentials.
impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins").finish_non_exhaustive()
    }
}

/// Reads the files, puts the layers together and checks the result.
///
/// # Errors
/// Every mistake found, in the order of the sections.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<ConfigError>> {
    let files = sources.read().map_err(|error| vec![error])?;
    let mut loaded = parse_files(&files, sources)?;
    let referenced = loaded.config.referenced_files();
    loaded.fingerprint = Fingerprint::of(sources, &files, &referenced);
    loaded.files = source_files(&files, &referenced, &loaded.origins);
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
    let mut errors = Vec::new();
    let mut layers = vec![Layer::toml(DEFAULT_ORIGIN, DEFAULTS).map_err(|error| vec![error])?];
    let (mut places, mut secrets) = (Places::default(), Secrets::default());
    // The keys of values that could not be made, to be left out of the checks.
    let mut unmade = Vec::new();
    for file in files {
        let name = file.path.display().to_string();
        let mut layer = match Layer::toml(&name, &file.content) {
            Ok(layer) => layer,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        places.add(&name, &file.content);
        let mistakes = interpolate::apply(&name, layer.dict_mut(), &sources.environment, &mut secrets);
        errors.extend(mistakes.iter().map(|(path, message)| ConfigError {
            origin: places.of(&name, path),
            key: dotted(path),
            message: message.clone(),
        }));
        unmade.extend(mistakes.into_iter().map(|(path, _)| path));
        layers.push(layer);
    }
    let written = layers.len();
    let mut add = |layer: Result<Layer, ConfigError>| match layer {
        Ok(layer) => layers.push(layer),
        Err(error) => errors.push(error),
    };
    env::layers(&sources.environment).into_iter().for_each(&mut add);
    for (key, value) in &sources.overrides {
        add(Layer::written("command line", key, value));
    }
    let figment = layers.iter().cloned().fold(Figment::new(), Figment::merge);
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
        written,
        places,
        secrets,
    };
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
    let mut config = Config::read(&origins.root, &mut reader);
    let found = reader.wrong.into_iter().zip(reader.errors);
    // A text whose variables could not be put in was told about already.
    let (mut wrong, new): (Vec<_>, Vec<_>) = found.filter(|(path, _)| !unmade.contains(path)).unzip();
    wrong.extend(unmade);
    errors.extend(new);
    if !wrong.is_empty() {
        config = without(&origins.root, &wrong).and_then(|root| {
            let mut reader = Reader::new(origins);
            Config::read(&root, &mut reader).filter(|_| reader.errors.is_empty())
        });
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

fn default_state_dir(environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(home).join(".local/state")))
        .map(|base| base.join("faas-gateway"))
}

impl Origins {
    /// What set a key, such as `gateway.toml:3:1` or `environment variable
    /// read_timeout`; `None` when nothing did.
    pub fn of(&self, path: &[String]) -> Option<String> {
        layer::at(&self.root, path).map(|value| self.place(value, path))
    }

    /// A message for people without what the file's variables gave.
    pub fn masked(&self, message: String) -> String {
        self.secrets.mask(message)
    }

    /// Whether the value of a key has a variable in it that a file refers to.
    pub fn is_secret(&self, path: &[String]) -> bool {
        layer::at(&self.root, path).is_some_and(|value| self.is_secret_value(value, path))
    }

    /// [`is_secret`](Self::is_secret) for a value at hand.
    pub(crate) fn is_secret_value(&self, value: &Value, path: &[String]) -> bool {
        self.secrets.has(&self.layer(value), path)
    }

    /// Where a value stands: the place in its file, or the name of its layer.
    pub(crate) fn place(&self, value: &Value, path: &[String]) -> String {
        self.places.of(&self.layer(value), path)
    }

    /// The name of the layer a value came from.
    fn layer(&self, value: &Value) -> String {
        self.figment
            .get_metadata(value.tag())
            .map_or_else(|| "configuration".to_owned(), |metadata| metadata.name.to_string())
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
