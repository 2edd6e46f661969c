//! What changed between two configurations, and which of it waits for a restart.
//!
//! Pure: [`crate::reload`] acts on the answer.

use std::collections::{BTreeMap, BTreeSet};

use super::{Config, ConfigError, Loaded, Origins, check, plausible::implausible, sections::ProviderKind};

/// Key of the main listener's address.
const LISTEN: &str = "server.listen";
/// Key of the metrics listener's address.
const METRICS_LISTEN: &str = "metrics.listen";
/// Key of the process provider's directory.
const STATE_DIR: &str = "provider.process.state_dir";
/// Key of the namespace that it keeps functions in which are named without one.
const NAMESPACE: &str = "provider.default_namespace";

/// Key of the part of the work that this process does.
const ROLE: &str = "server.role";

/// What differs between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that changed and take effect at once, in the order of the file.
    pub keys: Vec<String>,
    /// Keys that changed but take effect at the next start.
    pub restart: Vec<&'static str>,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.restart.is_empty()
    }
}

/// One key with two values, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key as the file writes it.
    pub key: String,
    /// What is running, secrets masked; `None` when it is not set.
    pub old: Option<String>,
    /// What is to come, secrets masked; `None` when it is not set.
    pub new: Option<String>,
    /// Whether it takes effect at the next start only.
    pub restart: bool,
}

/// [`diff`] with the values, those that take effect at once first.
///
/// Each configuration comes with its origins, which know what is secret.
fn differences(old: (&Config, &Origins), new: (&Config, &Origins)) -> Vec<Difference> {
    let changes = diff(old.0, new.0);
    let shown = |(config, origins): (&Config, &Origins)| -> BTreeMap<String, Option<String>> {
        let entries = config.entries().into_iter();
        entries
            .map(|entry| {
                let key = entry.key();
                let value = entry.shown(origins).or_else(|| config.derived(&key));
                (key, value)
            })
            .collect()
    };
    let (before, after) = (shown(old), shown(new));
    let live = changes.keys.into_iter().map(|key| (key, false));
    let restart = changes.restart.into_iter().map(|key| (key.to_owned(), true));
    live.chain(restart)
        .map(|(key, restart)| Difference {
            old: before.get(&key).cloned().flatten(),
            new: after.get(&key).cloned().flatten(),
            key,
            restart,
        })
        .collect()
}

/// Whether a value that somebody writes takes effect without a restart.
pub(super) fn is_changeable(key: &str, running: &Config) -> bool {
    key != ROLE && (![STATE_DIR, NAMESPACE].contains(&key) || is_live(running))
}

/// Compares the running configuration with another.
pub fn diff(old: &Config, new: &Config) -> Changes {
    let restart = needs_restart(old, new);
    let entries = |config: &Config| -> Vec<(Vec<String>, Option<String>)> {
        config
            .entries()
            .into_iter()
            .map(|entry| (entry.path, entry.value))
            .collect()
    };
    let (before, after) = (entries(old), entries(new));
    let known: BTreeMap<_, _> = before.iter().map(|(path, value)| (path, value)).collect();
    let current: BTreeSet<_> = after.iter().map(|(path, _)| path).collect();
    let differing = after
        .iter()
        .filter(|(path, value)| known.get(path).is_none_or(|old| *old != value));
    let removed = before.iter().filter(|(path, _)| !current.contains(path));

    let mut changes = Changes {
        restart,
        ..Changes::default()
    };
    for (path, _) in differing.chain(removed) {
        let key = super::dotted(path);
        if changes.restart.contains(&key.as_str()) {
            continue;
        }
        changes.keys.push(key);
    }
    changes
}

/// What replacing the running configuration with another would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The keys that differ, those that take effect at once first.
    pub differences: Vec<Difference>,
    /// What a reload would warn of; where it would refuse the whole, that.
    pub warnings: Vec<String>,
}

