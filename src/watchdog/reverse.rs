//! Mode `http`: one long-lived process that serves HTTP itself, and the proxy
//! in front of it.
//!
//! Bodies stream both ways with trailers; `Upgrade` joins the two connections.
//! Calls that come in HTTP/2 go on in HTTP/2, so the gateway's settings say what
//! the function is called in, and nothing has to be said here.
//! Nothing is retried: whether a call may run twice is the caller's to know.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt;
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::Instant};
use url::Url;

use super::{
    answer::{self, Asked},
    log::note,
    port::Claim,
    settings::Settings,
};
use crate::{
    config::duration,
    proxy::{
        body::{self, Deadline, DeadlinePassed, TimedBody, bound_in},
        headers, upgrade,
    },
    shutdown::Tasks,
    upstream::{Address, Body, Endpoint, PoolLimits, Protocol, SendError},
};

/// A slot among the concurrent calls, held by everything a call still needs.
pub(super) type Permit = Option<Arc<OwnedSemaphorePermit>>;

/// Where the function's own server listens.
pub(super) struct Server {
    endpoint: Arc<Endpoint>,
    host: String,
    port: u16,
    /// Put before the received path; without trailing slash.
    base: String,
    ready: AtomicBool,
    _claim: Option<Claim>,
}

/// Shorter than the keep-alive of the usual servers (Node and uvicorn: 5 s,
/// gunicorn: 2 s), so that no call goes out on a connection that is closing.
const IDLE: Duration = Duration::from_secs(1);

impl Server {
    /// The server at `url`, or at this machine, on `port`; `claim` keeps the
    /// port from other replicas.
    pub(super) fn at(url: Option<&Url>, port: u16, claim: Option<Claim>) -> Self {
        let (host, base) = match url {
            Some(url) => (
                url.host_str().unwrap_or("127.0.0.1").to_owned(),
                url.path().trim_end_matches('/').to_owned(),
            ),
            None => (Ipv4Addr::LOCALHOST.to_string(), String::new()),
        };
        let address = Address::Tcp {
            host: host.clone(),
            port,
            tls: None,
            at: None,
        };
        let limits = PoolLimits {
            idle_timeout: IDLE,
            ..PoolLimits::default()
        };
        Self {
            endpoint: Endpoint::new(address, limits),
            host,
            port,
            base,
            ready: AtomicBool::new(false),
            _claim: claim,
        }
    }

    /// The port to hand out to the function.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Whether it has accepted a connection.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Resolves when the function accepts connections.
    pub(super) async fn wait_until_ready(&self) {
        let began = tokio::time::Instant::now();
        while !self.accepts().await {
            tokio::time::sleep(super::next_look(began.elapsed())).await;
        }
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Whether the function accepts a connection now.
    pub(super) async fn accepts(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        TcpStream::connect((host, self.port)).await.is_ok()
    }

    /// Answers a call with what the function's server says.
    pub(super) async fn call(
        &self,
        request: Request<Body>,
        settings: &Settings,
        tasks: &Tasks,
        permit: &Permit,
    ) -> Response<Body> {
        let start = Instant::now();
        let asked = Asked::of(&request);
        let response = self.forward(request, settings, tasks, permit, start).await;
        asked.log(&response, start.elapsed(), settings.log_callid);
        response
    }

    async fn forward(
        &self,
        mut request: Request<Body>,
        settings: &Settings,
        tasks: &Tasks,
        permit: &Permit,
        start: Instant,
    ) -> Response<Body> {
        let unbounded = streams(request.headers());
        let limit = call_limit(settings.exec_timeout, request.headers()).filter(|_| !unbounded);
        let deadline = limit.map(|limit| Deadline::new(start, limit, "exec_timeout"));
        let switch =
            headers::requested_upgrade(request.headers()).map(|protocol| (protocol, hyper::upgrade::on(&mut request)));
        let receive = Deadline::new(start, settings.read_timeout, "read_timeout");
        // As the caller speaks: it knows what the function wants.
        let protocol = match request.version() {
            Version::HTTP_2 => Protocol::Http2,
            _ => Protocol::Http1,
        };
        let asked = match self
            .prepare(request, switch.is_some(), settings.buffer_http, receive)
            .await
        {
            Ok(asked) => asked,
            Err(response) => return *response,
        };
        let asked = Box::new(asked);
        let sent = match deadline {
            None => Ok(self.endpoint.send(asked, protocol).await),
            Some(deadline) => tokio::time::timeout_at(deadline.at, self.endpoint.send(asked, protocol))
                .await
                .map_err(|_| deadline.passed),
        };
        let mut response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(failure)) => return failed(&failure.error, start.elapsed()),
            Err(passed) => {
                note(format_args!("the function did not answer in time: {passed}"));
                return answer::internal(StatusCode::GATEWAY_TIMEOUT, start.elapsed());
            }
        };
        let switched = (response.status() == StatusCode::SWITCHING_PROTOCOLS)
            .then_some(switch)
            .flatten()
            .map(|(asked_for, ours)| (asked_for, ours, hyper::upgrade::on(&mut response)));
        let (mut parts, body) = response.into_parts();
        let protocol = headers::requested_upgrade(&parts.headers);
        headers::strip_hop_by_hop(&mut parts.headers);
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        if let Some((asked_for, ours, theirs)) = switched {
            headers::set_upgrade(&mut parts.headers, protocol.unwrap_or(asked_for));
            let permit = permit.clone();
            tasks.spawn(async move {
                if let Err(error) = upgrade::join(ours, theirs, None).await {
                    tracing::debug!(%error, "an upgraded connection ended");
                }
                drop(permit);
            });
            return Response::from_parts(parts, body::empty());
        }
        let body = match deadline {
            Some(deadline) => TimedBody::new(body, deadline, ()).boxed_unsync(),
            None => body.map_err(Into::into).boxed_unsync(),
        };
        let response = Response::from_parts(parts, body);
        if unbounded || response.headers().contains_key(headers::DURATION_SECONDS) {
            return response;
        }
        answer::with_duration(response, start.elapsed())
    }

    /// The request as the function's server sees it: same method, target, host
    /// and body, without what concerns one connection only.
    async fn prepare(
        &self,
        request: Request<Body>,
        upgrade: bool,
        buffer: bool,
        receive: Deadline,
    ) -> Result<Request<Body>, Box<Response<Body>>> {
        let (mut parts, body) = request.into_parts();
        let protocol = headers::requested_upgrade(&parts.headers).filter(|_| upgrade);
        headers::set_host(&mut parts.headers, parts.uri.authority());
        headers::strip_hop_by_hop(&mut parts.headers);
        // Our own server has sent the 100 when the body is first read.
        parts.headers.remove(header::EXPECT);
        if let Some(protocol) = protocol {
            headers::set_upgrade(&mut parts.headers, protocol);
        }
        if !parts.headers.contains_key(header::HOST) {
            parts.headers.insert(header::HOST, self.endpoint.host().clone());
        }
        parts.uri = target(&self.base, &parts.uri).map_err(|error| {
            Box::new(answer::text(
                StatusCode::BAD_REQUEST,
                format!("bad request target: {error}\n"),
            ))
        })?;
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        let body = TimedBody::new(body, receive, ()).boxed_unsync();
        if !buffer {
            return Ok(Request::from_parts(parts, body));
        }
        let bytes = body
            .collect()
            .await
            .map_err(|error| Box::new(unreceived(error.as_ref())))?
            .to_bytes();
        Ok(Request::from_parts(parts, body::full(bytes)))
    }
}

