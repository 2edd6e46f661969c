//! One line for each request, written when its last byte has gone.
//!
//! Never bodies, never query strings, never credentials: what callers put there
//! is theirs.

use std::{net::SocketAddr, sync::Arc};

use http::{Method, Request, StatusCode, Uri};
use tokio::time::Instant;

use super::mirror::Copying;
use crate::{
    metrics::{FunctionMetrics, InFlight},
    policy::Slot,
    proxy::body::{Deadline, Observe},
    routing::{Action, Route},
    snapshot::Snapshot,
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
            Self::Mirror => "mirror",
            Self::Redirect => "redirect",
        }
    }
}

/// A request under way; dropping it counts and logs it.
pub(super) struct Record {
    /// What is logged besides; nothing while the access log is off.
    line: Option<Box<Line>>,
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
    kind: Kind,
    fast: bool,
    with_upstream: bool,
    method: Method,
    path: String,
    route: Option<Arc<str>>,
    peer: SocketAddr,
    call_id: Option<String>,
    upstream: Option<String>,
}

struct Counted {
    metrics: Arc<FunctionMetrics>,
    _in_flight: Option<InFlight>,
    since: Instant,
}

impl Record {
    pub(super) fn new<B>(
        snapshot: &Snapshot,
        kind: Kind,
        request: &Request<B>,
        peer: SocketAddr,
        started: Instant,
    ) -> Self {
        Self::of(
            snapshot,
            kind,
            || (request.method().clone(), request.uri().path().to_owned()),
            peer,
            started,
        )
    }

    /// The record of a request whose method and path `asked` tells, which is
    /// only asked when they are logged.
    pub(super) fn of(
        snapshot: &Snapshot,
        kind: Kind,
        asked: impl FnOnce() -> (Method, String),
        peer: SocketAddr,
        started: Instant,
    ) -> Self {
        let logging = &snapshot.config.logging;
        let line = logging.access.then(|| {
            let (method, path) = asked();
            Box::new(Line {
                kind,
                fast: false,
                with_upstream: logging.upstream_uri,
                method,
                path,
                route: None,
                peer,
                call_id: None,
                upstream: None,
            })
        });
        Self {
            line,
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

    /// Adds the route that the request took to the line.
    pub(super) fn route(&mut self, route: &Route) {
        if let Some(line) = &mut self.line {
            line.route = Some(Arc::clone(&route.name));
            if matches!(route.action, Action::Redirect(_)) {
                line.kind = Kind::Redirect;
            }
        }
    }

    /// Makes the line one about a function's call.
    pub(super) fn function_call(&mut self) {
        if let Some(line) = &mut self.line
            && line.kind == Kind::Api
        {
            line.kind = Kind::Function;
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

    /// Adds the call's id to the line.
    pub(super) fn call_id(&mut self, id: &[u8]) {
        if let Some(line) = &mut self.line {
            line.call_id = Some(String::from_utf8_lossy(id).into_owned());
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
    /// Adds the function's address and the path that it sees to the line.
    pub(super) fn sent_to(&mut self, address: &Address, path: impl FnOnce() -> String) {
        if let Some(line) = &mut self.line
            && line.with_upstream
        {
            line.upstream = Some(format!("{address}{}", path()));
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
    fn sent(&mut self, address: &Address, target: &Uri) {
        if let Some(copying) = self.copying.take() {
            copying.forwarded();
        }
        self.sent_to(address, || target.path().to_owned());
    }

    fn retried(&mut self) {
        self.retries += 1;
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
        // Before the line is written, so that who reads it finds the call counted.
        if let Some(counted) = self.counted.take() {
            counted.metrics.completed(self.status, counted.since.elapsed());
        }
        if let Some(line) = &self.line {
            tracing::info!(
                target: "access",
                kind = line.kind.as_str(),
                lane = line.fast.then_some("fast"),
                method = %line.method,
                path = %line.path,
                route = line.route.as_deref(),
                status = self.status,
                bytes = self.bytes,
                duration_ms = (self.started.elapsed().as_secs_f64() * 1e6).round() / 1e3,
                peer = %line.peer,
                call_id = line.call_id.as_deref(),
                upstream = line.upstream.as_deref(),
                retries = (self.retries > 0).then_some(self.retries),
                aborted = (!self.complete).then_some(true),
            );
        }
    }
}