/// Compares the running configuration, which comes with its origins, with one
/// that may replace it.
pub fn compare(running: (&Config, &Origins), candidate: &Loaded) -> Comparison {
    let differences = differences(running, (&candidate.config, &candidate.origins));
    let warnings = match keep_running(running.0, candidate.clone()) {
        Ok((kept, _)) => kept.warnings,
        Err(errors) => {
            let refused = errors.iter().map(|error| format!("a reload refuses this: {error}"));
            candidate.warnings.iter().cloned().chain(refused).collect()
        }
    };
    Comparison { differences, warnings }
}

/// Puts the running values of restart-only keys into a configuration that is
/// about to replace the running one, and adds what is odd about the change to
/// its warnings.
///
/// # Errors
/// There are such keys and the new configuration has `reload.strict`. Or the
/// mixture breaks a rule that neither configuration breaks alone: a listener
/// that stays public must not get commands of this machine without authentication.
pub fn keep_running(running: &Config, mut next: Loaded) -> Result<(Loaded, Changes), Vec<ConfigError>> {
    let changes = diff(running, &next.config);
    if next.config.reload.strict && !changes.restart.is_empty() {
        let refused = changes.restart.iter().map(|key| strictly(key, &next.origins));
        return Err(refused.collect());
    }
    for key in &changes.restart {
        let config = &mut next.config;
        match *key {
            LISTEN => config.server.listen = Some(running.listen()),
            ROLE => config.server.role = running.server.role,
            METRICS_LISTEN => config.metrics.listen = Some(running.metrics_listen()),
            NAMESPACE => config.provider.default_namespace = Some(running.default_namespace().to_owned()),
            STATE_DIR => config
                .provider
                .process
                .state_dir
                .clone_from(&running.provider.process.state_dir),
            key => config.queue.keep(key, &running.queue),
        }
    }
    let found = check::relations(&next.config);
    let errors: Vec<ConfigError> = found
        .errors
        .into_iter()
        .map(|problem| {
            let mut error = problem.into_error(&next.origins);
            error
                .message
                .push_str(" (this key keeps its running value until a restart)");
            error
        })
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    for warning in found.warnings.into_iter().chain(implausible(running, &next.config)) {
        let warning = next.origins.masked(warning);
        if !next.warnings.contains(&warning) {
            next.warnings.push(warning);
        }
    }
    next.pending_restart.clone_from(&changes.restart);
    Ok((next, changes))
}

/// Why a change is refused that needs a restart. Without the values, which may
/// be secret.
fn strictly(key: &str, origins: &Origins) -> ConfigError {
    let of = |key: &str| origins.of(&key.split('.').map(str::to_owned).collect::<Vec<_>>());
    // An address that nobody wrote follows from the provider.
    let derived = || of("provider.kind").or_else(|| of("provider.url"));
    let place = of(key).or_else(|| derived().filter(|_| [LISTEN, METRICS_LISTEN].contains(&key)));
    ConfigError {
        origin: place.unwrap_or_else(|| "configuration".to_owned()),
        key: key.to_owned(),
        message: "changing it needs a restart, which reload.strict refuses to wait for; restart the gateway, keep the \
                  running value, or turn strictness off (reload.strict, --strict) to have the rest applied"
            .to_owned(),
    }
}

fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut keys = Vec::new();
    if old.server.role != new.server.role {
        keys.push(ROLE);
    }
    // An address that somebody wrote is moved to. One that follows from other
    // settings is not: nobody asked for the gateway to be elsewhere.
    if old.listen() != new.listen() && new.server.listen.is_none() {
        keys.push(LISTEN);
    }
    let derived = new.metrics.listen.is_none() && new.server.listen.is_none();
    if old.metrics_listen() != new.metrics_listen() && derived {
        keys.push(METRICS_LISTEN);
    }
    let stays = !is_live(old) && !is_live(new);
    if stays && old.default_namespace() != new.default_namespace() {
        keys.push(NAMESPACE);
    }
    if !is_live(old) && old.provider.process.state_dir != new.provider.process.state_dir {
        keys.push(STATE_DIR);
    }
    keys.extend(old.queue.needs_restart(&new.queue));
    keys
}

/// Directory and namespace are only in use while the process provider is.
fn is_live(running: &Config) -> bool {
    running.provider_kind() != ProviderKind::Process
}
