//! `[[routes]]`: each for itself, against the others, and against the paths of
//! the gateway itself.

use std::collections::BTreeSet;

use url::Url;

use super::{
    Found,
    calls::{self, At},
    functions::{self, Table},
    syntax,
};
use crate::{
    config::{
        Config,
        calls::{Function, Redirect, Route, SplitTarget},
        function::route_table,
        own_paths,
        ratio::Ratio,
        setting::child,
    },
    model::FunctionRef,
};

/// Statuses of redirects (RFC 9110 section 15.4).
const REDIRECTS: &[u16] = &[301, 302, 303, 307, 308];

/// Largest body that is kept in memory for a copy, in bytes.
const LARGEST_COPIED: u64 = 10 << 20;

/// Checks all routes.
pub(super) fn check(config: &Config, found: &mut Found) {
    for (index, route) in config.routes.iter().enumerate() {
        let path = at(index);
        let mut at = At { path: &path, found };
        selection(route, config, &mut at);
        destination(route, &mut at);
        target_functions(route, config, &mut at);
        redirect(route, &mut at);
        extras(route, config, &mut at);
        settings(route, &path, config, found);
    }
    conflicts(config, found);
}

fn at(index: usize) -> Vec<String> {
    vec!["routes".to_owned(), index.to_string()]
}

/// Name, hosts, path and methods.
fn selection(route: &Route, config: &Config, at: &mut At) {
    at.one("name", route.name.as_ref(), |name| {
        let is_one = !name.trim().is_empty() && !name.contains(char::is_control) && name.len() <= 100;
        is_one
            .then_some(())
            .ok_or_else(|| "must be 1 to 100 bytes without control characters".to_owned())
    });
    at.each("hosts", route.hosts.as_ref(), syntax::host);
    at.one("path", route.path.as_ref(), syntax::path);
    at.one("rewrite", route.rewrite.as_ref(), syntax::path);
    at.each("methods", route.methods.as_ref(), syntax::method);
    if has_hosts(route) {
        return;
    }
    let path = plain_path(route);
    let base = config.server.base_path.trim_end_matches('/');
    if let Some(own) = own_paths::of(base, path) {
        let at_base = base.is_empty() || path == own;
        let below = if at_base { "" } else { " below server.base_path" };
        at.error(
            "path",
            format!("{own}{below} is the gateway's own; give the route hosts to take all paths of those"),
        );
    }
}

/// Where calls go: exactly one way.
fn destination(route: &Route, at: &mut At) {
    let ways = [
        ("function", route.function.is_some()),
        ("split", route.split.is_some()),
        ("redirect", route.redirect.is_some()),
    ];
    let set: Vec<&str> = ways.iter().filter(|(_, set)| *set).map(|(key, _)| *key).collect();
    if set.len() != 1 {
        let message = if set.is_empty() {
            "leads nowhere: it needs one of function, split and redirect".to_owned()
        } else {
            format!("has {}: keep one of them", set.join(" and "))
        };
        let mut keys = vec![at.path.to_vec()];
        keys.extend(ways.iter().map(|(key, _)| at.key(key)));
        at.found.error_at(keys, message);
    }
    if let Some(split) = &route.split {
        if split.is_empty() {
            at.error("split", "is empty; name the functions that share the calls");
        } else if split.iter().all(|target| target.weight == 0) {
            at.error("split", "gives all functions the weight 0; at least one must have more");
        }
    }
    let Some(sticky) = &route.sticky else { return };
    match (&sticky.header, &sticky.cookie) {
        (None, None) => at.error("sticky", "needs header or cookie"),
        (Some(_), Some(_)) => at.error("sticky", "has header and cookie: keep one of them"),
        _ => {}
    }
    at.one("sticky.header", sticky.header.as_ref(), syntax::header);
    at.one("sticky.cookie", sticky.cookie.as_ref(), syntax::cookie);
    if route.split.is_none() {
        let keys = vec![at.key("sticky"), at.key("split")];
        at.found.error_at(keys, "has a meaning with split only");
    }
}

/// Functions are named as in URLs, and share calls once each.
fn target_functions(route: &Route, config: &Config, at: &mut At) {
    let mut seen: Vec<FunctionRef> = Vec::new();
    for (key, name) in named(route) {
        match FunctionRef::parse(name, config.default_namespace()) {
            Err(error) => {
                let key = at.key(&key);
                at.found.quoting(key, error.to_string());
            }
            Ok(function) if key.starts_with("split.") => {
                if seen.contains(&function) {
                    at.error(&key, format!("{function} is in split already; add the weights up"));
                }
                seen.push(function);
            }
            Ok(_) => {}
        }
    }
}

/// The functions of a route with their keys.
fn named(route: &Route) -> Vec<(String, &str)> {
    let own = route.function.iter().map(|name| ("function".to_owned(), name.as_str()));
    let split = route.split.iter().flatten().enumerate();
    let split =
        split.map(|(index, SplitTarget { function, .. })| (format!("split.{index}.function"), function.as_str()));
    let mirror = route.mirror.iter();
    let mirror = mirror.map(|mirror| ("mirror.function".to_owned(), mirror.function.as_str()));
    own.chain(split).chain(mirror).collect()
}

