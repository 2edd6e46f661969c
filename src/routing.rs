//! `[[routes]]`: which route a request's host, path and method lead to, and
//! what the route makes of the request.
//!
//! A [`RouteTable`] is built once for each configuration and never changes. All
//! of this is pure: it neither calls functions nor knows whether they exist;
//! [`crate::server`] does what it says.
//!
//! The most exact host decides, then the longest path, then the method. Paths
//! are compared as they were received. One that a function might read as
//! another route's path is not passed on: see [`RouteTable::is_ambiguous`].

use std::{collections::HashMap, sync::Arc};

use http::{HeaderValue, Method};

use crate::{
    config::{self, Config},
    model::FunctionRef,
    policy::Answers,
};

pub mod host;
pub mod mirror;
pub mod path;
pub mod redirect;
pub mod split;
pub mod sticky;

use mirror::Mirror;
use redirect::Redirect;
use split::Split;

/// Every route of a configuration, ordered for looking up.
///
/// A look-up costs a hash for each label of the host and each segment of the
/// path, whatever the number of routes; neither is counted further than the
/// longest that a route has.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: HashMap<String, Paths>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Paths>,
    /// Routes without hosts.
    any: Paths,
    empty: bool,
    base_path: String,
}

/// The routes of one host, or of none, by their paths.
#[derive(Debug, Default)]
struct Paths {
    /// Whether they have a host.
    named: bool,
    routes: HashMap<String, Vec<Arc<Route>>>,
    /// The same by their normalized paths.
    plain: HashMap<String, Vec<Arc<Route>>>,
    /// Length of the longest path, in bytes.
    longest: usize,
}

/// How paths are compared.
#[derive(Debug, Clone, Copy)]
enum Reading {
    Received,
    Normalized,
}

/// A route, as calls see it.
#[derive(Debug)]
pub struct Route {
    /// Its name in the configuration, or its first host and its path.
    pub name: Arc<str>,
    /// Beginning of the path, without a slash at its end; empty for every path.
    pub path: String,
    /// What replaces `path`; without it nothing does.
    pub rewrite: Option<String>,
    /// Where it leads.
    pub action: Action,
    /// Who gets copies of its calls.
    pub mirror: Option<Mirror>,
    /// Its place among `Config::routes`.
    index: usize,
    /// Empty for every method.
    methods: Vec<Method>,
    /// Whether one of its functions answers cross-origin calls, and so takes
    /// the requests that ask for permission.
    cross_origin: bool,
}

/// What a route does with a request.
#[derive(Debug)]
pub enum Action {
    /// Calls a function.
    Call(Split),
    /// Answers with a redirect.
    Redirect(Box<Redirect>),
}

/// What a look-up found.
#[derive(Debug)]
pub enum Found<'t> {
    /// This route; `named` when it names the request's host, and so comes
    /// before the gateway's own paths.
    Route {
        /// The route.
        route: &'t Arc<Route>,
        /// Whether it has hosts.
        named: bool,
    },
    /// Routes with this path, none with the method.
    Method {
        /// The value of `Allow`.
        allow: HeaderValue,
        /// Whether they have hosts.
        named: bool,
    },
}

impl Found<'_> {
    /// Whether the host was named by what was found.
    pub fn is_named(&self) -> bool {
        let (Self::Route { named, .. } | Self::Method { named, .. }) = self;
        *named
    }
}

/// What of a request decides about its route.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'r> {
    /// The host as [`host::of`] gives it.
    pub host: Option<&'r str>,
    /// The path as received.
    pub path: &'r str,
    /// The method.
    pub method: &'r Method,
    /// The method that a web page asks leave for: of a CORS preflight request
    /// (WHATWG Fetch section 4.8).
    pub preflight: Option<&'r Method>,
}

