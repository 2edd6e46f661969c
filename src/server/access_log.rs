//! What is kept of a request until its last byte has gone: then it is counted,
//! logged in one line, and shown as spans if its trace is recorded.
//!
//! Never bodies, never query strings, never credentials: what callers put there
//! is theirs.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use tokio::time::Instant;

use super::{
    activity::FOREVER,
    mirror::Copying,
    spans::{End, Spans, Wait},
};
use crate::{
    config::Ratio,
    metrics::{FunctionMetrics, InFlight},
    policy::Slot,
    proxy::{
        ForwardError,
        body::{Deadline, Observe},
        fast::head::Head,
        headers,
    },
    routing::{Action, Route},
    snapshot::{CalledFunction, Snapshot},
    telemetry::{AccessLine, AccessLog},
    trace::{Carried, How, Joined, TraceContext},
    upstream::Address,
};

/// Status of a call whose caller left before there was one.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What kind of request a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A function's call.
    Function,
    /// A request to the gateway itself.
    Api,
    /// A function's call that nobody waits for.
    Async,
    /// A copy of a function's call.
    Mirror,
    /// A request that a route sends elsewhere.
    Redirect,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Api => "api",
            Self::Async => "async",
            Self::Mirror => "mirror",
            Self::Redirect => "redirect",
        }
    }
}

/// What a record wants to know of a request, if it wants to know it: most is
/// asked only for a line, or for spans.
pub(super) trait Asked {
    /// The method.
    fn method(&self) -> Method;
    /// The path, without the query.
    fn path(&self) -> &str;
    /// The host that the caller named.
    fn host(&self) -> Option<String>;
    /// The caller's place in its trace.
    fn trace_parent(&self) -> Option<TraceContext>;
    /// What is passed on with that.
    fn trace_state(&self) -> String;
}

impl<B> Asked for Request<B> {
    fn method(&self) -> Method {
        self.method().clone()
    }

    fn path(&self) -> &str {
        self.uri().path()
    }

    fn host(&self) -> Option<String> {
        let named = self.headers().get(header::HOST).map(HeaderValue::as_bytes);
        let host = self.uri().authority().map(|authority| authority.as_str().as_bytes());
        Some(lossy(host.or(named)?))
    }

    fn trace_parent(&self) -> Option<TraceContext> {
        headers::trace_parent(self.headers())
    }

    fn trace_state(&self) -> String {
        let states = self.headers().get_all(headers::TRACE_STATE).iter();
        joined(states.map(HeaderValue::as_bytes))
    }
}

impl Asked for Head<'_, '_> {
    fn method(&self) -> Method {
        Method::from_bytes(self.method.as_bytes()).unwrap_or_default()
    }

    fn path(&self) -> &str {
        self.path()
    }

    fn host(&self) -> Option<String> {
        Some(lossy(self.host))
    }

    fn trace_parent(&self) -> Option<TraceContext> {
        self.trace_parent.and_then(TraceContext::parse)
    }

    fn trace_state(&self) -> String {
        joined(self.values(headers::TRACE_STATE.as_str()))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Several values of a list as one (RFC 9110 section 5.3).
fn joined<'v>(values: impl Iterator<Item = &'v [u8]>) -> String {
    let values: Vec<_> = values.map(String::from_utf8_lossy).collect();
    values.join(",")
}

/// A request under way; dropping it counts and logs it.
pub(super) struct Record {
    /// What is logged besides; nothing while the access log is off.
    line: Option<Box<Line>>,
    /// Its place in a trace.
    joined: Option<Joined>,
    /// What is recorded of it there; nothing for most.
    spans: Option<Box<Spans>>,
    started: Instant,
    counted: Option<Counted>,
    /// Freed after the call was counted.
    slot: Option<Slot>,
    copying: Option<Arc<Copying>>,
    retries: u32,
    status: u16,
    bytes: u64,
    complete: bool,
}

struct Line {
    log: AccessLog,
    sample: Ratio,
    kind: Kind,
    fast: bool,
    with_upstream: bool,
    method: Method,
    /// The path and, behind it, the call's id: one piece of memory for both.
    text: String,
    /// Length of the path.
    path: usize,
    route: Option<Arc<str>>,
    peer: SocketAddr,
    upstream: Option<String>,
}

/// Length of the ids that the gateway makes.
const CALL_ID: usize = 36;

struct Counted {
    metrics: Arc<FunctionMetrics>,
    _in_flight: Option<InFlight>,
    since: Instant,
}

impl Record {
    pub(super) fn new(snapshot: &Snapshot, kind: Kind, asked: &impl Asked, peer: SocketAddr, started: Instant) -> Self {
        let logging = &snapshot.config.logging;
        let logged = logging.access && snapshot.access_log.is_on();
        let practice = snapshot.traces.practice();
        // A trace that is no concern of ours is still named in the line.
        let joined = if logged || !practice.is_off() {
            practice.join(asked.trace_parent(), rand::random)
        } else {
            None
        };
        let recorded = joined.filter(|joined| matches!(joined.how, How::Recorded(_)));
        let spans = recorded
            .zip(snapshot.traces.exporter())
            .map(|(joined, exporter)| Box::new(Spans::new(exporter.clone(), joined, kind, asked, peer, started)));
        let line = logged.then(|| {
            let path = asked.path();
            let mut text = String::with_capacity(path.len() + CALL_ID);
            text.push_str(path);
            Box::new(Line {
                log: snapshot.access_log.clone(),
                sample: logging.access_sample,
                kind,
                fast: false,
                with_upstream: logging.upstream_uri,
                method: asked.method(),
                path: text.len(),
                text,
                route: None,
                peer,
                upstream: None,
            })
        });
        Self {
            line,
            joined,
            spans,
            started,
            counted: None,
            slot: None,
            copying: None,
            retries: 0,
            status: CLIENT_CLOSED_REQUEST,
            bytes: 0,
            complete: false,
        }
    }

