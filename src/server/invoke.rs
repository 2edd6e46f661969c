//! `/function/{name}[.{namespace}][/rest]`: from a request to its function.
//!
//! Calls on routes come here too, in this form: see [`super::routed`].
//!
//! Resolves the name, waits for a replica where it must, and hands over to
//! [`crate::proxy`]. What a call may wait for and for how long is decided by the
//! snapshot it began with.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Reach, Service, access_log::Record, activity::Busy, mirror::RequestBody, problem_response, spans::Wait};
use crate::{
    config::{CallAnnotations, CompressionSettings, Config, FunctionSettings, Visibility},
    model::FunctionRef,
    policy::{Admitted, Pass, Policy, Standing, Subject},
    problem::{Form, Problem},
    provider::ProviderError,
    proxy::{
        self, Answer, Call, Switched,
        body::{self, Deadline, Observe},
        compression::{self, body::Compressed},
        headers::{self, CallHeaders},
        target, upgrade,
    },
    routing::{Route, split::KEY_MARK},
    scaling,
    shutdown::Tasks,
    snapshot::{CalledFunction, Snapshot},
    upstream::Body,
};

/// What led to a function.
pub(super) enum Called {
    /// Its name in the path.
    ByName,
    /// A route, which wrote the name into the path.
    ByRoute(ByRoute),
}

/// A call that a route led to.
pub(super) struct ByRoute {
    /// The route, whose settings are above the function's.
    pub(super) route: Arc<Route>,
    /// What the function has in the [`FunctionTable`](crate::snapshot::FunctionTable) on this route.
    pub(super) key: Arc<str>,
}

/// Answers a function call, with the function's answer or with a problem. The
/// request's path is `/function/NAME[/rest]`.
pub(super) async fn call(
    snapshot: Arc<Snapshot>,
    service: &Service,
    mut request: Box<Request<RequestBody>>,
    called: &Called,
    mut record: Record,
    peer: SocketAddr,
    form: Form,
) -> Response<Body> {
    let tasks = &service.tasks;
    let call_headers = call_headers(request.headers());
    record.function_call();
    record.call_id(call_headers.call_id.as_bytes());
    let downstream = request.extensions_mut().remove::<OnUpgrade>();
    let busy = request.extensions_mut().remove::<Arc<Busy>>();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let (mut record, mut policy) = (Some(record), None);
    let answered = forward(
        &snapshot,
        request,
        (called, service.reach),
        peer,
        &call_headers,
        &mut record,
        &mut policy,
    )
    .await;
    let ours = answered.is_err();
    let mut response = match answered {
        Ok(Answer { response, switched }) => {
            if let Some((switched, downstream)) = switched.zip(downstream) {
                tunnel(tasks, downstream, switched, busy);
            }
            response
        }
        Err(problem) => {
            if let Some(mut record) = record {
                record.head(problem.status_code());
                record.ended();
            }
            let mut response = problem_response(&problem, form);
            headers::complete(response.headers_mut(), &call_headers);
            response
        }
    };
    if let Some(policy) = policy {
        let headers = response.headers_mut();
        let wait = ours.then(|| headers.get(header::RETRY_AFTER).cloned()).flatten();
        policy.answers().answer(origin.as_ref(), headers);
        // A function's word may be taken from its answers, the gateway's not.
        if let Some(wait) = wait {
            headers.entry(header::RETRY_AFTER).or_insert(wait);
        }
    }
    response
}

