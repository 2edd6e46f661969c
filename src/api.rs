//! The gateway's own API: `/system/*`, `/healthz`, the portal and the document.
//!
//! One operation is one typed handler, and the OpenAPI document is derived from
//! their types. All methods of a path are in one `impl`, one file each. Calls to
//! functions never come here; they go from the server straight to the proxy.
//!
//! A request passes four steps, all in [`Gateway::answer`]: its snapshot is
//! taken, its path is looked up in [`routes`], the caller is checked (before any
//! body is read), and the portal or poem answers. Whatever fails becomes a
//! [`Problem`], written once, in [`Gateway::call`].

use std::sync::Arc;

use bytes::Bytes;
use poem::{
    Body, Endpoint, EndpointExt, IntoEndpoint, Request, Response,
    endpoint::BoxEndpoint,
    http::{self, HeaderValue, StatusCode, Uri, header},
};
use poem_openapi::Tags;

use crate::{
    auth::Refusal,
    model::FunctionRef,
    problem::{Form, INTERNAL_HEADER, PROBLEM_JSON, Problem},
    snapshot::{Current, Snapshot, control::Control},
};

mod admitted;
mod alert;
mod async_calls;
mod config;
mod counts;
mod error;
mod events;
mod explain;
mod functions;
mod health;
mod info;
mod logs;
mod namespaces;
mod openapi;
mod parameter;
mod pattern;
mod payload;
mod portal;
mod routes;
mod scale;
mod secrets;
mod store;
mod target;

use admitted::{Admitted, Live, View};
use portal::BasedFiles;
use routes::Routes;

/// What a caller without the right credentials reads, to the letter: OpenFaaS
/// clients know it.
const INVALID_CREDENTIALS: &str = "invalid credentials";

/// The challenge that goes with it.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"Restricted\"");

/// Where all answers tell which configuration they come from, refusals too: a
/// number says nothing, and whoever looks at many gateways needs it of each.
const SYSTEM: &str = "/system";

/// Number of the configuration that an answer comes from.
const GENERATION_HEADER: &str = "x-config-generation";

/// Groups of operations in the document.
#[derive(Tags)]
enum Tag {
    /// Deploy functions and look after them.
    Functions,
    /// Secrets that functions read.
    Secrets,
    /// Namespaces that functions live in.
    Namespaces,
    /// Calls that nobody waits for.
    Async,
    /// The gateway and its provider.
    System,
    /// The gateway's own configuration.
    Configuration,
}

/// Every typed operation.
type Apis = (
    functions::FunctionsApi,
    scale::ScaleApi,
    logs::LogsApi,
    secrets::SecretsApi,
    namespaces::NamespacesApi,
    info::InfoApi,
    config::ConfigApi,
    alert::AlertApi,
    async_calls::AsyncApi,
    events::EventsApi,
    store::StoreApi,
    health::HealthApi,
);

fn apis() -> Apis {
    (
        functions::FunctionsApi,
        scale::ScaleApi,
        logs::LogsApi,
        secrets::SecretsApi,
        namespaces::NamespacesApi,
        info::InfoApi,
        config::ConfigApi,
        alert::AlertApi,
        async_calls::AsyncApi,
        events::EventsApi,
        store::StoreApi,
        health::HealthApi,
    )
}

/// The template of the route that answered, such as `/system/function/{name}`:
/// left in the response's extensions as a bounded label for metrics and logs.
/// Absent when no route matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched(pub Arc<str>);

/// The answer is a stream without an end: left in the response's extensions for the
/// server, whose bound on whole answers is not for it.
#[derive(Debug, Clone, Copy)]
pub struct Endless;

/// Everything but calls to functions.
///
/// A request that carries an `Arc<Snapshot>` in its extensions is answered from
/// that one, any other from the newest. Never fails: every failure is a response.
/// Paths come without `server.base_path`; what answers say of paths has it.
/// `control` is what reads the configuration again.
pub fn endpoint(current: Current, control: Arc<dyn Control>) -> BoxEndpoint<'static, Response> {
    Gateway {
        live: Live { current, control },
        routes: Routes::of::<Apis>(),
        operations: openapi::service().into_endpoint(),
        files: BasedFiles::default(),
    }
    .boxed()
}

/// The OpenAPI document: pretty JSON with sorted keys and a trailing newline.
/// The same text for every configuration.
pub fn openapi_document() -> String {
    openapi::document().to_owned()
}

struct Gateway {
    live: Live,
    routes: Routes,
    operations: BoxEndpoint<'static>,
    files: BasedFiles,
}