    /// Adds the route that the request took.
    pub(super) fn route(&mut self, route: &Route) {
        let redirect = matches!(route.action, Action::Redirect(_));
        if let Some(line) = &mut self.line {
            line.route = Some(Arc::clone(&route.name));
            if redirect {
                line.kind = Kind::Redirect;
            }
        }
        if let Some(spans) = &mut self.spans {
            spans.route(if route.path.is_empty() { "/" } else { &route.path });
            if redirect {
                spans.redirected();
            }
        }
    }

    /// Adds the template of the gateway's own path that answered.
    pub(super) fn own_path(&mut self, template: &str) {
        if let Some(spans) = &mut self.spans {
            spans.route(template);
        }
    }

    /// Makes it one of a function's call.
    pub(super) fn function_call(&mut self) {
        if let Some(line) = &mut self.line
            && line.kind == Kind::Api
        {
            line.kind = Kind::Function;
        }
        if let Some(spans) = &mut self.spans {
            spans.function_call();
        }
    }

    /// Adds the function that is called.
    pub(super) fn function(&mut self, function: &CalledFunction) {
        if let Some(spans) = &mut self.spans {
            spans.function(function);
        }
    }

    /// What requests below this one have to say of their trace.
    pub(super) fn carried(&self) -> Option<Carried> {
        self.joined?.carried(None)
    }

    /// Now, if anybody will want to know how long something took.
    pub(super) fn watch(&self) -> Option<Instant> {
        self.spans.is_some().then(Instant::now)
    }

    /// Something was waited for since what [`Record::watch`] said.
    pub(super) fn waited(&mut self, what: Wait, since: Option<Instant>) {
        if let Some((spans, since)) = self.spans.as_mut().zip(since) {
            spans.waited(what, since);
        }
    }

    /// Says in the line that the call took the fast lane.
    pub(super) fn fast(&mut self) {
        if let Some(line) = &mut self.line {
            line.fast = true;
        }
    }

    /// Tells a copy of the call when it was sent on.
    pub(super) fn copied(&mut self, copying: Option<Arc<Copying>>) {
        self.copying = copying;
    }

    /// Adds the call's id.
    pub(super) fn call_id(&mut self, id: &[u8]) {
        if let Some(line) = &mut self.line {
            line.text.truncate(line.path);
            match std::str::from_utf8(id) {
                Ok(id) => line.text.push_str(id),
                Err(_) => line.text.push_str(&String::from_utf8_lossy(id)),
            }
        }
        if let Some(spans) = &mut self.spans {
            spans.call_id(id);
        }
    }

    /// Counts the call against its function, from `since`: waiting for a replica
    /// is not the function's time (compatibility.md section 4.1).
    pub(super) fn count(&mut self, metrics: &Arc<FunctionMetrics>, since: Instant) {
        metrics.started();
        self.counted = Some(Counted {
            _in_flight: Some(metrics.in_flight()),
            metrics: Arc::clone(metrics),
            since,
        });
    }

    /// Counts a call that is not sent on, with the status that its caller gets.
    pub(super) fn refused(&mut self, metrics: &Arc<FunctionMetrics>, reason: &'static str) {
        metrics.refused(reason);
        self.counted = Some(Counted {
            _in_flight: None,
            metrics: Arc::clone(metrics),
            since: self.started,
        });
    }

