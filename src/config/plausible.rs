//! What is permitted but looks like a slip: the "2h" that became "0.5s", the
//! API that anybody can use.
//!
//! Pure. [`alone`] looks at one configuration, as every check does;
//! [`implausible`] compares the running one with the next. Contradictions
//! between keys are [`super::check`]'s matter.

use std::{collections::BTreeMap, time::Duration};

use super::{Config, Entry, ProviderKind, duration};

/// From how many times as long, or as short, a change is remarkable.
const FACTOR: u32 = 100;

/// Below this hardly any function answers over a network, and hardly any
/// request arrives.
const SHORT: Duration = Duration::from_secs(1);

/// Bounds that may well be shorter than [`SHORT`], by the last part of their
/// keys: on what a warm function on a near machine does in milliseconds.
const QUICK: &[(&str, Duration)] = &[
    ("connect_timeout", Duration::from_millis(10)),
    ("first_byte", Duration::from_millis(10)),
    ("queue_timeout", Duration::from_millis(10)),
    ("idle", Duration::from_millis(100)),
];

/// A warning for each value that is probably a mistake whatever was there before.
pub(super) fn alone(config: &Config) -> Vec<String> {
    let mut warnings = open_to_all(config);
    for (path, bound) in timeouts(config) {
        let Some(last) = path.last().filter(|last| !PAUSES.contains(&last.as_str())) else {
            continue;
        };
        let quick = QUICK.iter().find(|(key, _)| key == last);
        let enough = quick.map_or(SHORT, |(_, enough)| *enough);
        if !bound.is_zero() && bound < enough {
            warnings.push(format!(
                "{} is {}, shorter than {}: hardly anything gets done in that time; is the unit right?",
                super::dotted(&path),
                duration::format(bound),
                duration::format(enough)
            ));
        }
    }
    warnings
}

/// Listeners on which everybody may do everything. Where that offers commands
/// of this machine, it is a mistake unless it was allowed: see [`super::check`].
fn open_to_all(config: &Config) -> Vec<String> {
    let refused = config.provider_kind() == ProviderKind::Process && !config.server.allow_unauthenticated_public;
    if config.is_protected() || refused {
        return Vec::new();
    }
    let listeners = [
        ("server.listen", Some(config.listen())),
        ("server.internal_listen", config.server.internal_listen),
    ];
    let open = listeners.into_iter().filter_map(|(key, address)| {
        let address = address.filter(|address| !address.ip().is_loopback())?;
        Some(format!(
            "{key}: {address} can be reached from other machines and authentication is off, so whoever reaches it can \
             deploy and remove functions; set auth.basic = true (basic_auth=true) or auth.proxy_url, or listen on \
             127.0.0.1"
        ))
    });
    open.collect()
}

/// A warning for each change that is probably a mistake.
pub(super) fn implausible(running: &Config, next: &Config) -> Vec<String> {
    let before: BTreeMap<Vec<String>, Duration> = timeouts(running)
        .map(|(path, after)| (identity(path, running), after))
        .collect();
    let mut warnings = Vec::new();
    for (path, new) in timeouts(next) {
        let key = super::dotted(&path);
        let old = before.get(&identity(path, next)).copied();
        if let Some(old) = old
            && (exceeds(old, new) || exceeds(new, old))
        {
            warnings.push(format!(
                "{key} changed from {} to {}, by more than {FACTOR} times",
                duration::format(old),
                duration::format(new)
            ));
        }
    }
    let bounds = |config: &Config| (config.invoke.upstream_timeout, config.server.write_timeout);
    let (upstream, write) = bounds(next);
    if bounds(running) != (upstream, write) && upstream == write {
        warnings.push(format!(
            "invoke.upstream_timeout and server.write_timeout are both {}: which of them ends a slow function's \
             answer is left to chance",
            duration::format(upstream)
        ));
    }
    warnings
}

/// Whether `long` is more than [`FACTOR`] times as long as `short`.
fn exceeds(long: Duration, short: Duration) -> bool {
    !short.is_zero() && short.checked_mul(FACTOR).is_some_and(|limit| long > limit)
}

/// Durations in the tables about calls that bound no call; they may well be short.
const PAUSES: &[&str] = &["per", "backoff", "backoff_max", "open", "open_max", "max_age"];

