//! The spans of a request whose trace is recorded: its own, one below it for
//! each try to call a function, and one for each wait on the way there.
//!
//! Only such requests have this, in a box that their record carries. What is
//! said follows OpenTelemetry's semantic conventions for HTTP and functions;
//! never bodies, query strings or credentials. Sending spans somewhere is
//! [`crate::telemetry`]'s part.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use http::Method;
use opentelemetry_semantic_conventions::attribute;
use tokio::time::Instant;

use super::access_log::{Asked, Kind};
use crate::{
    proxy::ForwardError,
    snapshot::CalledFunction,
    telemetry::Exporter,
    trace::{Carried, Joined, Span, SpanId, SpanKind, Value},
    upstream::Address,
};

/// Stands for methods that are none of HTTP's, of which callers can make up many.
const OTHER_METHOD: &str = "_OTHER";

/// Why something ended that nobody ended.
const ABORTED: &str = "aborted";

/// What is over sooner was no wait.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Where functions are, as `http.route` writes it.
const FUNCTION_ROUTE: &str = "/function/";

/// What is collected while a request is under way.
pub(super) struct Spans {
    exporter: Exporter,
    joined: Joined,
    kind: Kind,
    method: Method,
    path: String,
    host: Option<String>,
    state: String,
    peer: SocketAddr,
    /// Two readings of one moment.
    began: (SystemTime, Instant),
    call_id: Option<String>,
    route: Option<String>,
    function: Option<String>,
    waits: Vec<(Wait, Instant, Instant)>,
    tries: Vec<Try>,
}

/// What a call can wait for before its function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// A replica.
    Activation,
    /// Its turn, where a function takes so many calls at a time.
    Turn,
}

impl Wait {
    fn as_str(self) -> &'static str {
        match self {
            Self::Activation => "activation",
            Self::Turn => "queue",
        }
    }
}

/// A try to call a function.
struct Try {
    span: SpanId,
    address: Address,
    path: String,
    began: Instant,
    ended: Option<Instant>,
    outcome: Option<Result<u16, &'static str>>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// When.
    pub(super) at: Instant,
    /// The status that the caller got, if it got one.
    pub(super) status: Option<u16>,
    /// Whether it got everything.
    pub(super) complete: bool,
}

impl Spans {
    pub(super) fn new(
        exporter: Exporter,
        joined: Joined,
        kind: Kind,
        asked: &impl Asked,
        peer: SocketAddr,
        started: Instant,
    ) -> Self {
        Self {
            exporter,
            joined,
            kind,
            method: asked.method(),
            path: asked.path().to_owned(),
            host: asked.host(),
            state: asked.trace_state(),
            peer,
            began: (SystemTime::now() - started.elapsed(), started),
            call_id: None,
            route: None,
            function: None,
            waits: Vec::new(),
            tries: Vec::new(),
        }
    }

    pub(super) fn function_call(&mut self) {
        if self.kind == Kind::Api {
            self.kind = Kind::Function;
        }
    }

    pub(super) fn call_id(&mut self, id: &[u8]) {
        self.call_id = Some(String::from_utf8_lossy(id).into_owned());
    }

    /// What the path is an example of. The first word counts: a route of the
    /// operator's says more than the function behind it.
    pub(super) fn route(&mut self, template: &str) {
        if self.route.is_none() {
            self.route = Some(template.to_owned());
        }
    }

    pub(super) fn redirected(&mut self) {
        self.kind = Kind::Redirect;
    }

    /// Names of functions that nobody vouches for are as many as callers can
    /// think of, and are no part of a span's name.
    pub(super) fn function(&mut self, function: &CalledFunction) {
        let name = function.function.to_string();
        if function.metrics.is_some() {
            self.route(&format!("{FUNCTION_ROUTE}{name}"));
        }
        self.function = Some(name);
    }

