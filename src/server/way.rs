//! Which way a request takes: by a route, or to the gateway's own paths. Pure.
//!
//! Routes that name the request's host come first, then the gateway's own
//! paths, then routes without hosts; what is left goes to the API, which knows
//! how to say that there is nothing.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderValue, Method, Request, Uri, header, uri::PathAndQuery};

use crate::{
    config::own_paths,
    routing::{Asked, Found, Route, RouteTable, host},
};

/// Where a request goes.
#[derive(Debug)]
pub(super) enum Way<'p> {
    /// To the gateway's own paths, as it is.
    Own,
    /// To the gateway's own paths, at this one, which is without the base path.
    Below(&'p str),
    /// Along a route.
    Route(Arc<Route>),
    /// Along a route, if its path could not be read as another's.
    Ambiguous(Arc<Route>),
    /// Nowhere: no route with this path has the method.
    Method(HeaderValue),
    /// Nowhere: neither a route nor below the base path.
    Outside,
}

/// The way of a request.
pub(super) fn of<'r, B>(routes: &RouteTable, request: &'r Request<B>) -> Way<'r> {
    if is_plain(routes) {
        return Way::Own;
    }
    let host = if routes.is_empty() { None } else { host::of(request) };
    let preflight = preflight(request);
    let asked = Asked {
        host: host.as_deref(),
        path: request.uri().path(),
        method: request.method(),
        preflight: preflight.as_ref(),
    };
    decide(routes, asked, request.uri().path())
}

/// Whether every request goes to the gateway's own paths as it is.
pub(super) fn is_plain(routes: &RouteTable) -> bool {
    routes.is_empty() && routes.base_path().is_empty()
}

/// The way of a request with this path, which `asked` has too.
pub(super) fn decide<'p>(routes: &RouteTable, asked: Asked<'_>, path: &'p str) -> Way<'p> {
    let base = routes.base_path();
    let found = routes.find(asked);
    let first = found.as_ref().is_some_and(Found::is_named) || own_paths::of(base, path).is_none();
    match found.filter(|_| first) {
        Some(Found::Route { route, .. }) if routes.is_ambiguous(asked, route) => Way::Ambiguous(Arc::clone(route)),
        Some(Found::Route { route, .. }) => Way::Route(Arc::clone(route)),
        Some(Found::Method { allow, .. }) => Way::Method(allow),
        // `*` and the like are not below anything; what is wrong with them is said elsewhere.
        None if base.is_empty() || path == own_paths::HEALTH || !path.starts_with('/') => Way::Own,
        None => own_paths::below(base, path).map_or(Way::Outside, Way::Below),
    }
}

/// The method that a CORS preflight request asks leave for.
fn preflight<B>(request: &Request<B>) -> Option<Method> {
    if request.method() != Method::OPTIONS || !request.headers().contains_key(header::ORIGIN) {
        return None;
    }
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(asked.as_bytes()).ok()
}

