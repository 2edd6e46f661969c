//! One call: send, wait, hand the answer on.

use std::{
    net::SocketAddr,
    pin::pin,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use thiserror::Error;
use tokio::time::Instant;

use super::{
    body::{self, Deadline, DeadlinePassed, Observe, TimedBody, TooLarge, bound_in},
    headers::{self, CallHeaders},
    keep::{Keep, keep},
    protocol,
    retry::{self, Budget},
    target,
    upload::Upload,
};
use crate::{
    config::{Bound, FunctionSettings},
    upstream::{
        Address, AnswerBody, Body, BoxError, ConnectError, Endpoint, InFlight, Protocol, SendError, SendFailure,
        Upstream,
    },
};

/// Everything about a call but its request and its upstream.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// Id and start time, as both sides see them.
    pub headers: CallHeaders,
    /// The caller's address.
    pub peer: SocketAddr,
    /// When the request's head had been read.
    pub started: Instant,
    /// Bound on receiving the request's body.
    pub receive: Deadline,
    /// Bound on the function's whole answer.
    pub answer: Deadline,
    /// What applies to the function: bounds, retries, ejection of replicas.
    pub settings: &'a FunctionSettings,
    /// How many calls may be tried again; without it, as many as there are.
    pub budget: Option<&'a Budget>,
}

impl Call<'_> {
    /// Until when the head of an answer must be there, for a function that has
    /// the whole request now.
    fn first_byte(&self) -> Deadline {
        match self.settings.first_byte {
            None => self.answer,
            Some(bound) => self
                .answer
                .or_earlier(Deadline::new(Instant::now(), bound.after, bound.setting)),
        }
    }
}

/// Why a call got no answer from its function.
#[derive(Debug, Error)]
pub enum ForwardError {
    /// No connection to the upstream.
    #[error(transparent)]
    Unreachable(SendError),
    /// The connection broke before the answer's head.
    #[error(transparent)]
    Broken(SendError),
    /// The function took too long.
    #[error("the function did not answer in time: {0}")]
    AnswerTimeout(DeadlinePassed),
    /// The caller took too long to send the request.
    #[error("the request was not received in time: {0}")]
    ReceiveTimeout(DeadlinePassed),
    /// The caller broke off, or sent something that is no body.
    #[error("the request's body could not be read to its end: {0}")]
    Unreadable(String),
    /// The caller's request is larger than it may be.
    #[error("the request's body is {0}")]
    RequestTooLarge(TooLarge),
    /// The answer says that it is larger than it may be.
    #[error("the function's answer is {0}")]
    AnswerTooLarge(TooLarge),
    /// The upstream switched protocols, which nobody asked for.
    #[error("the function answered 101 Switching Protocols to a request that asked for no switch")]
    Switched,
    /// The caller's target cannot be expressed upstream.
    #[error("the request target cannot be forwarded: {0}")]
    Target(http::uri::InvalidUri),
}

/// A function's answer.
pub struct Answer<G> {
    /// The response to hand on, body unread.
    pub response: Response<Body>,
    /// The upstream's side of a connection that switched protocols.
    pub switched: Option<Switched<G>>,
}

/// An upstream connection that switched protocols, and what must live as long.
pub struct Switched<G> {
    /// The upstream's connection, to be joined with the caller's.
    pub upstream: OnUpgrade,
    /// Bound on both sides' silence.
    pub idle: Option<Bound>,
    /// The observer and the endpoint's count; drop them when the tunnel ends.
    pub guards: Guards<G>,
}

