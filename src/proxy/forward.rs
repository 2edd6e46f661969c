//! One call: send, wait, hand the answer on.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use thiserror::Error;
use tokio::time::Instant;

use super::{
    body::{self, Deadline, DeadlinePassed, Observe, TimedBody, passed_deadline},
    headers::{self, CallHeaders},
    target,
};
use crate::upstream::{Address, Body, BoxError, ConnectError, InFlight, SendError, SendFailure, Upstream};

/// Everything about a call but its request and its upstream.
#[derive(Debug, Clone)]
pub struct Call {
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
    /// The observer and the endpoint's count; drop them when the tunnel ends.
    pub guards: Guards<G>,
}

/// Sends a request to an upstream and returns its answer, body unread.
///
/// `rest` is the path behind the function's name. `choose` names an upstream;
/// it is asked again, a few times, when a connection fails before anything was
/// sent. `observer` is taken when there is an answer; it sees the answer's
/// bytes and is dropped with its last one.
///
/// Dropping the future, or the response's body, cancels the call upstream.
///
/// # Errors
/// [`ForwardError`], or what `choose` failed with.
pub async fn forward<B, E, G>(
    request: Request<B>,
    rest: &str,
    call: &Call,
    mut choose: impl FnMut() -> Result<Upstream, E>,
    observer: &mut Option<G>,
) -> Result<Answer<G>, E>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    E: From<ForwardError>,
    G: Observe + Send + Unpin + 'static,
{
    let (mut parts, body) = request.into_parts();
    let original = std::mem::take(&mut parts.uri);
    let mut upstream = choose()?;
    // Only HTTP/1.1 can switch (RFC 9110 section 7.8).
    let upgrade = headers::requested_upgrade(&parts.headers).filter(|_| parts.version == http::Version::HTTP_11);
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
    parts.uri = target::upstream_uri(&upstream.path, &original, rest).map_err(ForwardError::Target)?;
    parts.version = http::Version::HTTP_11;
    parts.extensions.clear();
    let body = if body.is_end_stream() {
        body.map_err(Into::into).boxed_unsync()
    } else {
        TimedBody::new(body, call.receive, ()).boxed_unsync()
    };

    let mut request = Request::from_parts(parts, body);
    let mut tries = 0;
    let (response, in_flight) = loop {
        let in_flight = upstream.endpoint.begin();
        if let Some(observer) = observer.as_mut() {
            observer.sent(upstream.endpoint.address(), request.uri());
        }
        let sent = tokio::time::timeout_at(call.answer.at, upstream.endpoint.send(request)).await;
        match sent {
            Ok(Ok(response)) => break (response, in_flight),
            Ok(Err(failure)) => {
                let SendFailure { error, unsent } = *failure;
                // The bound was the caller's whole wait for a connection.
                let late = matches!(error, SendError::Connect(ConnectError::Timeout { .. }));
                match unsent {
                    // A replica that just went away is not the caller's concern.
                    Some(unsent) if tries < MAX_CONNECT_TRIES && !late => {
                        tries += 1;
                        request = unsent;
                        tokio::time::sleep(CONNECT_PAUSE * tries).await;
                        upstream = choose()?;
                    }
                    _ => return Err(failed(error).into()),
                }
            }
            Err(_) => return Err(ForwardError::AnswerTimeout(call.answer.passed).into()),
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && upgrade.is_none() {
        return Err(ForwardError::Switched.into());
    }
    let guards = Guards {
        observer: observer.take(),
        _in_flight: in_flight,
    };
    Ok(answer(response, call, upgrade, guards))
}

/// How often a call looks for another connection when none was made.
const MAX_CONNECT_TRIES: u32 = 2;

/// First pause between such tries; long enough for a provider to notice that a
/// replica died, short against any timeout.
const CONNECT_PAUSE: Duration = Duration::from_millis(5);

fn answer<G>(
    mut response: Response<Incoming>,
    call: &Call,
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
    headers::to_downstream(&mut parts.headers, &call.headers, call.started.elapsed().as_secs_f64());
    parts.version = http::Version::HTTP_11;
    if let Some((upstream, protocol)) = upstream.zip(protocol) {
        headers::set_upgrade(&mut parts.headers, protocol);
        return Answer {
            response: Response::from_parts(parts, body::empty()),
            switched: Some(Switched { upstream, guards }),
        };
    }
    Answer {
        response: Response::from_parts(parts, TimedBody::new(body, call.answer, guards).boxed_unsync()),
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
    if let SendError::Broken { cause, .. } = &error
        && let Some(passed) = passed_deadline(cause)
    {
        return ForwardError::ReceiveTimeout(passed);
    }
    if let SendError::Broken { cause, .. } = &error
        && cause.is_user()
        && let Some(body) = std::error::Error::source(cause)
    {
        return ForwardError::Unreadable(body.to_string());
    }
    match error {
        SendError::Connect(_) => ForwardError::Unreachable(error),
        SendError::Broken { .. } => ForwardError::Broken(error),
    }
}