/// A request target with another path; the query stays byte for byte.
pub(super) fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let target: Cow<'_, str> = match uri.query() {
        Some(query) => Cow::Owned(format!("{path}?{query}")),
        None => Cow::Borrowed(path),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target.as_ref()).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};

    fn table(toml: &str) -> RouteTable {
        let toml = format!("provider.kind = \"memory\"\n{toml}");
        let loaded = config::parse(Some(&toml), &Sources::default()).expect("the test's configuration is right");
        RouteTable::new(&loaded.config)
    }

    /// The way in a word: a route's name, `own`, what is below the base, …
    fn way(table: &RouteTable, method: &str, host: &str, target: &str) -> String {
        let request = Request::builder().method(method).uri(target).header("host", host);
        match of(table, &request.body(()).expect("a request")) {
            Way::Own => "own".to_owned(),
            Way::Below(path) => with_path(&target.parse().expect("a target"), path)
                .expect("a target")
                .to_string(),
            Way::Route(route) => route.name.to_string(),
            Way::Ambiguous(route) => format!("{}?", route.name),
            Way::Method(allow) => format!("405 {}", allow.to_str().expect("text")),
            Way::Outside => "404".to_owned(),
        }
    }

    fn route(name: &str, rest: &str) -> String {
        format!("[[routes]]\nname = \"{name}\"\nfunction = \"f\"\n{rest}\n")
    }

    #[test]
    fn the_most_exact_host_then_the_longest_path_then_the_method() {
        let table = table(
            &[
                route("exact", "hosts = [\"Shop.example.com\"]\npath = \"/v1\""),
                route("wide", "hosts = [\"*.example.com\"]"),
                route("deep", "hosts = [\"*.eu.example.com\"]\npath = \"/v1/a\""),
                route("any", "path = \"/v1\""),
                route("get", "path = \"/v1/x\"\nmethods = [\"GET\", \"PUT\"]"),
                route("rest", "path = \"/v1/x\"\nmethods = [\"POST\"]"),
                route("both", "path = \"/both\""),
                route("one", "path = \"/both\"\nmethods = [\"POST\"]"),
                route("read", "path = \"/head\"\nmethods = [\"GET\"]"),
                route("head", "path = \"/head\"\nmethods = [\"HEAD\"]"),
            ]
            .concat(),
        );
        for (method, host, target, expected) in [
            ("GET", "shop.example.com:80", "/v1", "exact"),
            ("GET", "SHOP.example.com.", "/v1/", "exact"),
            ("GET", "shop.example.com", "/v1x", "wide"),
            ("GET", "a.b.example.com", "/v1", "wide"),
            ("GET", "a.eu.example.com", "/v1/a/b?c", "deep"),
            ("GET", "a.eu.example.com", "/v1/ab", "wide"),
            ("GET", "example.com", "/v1/z", "any"),
            ("GET", "other.test", "/v1x", "own"),
            ("GET", "other.test", "/v1/x", "get"),
            ("HEAD", "other.test", "/v1/x/y", "get"),
            ("POST", "other.test", "/v1/x/y", "rest"),
            ("DELETE", "other.test", "/v1/x", "405 GET, HEAD, POST, PUT"),
            ("POST", "other.test", "/both", "one"),
            ("PATCH", "other.test", "/both", "both"),
            ("HEAD", "other.test", "/head", "head"),
            ("GET", "other.test", "/head", "read"),
            ("GET", "ignored.test", "http://shop.example.com:99/v1", "exact"),
        ] {
            assert_eq!(way(&table, method, host, target), expected, "{method} {host} {target}");
        }
    }

    #[test]
    fn the_gateway_s_own_paths_are_between_routes_with_hosts_and_those_without() {
        let table = table(
            &[
                route("named", "hosts = [\"shop.test\"]\npath = \"/\""),
                route("any", "path = \"/\""),
            ]
            .concat(),
        );
        for target in [
            "/function/f",
            "/system/info",
            "/ui/",
            "/docs",
            "/openapi.json",
            "/healthz",
            "/ui",
            "/function",
            "/openapi/x",
            "/openapi.yaml",
        ] {
            assert_eq!(way(&table, "GET", "shop.test", target), "named");
            assert_eq!(way(&table, "GET", "other.test", target), "own", "{target}");
        }
        for target in ["/", "/functions", "/uix", "/healthzz", "/openapi-shop", "/metrics"] {
            assert_eq!(way(&table, "GET", "other.test", target), "any", "{target}");
        }
        assert_eq!(way(&table, "OPTIONS", "other.test", "*"), "own");
    }

    #[test]
    fn what_reads_as_another_route_is_ambiguous() {
        let routes = ["/", "/a", "/a/admin", "/b"].map(|path| route(path, &format!("path = \"{path}\"")));
        let table = table(&routes.concat());
        for (target, expected) in [
            ("/a/x%2Fy%20z", "/a"),
            ("/a//x", "/a"),
            ("/a/.well-known", "/a"),
            ("/a/%61dmin", "/a?"),
            ("/a%2Fadmin", "/?"),
            ("/a//admin", "/a?"),
            ("//a", "/?"),
            ("/%61", "/?"),
            ("/a/../b", "/a?"),
            ("/a/%2e%2E/a", "/a?"),
            ("/a/..%2fa", "/a?"),
            ("/a/..%5ca", "/a?"),
            ("/a/.", "/a?"),
            ("/a/..;/a", "/a?"),
            ("/a/%252e%252e/b", "/a"),
        ] {
            assert_eq!(way(&table, "GET", "x.test", target), expected, "{target}");
        }
    }

    #[test]
    fn the_base_path_is_taken_off_the_gateway_s_own_paths_only() {
        let table = table(&format!(
            "[server]\nbase_path = \"/faas\"\n{}",
            route("any", "path = \"/v1\"")
        ));
        for (target, expected) in [
            ("/faas/function/f/x?y=%20", "/function/f/x?y=%20"),
            ("/faas", "/"),
            ("/faas?x", "/?x"),
            ("/faas/", "/"),
            ("/healthz", "own"),
            ("/faas/healthz", "/healthz"),
            ("/function/f", "404"),
            ("/faasx/function/f", "404"),
            ("/v1/a", "any"),
            ("/faas/v1", "/v1"),
            ("*", "own"),
        ] {
            assert_eq!(way(&table, "GET", "x.test", target), expected, "{target}");
        }
    }

    #[test]
    fn a_preflight_request_takes_the_way_of_what_it_asks_for() {
        let cors = "path = \"/open\"\nmethods = [\"PUT\"]\ncors = { origins = [\"*\"] }";
        let table = table(
            &[
                route("open", cors),
                route("closed", "path = \"/closed\"\nmethods = [\"PUT\"]"),
            ]
            .concat(),
        );
        for (path, method, taken) in [
            ("/open", "PUT", true),
            ("/open", "GET", false),
            ("/closed", "PUT", false),
        ] {
            let request = Request::options(path).header("origin", "https://x.test");
            let request = request.header("access-control-request-method", method);
            let request = request.body(()).expect("a request");
            match of(&table, &request) {
                Way::Route(_) => assert!(taken, "{path} {method}"),
                Way::Method(_) => assert!(!taken, "{path} {method}"),
                other => panic!("{path} {method}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_thousand_routes_cost_what_ten_cost() {
        let table_of = |count: usize| {
            let routes = (0..count).map(|n| {
                route(
                    &format!("r{n}"),
                    &format!("hosts = [\"h{n}.test\", \"*.w{n}.test\"]\npath = \"/p{n}\""),
                )
            });
            table(&routes.collect::<String>())
        };
        let (few, many) = (table_of(10), table_of(1000));
        assert_eq!(way(&many, "GET", "h999.test", "/p999/x"), "r999");
        assert_eq!(way(&many, "GET", "a.b.w998.test", "/p998"), "r998");
        let time = |table: &RouteTable| {
            let request = Request::get("/p7/x")
                .header("host", "a.w7.test")
                .body(())
                .expect("a request");
            let of_one = || {
                let begun = std::time::Instant::now();
                for _ in 0..2000 {
                    assert!(matches!(of(table, &request), Way::Route(_)));
                }
                begun.elapsed()
            };
            // The best of several: the machine does other things too.
            (0..20).map(|_| of_one()).min().expect("some")
        };
        let (short, long) = (time(&few), time(&many));
        // A search through the list would take a hundred times as long.
        assert!(long < short * 10, "{short:?} with 10 routes, {long:?} with 1000");
    }
}
