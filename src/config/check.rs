//! Checks of values against each other and against what they are used for.
//!
//! Types are checked where values are read ([`super::setting`]); here are the
//! relations: what is needed with what, what contradicts what, and what is
//! permitted but odd. Plain functions of a [`Config`]: they read no file.
//! [`functions`] and [`routes`] check the tables about calls, [`listeners`] `[server]`.

use std::time::Duration;

use super::{
    Config, Origins,
    duration::format,
    entry::{MASK, dotted, mask_user_info, one_line},
    plausible,
    queue::QueueKind,
    sections::{Image, Leader, ProviderKind},
    setting::{ConfigError, child, nearest},
};

mod calls;
mod functions;
mod listeners;
mod queue;
mod role;
mod routes;
mod scaling;
mod stores;
mod syntax;
mod tracing;

/// The modes a watchdog has.
const MODES: &[&str] = &["fork", "streaming", "serializing", "http", "static"];

/// The mode that runs nothing.
const NO_COMMAND: &str = "static";

/// Levels of the log.
const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// Key of the settings that apply to every function.
pub(super) const EVERY_FUNCTION: &str = "*";

/// A relation that does not hold.
#[derive(PartialEq)]
pub(super) struct Problem {
    /// The keys it is about; the first is the one to change.
    pub keys: Vec<Vec<String>>,
    message: String,
    /// The value of the first key.
    found: Option<String>,
    /// The message repeats that value, or a part of it.
    quotes: bool,
    /// The key that it does not go with, whose place is told too.
    beside: Option<Vec<String>>,
}

impl Problem {
    fn new(keys: Vec<Vec<String>>, message: impl Into<String>) -> Self {
        Self {
            keys,
            message: message.into(),
            found: None,
            quotes: false,
            beside: None,
        }
    }

    pub(super) fn into_error(self, origins: &Origins) -> ConfigError {
        let secret = self.keys.first().is_some_and(|key| origins.is_secret(key));
        let mut message = self.message;
        if secret && self.quotes {
            "is not right; the value comes from a variable or a file and is not shown".clone_into(&mut message);
        }
        if let Some(found) = self.found {
            let shown = if secret {
                MASK.to_owned()
            } else {
                mask_user_info(&found)
            };
            message = format!("{message}, found '{shown}'");
        }
        if let Some(place) = self.beside.and_then(|key| origins.of(&key)) {
            message = format!("{message} ({place})");
        }
        ConfigError {
            origin: origins.to_blame(&self.keys),
            key: self.keys.first().map(|key| dotted(key)).unwrap_or_default(),
            message: origins.masked(one_line(&message)),
        }
    }
}

/// What the checks found.
#[derive(Default)]
pub(super) struct Found {
    pub errors: Vec<Problem>,
    pub warnings: Vec<String>,
}

impl Found {
    fn error(&mut self, keys: &[&str], message: impl Into<String>) {
        let keys = keys.iter().map(|key| key.split('.').map(str::to_owned).collect());
        self.error_at(keys.collect(), message);
    }

    fn error_at(&mut self, keys: Vec<Vec<String>>, message: impl Into<String>) {
        self.errors.push(Problem::new(keys, message));
    }

    /// A value that is not what it must be.
    fn wrong(&mut self, key: Vec<String>, message: String, value: &str) {
        self.errors.push(Problem {
            found: Some(value.to_owned()),
            ..Problem::new(vec![key], message)
        });
    }

    /// A value that the message repeats.
    fn quoting(&mut self, key: Vec<String>, message: String) {
        self.errors.push(Problem {
            quotes: true,
            ..Problem::new(vec![key], message)
        });
    }

    /// A mistake that another key has a part in, with its place.
    fn error_beside(&mut self, keys: Vec<Vec<String>>, message: impl Into<String>, beside: Vec<String>) {
        self.errors.push(Problem {
            beside: Some(beside),
            ..Problem::new(keys, message)
        });
    }

    fn problem_once(&mut self, problem: Problem) {
        let again = |old: &Problem| (old.keys.first(), &old.message) == (problem.keys.first(), &problem.message);
        if !self.errors.iter().any(again) {
            self.errors.push(problem);
        }
    }

    fn warn_once(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }
}

/// Checks everything.
pub(super) fn relations(config: &Config) -> Found {
    let mut found = Found::default();
    durations(config, &mut found);
    listeners::check(config, &mut found);
    provider(config, &mut found);
    for (name, image) in &config.provider.process.images {
        check_image(name, image, &mut found);
    }
    functions::check(config, &mut found);
    routes::check(config, &mut found);
    scaling::check(config, &mut found);
    queue::check(&config.queue, &mut found);
    role::check(config, &mut found);
    stores::check(&config.stores, &mut found);
    if let Err(message) = log_filter(&config.logging.level) {
        found.quoting(vec!["logging".to_owned(), "level".to_owned()], message);
    }
    tracing::check(&config.tracing, &mut found);
    without_effect(config, &mut found);
    found.warnings.extend(plausible::alone(config));
    found
}