/// Every key that is a timeout or such a pause, whichever section it is in.
fn timeouts(config: &Config) -> impl Iterator<Item = (Vec<String>, Duration)> {
    config.entries().into_iter().filter_map(|Entry { path, value }| {
        let (last, parents) = path.split_last()?;
        let table = parents.last().map(String::as_str);
        let is_one = match path.first().map(String::as_str) {
            // The names in these tables are the users' own.
            Some("functions" | "routes") => {
                let header = table == Some("set");
                table == Some("timeouts") || !header && (last == "queue_timeout" || PAUSES.contains(&last.as_str()))
            }
            // The variables of an image are not ours, whatever their names.
            _ => last.ends_with("timeout") && table != Some("environment"),
        };
        let value = is_one.then_some(value?)?;
        Some((path, duration::parse(value.trim_matches('"'))?))
    })
}

/// A key whose route is named by what it takes rather than by its number, which
/// changes when another route is put before it.
fn identity(mut path: Vec<String>, config: &Config) -> Vec<String> {
    let route = match path.as_slice() {
        [table, number, ..] if table == "routes" => number.parse::<usize>().ok().and_then(|at| config.routes.get(at)),
        _ => None,
    };
    if let Some(route) = route {
        path[1] = route.name.clone().unwrap_or_else(|| {
            let list = |list: &Option<Vec<String>>| list.iter().flatten().cloned().collect::<Vec<_>>().join(" ");
            let taken = [
                list(&route.hosts),
                route.path.clone().unwrap_or_default(),
                list(&route.methods),
            ];
            taken.join(" ")
        });
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, parse};

    fn config(content: &str) -> Config {
        let sources = Sources {
            environment: [("HOME".to_owned(), "/h".to_owned())].into(),
            ..Sources::default()
        };
        parse(Some(content), &sources).expect("valid").config
    }

    #[test]
    fn bounds_in_which_nothing_gets_done_are_warned_about() {
        let functions = |keys: &str| format!("[functions.a]\n{keys}");
        for (content, expected) in [
            ("# -".to_owned(), None),
            (
                "[server]\nread_timeout = \"100ms\"".to_owned(),
                Some("server.read_timeout is 100ms, shorter than 1s"),
            ),
            (
                "[invoke]\nupstream_timeout = \"999ms\"".to_owned(),
                Some("invoke.upstream_timeout is 999ms, shorter than 1s"),
            ),
            ("[invoke]\nconnect_timeout = \"250ms\"".to_owned(), None),
            (
                "[invoke]\nconnect_timeout = \"9ms\"".to_owned(),
                Some("invoke.connect_timeout is 9ms, shorter than 10ms"),
            ),
            // Nothing is waited for: said clearly, it is meant.
            ("[server]\ndrain_timeout = 0".to_owned(), None),
            (
                functions("timeouts.total = \"0.9s\""),
                Some("functions.a.timeouts.total is 900ms, shorter than 1s"),
            ),
            (
                functions("timeouts.activation = \"5ms\""),
                Some("functions.a.timeouts.activation is 5ms, shorter than 1s"),
            ),
            (
                functions("timeouts.first_byte = \"1ms\""),
                Some("functions.a.timeouts.first_byte is 1ms, shorter than 10ms"),
            ),
            (
                functions("timeouts.idle = \"99ms\""),
                Some("functions.a.timeouts.idle is 99ms, shorter than 100ms"),
            ),
            (
                functions("max_in_flight = 1\nmax_queued = 1\nqueue_timeout = \"1ms\""),
                Some("functions.a.queue_timeout is 1ms, shorter than 10ms"),
            ),
            (
                functions("timeouts = { first_byte = \"50ms\", idle = \"500ms\" }"),
                None,
            ),
            (functions("timeouts = { first_byte = 0, idle = 0 }"), None),
            (
                functions("retries = { attempts = 1, backoff = \"1ms\", backoff_max = \"1ms\" }"),
                None,
            ),
            (functions("breaker = { failures = 1, open = \"1ms\" }"), None),
            (functions("rate_limit = { requests = 1, per = \"1ms\" }"), None),
            (functions("headers.request.set.read_timeout = \"1ms\""), None),
            (
                "[[routes]]\npath = \"/a\"\nfunction = \"a\"\ntimeouts.total = \"1ms\"".to_owned(),
                Some("routes.0.timeouts.total is 1ms, shorter than 1s"),
            ),
        ] {
            let found = alone(&config(&content));
            assert_eq!(found.len(), usize::from(expected.is_some()), "{content}: {found:?}");
            assert!(
                found
                    .iter()
                    .all(|warning| expected.is_some_and(|part| warning.starts_with(part))),
                "{found:?}"
            );
        }
    }

    #[test]
    fn listeners_open_to_everybody_are_warned_about_with_every_provider() {
        let remote = "[provider]\nurl = \"http://p/\"\n";
        let memory = "[provider]\nkind = \"memory\"\n";
        let internal = "[server]\nlisten = \"127.0.0.1:1\"\ninternal_listen = \"10.0.0.1:2\"\n";
        let both =
            "[server]\nlisten = \"0.0.0.0:1\"\ninternal_listen = \"[::]:2\"\nallow_unauthenticated_public = true";
        for (content, keys) in [
            ("# loopback".to_owned(), &[][..]),
            (remote.to_owned(), &["server.listen: 0.0.0.0:8080 can be reached"]),
            (memory.to_owned(), &["server.listen: 0.0.0.0:8080 can be reached"]),
            (format!("{remote}[auth]\nbasic = true"), &[]),
            (format!("{remote}[auth]\nproxy_url = \"http://a/\""), &[]),
            (
                format!("{remote}{internal}"),
                &["server.internal_listen: 10.0.0.1:2 can be reached"],
            ),
            (
                both.to_owned(),
                &[
                    "server.listen: 0.0.0.0:1 can be reached",
                    "server.internal_listen: [::]:2 can be reached",
                ],
            ),
        ] {
            let found = alone(&config(&content));
            assert_eq!(found.len(), keys.len(), "{content}: {found:?}");
            assert!(
                found.iter().zip(keys).all(|(warning, key)| warning.starts_with(key)),
                "{found:?}"
            );
        }
    }

    #[test]
    fn slips_are_warned_about() {
        for (before, after, expected) in [
            ("# -", "# +", &[][..]),
            ("# -", "[server]\nread_timeout = \"2m\"", &[]),
            (
                "[invoke]\nupstream_timeout = \"2h\"",
                "[invoke]\nupstream_timeout = \"500ms\"",
                &["invoke.upstream_timeout changed from 120m to 500ms, by more than 100 times"],
            ),
            (
                "[functions.a]\ntimeouts.total = \"1s\"",
                "[functions.a]\ntimeouts.total = \"101s\"",
                &["functions.a.timeouts.total changed from 1s to 1m41s, by more than 100 times"],
            ),
            (
                "[functions.a]\ntimeouts.total = \"1s\"",
                "[functions.a]\ntimeouts.total = \"100s\"",
                &[],
            ),
            (
                "[functions.a]\nrate_limit = { requests = 1, per = \"1h\" }",
                "[functions.a]\nrate_limit = { requests = 1, per = \"1s\" }",
                &["functions.a.rate_limit.per changed from 60m to 1s, by more than 100 times"],
            ),
            // 0 is off.
            (
                "[functions.a]\ntimeouts.idle = \"1m\"",
                "[functions.a]\ntimeouts.idle = 0",
                &[],
            ),
            // A route is known by what it takes.
            (
                "[[routes]]\npath = \"/a\"\nfunction = \"a\"\ntimeouts.idle = \"1s\"",
                "[[routes]]\npath = \"/b\"\nfunction = \"a\"\ntimeouts.idle = \"59m\"\ntimeouts.total = \"1h\"\n\
                 [[routes]]\npath = \"/a\"\nfunction = \"a\"\ntimeouts.idle = \"1s\"",
                &[],
            ),
            (
                "[[routes]]\npath = \"/a\"\nfunction = \"a\"\ntimeouts.idle = \"59m\"",
                "[[routes]]\npath = \"/b\"\nfunction = \"a\"\n\
                 [[routes]]\npath = \"/a\"\nfunction = \"a\"\ntimeouts.idle = \"1s\"",
                &["routes.1.timeouts.idle changed from 59m to 1s, by more than 100 times"],
            ),
            (
                "[functions.a]\nheaders.request.set.per = \"1h\"",
                "[functions.a]\nheaders.request.set.per = \"1s\"",
                &[],
            ),
            (
                "# -",
                "[server]\nwrite_timeout = \"2m\"\n[invoke]\nupstream_timeout = \"2m\"",
                &[
                    "invoke.upstream_timeout and server.write_timeout are both 2m: which of them ends a slow \
                   function's answer is left to chance",
                ],
            ),
            (
                "[provider.process.images.a]\ncommand = \"cat\"\nenvironment = { timeout = \"1h\" }",
                "[provider.process.images.a]\ncommand = \"cat\"\nenvironment = { timeout = \"1s\" }",
                &[],
            ),
        ] {
            assert_eq!(implausible(&config(before), &config(after)), expected, "{after}");
        }
    }
}
