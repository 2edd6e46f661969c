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
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::model::FunctionRef;

use figment::{
    Figment, Metadata, Profile,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};

pub mod duration;
mod env;
mod sections;
mod setting;
mod size;

pub use sections::{
    Auth, Function, FunctionTimeouts, Image, Invoke, LogFormat, Logging, Metrics, ProcessProvider, Prometheus,
    Provider, ProviderKind, Queue, Scaling, Server, Ui,
};
pub use setting::{ConfigError, Reader, Setting};
pub use size::Size;

use setting::section;

/// The defaults layer, which is also the manual.
pub const DEFAULTS: &str = include_str!("../config/gateway.toml");

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
    /// The layers, for showing where each value came from.
    pub figment: Figment,
    /// Odd but permitted combinations, to be logged.
    pub warnings: Vec<String>,
}

impl Sources {
    /// The sources of this process: its environment and the given file.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the process environment"
    )]
    pub fn of_process(file: Option<PathBuf>, overrides: Vec<(String, String)>) -> Self {
        Self {
            file,
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            overrides,
        }
    }
}

/// Reads the file, puts the layers together and checks the result.
///
/// # Errors
/// Every mistake found, in the order of the file's sections.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<ConfigError>> {
    let content = match &sources.file {
        Some(path) => Some(read_file(path).map_err(|error| vec![error])?),
        None => None,
    };
    parse(content.as_deref(), sources)
}

/// Like [`load`], with the file's content given.
///
/// # Errors
/// Every mistake found.
pub fn parse(content: Option<&str>, sources: &Sources) -> Result<Loaded, Vec<ConfigError>> {
    let mut figment = Figment::from(Layer::toml("default", DEFAULTS).map_err(|error| vec![error])?);
    if let Some(content) = content {
        let name = sources
            .file
            .as_deref()
            .map_or_else(|| "file".to_owned(), |path| path.display().to_string());
        figment = figment.merge(Layer::toml(&name, content).map_err(|error| vec![error])?);
    }
    for layer in env::layers(&sources.environment) {
        figment = figment.merge(layer);
    }
    for (key, value) in &sources.overrides {
        figment = figment.merge(Layer::key("command line", key, Value::from(value.as_str())));
    }
    read(figment, &sources.environment)
}