/// Sends a request to an upstream and returns its answer, body unread.
///
/// `rest` is the path behind the function's name. `choose` names an upstream;
/// it is asked again for each further try: a few when no connection was made,
/// and those of the function's retries. `observer` is taken when there is an
/// answer; it sees the answer's bytes and is dropped with its last one.
///
/// Dropping the future, or the response's body, cancels the call upstream.
///
/// # Errors
/// [`ForwardError`], or what `choose` failed with.
pub async fn forward<B, E, G>(
    request: Box<Request<B>>,
    rest: &str,
    call: &Call<'_>,
    mut choose: impl FnMut() -> Result<Upstream, E>,
    observer: &mut Option<G>,
) -> Result<Answer<G>, E>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    E: From<ForwardError>,
    G: Observe + Send + Unpin + 'static,
{
    let settings = call.settings;
    let (mut parts, body) = request.into_parts();
    TooLarge::check(body.size_hint().lower(), settings.max_request).map_err(ForwardError::RequestTooLarge)?;
    let original = std::mem::take(&mut parts.uri);
    let mut upstream = choose()?;
    // Only HTTP/1.1 can switch, on both sides (RFC 9110 section 7.8).
    let upgrade = headers::requested_upgrade(&parts.headers)
        .filter(|_| parts.version == http::Version::HTTP_11 && protocol::of(&upstream, settings) == Protocol::Http1);
    headers::set_host(&mut parts.headers, original.authority());
    if parts.version == http::Version::HTTP_2 {
        headers::join_cookies(&mut parts.headers);
    }
    // A socket file has no name of its own, so the function sees the caller's.
    let host = match upstream.endpoint.address() {
        Address::Unix(_) => None,
        Address::Tcp { .. } => Some(upstream.endpoint.host()),
    };
    headers::to_upstream(&mut parts.headers, &call.headers, call.peer, host);
    if let Some(protocol) = upgrade.clone() {
        headers::set_upgrade(&mut parts.headers, protocol);
    }
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        // Said for all methods: the library would drop the body of a GET.
        let chunked = HeaderValue::from_static("chunked");
        parts.headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    parts.uri = target::upstream_uri(&upstream.path, &original, rest).map_err(ForwardError::Target)?;
    parts.version = http::Version::HTTP_11;
    parts.extensions.clear();
    if let Some(budget) = call.budget.filter(|_| settings.retries.is_some()) {
        budget.call();
    }
    let (kept, body, upload) = match keep(&parts, body, call) {
        Keep::Now(kept) => kept,
        Keep::Read(reading) => reading.await?,
    };

    let mut request = Box::new(Request::from_parts(parts, body));
    let (mut retries, mut skipped) = (0, 0);
    let (response, in_flight) = loop {
        let in_flight = upstream.endpoint.begin();
        if let Some(observer) = observer.as_mut()
            && let Some(carried) = observer.sent(upstream.endpoint.address(), request.uri())
        {
            headers::set_trace(request.headers_mut(), carried, call.headers.request_changes.as_deref());
        }
        let mut tried = attempt(call, &upstream, request, upload.as_deref()).await;
        note(call.settings, &upstream.endpoint, outcome(&tried));
        if let Some(observer) = observer.as_mut() {
            observer.tried(outcome(&tried));
        }
        if let Err(failed) = &mut tried
            && let Some(next) = elsewhere(&failed.error, skipped, &mut choose)
            && let Some(unsent) = failed.unsent.take()
        {
            skipped += 1;
            if let Some(observer) = observer.as_mut() {
                observer.retried();
            }
            (request, upstream) = (unsent, next);
            continue;
        }
        let again = pause(call, &tried, kept.is_some(), retries).and_then(|pause| {
            let unsent = tried.as_mut().err().and_then(|failed| failed.unsent.take());
            Some((pause, unsent.or_else(|| Some(Box::new(kept.as_ref()?.request())))?))
        });
        let Some((pause, next)) = again else {
            break (tried.map_err(|failed| failed.error)?, in_flight);
        };
        retries += 1;
        if let Some(observer) = observer.as_mut() {
            observer.retried();
        }
        drop((tried, in_flight));
        tokio::time::sleep(pause).await;
        request = next;
        upstream = choose()?;
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && upgrade.is_none() {
        return Err(ForwardError::Switched.into());
    }
    TooLarge::check(response.size_hint().lower(), settings.max_response).map_err(ForwardError::AnswerTooLarge)?;
    let guards = Guards {
        observer: observer.take(),
        _in_flight: in_flight,
    };
    Ok(answer(response, call, upgrade, guards))
}

/// How a try went.
type Tried = Result<Response<AnswerBody>, Box<Failed>>;

/// A try that got no answer.
struct Failed {
    error: ForwardError,
    /// The request, when nothing of it was sent.
    unsent: Option<Box<Request<Body>>>,
}

/// Sends a request once. The function's time for its first byte begins when it
/// has the whole request, for a caller that sends slowly is none of its doing.
async fn attempt(call: &Call<'_>, upstream: &Upstream, request: Box<Request<Body>>, upload: Option<&Upload>) -> Tried {
    let protocol = protocol::of(upstream, call.settings);
    let mut sending = pin!(upstream.endpoint.send(request, protocol));
    if let Some(upload) = upload.filter(|_| call.settings.first_byte.is_some()) {
        tokio::select! {
            biased;
            sent = sending.as_mut() => return understood(sent, &upstream.endpoint),
            () = upload.ended() => {}
            () = tokio::time::sleep_until(call.answer.at) => {}
        }
    }
    let due = call.first_byte();
    if let Ok(sent) = tokio::time::timeout_at(due.at, sending).await {
        return understood(sent, &upstream.endpoint);
    }
    let error = if upload.is_some_and(Upload::is_awaited) {
        ForwardError::ReceiveTimeout(call.receive.or_earlier(due).passed)
    } else {
        ForwardError::AnswerTimeout(due.passed)
    };
    Err(Box::new(Failed { error, unsent: None }))
}

/// An answer that means the same to everybody.
fn understood(sent: Result<Response<AnswerBody>, Box<SendFailure>>, endpoint: &Endpoint) -> Tried {
    let failed = |error, unsent| {
        let error = failed(error);
        Box::new(Failed { error, unsent })
    };
    let mut response = sent.map_err(|failure| failed(failure.error, failure.unsent))?;
    match headers::settle_framing(response.status(), response.headers_mut()) {
        Ok(()) => Ok(response),
        Err(why) => {
            let address = endpoint.address().described();
            Err(failed(SendError::Malformed { address, why }, None))
        }
    }
}

/// Lets the endpoint know how a try went, where failing replicas are ejected.
/// What the caller did wrong is no failure of the replica.
pub fn note(settings: &FunctionSettings, endpoint: &Endpoint, outcome: Result<u16, &ForwardError>) {
    let Some(breaker) = &settings.breaker else { return };
    let failed = match outcome {
        Ok(status) => breaker.statuses.contains(&status),
        Err(error) if error.is_the_functions() => true,
        Err(_) => return,
    };
    if failed {
        endpoint
            .health()
            .failed(breaker.failures, breaker.open, breaker.open_max);
    } else {
        endpoint.health().succeeded();
    }
}

fn outcome(tried: &Tried) -> Result<u16, &ForwardError> {
    tried
        .as_ref()
        .map(|response| response.status().as_u16())
        .map_err(|failed| &failed.error)
}

/// Where a call goes at once that found nobody listening, after it skipped so
/// many endpoints: one to which a connection can probably be made. This is no
/// retry: nobody was asked yet.
pub fn elsewhere<E>(
    error: &ForwardError,
    skipped: u32,
    choose: impl FnOnce() -> Result<Upstream, E>,
) -> Option<Upstream> {
    let refused = matches!(
        error,
        ForwardError::Unreachable(SendError::Connect(ConnectError::Io { .. }))
    );
    if !refused || skipped >= MAX_SKIPPED {
        return None;
    }
    // Why there is none is told by who asks again.
    let next = choose().ok()?;
    let reachable = next.endpoint.health().is_reachable(std::time::Instant::now());
    reachable.then_some(next)
}

/// How many endpoints a call passes over at most.
const MAX_SKIPPED: u32 = 16;

/// How long to wait before a call that was not sent is sent to another replica,
/// after so many tries; `None` to give up.
pub fn connect_again(error: &ForwardError, tries: u32) -> Option<Duration> {
    // The bound on connecting was the caller's whole wait for a connection.
    let late = matches!(
        error,
        ForwardError::Unreachable(SendError::Connect(
            ConnectError::Timeout { .. } | ConnectError::Full { .. }
        )) | ForwardError::AnswerTimeout(_)
    );
    // A replica that just went away is not the caller's concern.
    (!late && tries < MAX_CONNECT_TRIES).then(|| CONNECT_PAUSE * (tries + 1))
}

/// How long to wait before another try; `None` when there is none to make.
fn pause(call: &Call<'_>, tried: &Tried, kept: bool, retries: u32) -> Option<Duration> {
    let unsent = tried.as_ref().is_err_and(|failed| failed.unsent.is_some());
    let Some(settings) = &call.settings.retries else {
        let failed = tried.as_ref().err().filter(|_| unsent)?;
        return connect_again(&failed.error, retries);
    };
    let repeatable = match tried {
        Err(failed) if failed.error.is_for_want_of_connections() => false,
        Ok(response) => kept && settings.statuses.contains(&response.status().as_u16()),
        Err(failed) => unsent || (kept && failed.error.is_the_functions()),
    };
    if !repeatable || retries >= settings.attempts {
        return None;
    }
    let asked = tried.as_ref().ok().and_then(|response| {
        let value = response.headers().get(header::RETRY_AFTER)?;
        retry::retry_after(value, SystemTime::now())
    });
    let wait = retry::wait(settings, retries + 1, rand::random(), asked)?;
    let in_time = Instant::now() + wait < call.answer.at;
    let affordable = |budget: &Budget| budget.withdraw(settings.budget);
    (in_time && call.budget.is_none_or(affordable)).then_some(wait)
}

/// How often a call looks for another connection when none was made.
const MAX_CONNECT_TRIES: u32 = 2;

/// First pause between such tries; long enough for a provider to notice that a
/// replica died, short against any timeout.
const CONNECT_PAUSE: Duration = Duration::from_millis(5);

fn answer<G>(
    mut response: Response<AnswerBody>,
    call: &Call<'_>,
    asked: Option<HeaderValue>,
    mut guards: Guards<G>,
) -> Answer<G>
where
    G: Observe + Send + Unpin + 'static,
{
    guards.head(response.status());
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let upstream = switching.then(|| hyper::upgrade::on(&mut response));
    let (mut parts, body) = response.into_parts();
    // Servers that leave it out mean what they were asked for.
    let protocol = parts.headers.get(header::UPGRADE).cloned().or(asked);
    headers::to_downstream(&mut parts.headers, &call.headers, call.started.elapsed());
    parts.version = http::Version::HTTP_11;
    if let Some((upstream, protocol)) = upstream.zip(protocol) {
        headers::set_upgrade(&mut parts.headers, protocol);
        return Answer {
            response: Response::from_parts(parts, body::empty()),
            switched: Some(Switched {
                upstream,
                idle: call.settings.idle,
                guards,
            }),
        };
    }
    let body = TimedBody::new(body, call.answer, guards)
        .idle(call.settings.idle)
        .limit(call.settings.max_response);
    Answer {
        response: Response::from_parts(parts, body.boxed_unsync()),
        switched: None,
    }
}

/// The observer, and the endpoint's count that lives as long.
pub struct Guards<G> {
    observer: Option<G>,
    _in_flight: InFlight,
}

impl<G: Observe> Observe for Guards<G> {
    fn head(&mut self, status: StatusCode) {
        if let Some(observer) = &mut self.observer {
            observer.head(status);
        }
    }

    fn data(&mut self, bytes: usize) {
        if let Some(observer) = &mut self.observer {
            observer.data(bytes);
        }
    }

    fn ended(&mut self) {
        if let Some(observer) = &mut self.observer {
            observer.ended();
        }
    }
}

fn failed(error: SendError) -> ForwardError {
    match error {
        SendError::Connect(_) => ForwardError::Unreachable(error),
        SendError::Body(cause) => unreadable(cause.cause()),
        SendError::Lost { .. } | SendError::Malformed { .. } => ForwardError::Broken(error),
        SendError::Broken { ref cause, .. } => match std::error::Error::source(cause) {
            // What the request's body failed with.
            Some(body) if cause.is_user() => unreadable(body),
            _ => ForwardError::Broken(error),
        },
    }
}

/// Why a request's body could not be read.
pub(super) fn unreadable(error: &(dyn std::error::Error + 'static)) -> ForwardError {
    if let Some(passed) = bound_in::<DeadlinePassed>(error) {
        return ForwardError::ReceiveTimeout(passed);
    }
    match bound_in::<TooLarge>(error) {
        Some(large) => ForwardError::RequestTooLarge(large),
        None => ForwardError::Unreadable(error.to_string()),
    }
}

impl ForwardError {
    /// In a word, for those who count.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Broken(_) => "broken",
            Self::AnswerTimeout(_) => "answer_timeout",
            Self::ReceiveTimeout(_) => "receive_timeout",
            Self::Unreadable(_) => "request_unreadable",
            Self::RequestTooLarge(_) => "request_too_large",
            Self::AnswerTooLarge(_) => "answer_too_large",
            Self::Switched => "switched_protocols",
            Self::Target(_) => "bad_target",
        }
    }

    /// Whether the function failed to answer, rather than the caller to ask.
    fn is_the_functions(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Broken(_) | Self::AnswerTimeout(_))
            && !self.is_for_want_of_connections()
    }

    /// Whether all connections that there may be were in use. More tries would
    /// only make the line longer.
    fn is_for_want_of_connections(&self) -> bool {
        matches!(self, Self::Unreachable(SendError::Connect(ConnectError::Full { .. })))
    }
}
