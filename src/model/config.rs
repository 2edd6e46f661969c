//! What the API says about the gateway's own configuration. Not OpenFaaS's.

use std::fmt;

use poem_openapi::Object;

use super::Timestamp;

/// The configuration that is live.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "Configuration")]
pub struct Configuration {
    /// Number of this configuration, counted from 1 at the start.
    pub generation: u64,
    /// SHA-256 of everything it was read from.
    pub hash: String,
    /// Every key, in the order of the file; of functions that the file names also those that only `[functions."*"]` sets.
    pub values: Vec<ConfigValue>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigValue")]
pub struct ConfigValue {
    /// The key, such as `server.read_timeout`.
    pub key: String,
    /// The value as TOML writes it, secrets masked; absent when the key is not set.
    #[oai(skip_serializing_if_is_none)]
    pub value: Option<String>,
    /// The default as TOML writes it, where there is a fixed one.
    #[oai(skip_serializing_if_is_none)]
    pub default: Option<String>,
    /// What set it: `default`, a file, a variable, `command line`, or `derived` from other keys.
    #[oai(skip_serializing_if_is_none)]
    pub source: Option<String>,
    /// Whether a change takes effect without a restart.
    pub live: bool,
    /// Weaker layers that set the key too, the strongest first.
    #[oai(default, skip_serializing_if_is_empty)]
    pub overridden: Vec<ConfigLayer>,
    /// For a function's key: what `[functions."*"]` gives where it is not set.
    #[oai(skip_serializing_if_is_none)]
    pub base: Option<ConfigLayer>,
}

/// What one layer says about a key.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigLayer")]
pub struct ConfigLayer {
    /// What sets it: a place in a file, a variable, or `command line`.
    pub source: String,
    /// The value as TOML writes it, secrets masked.
    pub value: String,
}

/// Which configuration is live, and what became of the newest attempt to change it.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigStatus")]
pub struct ConfigStatus {
    /// Number of the live configuration, counted from 1 at the start.
    pub generation: u64,
    /// SHA-256 of everything it was read from.
    pub hash: String,
    /// The files it was read from.
    pub sources: Vec<ConfigSource>,
    /// When it was read.
    pub loaded_at: Timestamp,
    /// The newest attempt to read the configuration.
    pub last_attempt: ConfigAttempt,
    /// The newest reloads that changed something or failed, at most 20, newest first.
    pub history: Vec<ConfigEvent>,
    /// Keys that keep their running value until a restart.
    pub pending_restart: Vec<String>,
    /// Keys of the file that a variable or the command line overrides.
    pub shadowed_by_env: Vec<ConfigShadow>,
    /// How many configurations are in use: this one, and older ones that requests under way began with.
    pub live_generations: u64,
}

/// A file that the configuration was read from.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigSource")]
pub struct ConfigSource {
    /// Path of the file.
    pub path: String,
    /// SHA-256 of its content; absent when it could not be read.
    #[oai(skip_serializing_if_is_none)]
    pub sha256: Option<String>,
}

/// An attempt to read the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigAttempt")]
pub struct ConfigAttempt {
    /// What asked for it: `start`, `watch`, `poll`, `signal` or `api`.
    pub trigger: String,
    /// How it ended: `applied`, `unchanged` or `failed`.
    pub result: String,
    /// Everything that was wrong.
    pub errors: Vec<String>,
    /// What is permitted but odd about what went live.
    pub warnings: Vec<String>,
    /// When it ended.
    pub at: Timestamp,
}

/// A reload that changed something or failed.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigEvent")]
pub struct ConfigEvent {
    /// What asked for it: `watch`, `poll`, `signal` or `api`.
    pub trigger: String,
    /// Everybody who asked for it over the API.
    pub actors: Vec<ConfigActor>,
    /// When it ended.
    pub at: Timestamp,
    /// How it ended: `applied` or `failed`.
    pub result: String,
    /// Number of the configuration that was live before.
    pub from_generation: u64,
    /// Number of the configuration that was live afterwards.
    pub to_generation: u64,
    /// SHA-256 of everything that the one before was read from.
    pub old_hash: String,
    /// SHA-256 of everything that the one afterwards was read from.
    pub hash: String,
    /// Files that differed from those of the one before; none when they could not be read.
    pub files: Vec<ConfigFileChange>,
    /// Keys that changed and went live.
    pub changed: Vec<String>,
    /// How many mistakes there were.
    pub errors: u64,
}

/// Who asked over the API.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigActor")]
pub struct ConfigActor {
    /// The user name, where basic authentication decides.
    #[oai(skip_serializing_if_is_none)]
    pub user: Option<String>,
    /// Address and port of the other end of the connection.
    #[oai(skip_serializing_if_is_none)]
    pub address: Option<String>,
}

/// A file that was not as before.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigFileChange")]
pub struct ConfigFileChange {
    /// Path of the file.
    pub path: String,
    /// `added`, `removed` or `changed`.
    pub change: String,
}

/// A key of the file whose value does not count.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigShadow")]
pub struct ConfigShadow {
    /// The key.
    pub key: String,
    /// The file that sets it.
    pub file: String,
    /// What overrides it, such as `environment variable read_timeout`.
    pub by: String,
}

/// Several files that may become the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigCandidate")]
pub struct ConfigCandidate {
    /// The files in the order in which they are read: later ones win key by key.
    pub files: Vec<ConfigCandidateFile>,
}

/// One of several files.
#[derive(Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigCandidateFile")]
pub struct ConfigCandidateFile {
    /// The name under which mistakes in it are told; nothing is read there.
    pub name: String,
    /// The TOML document.
    pub content: String,
}

/// Without the content, which may hold credentials.
impl fmt::Debug for ConfigCandidateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigCandidateFile")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A candidate that could go live.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigCheck")]
pub struct ConfigCheck {
    /// Always true; a candidate that could not is answered 422.
    pub ok: bool,
    /// What is permitted but odd.
    pub warnings: Vec<String>,
}

/// How a candidate differs from the live configuration.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigDiff")]
pub struct ConfigDiff {
    /// Number of the live configuration.
    pub generation: u64,
    /// SHA-256 of everything that the live configuration was read from.
    pub hash: String,
    /// The keys that differ, those that take effect at once first.
    pub changes: Vec<ConfigChange>,
    /// What of the candidate is permitted but odd.
    pub warnings: Vec<String>,
}

/// A key that differs.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigChange")]
pub struct ConfigChange {
    /// The key.
    pub key: String,
    /// What is live, as TOML writes it, secrets masked; absent when it is not set.
    #[oai(skip_serializing_if_is_none)]
    pub old: Option<String>,
    /// What the candidate says, as TOML writes it, secrets masked; absent when it is not set.
    #[oai(skip_serializing_if_is_none)]
    pub new: Option<String>,
    /// When it would take effect: `live` for at once, or `restart`.
    pub effect: String,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "ConfigReload")]
pub struct ConfigReload {
    /// `applied`, or `unchanged` when the files say what is live already.
    pub result: String,
    /// Number of the configuration that is live now.
    pub generation: u64,
    /// SHA-256 of everything it was read from.
    pub hash: String,
    /// Keys that changed and are live.
    pub changed: Vec<String>,
    /// Keys that keep their running value until a restart.
    pub pending_restart: Vec<String>,
    /// Keys that changed in the file to no effect.
    pub shadowed_by_env: Vec<ConfigShadow>,
    /// What is permitted but odd about what went live.
    pub warnings: Vec<String>,
    /// When it ended.
    pub at: Timestamp,
}