/// The functions that answer a route's calls.
fn targets(route: &Route, config: &Config) -> BTreeSet<FunctionRef> {
    let names = route
        .function
        .iter()
        .chain(route.split.iter().flatten().map(|target| &target.function));
    names
        .filter_map(|name| FunctionRef::parse(name, config.default_namespace()).ok())
        .collect()
}

fn redirect(route: &Route, at: &mut At) {
    let Some(Redirect { to, status }) = &route.redirect else {
        return;
    };
    at.one("redirect.to", Some(to), |to| {
        if to.starts_with('/') {
            return syntax::path(to);
        }
        match Url::parse(to) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") || url.host().is_none() => {
                Err("must be a path or an http or https URL".to_owned())
            }
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                Err("must have no query and no fragment: the caller's query is appended".to_owned())
            }
            Ok(_) if to.contains(|character: char| !character.is_ascii_graphic()) => {
                Err("has a character that a URL can only have percent-encoded".to_owned())
            }
            Ok(_) => Ok(()),
            Err(_) => Err("must be a path that begins with '/', or an http or https URL".to_owned()),
        }
    });
    if let Some(status) = status.filter(|status| !REDIRECTS.contains(status)) {
        at.error(
            "redirect.status",
            format!("must be 301, 302, 303, 307 or 308, not {status}"),
        );
    }
    let useless = [
        ("rewrite", route.rewrite.is_some()),
        ("mirror", route.mirror.is_some()),
        ("timeouts", route.timeouts.is_some()),
        ("body", route.body.is_some()),
        ("retries", route.retries.is_some()),
        (
            "headers.request",
            route.headers.as_ref().is_some_and(|headers| headers.request.is_some()),
        ),
    ];
    for (key, _) in useless.iter().filter(|(_, set)| *set) {
        let key = super::dotted(&at.key(key));
        at.found
            .warn(format!("{key} is set but has no effect: the route is a redirect"));
    }
}

fn extras(route: &Route, config: &Config, at: &mut At) {
    let Some(mirror) = &route.mirror else { return };
    if mirror.share == Some(Ratio::percent(0)) {
        at.error("mirror.share", "must be more than 0; without mirror nothing is copied");
    }
    if let Some(size) = mirror.max_body.filter(|size| size.0 > LARGEST_COPIED) {
        at.error(
            "mirror.max_body",
            format!("must be at most 10MiB, not {size}: bodies are kept in memory"),
        );
    }
    let copied_to = FunctionRef::parse(&mirror.function, config.default_namespace());
    if copied_to.is_ok_and(|function| targets(route, config).contains(&function)) {
        let key = super::dotted(&at.key("mirror.function"));
        at.found.warn(format!(
            "{key} is a function that answers these calls too: it gets them twice"
        ));
    }
}

/// What the route says about calls, alone and above its functions.
fn settings(route: &Route, path: &[String], config: &Config, found: &mut Found) {
    let table = route_table(route);
    calls::values(path, &table, config, found);
    let own: Table = (path.to_vec(), &table);
    if route.redirect.is_some() {
        let table = Function {
            cors: route.cors.clone(),
            ..Function::nothing()
        };
        functions::together(&[(path.to_vec(), &table)], config, found);
    }
    let every = functions::every(config);
    for function in targets(route, config) {
        let beneath = config.own_settings(&function);
        let beneath = beneath.map(|(name, table)| (vec!["functions".to_owned(), name.to_owned()], table));
        let tables = std::iter::once(own.clone()).chain(beneath).chain(every.clone());
        functions::together(&tables.collect::<Vec<_>>(), config, found);
    }
}

fn has_hosts(route: &Route) -> bool {
    route.hosts.as_ref().is_some_and(|hosts| !hosts.is_empty())
}

/// The path without a slash at its end, which makes no difference.
fn plain_path(route: &Route) -> &str {
    let path = route.path.as_deref().unwrap_or_default();
    path.strip_suffix('/').unwrap_or(path)
}

/// Names and what requests are compared with are there once.
fn conflicts(config: &Config, found: &mut Found) {
    let lower = |list: &Option<Vec<String>>| -> BTreeSet<String> {
        list.iter().flatten().map(|text| text.to_ascii_lowercase()).collect()
    };
    for (index, route) in config.routes.iter().enumerate() {
        for (first, other) in config.routes.iter().enumerate().take(index) {
            if route.name.is_some() && route.name == other.name {
                let key = child(&at(index), "name");
                let message = "is the name of another route too";
                found.error_beside(vec![key], message, child(&at(first), "name"));
            }
            let (hosts, others) = (lower(&route.hosts), lower(&other.hosts));
            let same_host = hosts.is_empty() && others.is_empty() || !hosts.is_disjoint(&others);
            let (methods, others) = (lower(&route.methods), lower(&other.methods));
            let same_method = methods.is_empty() && others.is_empty() || !methods.is_disjoint(&others);
            if same_host && same_method && plain_path(route) == plain_path(other) {
                let keys = ["path", "hosts", "methods"];
                let mut keys: Vec<_> = keys.iter().map(|key| child(&at(index), key)).collect();
                keys.insert(0, at(index));
                let message = format!("takes the same host, path and method as {}", super::dotted(&at(first)));
                found.error_beside(keys, message, at(first));
            }
        }
    }
}