    /// Something was waited for, up to now.
    pub(super) fn waited(&mut self, what: Wait, since: Instant) {
        let now = Instant::now();
        if now - since >= SHORTEST_WAIT {
            self.waits.push((what, since, now));
        }
    }

    /// A function is about to be called at this address: a try begins, unless
    /// one has.
    pub(super) fn trying(&mut self, address: &Address) {
        if self.tries.last().is_none_or(|last| last.ended.is_some()) {
            self.tries.push(Try {
                span: SpanId::new(rand::random()),
                address: address.clone(),
                path: String::new(),
                began: Instant::now(),
                ended: None,
                outcome: None,
            });
        }
    }

    /// The request goes out, with this path and with these headers.
    pub(super) fn sent(&mut self, address: &Address, path: &str) -> Option<Carried> {
        self.trying(address);
        let last = self.tries.last_mut()?;
        address.clone_into(&mut last.address);
        path.clone_into(&mut last.path);
        self.joined.carried(Some(last.span))
    }

    /// How the try that is on went, as far as is known.
    pub(super) fn tried(&mut self, outcome: Result<u16, &ForwardError>) {
        if let Some(last) = self.tries.last_mut() {
            last.outcome = Some(outcome.map_err(ForwardError::kind));
        }
    }

    /// The try that is on is over; there will be another.
    pub(super) fn retried(&mut self) {
        if let Some(last) = self.tries.last_mut() {
            last.ended.get_or_insert_with(Instant::now);
        }
    }

    /// Makes spans of what was collected and hands them over.
    pub(super) fn finish(self, end: End) {
        let mut spans = vec![self.own(end)];
        let below = |name: String, kind, began, ended| Span {
            context: self.joined.context.child(SpanId::new(rand::random())),
            parent: Some(self.joined.context.span),
            state: self.state.clone(),
            name,
            kind,
            began: self.at(began),
            ended: self.at(ended),
            attributes: Vec::new(),
            failed: false,
        };
        for (what, began, ended) in &self.waits {
            spans.push(below(what.as_str().to_owned(), SpanKind::Internal, *began, *ended));
        }
        for (number, tried) in self.tries.iter().enumerate() {
            let ended = tried.ended.unwrap_or(end.at);
            let mut span = below(self.known_method().to_owned(), SpanKind::Client, tried.began, ended);
            span.context = self.joined.context.child(tried.span);
            let broke_off = !end.complete && number + 1 == self.tries.len();
            self.describe_try(&mut span, tried, number, broke_off);
            spans.push(span);
        }
        self.exporter.export(spans);
    }

    fn own(&self, end: End) -> Span {
        let mut attributes = self.method_attributes();
        let mut add = |name, value: Value| attributes.push((name, value));
        add(attribute::URL_PATH, self.path.clone().into());
        add(attribute::URL_SCHEME, "http".into());
        if let Some((host, port)) = self.host.as_deref().map(host_and_port) {
            add(attribute::SERVER_ADDRESS, host.to_owned().into());
            if let Some(port) = port {
                add(attribute::SERVER_PORT, port.into());
            }
        }
        add(attribute::NETWORK_PEER_ADDRESS, self.peer.ip().to_string().into());
        add(attribute::NETWORK_PEER_PORT, self.peer.port().into());
        if let Some(route) = &self.route {
            add(attribute::HTTP_ROUTE, route.clone().into());
        }
        if matches!(self.kind, Kind::Function | Kind::Mirror) {
            add(attribute::FAAS_TRIGGER, "http".into());
        }
        if let Some(function) = &self.function {
            add(attribute::FAAS_INVOKED_NAME, function.clone().into());
        }
        if let Some(id) = &self.call_id {
            add(attribute::FAAS_INVOCATION_ID, id.clone().into());
        }
        if let Some(status) = end.status {
            add(attribute::HTTP_RESPONSE_STATUS_CODE, status.into());
        }
        // Of what callers do wrong only they are told.
        let error = match end.status {
            Some(status @ 500..) => Some(status.to_string().into()),
            _ if !end.complete => Some(ABORTED.into()),
            _ => None,
        };
        let failed = error.is_some();
        if let Some(error) = error {
            add(attribute::ERROR_TYPE, error);
        }
        let method = self.known_method();
        Span {
            context: self.joined.context,
            parent: self.joined.parent,
            state: self.state.clone(),
            name: match &self.route {
                Some(route) => format!("{method} {route}"),
                None => method.to_owned(),
            },
            kind: match self.kind {
                // Nobody outside waits for these.
                Kind::Mirror | Kind::Async => SpanKind::Internal,
                Kind::Function | Kind::Api | Kind::Redirect => SpanKind::Server,
            },
            began: self.began.0,
            ended: self.at(end.at),
            attributes,
            failed,
        }
    }

