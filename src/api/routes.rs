//! Which paths exist, with which methods, and which of them are open.
//!
//! Derived from the typed operations and the portal's files, so that the check
//! of the caller cannot miss a route: a path that is not in this table is
//! answered 404 without being routed, and one that is needs admission unless
//! its operation says otherwise by not asking for it.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use poem::http::{HeaderValue, Method};
use poem_openapi::OpenApi;

use super::portal;

/// Where clients create namespaces, and what poem makes of that path.
pub(super) const NAMESPACE_WITH_SLASH: &str = "/system/namespace/";
/// [`NAMESPACE_WITH_SLASH`] as poem knows it.
pub(super) const NAMESPACE_WITHOUT_SLASH: &str = "/system/namespace";

/// All routes of the API, the portal and the reference.
pub(super) struct Routes {
    routes: Vec<Route>,
    /// The portal's files, which are one route.
    files: Route,
}

/// One path and what it takes.
pub(super) struct Route {
    /// The path with `{name}` for its parameters.
    pub(super) template: Arc<str>,
    methods: Vec<Method>,
    /// No admission needed.
    pub(super) open: bool,
}

impl Routes {
    /// The operations of `A` and the portal's paths.
    pub(super) fn of<A: OpenApi>() -> Self {
        let operations = A::meta().into_iter().flat_map(|api| api.paths).map(|path| Route {
            template: path.path.as_str().into(),
            open: path.operations.iter().all(|operation| operation.security.is_empty()),
            methods: path.operations.into_iter().map(|operation| operation.method).collect(),
        });
        let files = portal::PATHS.iter().map(|(path, open)| Route {
            template: (*path).into(),
            open: *open,
            methods: vec![Method::GET],
        });
        let mut routes: Vec<Route> = operations.chain(files).collect();
        for route in &mut routes {
            if route.methods.contains(&Method::GET) {
                route.methods.push(Method::HEAD);
            }
            route.methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        }
        let files = Route {
            template: portal::FILES.into(),
            open: true,
            methods: vec![Method::GET, Method::HEAD],
        };
        Self { routes, files }
    }

    /// The route of a path as it was received, not decoded.
    pub(super) fn find(&self, path: &str) -> Option<&Route> {
        let path = to_poem(path);
        let listed = self.routes.iter().find(|route| matches(&route.template, path));
        listed.or_else(|| portal::is_file(path).then_some(&self.files))
    }
}

impl Route {
    pub(super) fn allows(&self, method: &Method) -> bool {
        self.methods.contains(method)
    }

    /// The value of `Allow`.
    pub(super) fn allow(&self) -> HeaderValue {
        let names: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        HeaderValue::try_from(names.join(", ")).expect("method names are header text")
    }
}

/// The path that poem's router knows.
pub(super) fn to_poem(path: &str) -> &str {
    if path == NAMESPACE_WITH_SLASH {
        NAMESPACE_WITHOUT_SLASH
    } else {
        path
    }
}

fn matches(template: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    template.split('/').all(|expected| {
        segments.next().is_some_and(|segment| {
            if expected.starts_with('{') {
                // poem silently drops parameters that are not UTF-8.
                !segment.is_empty() && percent_decode_str(segment).decode_utf8().is_ok()
            } else {
                segment == expected
            }
        })
    }) && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Apis;

    #[test]
    fn only_health_the_portals_files_and_the_document_are_open() {
        let routes = Routes::of::<Apis>();
        let mut open: Vec<_> = routes
            .routes
            .iter()
            .filter(|route| route.open)
            .map(|route| &*route.template)
            .collect();
        open.sort_unstable();
        assert_eq!(
            open,
            [
                "/",
                "/healthz",
                "/openapi.json",
                "/openapi.yaml",
                "/openapi/3.1.json",
                "/ui",
                "/ui/"
            ]
        );
    }

    #[test]
    fn paths_match_as_with_openfaas() {
        let routes = Routes::of::<Apis>();
        for (path, template) in [
            ("/system/functions", Some("/system/functions")),
            ("/system/functions/", None),
            ("/system/function/figlet", Some("/system/function/{name}")),
            ("/system/function/%66iglet", Some("/system/function/{name}")),
            ("/system/function/", None),
            ("/system/function/%ff", None),
            ("/system/function/a/b", None),
            ("/system/namespace/", Some("/system/namespace")),
            ("/system/namespace/dev", Some("/system/namespace/{name}")),
            ("/%73ystem/functions", None),
            ("//system/functions", None),
            ("/", Some("/")),
            ("/ui/", Some("/ui/")),
            ("/ui/app.js", Some("/ui/{file}")),
            ("/ui/screens/functions.js", Some("/ui/{file}")),
            ("/ui/nothing.js", None),
            ("/nothing", None),
        ] {
            assert_eq!(routes.find(path).map(|route| &*route.template), template, "{path}");
        }
    }

    #[test]
    fn allow_lists_every_method() {
        let routes = Routes::of::<Apis>();
        let functions = routes.find("/system/functions").expect("a route");
        assert_eq!(functions.allow(), "DELETE, GET, HEAD, POST, PUT");
        assert!(!functions.allows(&Method::PATCH));
    }
}