/// `policy` is for the answer, whatever it will be.
async fn forward(
    snapshot: &Arc<Snapshot>,
    request: Box<Request<RequestBody>>,
    (called, reach): (&Called, Reach),
    peer: SocketAddr,
    call_headers: &CallHeaders,
    record: &mut Option<Record>,
    policy: &mut Option<Arc<Policy>>,
) -> Result<Answer<Record>, Problem> {
    // Shares the request's text.
    let uri = request.uri().clone();
    let (raw_name, rest) = target::split(uri.path())
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "this is not a function's path"))?;
    let function = resolve(snapshot, &target::decode_name(raw_name), called).await?;
    if let Some(record) = record {
        record.function(&function);
    }
    if function.settings.internal && reach == Reach::Public {
        return Err(ProviderError::unknown_function(&function.function).into());
    }
    let mut call_headers = call_headers.clone();
    let mut pass = None;
    if let Some(applied) = &function.policy {
        if let Some(permission) = applied.answers().preflight(request.method(), request.headers()) {
            return Ok(preflight(permission, &call_headers, record.take()));
        }
        *policy = Some(Arc::clone(applied));
        pass = admit(applied, &function, &request, peer, record).await?;
        call_headers.request_changes = applied.request_changes();
    }
    let activation = scaling::Policy {
        activation: function.settings.activation,
        ..snapshot.policy
    };
    let since = record.as_ref().and_then(Record::watch);
    let ready = snapshot.scaling.ensure(&function.function, activation).await;
    if let Some(record) = record {
        record.waited(Wait::Activation, since);
    }
    let waited = ready.map_err(|error| unavailable(&function.function, error))?;
    if let Some((waited, metrics)) = waited.zip(function.metrics.as_ref()) {
        metrics.activated(waited);
    }

    if let Some(record) = record
        && let Some(metrics) = &function.metrics
    {
        record.count(metrics, Instant::now());
    }
    let server = &snapshot.config.server;
    let total = function.settings.total;
    // The function's time starts when it is called, not when the call came in;
    // and while a call waits here, nobody reads what its caller sends.
    let called = Instant::now();
    let call = Call {
        headers: call_headers,
        peer,
        started: called,
        receive: Deadline::new(called, server.read_timeout, "server.read_timeout"),
        answer: Deadline::new(called, total.after, total.setting).or_earlier(Deadline::new(
            called,
            server.write_timeout,
            "server.write_timeout",
        )),
        settings: &function.settings,
        budget: function.budget.as_deref(),
    };
    let choose = || {
        snapshot
            .provider
            .upstream(&function.function)
            .map_err(|error| unavailable(&function.function, error))
    };
    let compression = function.settings.compression.as_ref();
    let compression = compression.map(|settings| {
        let asked = compression::Asked::new(settings, request.method(), request.headers());
        (settings, asked)
    });
    let answer = proxy::forward(request, rest, &call, choose, record).await;
    if let Some(pass) = pass {
        match &answer {
            Ok(answer) => pass.answered(answer.response.status().as_u16()),
            // No answer. What else there is was the caller's doing, or ours.
            Err(problem) if matches!(problem.status, 502 | 504) => pass.unanswered(),
            Err(_) => drop(pass),
        }
    }
    let mut answer = answer.map_err(|problem| Problem {
        detail: format!("function {}: {}", function.function, problem.detail),
        ..problem
    })?;
    if let Some((settings, asked)) = compression {
        answer.response = compressed(answer.response, settings, asked);
    }
    Ok(answer)
}

/// The answer as its caller gets it, compressed or not.
fn compressed(response: Response<Body>, settings: &CompressionSettings, asked: compression::Asked) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let length = body.size_hint().exact();
    let body = match compression::apply(settings, asked, &mut parts, length) {
        Some(algorithm) => Compressed::new(body, algorithm).boxed_unsync(),
        None => body,
    };
    Response::from_parts(parts, body)
}

/// Returns when the call may go on, and holds its slot in the record. The pass
/// wants to know how the call ended.
async fn admit(
    policy: &Policy,
    function: &CalledFunction,
    request: &Request<RequestBody>,
    peer: SocketAddr,
    record: &mut Option<Record>,
) -> Result<Option<Pass>, Problem> {
    let since = record.as_ref().and_then(Record::watch);
    let admitted = policy.admit(request.headers(), peer.ip()).await;
    if let Some(record) = record {
        record.waited(Wait::Turn, since);
    }
    match admitted {
        Ok(Admitted { pass, slot }) => {
            if let Some(record) = record {
                record.hold(slot);
            }
            Ok(pass)
        }
        Err(refused) => {
            if let Some((record, metrics)) = record.as_mut().zip(function.metrics.as_ref()) {
                record.refused(metrics, refused.why.reason());
            }
            let problem = Problem::from(refused);
            Err(Problem {
                detail: format!("function {}: {}", function.function, problem.detail),
                ..problem
            })
        }
    }
}