    /// Keeps the call's right to run until it has ended.
    pub(super) fn hold(&mut self, slot: Option<Slot>) {
        self.slot = slot;
    }

    /// Of an answer that has no end, whose caller only has to go on taking it, which
    /// the connection sees to.
    pub(super) fn no_deadline(&self) -> Deadline {
        Deadline::new(self.started, FOREVER, "server.write_timeout")
    }

    /// Until when the answer must have been written.
    pub(super) fn write_deadline(&self, snapshot: &Snapshot) -> Deadline {
        Deadline::new(
            self.started,
            snapshot.config.server.write_timeout,
            "server.write_timeout",
        )
    }
}

impl Record {
    /// A connection to a function is about to be made.
    pub(super) fn trying(&mut self, address: &Address) {
        if let Some(spans) = &mut self.spans {
            spans.trying(address);
        }
    }

    /// Adds the function's address and the path that it sees. Says what the
    /// request has to tell of its trace.
    pub(super) fn sent_to(&mut self, address: &Address, path: impl FnOnce() -> String) -> Option<Carried> {
        let line = self.line.as_mut().filter(|line| line.with_upstream);
        if line.is_none() && self.spans.is_none() {
            return self.carried();
        }
        let path = path();
        if let Some(line) = line {
            line.upstream = Some(format!("{address}{path}"));
        }
        match &mut self.spans {
            Some(spans) => spans.sent(address, &path),
            None => self.carried(),
        }
    }

    /// How the call ended, of which nobody told on the way: its status if there
    /// is one, its bytes, and whether that was all.
    pub(super) fn outcome(&mut self, status: Option<u16>, bytes: u64, complete: bool) {
        self.status = status.unwrap_or(self.status);
        self.bytes = bytes;
        self.complete = complete;
    }
}

impl Observe for Record {
    /// Path only: the query is the caller's.
    fn sent(&mut self, address: &Address, target: &Uri) -> Option<Carried> {
        if let Some(copying) = self.copying.take() {
            copying.forwarded();
        }
        self.sent_to(address, || target.path().to_owned())
    }

    fn tried(&mut self, outcome: Result<u16, &ForwardError>) {
        if let Some(spans) = &mut self.spans {
            spans.tried(outcome);
        }
    }

    fn retried(&mut self) {
        self.retries += 1;
        if let Some(spans) = &mut self.spans {
            spans.retried();
        }
        if let Some(counted) = &self.counted {
            counted.metrics.retried();
        }
    }

    fn head(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    fn data(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    fn ended(&mut self) {
        self.complete = true;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        // Before the line is written, so that who reads it finds the call counted.
        if let Some(counted) = self.counted.take() {
            let took = now.saturating_duration_since(counted.since);
            counted.metrics.completed(self.status, took);
        }
        if let Some(line) = &self.line
            && self.is_told(line.sample)
        {
            let (path, call_id) = line.text.split_at(line.path);
            line.log.write(&AccessLine {
                kind: line.kind.as_str(),
                lane: line.fast.then_some("fast"),
                method: line.method.as_str(),
                path,
                route: line.route.as_deref(),
                status: self.status,
                bytes: self.bytes,
                took: now.saturating_duration_since(self.started),
                peer: line.peer,
                call_id: (!call_id.is_empty()).then_some(call_id),
                upstream: line.upstream.as_deref(),
                retries: self.retries,
                aborted: !self.complete,
                trace_id: self.joined.map(|joined| joined.context.trace),
            });
        }
        if let Some(spans) = self.spans.take() {
            spans.finish(End {
                at: now,
                status: (self.status != CLIENT_CLOSED_REQUEST).then_some(self.status),
                complete: self.complete,
            });
        }
    }
}

impl Record {
    /// Whether the request is one of the share that is logged, or failed.
    fn is_told(&self, sample: Ratio) -> bool {
        self.status >= 500 || !self.complete || is_within(sample, rand::random)
    }
}

/// Whether a number in `[0, 1)`, asked for if it matters, is within a share.
fn is_within(share: Ratio, number: impl FnOnce() -> f64) -> bool {
    share == Ratio::ALL || number() < share.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_what_is_below_it() {
        for (share, number, expected) in [(0, 0.0, false), (10, 0.099, true), (10, 0.1, false), (100, 1.0, true)] {
            assert_eq!(
                is_within(Ratio::percent(share), || number),
                expected,
                "{share} {number}"
            );
        }
    }

    #[test]
    fn several_states_are_one() {
        let values = |values: &'static [&'static str]| joined(values.iter().map(|value| value.as_bytes()));
        assert_eq!(values(&[]), "");
        assert_eq!(values(&["a=1", "b=2,c=3"]), "a=1,b=2,c=3");
    }
}
