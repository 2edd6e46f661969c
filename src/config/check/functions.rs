//! What the tables about one function come to together.
//!
//! `[functions."*"]`, the function's own table and a route's are above each
//! other, so a key of one may contradict a key of another. Each contradiction
//! is told about once, at the strongest table that has a part in it.

use super::{EVERY_FUNCTION, Found, Problem, calls};
use crate::{
    config::{
        Config,
        calls::{Function, RateKey, Visibility},
        duration::format,
        entry::dotted,
        setting::Setting,
    },
    model::FunctionRef,
};

/// Checks the tables of functions.
pub(super) fn check(config: &Config, found: &mut Found) {
    names(config, found);
    for (name, function) in &config.functions {
        let path = ["functions", name].map(str::to_owned);
        calls::values(&path, function, config, found);
        if function.visibility == Some(Visibility::Internal) && config.server.internal_listen.is_none() {
            found.warn(format!(
                "{}.visibility is \"internal\" but server.internal_listen is not set: nothing leads to that function",
                dotted(&path)
            ));
        }
    }
    for (name, function) in &config.functions {
        let own = (vec!["functions".to_owned(), name.clone()], function);
        let every = (name != EVERY_FUNCTION).then(|| every(config)).flatten();
        together(&std::iter::once(own).chain(every).collect::<Vec<_>>(), config, found);
    }
}

/// Names are names, and each function has one table.
fn names(config: &Config, found: &mut Found) {
    let mut seen: Vec<(FunctionRef, &str)> = Vec::new();
    for name in config.functions.keys().filter(|name| *name != EVERY_FUNCTION) {
        let path = ["functions", name].map(str::to_owned).to_vec();
        match FunctionRef::parse(name, config.default_namespace()) {
            Ok(function) => match seen.iter().find(|(other, _)| *other == function) {
                Some((_, other)) => found.error_at(
                    vec![path],
                    format!("is the same function as functions.\"{other}\"; keep one of them"),
                ),
                None => seen.push((function, name)),
            },
            Err(error) => found.error_at(vec![path], error.to_string()),
        }
    }
    if !config.default_namespace().is_empty() {
        return;
    }
    let without = |name: &str| FunctionRef::new(name, "");
    for (function, table) in &seen {
        let is_first = |(name, _)| name == *table;
        let first = config.own_settings(&without(&function.name)).is_some_and(is_first);
        let same = |(other, _): &&(FunctionRef, &str)| other.name == function.name && other != function;
        if !function.namespace.is_empty()
            && first
            && let Some((_, other)) = seen.iter().find(same)
        {
            found.warn(format!(
                "functions.\"{table}\" and functions.\"{other}\": which of them a call of {name} without a namespace \
                 leads to is the provider's to know, and it gets the settings of the first; set \
                 provider.default_namespace, or add functions.\"{name}\"",
                name = function.name
            ));
        }
    }
}

/// A table with its path.
pub(super) type Table<'c> = (Vec<String>, &'c Function);

/// The base of all functions.
pub(super) fn every(config: &Config) -> Option<Table<'_>> {
    let (name, table) = config.functions.get_key_value(EVERY_FUNCTION)?;
    Some((vec!["functions".to_owned(), name.clone()], table))
}

/// Something that does not fit, with the keys it is about.
struct Contradiction {
    keys: &'static [&'static str],
    message: String,
    warning: bool,
}

/// Checks tables that are above each other, the strongest first.
pub(super) fn together(tables: &[Table], config: &Config, found: &mut Found) {
    let Some((strongest, beneath)) = tables.split_first() else {
        return;
    };
    let known = if beneath.is_empty() {
        Vec::new()
    } else {
        contradictions(beneath, config)
    };
    let keys: Vec<_> = tables.iter().map(|(_, table)| set_keys(table)).collect();
    for new in contradictions(tables, config) {
        let level = |key: &str| keys.iter().position(|keys| keys.iter().any(|set| set == key));
        let levels: Vec<_> = new.keys.iter().map(|key| level(key)).collect();
        // A key beneath that the strongest one made useless is no mistake.
        if let [Some(first), Some(second)] = levels[..]
            && new.keys == HEADER_UNUSED
            && first > second
        {
            continue;
        }
        let again = known
            .iter()
            .any(|old| old.keys == new.keys && old.message == new.message);
        if again && levels.iter().any(|level| *level != Some(0)) {
            continue;
        }
        let place = |(key, level): (&&str, &Option<usize>)| -> Vec<String> {
            let table = level.and_then(|level| tables.get(level)).unwrap_or(strongest);
            let parts = key.split('.').map(str::to_owned);
            table.0.iter().cloned().chain(parts).collect()
        };
        let mut paths: Vec<_> = new.keys.iter().zip(&levels).map(place).collect();
        if new.warning {
            let key = paths.first().map(|path| dotted(path)).unwrap_or_default();
            found.warn_once(format!("{key} {}", new.message));
        } else {
            // Where a key is missing, its table is the place.
            let parents: Vec<_> = paths.iter().map(|path| path[..path.len() - 1].to_vec()).collect();
            paths.extend(parents);
            paths.push(strongest.0.clone());
            found.problem_once(Problem::new(paths, new.message));
        }
    }
}