fn durations(config: &Config, found: &mut Found) {
    let process = &config.provider.process;
    let positive = [
        ("server.read_timeout", config.server.read_timeout),
        ("server.write_timeout", config.server.write_timeout),
        (
            "server.http2.keep_alive_timeout",
            config.server.http2.keep_alive_timeout,
        ),
        ("metrics.refresh_interval", config.metrics.refresh_interval),
        ("invoke.upstream_timeout", config.invoke.upstream_timeout),
        ("invoke.connect_timeout", config.invoke.connect_timeout),
        ("scaling.poll_interval", config.scaling.poll_interval),
        ("scaling.activation_timeout", config.scaling.activation_timeout),
        ("provider.process.restart_backoff", process.restart_backoff),
        ("reload.poll_interval", config.reload.poll_interval),
    ];
    for (key, duration) in positive {
        if duration.is_zero() {
            found.error(&[key], "must be longer than zero");
        }
    }
    if process.restart_backoff_max < process.restart_backoff {
        found.error(
            &[
                "provider.process.restart_backoff_max",
                "provider.process.restart_backoff",
            ],
            format!(
                "must not be shorter than restart_backoff ({})",
                format(process.restart_backoff)
            ),
        );
    }
    if config.reload.debounce_max < config.reload.debounce {
        found.error(
            &["reload.debounce_max", "reload.debounce"],
            format!("must not be shorter than debounce ({})", format(config.reload.debounce)),
        );
    }
    if config.invoke.upstream_timeout > config.server.write_timeout {
        found.warn(cut_short(
            "invoke.upstream_timeout",
            config.invoke.upstream_timeout,
            config,
        ));
    }
}

/// The warning for a bound that never fires because an outer one fires first.
fn cut_short(key: &str, bound: Duration, config: &Config) -> String {
    format!(
        "{key} ({}) is longer than server.write_timeout ({}), which ends a slow function's answer first",
        format(bound),
        format(config.server.write_timeout)
    )
}

fn provider(config: &Config, found: &mut Found) {
    let provider = &config.provider;
    match config.provider_kind() {
        ProviderKind::Http if provider.url.is_none() => found.error(
            &["provider.url", "provider.kind"],
            "is needed with kind = \"http\" (functions_provider_url)",
        ),
        ProviderKind::Process if provider.process.state_dir.is_none() => found.error(
            &["provider.process.state_dir", "provider.kind", "provider.url"],
            "has no default because neither XDG_STATE_HOME nor HOME is set; give --state-dir",
        ),
        ProviderKind::Http | ProviderKind::Process | ProviderKind::Memory => {}
    }
    let suffix = &provider.direct_functions_suffix;
    if let Some(namespace) = &provider.default_namespace
        && provider.direct_functions
        && !suffix.is_empty()
        && !suffix.starts_with(namespace.as_str())
    {
        found.error(
            &[
                "provider.direct_functions_suffix",
                "provider.default_namespace",
                "provider.direct_functions",
            ],
            format!("must start with the default namespace '{namespace}'"),
        );
    }
}

fn check_image(name: &str, image: &Image, found: &mut Found) {
    let path = ["provider", "process", "images", name].map(str::to_owned);
    let key = |last: &str| vec![child(&path, last)];
    match shell_words::split(&image.command) {
        Ok(words) if words.is_empty() && image.mode.as_deref() != Some(NO_COMMAND) => {
            found.error_at(key("command"), "is empty; write the command to run");
        }
        Ok(_) => {}
        Err(error) => found.error_at(key("command"), format!("cannot be split into words: {error}")),
    }
    if let Some(mode) = &image.mode
        && !MODES.contains(&mode.as_str())
    {
        let message = format!("expected one of \"{}\"", MODES.join("\" \""));
        found.wrong(child(&path, "mode"), message, mode);
    }
}

/// Whether the text selects log lines. A bare word other than a level would
/// be taken for a module and hide everything else, so it is refused.
fn log_filter(text: &str) -> Result<(), String> {
    for directive in text.split(',') {
        let plain = !directive.contains(['=', '[', ':']);
        if plain && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(directive)) {
            let hint = nearest(&directive.to_ascii_lowercase(), LEVELS)
                .map_or_else(String::new, |level| format!("; did you mean '{level}'?"));
            return Err(format!(
                "'{directive}' is not a level: use {} or module=level{hint}",
                LEVELS.join(", ")
            ));
        }
    }
    tracing_subscriber::EnvFilter::builder()
        .parse(text)
        .map(|_| ())
        .map_err(|error| format!("'{text}' is not a log filter: {error}"))
}

fn without_effect(config: &Config, found: &mut Found) {
    let kind = config.provider_kind();
    let (provider, queue) = (&config.provider, &config.queue);
    if kind != ProviderKind::Http {
        let set = [
            ("provider.url", provider.url.is_some()),
            ("provider.logs_url", provider.logs_url.is_some()),
            ("provider.direct_functions", provider.direct_functions),
        ];
        for (key, _) in set.iter().filter(|(_, set)| *set) {
            found.warn(format!(
                "{key} is set but has no effect: provider.kind is \"{}\"",
                kind.as_str()
            ));
        }
    }
    if !provider.direct_functions && !provider.direct_functions_suffix.is_empty() {
        found.warn("provider.direct_functions_suffix is set but has no effect: provider.direct_functions is false");
    }
    if config.auth.proxy_pass_body {
        found.warn("auth.proxy_pass_body is set but has no effect: the auth proxy never gets a body");
    }
    for (key, set) in [
        ("queue.nats_address", queue.nats_address.is_some()),
        ("queue.nats_port", queue.nats_port.is_some()),
    ] {
        if set && config.scaling.leader == Leader::Always && queue.kept_by() != QueueKind::Nats {
            found.warn(format!(
                "{key} is set but has no effect: queue.kind is \"{}\", and scaling.leader is \"always\"",
                queue.kept_by().as_str()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters() {
        for text in [
            "info",
            "INFO",
            "info,faas_gateway::proxy=debug",
            "warn,hyper=off",
            "faas_gateway::proxy",
        ] {
            assert_eq!(log_filter(text), Ok(()), "{text}");
        }
        for (text, part) in [
            ("inof", "did you mean 'info'?"),
            ("", "is not a level"),
            ("verbose", "use off, error"),
            ("hyper=loud", "is not a log filter"),
        ] {
            let message = log_filter(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