/// The answer to a preflight request. Its call is none of the function's.
fn preflight(permission: HeaderMap, call_headers: &CallHeaders, record: Option<Record>) -> Answer<Record> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = permission;
    headers::complete(response.headers_mut(), call_headers);
    if let Some(mut record) = record {
        record.head(StatusCode::NO_CONTENT);
        record.ended();
    }
    Answer {
        response,
        switched: None,
    }
}

/// The function of a name in a URL: from the table, or looked up and put there.
///
/// Functions that a route leads to have entries of their own, with the route's
/// settings; no name in a URL is looked up that could be one of those.
pub(super) async fn resolve(
    snapshot: &Arc<Snapshot>,
    name: &str,
    called: &Called,
) -> Result<Arc<CalledFunction>, Problem> {
    let (key, route) = match called {
        Called::ByName if name.contains(KEY_MARK) => (None, None),
        Called::ByName => (Some(name), None),
        Called::ByRoute(by) => (Some(&*by.key), by.route.settings(&snapshot.config)),
    };
    if let Some(known) = key.and_then(|key| snapshot.functions.get(key)) {
        return Ok(known);
    }
    // In a box: calls of functions that are known should not keep room for it.
    Box::pin(look_up(snapshot, name, key, route)).await
}

/// The function of a name that is not in the table, put there under `key`.
async fn look_up(
    snapshot: &Arc<Snapshot>,
    name: &str,
    key: Option<&str>,
    route: Option<&crate::config::Route>,
) -> Result<Arc<CalledFunction>, Problem> {
    let version = snapshot.functions.version();
    let function = FunctionRef::parse(name, snapshot.config.default_namespace())
        .map_err(|error| Problem::new(StatusCode::NOT_FOUND, error.to_string()))?;
    let exists = if snapshot.provider.tracks_replicas() {
        match snapshot.provider.upstream(&function) {
            Err(ProviderError::NotFound(_)) => return Err(ProviderError::unknown_function(&function).into()),
            _ => true,
        }
    } else {
        match snapshot.scaling.exists(&function, snapshot.policy).await {
            Ok(()) => true,
            // In the words that hide a function that is there.
            Err(ProviderError::NotFound(_)) if snapshot.policy.from_zero || hides(&snapshot.config) => {
                return Err(ProviderError::unknown_function(&function).into());
            }
            Err(error) if snapshot.policy.from_zero => return Err(unavailable(&function, error)),
            // The provider will say itself what it makes of the call; nothing is
            // counted under a name that nobody vouched for.
            Err(_) => false,
        }
    };
    let mut settings = snapshot.config.function_on_route(&function, route);
    let own_protocol = settings.protocol.is_none() && snapshot.provider.calls_functions();
    let annotated = exists && (settings.annotated.is_some() || own_protocol);
    let annotations = if annotated {
        annotate(snapshot, &function, &mut settings).await
    } else {
        None
    };
    // Before the policy: what limits remember goes when these go.
    let metrics = exists.then(|| snapshot.metrics.function(&function.to_string()));
    let limits = snapshot.config.limited_as(&function);
    let subject = Subject {
        function: &function,
        limits: &limits,
        standing: if exists {
            Standing::Exists
        } else if route.is_some() || snapshot.config.names(&limits) {
            Standing::Named
        } else {
            Standing::Unconfirmed
        },
    };
    let entry = Arc::new(CalledFunction {
        budget: snapshot.states.budget(subject, &settings),
        policy: Policy::new(subject, &settings, &snapshot.states, snapshot.generation),
        settings,
        annotated,
        annotations,
        metrics,
        function,
    });
    if exists && let Some(key) = key {
        snapshot.functions.insert(key, &entry, version);
    }
    Ok(entry)
}

