//! One HTTP service: functions straight to the proxy, everything else to the API.
//!
//! The road to functions pays nothing for the API's framework: a path below
//! `/function/` never reaches poem, nor does a call on a route. Both share the
//! listener, the access log and the panic guard with the API.

use std::{convert::Infallible, io, net::SocketAddr, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, combinators::BoxBody};
use poem::Endpoint as _;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    api,
    config::own_paths,
    problem::{self, Form, Problem},
    proxy::{
        body::{self, Observe, TimedBody},
        fast::head,
        headers, target,
    },
    shutdown::Tasks,
    snapshot::{Current, Snapshot},
    upstream::Body,
};

mod access_log;
mod activity;
mod connections;
mod enqueue;
mod fast;
mod handshake;
mod held;
mod http2;
mod invoke;
mod limits;
mod linger;
pub mod listener;
mod mirror;
mod received;
mod routed;
mod socket;
mod spans;
mod way;
mod websocket;
pub mod worker;

pub use connections::Connections;

use access_log::{Kind, Record};
use handshake::Transport;
use invoke::Called;
use mirror::RequestBody;
use received::Received;
use routed::Turned;
use way::Way;

/// The API as the server calls it.
pub type Api = Arc<poem::endpoint::BoxEndpoint<'static, poem::Response>>;

/// Answers requests of one listener.
#[derive(Clone)]
pub struct Service {
    current: Current,
    api: Api,
    tasks: Tasks,
    local: SocketAddr,
    reach: Reach,
    mirrors: Arc<Semaphore>,
    transport: Transport,
}

/// Who can reach a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Everybody (`server.listen`): internal functions do not exist here.
    Public,
    /// Callers inside (`server.internal_listen`).
    Internal,
}

impl Service {
    /// A service that answers with the newest snapshot.
    pub fn new(current: Current, api: Api, tasks: Tasks, local: SocketAddr, reach: Reach) -> Self {
        Self {
            current,
            api,
            tasks,
            local,
            reach,
            mirrors: mirror::places(),
            transport: Transport::Plain,
        }
    }

    /// The same, for one connection.
    fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// Answers one request; never fails and never panics.
    async fn call(&self, mut request: Request<Received>, peer: SocketAddr) -> Result<Response<Body>, Infallible> {
        let started = Instant::now();
        let snapshot = self.current.get();
        let form = Form::wanted(request.version(), request.headers());
        let opening = websocket::open(&mut request, rand::random);
        let answered = AssertUnwindSafe(self.route(snapshot, request, peer, started, form))
            .catch_unwind()
            .await;
        let response = answered.unwrap_or_else(|_| {
            tracing::error!("a request handler panicked; its caller got 500");
            problem_response(
                &Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the gateway failed to handle the request",
                ),
                form,
            )
        });
        Ok(match opening {
            Some(opening) => opening.answer(response, form),
            None => response,
        })
    }

    async fn route(
        &self,
        snapshot: Arc<Snapshot>,
        mut request: Request<Received>,
        peer: SocketAddr,
        started: Instant,
        form: Form,
    ) -> Response<Body> {
        let mut record = Record::new(&snapshot, Kind::Api, &request, peer, started);
        let refused = limits::excess_of(&snapshot.config.server, &request)
            .map(|excess| excess.problem(&snapshot.config.server))
            .or_else(|| refused(&request))
            .or_else(|| not_served(&snapshot, request.uri().path()));
        self.transport.tell(&mut request);
        if let Some(problem) = refused {
            return observed(&snapshot, problem_response(&problem, form), record);
        }
        let route = match way::of(&snapshot.routes, &request) {
            Way::Own => None,
            Way::Below(path) => {
                let Some(uri) = way::with_path(request.uri(), path) else {
                    let problem = outside(snapshot.routes.base_path());
                    return observed(&snapshot, problem_response(&problem, form), record);
                };
                *request.uri_mut() = uri;
                None
            }
            Way::Method(allow) => {
                let text = format!("{} is not allowed here; see the Allow header", request.method());
                let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, text);
                let mut response = problem_response(&problem, form);
                response.headers_mut().insert(header::ALLOW, allow);
                return observed(&snapshot, response, record);
            }
            Way::Outside => {
                let problem = outside(snapshot.routes.base_path());
                return observed(&snapshot, problem_response(&problem, form), record);
            }
            Way::Ambiguous(route) => {
                record.route(&route);
                return observed(&snapshot, problem_response(&routed::ambiguous(&route), form), record);
            }
            Way::Route(route) => Some(route),
        };
        let (request, called, cookie) = match route {
            None if request.uri().path().starts_with(target::FUNCTION_PREFIX) => {
                (Box::new(request.map(RequestBody::Received)), Called::ByName, None)
            }
            // In boxes, as calls are: the HTTP library moves the future of a request.
            None => return Box::pin(self.own(snapshot, request, record, (peer, started), form)).await,
            Some(route) => {
                record.route(&route);
                let (called, cookie) = match routed::turn(&route, &mut request) {
                    Ok(Turned::Call(called, cookie)) => (called, cookie),
                    Ok(Turned::Answer(response)) => return observed(&snapshot, response, record),
                    Err(problem) => return observed(&snapshot, problem_response(&problem, form), record),
                };
                let trace = record.carried();
                let (request, copying) = mirror::copy(self, &snapshot, &route, request, peer, trace, rand::random());
                record.copied(copying);
                (Box::new(request), called, cookie)
            }
        };
        let mut response = Box::pin(invoke::call(snapshot, self, request, &called, record, peer, form)).await;
        if let Some(cookie) = cookie {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }

    /// Answers for one of the gateway's own paths that leads to no function.
    async fn own(
        &self,
        snapshot: Arc<Snapshot>,
        request: Request<Received>,
        mut record: Record,
        (peer, started): (SocketAddr, Instant),
        form: Form,
    ) -> Response<Body> {
        let path = request.uri().path();
        if path.starts_with(target::ASYNC_PREFIX) {
            let allow = enqueue::allow(path);
            let answered = if request.method() == Method::DELETE {
                enqueue::cancel(&snapshot, path).await
            } else {
                enqueue::enqueue(&snapshot, request, self.reach, &mut record).await
            };
            let mut response = answered.unwrap_or_else(|problem| problem_response(&problem, form));
            if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                response.headers_mut().insert(header::ALLOW, allow);
            }
            return observed(&snapshot, response, record);
        }
        if path == own_paths::HEALTH && self.tasks.draining().is_cancelled() {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping");
            return observed(&snapshot, problem_response(&problem, form), record);
        }
        if !path.starts_with('/') {
            let problem = Problem::new(StatusCode::BAD_REQUEST, "the request target is not a path");
            return observed(&snapshot, problem_response(&problem, form), record);
        }
        let method = request.method().clone();
        let (head, body) = request.into_parts();
        let head = poem::RequestParts::from((
            head,
            poem::web::LocalAddr(self.local.into()),
            poem::web::RemoteAddr(peer.into()),
            self.transport.scheme(),
        ));
        let mut request = poem::Request::from_parts(head, body.into_poem());
        request.extensions_mut().insert(Arc::clone(&snapshot));
        let response: Response<BoxBody<Bytes, io::Error>> = self.api.get_response(request).await.into();
        if let Some(api::Matched(route)) = response.extensions().get() {
            record.own_path(route);
            snapshot.metrics.api_request(
                &method,
                route,
                problem::status_of(&response).as_u16(),
                started.elapsed(),
            );
        }
        let response = response.map(|body| body.map_err(Into::into).boxed_unsync());
        observed(&snapshot, response, record)
    }
}