/// A request whose body did not arrive.
fn unreceived(error: &(dyn std::error::Error + 'static)) -> Response<Body> {
    match bound_in::<DeadlinePassed>(error) {
        Some(passed) => answer::text(
            StatusCode::REQUEST_TIMEOUT,
            format!("the request body did not arrive in time: {passed}\n"),
        ),
        None => answer::text(
            StatusCode::BAD_REQUEST,
            format!("cannot read the request body: {error}\n"),
        ),
    }
}

fn failed(error: &SendError, took: Duration) -> Response<Body> {
    if let SendError::Body(cause) = error {
        return unreceived(cause.cause());
    }
    if let SendError::Broken { cause, .. } = error
        && bound_in::<DeadlinePassed>(cause).is_some()
    {
        return unreceived(cause);
    }
    note(format_args!("cannot call the function: {error}"));
    answer::internal(StatusCode::INTERNAL_SERVER_ERROR, took)
}

/// Whether the exchange lasts as long as its parties like, so that
/// `exec_timeout` does not apply.
fn streams(headers: &HeaderMap) -> bool {
    let accepts = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/event-stream") || value.contains("application/x-ndjson"));
    accepts
        || headers::requested_upgrade(headers)
            .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// `exec_timeout`, or `X-Timeout` when that is shorter. One that cannot be read
/// is ignored, as of-watchdog does.
fn call_limit(exec_timeout: Option<Duration>, headers: &HeaderMap) -> Option<Duration> {
    let wanted = headers
        .get("x-timeout")
        .and_then(|value| duration::parse(value.to_str().ok()?))
        .filter(|wanted| !wanted.is_zero());
    match (exec_timeout, wanted) {
        (Some(limit), Some(wanted)) => Some(limit.min(wanted)),
        (limit, wanted) => limit.or(wanted),
    }
}

/// The received target behind the base path, byte for byte.
fn target(base: &str, received: &Uri) -> Result<Uri, http::uri::InvalidUri> {
    let rest = received.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    if base.is_empty() {
        rest.parse()
    } else {
        format!("{base}{rest}").parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::headers::map;

    #[test]
    fn streams_have_no_time_limit() {
        for (headers, unbounded) in [
            (map(&[("accept", "text/event-stream")]), true),
            (map(&[("accept", "text/html, application/x-ndjson")]), true),
            (map(&[("upgrade", "WebSocket"), ("connection", "Upgrade")]), true),
            (map(&[("upgrade", "h2c"), ("connection", "Upgrade")]), false),
            (map(&[("accept", "*/*")]), false),
        ] {
            assert_eq!(streams(&headers), unbounded, "{headers:?}");
        }
    }

    #[test]
    fn a_caller_may_only_shorten_the_limit() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (limit, asked, expected) in [
            (seconds(10), Some("2s"), seconds(2)),
            (seconds(10), Some("1m"), seconds(10)),
            (seconds(10), Some("nonsense"), seconds(10)),
            (seconds(10), Some("0"), seconds(10)),
            (None, Some("2s"), seconds(2)),
            (None, None, None),
        ] {
            let headers = asked.map_or_else(HeaderMap::new, |asked| map(&[("x-timeout", asked)]));
            assert_eq!(call_limit(limit, &headers), expected, "{limit:?} {asked:?}");
        }
    }

    #[test]
    fn targets_keep_their_bytes() {
        for (base, received, expected) in [
            ("", "/a%2Fb//?x=%20;y", "/a%2Fb//?x=%20;y"),
            ("/base", "/a?b", "/base/a?b"),
            ("/base", "/", "/base/"),
        ] {
            let uri = target(base, &received.parse().expect("valid")).expect("valid");
            assert_eq!(uri.to_string(), expected);
        }
    }
}