/// Whether some function is internal. Then nobody may tell from the answer
/// which functions are and which do not exist.
fn hides(config: &Config) -> bool {
    let mut functions = config.functions.values();
    functions.any(|function| function.visibility == Some(Visibility::Internal))
}

/// Adds what the function's annotations say, and returns them. When they cannot
/// be read calls go on without them until the provider lists its functions again.
async fn annotate(
    snapshot: &Snapshot,
    function: &FunctionRef,
    settings: &mut FunctionSettings,
) -> Option<CallAnnotations> {
    match snapshot.provider.status(function, false).await {
        Ok(status) => {
            let annotations = CallAnnotations::of(status.annotations.as_ref());
            for mistake in settings.annotate(&annotations) {
                tracing::warn!(%function, "annotation {mistake}");
            }
            Some(annotations)
        }
        Err(error) => {
            tracing::warn!(%function, %error, "annotations cannot be read; called without them");
            None
        }
    }
}

/// What a caller is told when its function cannot be called. Only a function
/// that does not exist is a 404 (compatibility.md section 12); a provider that
/// refuses the gateway has not refused the caller.
pub(super) fn unavailable(function: &FunctionRef, error: ProviderError) -> Problem {
    tracing::debug!(%function, %error, "function cannot take the call");
    let status = match &error {
        ProviderError::Conflict(_) | ProviderError::Invalid(_) | ProviderError::Unsupported(_) => {
            Some(StatusCode::BAD_GATEWAY)
        }
        // The gateway asks too much of it, not this caller.
        ProviderError::Answered { status: 429, .. } => Some(StatusCode::SERVICE_UNAVAILABLE),
        ProviderError::Answered { status, .. } if *status != 503 => Some(StatusCode::BAD_GATEWAY),
        _ => None,
    };
    let problem = Problem::from(error);
    let Some(status) = status else { return problem };
    Problem {
        retry_after: problem.retry_after,
        ..Problem::new(status, problem.detail).component("provider")
    }
}

/// Joins caller and function until both have closed or the process aborts.
/// `busy` keeps the caller's connection, where that carries more than this.
fn tunnel(tasks: &Tasks, downstream: OnUpgrade, switched: Switched<Record>, busy: Option<Arc<Busy>>) {
    tasks.spawn(async move {
        let _busy = busy;
        let Switched {
            upstream,
            idle,
            mut guards,
        } = switched;
        match upgrade::join(downstream, upstream, idle).await {
            Ok((_, down)) => {
                guards.data(usize::try_from(down).unwrap_or(usize::MAX));
                guards.ended();
            }
            // Logged as aborted, like an answer that broke off.
            Err(error) => tracing::debug!(%error, "upgraded connection ended"),
        }
    });
}

/// The call's id, kept or new, and its start time.
pub(super) fn call_headers(request: &HeaderMap) -> CallHeaders {
    let call_id = given_call_id(request).cloned().unwrap_or_else(new_call_id);
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    // Enough until the year 2554.
    let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    CallHeaders {
        call_id,
        start_time: HeaderValue::from(nanos),
        request_changes: None,
    }
}

/// The caller's id of the call.
fn given_call_id(request: &HeaderMap) -> Option<&HeaderValue> {
    request.get(headers::CALL_ID).filter(|id| !id.is_empty())
}

fn new_call_id() -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    text(Uuid::new_v4().hyphenated().encode_lower(&mut buffer))
}

/// Gives a call an id that has none yet.
pub(super) fn ensure_call_id(request: &mut HeaderMap) {
    if given_call_id(request).is_none() {
        request.insert(headers::CALL_ID, new_call_id());
    }
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""))
}