/// What is said of paths that are not below the base path.
fn outside(base: &str) -> Problem {
    let text = format!("there is nothing here: this gateway is at {base}/");
    Problem::new(StatusCode::NOT_FOUND, text).setting("server.base_path")
}

/// What is said of paths that a process of another role serves.
fn not_served(snapshot: &Snapshot, path: &str) -> Option<Problem> {
    let own = own_paths::of(snapshot.routes.base_path(), path);
    if snapshot.config.server.role.answers() || own.is_some_and(own_paths::is_of_workers) {
        return None;
    }
    let text = "this process makes asynchronous calls and answers no others; ask one with another role";
    Some(Problem::new(StatusCode::MISDIRECTED_REQUEST, text).setting("server.role"))
}

/// Requests that nothing here may handle, whatever their path.
fn refused<B>(request: &Request<B>) -> Option<Problem> {
    if request.method() == Method::CONNECT {
        // On 2xx both ends would take the connection for a tunnel (RFC 9110 section 9.3.6).
        let text = "CONNECT is not served: this is a gateway to functions, not a proxy";
        return Some(Problem::new(StatusCode::NOT_IMPLEMENTED, text));
    }
    if !headers::is_plainly_coded(request.headers()) {
        let text = "the request has a transfer coding other than chunked";
        return Some(Problem::new(StatusCode::NOT_IMPLEMENTED, text));
    }
    // One, or those behind us may each believe another (RFC 9112 section 3.2).
    let text = match (
        request.headers().get_all(header::HOST).iter().count(),
        request.version(),
    ) {
        (0, Version::HTTP_11) => "the request has no Host header",
        (0 | 1, _) => {
            let host = request.headers().get(header::HOST)?;
            if head::is_host(host.as_bytes()) {
                return None;
            }
            "the Host header is no host"
        }
        _ => "the request has several Host headers",
    };
    Some(Problem::new(StatusCode::BAD_REQUEST, text))
}

/// Hands an answer on and logs it when its last byte has gone, within the bound
/// on responses.
fn observed(snapshot: &Snapshot, response: Response<Body>, mut record: Record) -> Response<Body> {
    record.head(problem::status_of(&response));
    let deadline = match response.extensions().get::<api::Endless>() {
        None => record.write_deadline(snapshot),
        Some(api::Endless) => record.no_deadline(),
    };
    response.map(|body| TimedBody::new(body, deadline, record).boxed_unsync())
}

fn problem_response(problem: &Problem, form: Form) -> Response<Body> {
    problem.response(form).map(body::full)
}