    fn describe_try(&self, span: &mut Span, tried: &Try, number: usize, broke_off: bool) {
        let mut attributes = self.method_attributes();
        let mut add = |name, value: Value| attributes.push((name, value));
        match &tried.address {
            Address::Tcp { host, port, .. } => {
                add(attribute::SERVER_ADDRESS, host.clone().into());
                add(attribute::SERVER_PORT, (*port).into());
                add(attribute::URL_FULL, format!("{}{}", tried.address, tried.path).into());
            }
            Address::Unix(path) => {
                add(attribute::SERVER_ADDRESS, path.display().to_string().into());
                add(attribute::NETWORK_TRANSPORT, "unix".into());
                add(attribute::URL_PATH, tried.path.clone().into());
            }
        }
        if let Some(function) = &self.function {
            add(attribute::FAAS_INVOKED_NAME, function.clone().into());
        }
        if number > 0 {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            add(attribute::HTTP_REQUEST_RESEND_COUNT, number.into());
        }
        let error = match tried.outcome {
            Some(Ok(status)) => {
                add(attribute::HTTP_RESPONSE_STATUS_CODE, status.into());
                match status {
                    400.. => Some(status.to_string().into()),
                    _ => broke_off.then(|| ABORTED.into()),
                }
            }
            Some(Err(kind)) => Some(kind.into()),
            None => Some(ABORTED.into()),
        };
        span.failed = error.is_some();
        if let Some(error) = error {
            add(attribute::ERROR_TYPE, error);
        }
        span.attributes = attributes;
    }

    fn method_attributes(&self) -> Vec<(&'static str, Value)> {
        let known = self.known_method();
        let mut attributes = Vec::with_capacity(16);
        attributes.push((attribute::HTTP_REQUEST_METHOD, known.into()));
        if known == OTHER_METHOD {
            let method = self.method.as_str().to_owned();
            attributes.push((attribute::HTTP_REQUEST_METHOD_ORIGINAL, method.into()));
        }
        attributes
    }

    fn known_method(&self) -> &'static str {
        let known = [
            "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT",
        ];
        let known = known.into_iter().find(|known| *known == self.method.as_str());
        known.unwrap_or(OTHER_METHOD)
    }

    /// The time of day of a moment since the request began.
    fn at(&self, moment: Instant) -> SystemTime {
        let (time, began) = self.began;
        time + moment.saturating_duration_since(began)
    }
}

/// The parts of a `Host`.
fn host_and_port(host: &str) -> (&str, Option<u16>) {
    let port = host.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    match port.map(|(name, port)| (name, port.parse())) {
        Some((name, Ok(port))) => (name, Some(port)),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_and_perhaps_a_port() {
        for (host, expected) in [
            ("gw.example", ("gw.example", None)),
            ("gw.example:8080", ("gw.example", Some(8080))),
            ("[::1]", ("[::1]", None)),
            ("[::1]:80", ("[::1]", Some(80))),
            ("gw:", ("gw:", None)),
            ("gw:http", ("gw:http", None)),
        ] {
            assert_eq!(host_and_port(host), expected);
        }
    }
}
