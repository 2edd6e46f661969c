//! Changes that are permitted but look like a slip: the "2h" that became
//! "0.5s", the authentication that went away.
//!
//! Pure: compares the running configuration with the next one. What is odd
//! without a comparison is [`super::check`]'s matter.

use std::{collections::BTreeMap, time::Duration};

use super::{Config, Entry, duration};

/// From how many times as long, or as short, a change is remarkable.
const FACTOR: u32 = 100;

/// Below this hardly any function answers over a network.
const SHORT: Duration = Duration::from_secs(1);

/// A warning for each change that is probably a mistake.
pub fn implausible(running: &Config, next: &Config) -> Vec<String> {
    let before: BTreeMap<Vec<String>, Duration> = timeouts(running)
        .map(|(path, after)| (identity(path, running), after))
        .collect();
    let mut warnings = Vec::new();
    for (path, new) in timeouts(next) {
        let key = super::dotted(&path);
        let is_bound = !path.last().is_some_and(|last| PAUSES.contains(&last.as_str()));
        let old = before.get(&identity(path, next)).copied();
        if old == Some(new) {
            continue;
        }
        let write = duration::format;
        if let Some(old) = old
            && (exceeds(old, new) || exceeds(new, old))
        {
            warnings.push(format!(
                "{key} changed from {} to {}, by more than {FACTOR} times",
                write(old),
                write(new)
            ));
        } else if is_bound && !new.is_zero() && new < SHORT {
            warnings.push(format!("{key} is now {}, shorter than a second", write(new)));
        }
    }
    if running.is_protected() && !next.is_protected() && !next.listen().ip().is_loopback() {
        warnings.push(format!(
            "authentication was turned off although {} can be reached from other machines",
            next.listen()
        ));
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
    fn slips_are_warned_about() {
        let provider = "[provider]\nurl = \"http://p/\"\n";
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
            // Short ones are usual there, and 0 is off.
            (
                "# -",
                "[functions.a]\nretries = { attempts = 1, backoff = \"5ms\" }\ntimeouts.idle = 0",
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
                "[functions.a]\ntimeouts.total = \"0.9s\"",
                &["functions.a.timeouts.total is now 900ms, shorter than a second"],
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
            (
                &format!("{provider}[auth]\nbasic = true"),
                provider,
                &["authentication was turned off although 0.0.0.0:8080 can be reached from other machines"],
            ),
            ("[auth]\nbasic = true", "# loopback", &[]),
        ] {
            assert_eq!(implausible(&config(before), &config(after)), expected, "{after}");
        }
    }
}
