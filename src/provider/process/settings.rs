//! Settings of the process provider, separate from the file they come from so
//! that tests and tools can make them directly.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::{
    config::{Config, Image, Size, Unusable},
    upstream::PoolLimits,
};

/// Variables of the gateway's environment that functions see too. Everything
/// else is withheld: it may hold credentials that are the gateway's alone.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Keys of the directory: its own, and those that make it one that is needed.
pub(super) const STATE_DIR: &[&str] = &["provider.process.state_dir", "provider.kind", "provider.url"];

/// How and where functions run. All but `state_dir`, `executable` and
/// `default_namespace` can change while the provider runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where deployments, secrets, namespaces and logs are kept.
    pub state_dir: PathBuf,
    /// The program with the `watchdog` command: normally the gateway itself.
    pub executable: PathBuf,
    /// Namespace of functions named without one.
    pub default_namespace: String,
    /// Bound on the log kept for one replica, in bytes.
    pub log_size: u64,
    /// First wait before a dead replica is started again.
    pub restart_backoff: Duration,
    /// Longest such wait; a replica that stayed up this long starts anew at the first.
    pub restart_backoff_max: Duration,
    /// How long the calls of a stopped replica may take to end; more when its
    /// function's `write_timeout` is longer. Streams are closed then.
    pub stop_timeout: Duration,
    /// What to run for an image name.
    pub images: BTreeMap<String, Image>,
    /// Bounds on the connections to a replica.
    pub pool: PoolLimits,
    /// Environment beneath the image's and the deployment's; see [`inherited`].
    pub environment: BTreeMap<String, String>,
}

/// Longest time from a replica's SIGTERM to its SIGKILL.
const END_TIMEOUT: Duration = Duration::from_secs(10);

impl Settings {
    /// From a replica's SIGTERM, when its calls are over, to its SIGKILL.
    pub(super) fn end_timeout(&self) -> Duration {
        self.stop_timeout.min(END_TIMEOUT)
    }

    /// The defaults of `config/gateway.toml`, with nothing inherited.
    pub fn new(state_dir: impl Into<PathBuf>, executable: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            executable: executable.into(),
            default_namespace: "openfaas-fn".to_owned(),
            log_size: 1 << 20,
            restart_backoff: Duration::from_millis(200),
            restart_backoff_max: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(30),
            images: BTreeMap::new(),
            pool: PoolLimits::default(),
            environment: BTreeMap::new(),
        }
    }

    /// Settings from the configuration. `environment` is what functions see of
    /// the gateway's own; see [`inherited`].
    ///
    /// # Errors
    /// There is no state directory: neither the key nor a home is set.
    pub fn from_config(
        config: &Config,
        executable: impl Into<PathBuf>,
        pool: PoolLimits,
        environment: BTreeMap<String, String>,
    ) -> Result<Self, Unusable> {
        let process = &config.provider.process;
        let state_dir = process
            .state_dir
            .clone()
            .ok_or_else(|| Unusable::new(STATE_DIR, "is not set and there is no home directory to derive it from"))?;
        let Size(log_size) = process.log_size;
        Ok(Self {
            default_namespace: config.default_namespace().to_owned(),
            log_size,
            restart_backoff: process.restart_backoff,
            restart_backoff_max: process.restart_backoff_max,
            stop_timeout: process.stop_timeout,
            images: process.images.clone(),
            pool,
            environment,
            ..Self::new(state_dir, executable)
        })
    }
}

/// The part of the gateway's environment that functions may see: where
/// programs and homes are, language and time zone.
pub fn inherited(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    environment
        .iter()
        .filter(|(name, _)| INHERITED.contains(&name.as_str()) || name.starts_with("LC_"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_inherited() {
        let environment = [
            "PATH",
            "LC_ALL",
            "FAAS__AUTH__BASIC",
            "AWS_SECRET_ACCESS_KEY",
            "basic_auth",
        ]
        .map(|name| (name.to_owned(), "x".to_owned()))
        .into();
        let seen: Vec<_> = inherited(&environment).into_keys().collect();
        assert_eq!(seen, ["LC_ALL", "PATH"]);
    }
}