fn read(figment: Figment, environment: &BTreeMap<String, String>) -> Result<Loaded, Vec<ConfigError>> {
    let mut reader = Reader::new(&figment);
    let config = match figment.find_value("") {
        Ok(root) => Config::read(&root, &mut reader),
        Err(error) => {
            return Err(error
                .into_iter()
                .map(|error| ConfigError {
                    origin: error.metadata.as_ref().map_or_else(String::new, |m| m.name.to_string()),
                    key: error.path.join("."),
                    message: error.kind.to_string(),
                })
                .collect());
        }
    };
    let mut errors = reader.errors;
    let Some(mut config) = config.filter(|_| errors.is_empty()) else {
        return Err(errors);
    };
    if config.provider.process.state_dir.is_none() {
        config.provider.process.state_dir = default_state_dir(environment);
    }
    let mut warnings = Vec::new();
    config.validate(&figment, &mut errors, &mut warnings);
    if errors.is_empty() {
        Ok(Loaded {
            config,
            figment,
            warnings,
        })
    } else {
        Err(errors)
    }
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let failed = |message: String| ConfigError {
        origin: path.display().to_string(),
        key: "file".to_owned(),
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

/// One layer of configuration with the name that errors show.
struct Layer {
    name: String,
    dict: Dict,
}

impl Layer {
    fn toml(name: &str, content: &str) -> Result<Self, ConfigError> {
        let dict = Toml::from_str::<Dict>(content).map_err(|error| ConfigError {
            origin: name.to_owned(),
            key: "file".to_owned(),
            message: format!("not valid TOML: {}", error.to_string().trim_end()),
        })?;
        Ok(Self {
            name: name.to_owned(),
            dict,
        })
    }

    fn key(name: &str, key: &str, value: Value) -> Self {
        let nested = key
            .rsplit('.')
            .fold(value, |value, part| Value::from(Dict::from([(part.to_owned(), value)])));
        Self {
            name: name.to_owned(),
            dict: nested.into_dict().unwrap_or_default(),
        }
    }
}

impl figment::Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

impl Config {
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

    /// Bound on a function's whole answer, and the key that sets it.
    pub fn answer_timeout(&self, function: &FunctionRef) -> (Duration, &'static str) {
        let qualified = function.to_string();
        let own = [qualified.as_str(), &function.name, "*"]
            .into_iter()
            .find_map(|name| self.functions.get(name)?.timeouts.as_ref()?.total);
        own.map_or((self.invoke.upstream_timeout, "invoke.upstream_timeout"), |total| {
            (total, "functions.*.timeouts.total")
        })
    }

    fn validate(&self, figment: &Figment, errors: &mut Vec<ConfigError>, warnings: &mut Vec<String>) {
        let mut fail = |key: &str, message: String| {
            let origin = figment
                .find_value(key)
                .map_or_else(|_| "configuration".to_owned(), |value| origin(figment, &value));
            errors.push(ConfigError {
                origin,
                key: key.to_owned(),
                message,
            });
        };
        let positive = [
            ("server.read_timeout", self.server.read_timeout),
            ("server.write_timeout", self.server.write_timeout),
            ("server.idle_timeout", self.server.idle_timeout),
            ("metrics.refresh_interval", self.metrics.refresh_interval),
            ("invoke.upstream_timeout", self.invoke.upstream_timeout),
            ("invoke.connect_timeout", self.invoke.connect_timeout),
            ("scaling.poll_interval", self.scaling.poll_interval),
            (
                "provider.process.restart_backoff",
                self.provider.process.restart_backoff,
            ),
        ];
        for (key, duration) in positive {
            if duration.is_zero() {
                fail(key, "must be longer than zero".to_owned());
            }
        }
        if self.server.max_header_bytes.0 < 8192 {
            fail("server.max_header_bytes", "must be at least 8KiB".to_owned());
        }
        match self.provider_kind() {
            ProviderKind::Http if self.provider.url.is_none() => fail(
                "provider.url",
                "is needed with kind = \"http\" (functions_provider_url)".to_owned(),
            ),
            ProviderKind::Process => {
                if self.provider.process.state_dir.is_none() {
                    fail(
                        "provider.process.state_dir",
                        "has no default because HOME is not set; give --state-dir".to_owned(),
                    );
                }
                let listen = self.listen();
                if !listen.ip().is_loopback()
                    && !self.auth.basic
                    && self.auth.proxy_url.is_none()
                    && !self.server.allow_unauthenticated_public
                {
                    fail(
                        "server.listen",
                        format!(
                            "{listen} can be reached from other machines, and anyone who reaches it could run commands here: \
                             set auth.basic = true (basic_auth=true), listen on 127.0.0.1, \
                             or set server.allow_unauthenticated_public = true"
                        ),
                    );
                }
            }
            ProviderKind::Http | ProviderKind::Memory => {}
        }
        let suffix = &self.provider.direct_functions_suffix;
        if let Some(namespace) = &self.provider.default_namespace
            && self.provider.direct_functions
            && !suffix.is_empty()
            && !suffix.starts_with(namespace.as_str())
        {
            fail(
                "provider.direct_functions_suffix",
                format!("must start with the default namespace '{namespace}'"),
            );
        }
        if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&self.logging.level) {
            fail(
                "logging.level",
                format!("'{}' is not a log filter: {error}", self.logging.level),
            );
        }
        if self.invoke.upstream_timeout >= self.server.write_timeout {
            warnings.push(
                "invoke.upstream_timeout is not shorter than server.write_timeout: a slow function's caller sees the latter".to_owned(),
            );
        }
        if self.auth.proxy_pass_body {
            warnings.push("auth.proxy_pass_body has no effect: the auth proxy never gets a body".to_owned());
        }
        if self.queue.nats_address.is_some() {
            warnings.push("queue.nats_address is read but not used: this version has no asynchronous calls".to_owned());
        }
    }
}
