//! An endpoint and its connections, which hyper drives.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderValue, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, Empty};
use thiserror::Error;
use tokio::{sync::Notify, time::Instant};

use super::{
    connect::{Address, ConnectError},
    driven::{AnswerBody, Driven},
    health::Health,
    idle::IdleConnections,
    life::Aged,
    multiplexed::Multiplexed,
    plain::PlainConnection,
    replay::BodyError,
    turns::Turns,
    ways::{self, Grant, Place, Wish},
};

/// Error of a streamed body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Body type of requests sent upstream.
pub type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BoxError>;

/// Bounds on an endpoint's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Most idle connections kept.
    pub max_idle: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Bound on getting a connection: on waiting for one, and on opening it.
    pub connect_timeout: Duration,
    /// Most connections open at a time; 0 is any number.
    pub max_conns: usize,
    /// How long a connection carries calls; zero is as long as it likes.
    pub max_age: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            max_idle: 1024,
            idle_timeout: Duration::from_secs(90),
            connect_timeout: Duration::from_secs(5),
            max_conns: 0,
            max_age: Duration::ZERO,
        }
    }
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1: a call at a time.
    Http1,
    /// HTTP/2 without TLS, from the first byte on: many calls at a time.
    Http2,
}

/// Why a request got no response.
#[derive(Debug, Error)]
pub enum SendError {
    /// No connection; the request was not sent.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection failed after the request, or part of it, was sent.
    #[error("the connection to {address} failed: {cause}")]
    Broken {
        /// Where to.
        address: String,
        /// What hyper said.
        cause: hyper::Error,
    },
    /// The same, of a connection that carries bytes.
    #[error("the connection to {address} failed: {cause}")]
    Lost {
        /// Where to.
        address: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The request's body could not be read to its end.
    #[error("the request's body failed: {0}")]
    Body(BodyError),
    /// What came is no answer of HTTP/1.
    #[error("the answer of {address} cannot be understood: {why}")]
    Malformed {
        /// Where from.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A failed send, and the request when no byte of it left.
#[derive(Debug)]
pub struct SendFailure {
    /// What went wrong.
    pub error: SendError,
    /// The request, unsent: another endpoint may be tried.
    pub unsent: Option<Box<Request<Body>>>,
}

/// One address that takes calls, its idle connections and its load.
pub struct Endpoint {
    address: Address,
    host: HeaderValue,
    limits: ArcSwap<PoolLimits>,
    changed: Arc<Notify>,
    pub(super) idle: IdleConnections<Driven>,
    pub(super) plain: IdleConnections<PlainConnection>,
    pub(super) multiplexed: Multiplexed,
    pub(super) turns: Turns<Wish>,
    in_flight: AtomicUsize,
    health: Health,
}

impl Endpoint {
    /// An endpoint without connections yet.
    pub fn new(address: Address, limits: PoolLimits) -> Arc<Self> {
        Arc::new(Self {
            host: address.host_header(),
            address,
            limits: ArcSwap::from_pointee(limits),
            changed: Arc::default(),
            idle: IdleConnections::new(),
            plain: IdleConnections::new(),
            multiplexed: Multiplexed::default(),
            turns: Turns::new(),
            in_flight: AtomicUsize::new(0),
            health: Health::new(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// `Host` header of requests to it.
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Changes the bounds on its connections. Those in use stay; calls that
    /// wait for one go on if there may be more.
    pub fn set_limits(self: &Arc<Self>, limits: PoolLimits) {
        self.limits.store(Arc::new(limits));
        self.changed.notify_waiters();
        self.give_up_surplus(&limits);
        self.offer();
    }

    pub(super) fn limits(&self) -> PoolLimits {
        **self.limits.load()
    }

    /// Whether it keeps failing.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Calls that have begun and whose response body has not ended.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a call until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Sends a request and returns its answer, body unread. Dropping the future
    /// cancels the call upstream. The request is in a box because several futures
    /// hand it down, each of which would have room for it else.
    ///
    /// # Errors
    /// [`SendFailure`], with the request when nothing was sent.
    pub async fn send(
        self: &Arc<Self>,
        request: Box<Request<Body>>,
        protocol: Protocol,
    ) -> Result<Response<AnswerBody>, Box<SendFailure>> {
        match protocol {
            Protocol::Http1 => self.send_http1(request).await,
            Protocol::Http2 => Box::pin(self.send_http2(request)).await,
        }
    }

    /// Sends a request on an idle connection or a new one.
    ///
    /// A kept connection that turns out to be closed before anything was sent
    /// is skipped; the request goes out on the next. One that breaks afterwards
    /// was most likely being closed when the request came: a request without
    /// body whose method is idempotent goes out once more, on a new connection
    /// (RFC 9110 section 9.2.2). Dropping the future closes the connection in
    /// use.
    async fn send_http1(
        self: &Arc<Self>,
        mut request: Box<Request<Body>>,
    ) -> Result<Response<AnswerBody>, Box<SendFailure>> {
        let mut fresh = false;
        loop {
            let (driven, reused) = match self.driven(fresh).await {
                Ok(found) => found,
                Err(error) => {
                    let unsent = Some(request);
                    return Err(Box::new(SendFailure { error, unsent }));
                }
            };
            let copy = if reused { repeatable(&request) } else { None };
            match driven.send(request, self).await {
                Ok(response) => return Ok(response),
                Err(mut failed) => {
                    let unsent = failed.take_message().map(Box::new);
                    let cause = failed.into_error();
                    request = match (unsent, copy) {
                        (Some(unsent), _) if reused => unsent,
                        (None, Some(copy)) if !cause.is_parse() => {
                            fresh = true;
                            copy
                        }
                        (unsent, _) => {
                            let address = self.address.described();
                            let error = SendError::Broken { address, cause };
                            return Err(Box::new(SendFailure { error, unsent }));
                        }
                    };
                }
            }
        }
    }

    /// A connection, and whether it carried calls before.
    async fn driven(self: &Arc<Self>, fresh: bool) -> Result<(Driven, bool), SendError> {
        let limits = self.limits();
        if !fresh && !self.has_line(&limits) {
            let usable = |driven: &mut Driven| driven.is_usable(&limits);
            if let Some(driven) = self.idle.take(limits.idle_timeout, usable) {
                return Ok((driven, true));
            }
        }
        let due = ways::due(&limits);
        match self.way(&limits, fresh, due).await? {
            Grant::Kept(driven) => Ok((driven, true)),
            // In a box: calls on kept connections should not have room for it.
            Grant::Open(place) => Ok((Box::pin(self.open(place, &limits, due)).await?, false)),
        }
    }

    async fn open(self: &Arc<Self>, place: Place, limits: &PoolLimits, due: Instant) -> Result<Driven, SendError> {
        let stream = self.connect(place, limits, due).await?;
        Driven::begin(stream).await.map_err(|cause| SendError::Broken {
            address: self.address.described(),
            cause,
        })
    }

    /// Keeps a connection on which another request can be sent.
    pub(super) fn keep(self: &Arc<Self>, driven: Driven) {
        let limits = self.limits();
        if self.is_surplus(&limits, driven.life()) {
            return;
        }
        if self.idle.put(driven, limits.max_idle, limits.idle_timeout) {
            self.sweep(|endpoint, limits| endpoint.idle.drop_old(limits));
        }
        self.offer();
    }

    /// Closes idle connections in time even when no more calls come. `drop_old`
    /// says whether some are left.
    pub(super) fn sweep(self: &Arc<Self>, drop_old: fn(&Self, &PoolLimits) -> bool) {
        let (endpoint, changed) = (Arc::downgrade(self), Arc::clone(&self.changed));
        let mut pause = self.limits().sweep();
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with its endpoint, or once nothing is idle"
        )]
        tokio::spawn(async move {
            loop {
                // Sooner when the bounds change, which may well be shorter now.
                let _ = tokio::time::timeout(pause, changed.notified()).await;
                let Some(endpoint) = endpoint.upgrade() else { return };
                let limits = endpoint.limits();
                pause = limits.sweep();
                if !drop_old(&endpoint, &limits) {
                    return;
                }
            }
        });
    }
}

impl<T: Aged> IdleConnections<T> {
    /// Closes what is idle for too long, or too old; whether something is left.
    pub(super) fn drop_old(&self, limits: &PoolLimits) -> bool {
        self.drop_expired(limits.idle_timeout, |connection| {
            connection.life().is_over(limits.max_age)
        })
    }
}

impl PoolLimits {
    /// How often idle connections are looked at that nobody takes.
    fn sweep(&self) -> Duration {
        match self.max_age {
            Duration::ZERO => self.idle_timeout,
            age => self.idle_timeout.min(age),
        }
    }
}

/// A copy to send again, of a request that may be.
fn repeatable(request: &Request<Body>) -> Option<Box<Request<Body>>> {
    if !request.body().is_end_stream() || !request.method().is_idempotent() {
        return None;
    }
    let mut copy = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    *copy.version_mut() = request.version();
    request.headers().clone_into(copy.headers_mut());
    Some(Box::new(copy))
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({}, {} in flight)", self.address, self.in_flight())
    }
}

/// A call counted against its endpoint; dropping it ends the count.
#[derive(Debug)]
pub struct InFlight(Arc<Endpoint>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