impl RouteTable {
    /// The routes of a configuration that passed the checks. What the checks
    /// would refuse is left out here. A process that answers no callers has none.
    pub fn new(config: &Config) -> Self {
        let routes = if config.server.role.answers() {
            &*config.routes
        } else {
            &[]
        };
        let mut table = Self {
            empty: routes.is_empty(),
            base_path: config.server.base_path.trim_end_matches('/').to_owned(),
            ..Self::default()
        };
        for (index, written) in routes.iter().enumerate() {
            let route = Arc::new(Route::new(index, written, config));
            match written.hosts.as_deref() {
                None | Some([]) => table.any.add(&route),
                Some(hosts) => {
                    for host in hosts {
                        let host = host.to_ascii_lowercase();
                        let paths = match host.strip_prefix("*.") {
                            Some(rest) => table.wildcard.entry(rest.to_owned()),
                            None => table.exact.entry(host),
                        };
                        let paths = paths.or_default();
                        paths.named = true;
                        paths.add(&route);
                    }
                }
            }
        }
        table
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// What the gateway's own paths are below: empty, or like `/faas`.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// The route of a request. The first host with a route for the path
    /// decides, from the most exact to none, and there the longest path; that
    /// no route there has the method changes neither.
    pub fn find(&self, asked: Asked<'_>) -> Option<Found<'_>> {
        self.read(asked, Reading::Received)
    }

    fn read(&self, asked: Asked<'_>, reading: Reading) -> Option<Found<'_>> {
        let named = asked.host.and_then(|host| {
            let exact = self.exact.get(host).and_then(|paths| paths.find(asked, reading));
            exact.or_else(|| host::parents(host).find_map(|parent| self.wildcard.get(parent)?.find(asked, reading)))
        });
        named.or_else(|| self.any.find(asked, reading))
    }

    /// Whether a path is one that a function, or a proxy before it, could read
    /// as a path of another route, or of none.
    ///
    /// Those are paths with a dot segment, and paths that lead to another route
    /// when `%xx` is decoded, `\` is a slash, and several slashes are one. Such
    /// a request would get past the bounds of the route it seems to take.
    pub fn is_ambiguous(&self, asked: Asked<'_>, route: &Arc<Route>) -> bool {
        let Some(plain) = path::normalized(asked.path) else {
            return false;
        };
        if path::has_dot_segment(&plain) {
            return true;
        }
        match self.read(Asked { path: &plain, ..asked }, Reading::Normalized) {
            Some(Found::Route { route: other, .. }) => !Arc::ptr_eq(route, other),
            Some(Found::Method { .. }) | None => true,
        }
    }
}

impl Paths {
    fn add(&mut self, route: &Arc<Route>) {
        self.longest = self.longest.max(route.path.len());
        let plain = path::normalized(&route.path).unwrap_or_else(|| route.path.clone());
        for (by_path, path) in [(&mut self.routes, route.path.clone()), (&mut self.plain, plain)] {
            by_path.entry(path).or_default().push(Arc::clone(route));
        }
    }

    /// The routes of the longest path, and which of them has the method.
    fn find(&self, asked: Asked<'_>, reading: Reading) -> Option<Found<'_>> {
        let by_path = match reading {
            Reading::Received => &self.routes,
            Reading::Normalized => &self.plain,
        };
        let routes = path::prefixes(asked.path)
            .take_while(|prefix| prefix.len() <= self.longest)
            .filter_map(|prefix| by_path.get(prefix))
            .last()?;
        let with = |method: &Method| {
            let named = routes.iter().find(|route| route.methods.contains(method));
            named.or_else(|| routes.iter().find(|route| route.implies(method)))
        };
        let route = with(asked.method)
            .or_else(|| routes.iter().find(|route| route.methods.is_empty()))
            .or_else(|| with(asked.preflight?).filter(|route| route.cross_origin));
        let named = self.named;
        Some(match route {
            Some(route) => Found::Route { route, named },
            None => Found::Method {
                allow: allow(routes),
                named,
            },
        })
    }
}

impl Route {
    fn new(index: usize, written: &config::Route, config: &Config) -> Self {
        let path = written.path.as_deref().unwrap_or_default();
        let name = written.name.clone().unwrap_or_else(|| {
            let host = written.hosts.iter().flatten().next().map_or("", String::as_str);
            format!("{host}{}", if path.is_empty() { "/" } else { path })
        });
        let action = match &written.redirect {
            Some(redirect) => {
                let answers = Answers::new(&written.alone());
                Action::Redirect(Box::new(Redirect::new(redirect, answers)))
            }
            None => Action::Call(Split::new(index, written)),
        };
        let cross_origin = match &action {
            Action::Call(split) => split.targets().iter().any(|target| {
                FunctionRef::parse(&target.function, config.default_namespace())
                    .is_ok_and(|function| config.function_on_route(&function, Some(written)).cors.is_some())
            }),
            Action::Redirect(redirect) => redirect.answers.is_cross_origin(),
        };
        Self {
            name: name.into(),
            path: path.trim_end_matches('/').to_owned(),
            rewrite: written.rewrite.clone(),
            action,
            mirror: written.mirror.as_ref().map(|mirror| Mirror::new(index, mirror)),
            index,
            methods: written
                .methods
                .iter()
                .flatten()
                .filter_map(|method| method.parse().ok())
                .collect(),
            cross_origin,
        }
    }

    /// What the configuration says about it: timeouts, limits and the like.
    pub fn settings<'c>(&self, config: &'c Config) -> Option<&'c config::Route> {
        config.routes.get(self.index)
    }

    /// Whether it takes this method without naming it: who takes GET takes HEAD
    /// (RFC 9110 section 9.3.2).
    fn implies(&self, method: &Method) -> bool {
        method == Method::HEAD && self.methods.contains(&Method::GET)
    }
}

fn allow(routes: &[Arc<Route>]) -> HeaderValue {
    let mut names: Vec<&str> = routes
        .iter()
        .flat_map(|route| &route.methods)
        .flat_map(|method| {
            let head = (method == Method::GET).then_some("HEAD");
            [Some(method.as_str()), head].into_iter().flatten()
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}
