//! Checks of `[[routes]]`, each for itself and against the others.

use std::collections::BTreeMap;

use super::{Found, calls::Table};
use crate::{
    config::{
        Config,
        calls::{Redirect, Route, SplitTarget},
        entry::dotted,
    },
    model::FunctionRef,
};

/// First segments of the gateway's own paths.
const OWN_PATHS: &[&str] = &[
    "function",
    "async-function",
    "system",
    "ui",
    "docs",
    "openapi.json",
    "openapi.yaml",
    "healthz",
];

/// Statuses of redirects.
const REDIRECTS: &[u16] = &[301, 302, 303, 307, 308];

/// Checks all routes.
pub(super) fn routes(config: &Config, found: &mut Found) {
    let mut names = BTreeMap::new();
    let mut taken = BTreeMap::new();
    for (index, route) in config.routes.iter().enumerate() {
        let path = ["routes".to_owned(), index.to_string()];
        let mut table = Table { path: &path, found };
        table.shared(
            route.timeouts.as_ref(),
            route.retries.as_ref(),
            route.headers.as_ref(),
            route.cors.as_ref(),
            config,
        );
        one(route, config, &mut table);
        if let Some(name) = &route.name
            && let Some(other) = names.insert(name, index)
        {
            table.error(&["name"], format!("'{name}' is the name of routes.{other}, too"));
        }
        for key in matched(route) {
            let (host, prefix, method) = &key;
            let text = format!("{method} {host}{prefix} leads elsewhere already: ");
            if let Some(other) = taken.insert(key.clone(), index)
                && other != index
            {
                table.error(&[], format!("{text}routes.{other} has the same host, path and method"));
                break;
            }
        }
    }
}

/// Each host, path and method that a route asks for, as texts that can be compared.
fn matched(route: &Route) -> Vec<(String, String, String)> {
    let any = || vec!["*".to_owned()];
    let hosts = route
        .hosts
        .clone()
        .filter(|hosts| !hosts.is_empty())
        .unwrap_or_else(any);
    let methods = route
        .methods
        .clone()
        .filter(|methods| !methods.is_empty())
        .unwrap_or_else(any);
    let path = route.path.as_deref().unwrap_or("/").trim_end_matches('/');
    let pairs = hosts
        .iter()
        .flat_map(|host| methods.iter().map(move |method| (host, method)));
    pairs
        .map(|(host, method)| (host.to_ascii_lowercase(), path.to_owned(), method.clone()))
        .collect()
}

fn one(route: &Route, config: &Config, table: &mut Table) {
    let targets = [
        route.function.is_some(),
        route.split.is_some(),
        route.redirect.is_some(),
    ];
    if targets.iter().filter(|set| **set).count() != 1 {
        table.error(&[], "needs one of function, split and redirect");
    }
    let function = |below: &[&str], name: &str, table: &mut Table| {
        if let Err(error) = FunctionRef::parse(name, config.default_namespace()) {
            table.error(below, error.to_string());
        }
    };
    if let Some(name) = &route.function {
        function(&["function"], name, table);
    }
    for target in route.split.iter().flatten() {
        function(&["split"], &target.function, table);
    }
    if let Some(mirror) = &route.mirror {
        function(&["mirror", "function"], &mirror.function, table);
    }
    if let Some(split) = &route.split {
        split_and_sticky(split, table);
    }
    sticky(route, table);
    for host in route.hosts.iter().flatten() {
        if !is_host(host) {
            table.error(
                &["hosts"],
                format!("'{host}' is not a host; write shop.example.com or *.example.com, without a port"),
            );
        }
    }
    table.methods(&["methods"], route.methods.as_deref());
    for (key, path) in [("path", &route.path), ("rewrite", &route.rewrite)] {
        if let Some(path) = path
            && !is_path(path)
        {
            table.error(
                &[key],
                format!("'{path}' is not a plain path: begin with /, without query, '..', '//' or escapes"),
            );
        }
    }
    if route.hosts.as_ref().is_none_or(Vec::is_empty) {
        let path = route.path.as_deref().unwrap_or("/");
        let below = path.strip_prefix(config.server.base_path.as_str()).unwrap_or_default();
        let first = below.trim_start_matches('/').split('/').next().unwrap_or_default();
        if OWN_PATHS.contains(&first) {
            table.error(
                &["path"],
                format!("'{path}' is the gateway's own; give the route hosts to use it there"),
            );
        }
    }
    if let Some(redirect) = &route.redirect {
        check_redirect(redirect, table);
    }
}

fn split_and_sticky(split: &[SplitTarget], table: &mut Table) {
    if split.iter().all(|target| target.weight == 0) {
        table.error(&["split"], "has no target with a weight");
    }
    for (index, target) in split.iter().enumerate() {
        if split[..index].iter().any(|other| other.function == target.function) {
            table.error(&["split"], format!("has '{}' twice", target.function));
        }
    }
}

fn sticky(route: &Route, table: &mut Table) {
    let Some(sticky) = &route.sticky else { return };
    if route.split.is_none() {
        table.error(&["sticky"], "is for routes with split");
    }
    match (&sticky.header, &sticky.cookie) {
        (Some(name), None) if name.parse::<http::HeaderName>().is_err() => {
            table.error(&["sticky", "header"], format!("'{name}' is not a header name"));
        }
        // Cookie names are tokens, as header names are (RFC 6265 section 4.1.1).
        (None, Some(name)) if name.parse::<http::HeaderName>().is_err() => {
            table.error(&["sticky", "cookie"], format!("'{name}' is not a cookie name"));
        }
        (Some(_), None) | (None, Some(_)) => {}
        _ => table.error(&["sticky"], "needs one of header and cookie"),
    }
}

fn check_redirect(redirect: &Redirect, table: &mut Table) {
    let to = &redirect.to;
    let url = url::Url::parse(to).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if !url && !is_path(to) {
        table.error(
            &["redirect", "to"],
            format!("'{to}' is neither an http(s) URL nor a path, both without query"),
        );
    }
    if let Some(status) = redirect.status
        && !REDIRECTS.contains(&status)
    {
        table.error(
            &["redirect", "status"],
            format!("{status} is no redirect: use 301, 302, 303, 307 or 308"),
        );
    }
}

/// Whether a text is a host name, perhaps of any subdomain.
fn is_host(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    name.split('.').all(label) || address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Whether a text is a path that means one thing only.
fn is_path(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte);
    text.starts_with('/')
        && text.bytes().all(plain)
        && !text.contains("//")
        && !text.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Checks the path that everything is below.
pub(super) fn base_path(config: &Config, found: &mut Found) {
    let path = &config.server.base_path;
    if !path.is_empty() && (!is_path(path) || path.ends_with('/')) {
        let key = dotted(&["server", "base_path"]);
        found.error(&[&key], format!("'{path}' is not a plain path such as \"/faas\""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_paths() {
        for host in ["a", "a.example", "*.a.example", "10.0.0.1", "[::1]", "A-b_c.d"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["", "*", "*.", "a..b", "a.", "a:80", "a/b", "x.*.y", "[::1", "a b"] {
            assert!(!is_host(host), "{host}");
        }
        for path in ["/", "/a", "/a/b/", "/a.b/~c"] {
            assert!(is_path(path), "{path}");
        }
        for path in ["", "a", "//", "/a//b", "/../b", "/a/.", "/a?b", "/a%2fb", "/a b", "/#"] {
            assert!(!is_path(path), "{path}");
        }
    }
}