/// The keys of a table that are set, dotted.
fn set_keys(table: &Function) -> Vec<String> {
    let mut entries = Vec::new();
    table.entries(&[], &mut entries);
    let set = entries.into_iter().filter(|entry| entry.value.is_some());
    set.map(|entry| entry.path.join(".")).collect()
}

/// The key of a header that counts nothing, and the key that makes it so.
const HEADER_UNUSED: &[&str] = &["rate_limit.header", "rate_limit.by"];

fn contradictions(tables: &[Table], config: &Config) -> Vec<Contradiction> {
    let mut tables = tables.iter().rev();
    let Some(weakest) = tables.next() else {
        return Vec::new();
    };
    let table = tables.fold(weakest.1.clone(), |beneath, (_, table)| table.over(&beneath));
    let mut all = Vec::new();
    let mut add = |keys, warning, message: String| {
        all.push(Contradiction { keys, message, warning });
    };
    let total = table.timeouts.as_ref().and_then(|timeouts| timeouts.total);
    let total = total.unwrap_or(config.invoke.upstream_timeout);
    if let Some(timeouts) = &table.timeouts {
        let both: [(&'static [&'static str], _); 2] = [
            (&["timeouts.first_byte", "timeouts.total"], timeouts.first_byte),
            (&["timeouts.idle", "timeouts.total"], timeouts.idle),
        ];
        for (keys, bound) in both {
            if let Some(bound) = bound.filter(|bound| *bound > total) {
                let (bound, total) = (format(bound), format(total));
                add(
                    keys,
                    true,
                    format!("({bound}) never fires: the whole answer has {total}"),
                );
            }
        }
    }
    let no_effect = |key: &str| format!("is set but has no effect: {key} is not set");
    if table.max_in_flight.is_none() {
        if table.max_queued.is_some() {
            add(&["max_queued", "max_in_flight"], true, no_effect("max_in_flight"));
        }
        if table.queue_timeout.is_some() {
            add(&["queue_timeout", "max_in_flight"], true, no_effect("max_in_flight"));
        }
    }
    let keys = set_keys(&table);
    let only = |beginning: &str, key: &str| keys.iter().any(|set| set.starts_with(beginning) && set != key);
    if let Some(rate) = table.rate_limit.as_ref().filter(|rate| rate.requests != Some(0)) {
        if rate.requests.is_none() && only("rate_limit.", "rate_limit.requests") {
            let message = "is missing: how many calls in that time (0 turns the limit off)";
            add(&["rate_limit.requests"], false, message.to_owned());
        }
        let by_header = rate.by == Some(RateKey::Header);
        if by_header && rate.header.is_none() {
            let message = "is needed with by = \"header\"".to_owned();
            add(&["rate_limit.header", "rate_limit.by"], false, message);
        }
        if !by_header && rate.header.is_some() {
            let message = "is only used with by = \"header\"; set that, or remove this".to_owned();
            add(HEADER_UNUSED, false, message);
        }
    }
    if let Some(retries) = &table.retries {
        if let (Some(first), Some(longest)) = (retries.backoff, retries.backoff_max)
            && longest < first
        {
            let message = format!("must not be shorter than backoff ({})", format(first));
            add(&["retries.backoff_max", "retries.backoff"], false, message);
        }
        if retries.attempts.is_none() && retries.annotations != Some(true) && only("retries.", "retries.annotations") {
            let message = "is not set: the other keys of retries have no effect".to_owned();
            add(&["retries.attempts"], true, message);
        }
    }
    if let Some(message) = crossed_waits(&table) {
        add(&["queue.max_wait", "queue.min_wait"], false, message);
    }
    if let Some(breaker) = &table.breaker {
        if let (Some(first), Some(longest)) = (breaker.open, breaker.open_max)
            && longest < first
        {
            let message = format!("must not be shorter than open ({})", format(first));
            add(&["breaker.open_max", "breaker.open"], false, message);
        }
        if breaker.failures.is_none() && only("breaker.", "breaker.failures") {
            let message = "is not set: the other keys of breaker have no effect".to_owned();
            add(&["breaker.failures"], true, message);
        }
    }
    if let Some(compression) = &table.compression
        && compression.algorithms.is_none()
        && only("compression.", "compression.algorithms")
    {
        let message = "is not set: the other keys of compression have no effect".to_owned();
        add(&["compression.algorithms"], true, message);
    }
    if let Some(cors) = &table.cors {
        let any = cors.origins.iter().flatten().any(|origin| origin == "*");
        if any && cors.credentials == Some(true) {
            let message = "cannot be true with the origin \"*\": any page could act as the user, and browsers refuse \
                           it; name the origins";
            add(&["cors.credentials", "cors.origins"], false, message.to_owned());
        }
        if cors.origins.is_none() && only("cors.", "cors.origins") {
            let message = "is not set: the other keys of cors have no effect".to_owned();
            add(&["cors.origins"], true, message);
        }
    }
    all
}

/// What is wrong with the waits between tries of asynchronous calls.
fn crossed_waits(table: &Function) -> Option<String> {
    let queue = table.queue.as_ref()?;
    let (first, longest) = queue.min_wait.zip(queue.max_wait)?;
    (longest < first).then(|| format!("must not be shorter than min_wait ({})", format(first)))
}