impl Endpoint for Gateway {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let form = Form::wanted(request.version(), request.headers());
        let snapshot = request
            .data::<Arc<Snapshot>>()
            .cloned()
            .unwrap_or_else(|| self.live.current.get());
        let path = request.uri().path();
        let is_system = path
            .strip_prefix(SYSTEM)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let mut response = match self.routes.find(path) {
            Some(route) => {
                let mut response = self.answer(route, &snapshot, request, form).await;
                response.set_data(Matched(Arc::clone(&route.template)));
                response
            }
            None => written(&no_route(snapshot.routes.base_path(), request.uri()), form),
        };
        if is_system {
            let generation = HeaderValue::from(snapshot.generation);
            response.headers_mut().entry(GENERATION_HEADER).or_insert(generation);
        }
        Ok(response)
    }
}

impl Gateway {
    async fn answer(
        &self,
        route: &routes::Route,
        snapshot: &Arc<Snapshot>,
        mut request: Request,
        form: Form,
    ) -> Response {
        if !route.open {
            let timeout = snapshot.config.invoke.upstream_timeout;
            if let Err(refusal) = snapshot.auth.check(request.headers(), timeout).await {
                return refused(refusal, form);
            }
            request.set_data(Admitted(Arc::clone(snapshot)));
        }
        if !route.allows(request.method()) {
            let text = format!("{} is not allowed here; see the Allow header", request.method());
            let mut response = written(&Problem::new(StatusCode::METHOD_NOT_ALLOWED, text), form);
            response.headers_mut().insert(header::ALLOW, route.allow());
            return response;
        }
        let path = request.uri().path();
        if let Some(served) = self.files.serve(
            path,
            request.headers(),
            snapshot.config.ui.enabled,
            snapshot.routes.base_path(),
        ) {
            return served.unwrap_or_else(|problem| written(&problem, form));
        }
        if let Some(uri) = uri_for_poem(request.uri()) {
            *request.uri_mut() = uri;
        }
        request.set_data(View(Arc::clone(snapshot)));
        request.set_data(self.live.clone());
        shaped(self.operations.get_response(request).await, form).await
    }
}

/// Called after every change of a function: what was known of it is out of date.
fn changed(snapshot: &Snapshot, function: &FunctionRef) {
    snapshot.scaling.forget(function);
    snapshot.functions.forget(function);
    snapshot.events.touch(function);
}

fn no_route(base: &str, uri: &Uri) -> Problem {
    let path = uri.path();
    let text = format!("there is nothing at {base}{path}; {base}/openapi.json lists what there is");
    Problem::new(StatusCode::NOT_FOUND, text)
}

fn uri_for_poem(uri: &Uri) -> Option<Uri> {
    let path = routes::to_poem(uri.path());
    if path == uri.path() {
        return None;
    }
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    text.parse().ok()
}

fn refused(refusal: Refusal, form: Form) -> Response {
    match refusal {
        Refusal::Credentials => {
            let mut response = Problem::new(StatusCode::UNAUTHORIZED, INVALID_CREDENTIALS).response(form);
            if response
                .headers()
                .get(header::CONTENT_TYPE)
                .is_none_or(|value| value != PROBLEM_JSON)
            {
                // Without the newline that other texts end in.
                *response.body_mut() = Bytes::from_static(INVALID_CREDENTIALS.as_bytes());
            }
            response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
            to_poem(response)
        }
        Refusal::Relayed(response) => to_poem(response),
        Refusal::Unavailable(text) => written(
            &Problem::new(StatusCode::INTERNAL_SERVER_ERROR, text).setting("auth.proxy_url"),
            form,
        ),
    }
}

/// A problem in the form the caller accepts.
fn written(problem: &Problem, form: Form) -> Response {
    to_poem(problem.response(form))
}

/// Gives poem's own errors the shape of ours.
async fn shaped(mut response: Response, form: Form) -> Response {
    let status = response.status();
    if let Some(problem) = response.data::<Problem>() {
        return with_data_of(written(problem, form), response);
    }
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || response.headers().contains_key(INTERNAL_HEADER) {
        return response;
    }
    let text = response.take_body().into_string().await.unwrap_or_default();
    with_data_of(written(&Problem::new(status, text), form), response)
}

/// Keeps what poem noted about the operation, for logs.
fn with_data_of(mut response: Response, original: Response) -> Response {
    let (parts, _) = original.into_parts();
    *response.extensions_mut() = parts.extensions;
    response
}

fn to_poem(response: http::Response<Bytes>) -> Response {
    let (parts, body) = response.into_parts();
    let mut response = Response::builder().status(parts.status).body(Body::from_bytes(body));
    *response.headers_mut() = parts.headers;
    *response.extensions_mut() = parts.extensions;
    response
}
