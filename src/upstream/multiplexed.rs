//! Connections that carry several calls at a time: HTTP/2 without TLS, for
//! functions that ask for it.
//!
//! A few connections carry everything: a call goes on the oldest one that has
//! room, and another is opened, one at a time, when none has. A connection that
//! its server says it will close, that is too old or that broke gets no further
//! calls, and ends with the last one on it. HTTP/2 itself is hyper's; which
//! function is spoken to in it is decided elsewhere. Not over TLS: which protocol
//! is spoken there is agreed upon in its handshake, which nobody asks yet.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, ready},
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response, Uri, Version, header, uri::PathAndQuery};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, Connection, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::oneshot;

use super::{
    Body, ConnectError, Endpoint, PoolLimits, SendError, SendFailure,
    connect::Stream,
    driven::AnswerBody,
    fate::{Failed, Fate},
    life::Life,
    preface::Greeted,
    replay::Replay,
    ways::{self, Carrier, Grant, Place, Wish},
};

/// Most calls on one connection, whatever its server would take: with more,
/// what is lost with a connection is too much.
const MAX_STREAMS: usize = 100;

/// How long a connection with calls may be silent before it is asked whether it
/// is still there, and how long it may take to say so. Servers of gRPC take it
/// for an attack when they are asked more often than every five minutes.
const PING_AFTER: Duration = Duration::from_secs(305);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Largest head of an answer.
const MAX_HEAD: u32 = 1 << 20;

/// How often a call goes to another connection because the one it was on took
/// no more calls.
const MAX_MOVES: u32 = 5;

/// The connections of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Multiplexed {
    /// The oldest first; those that take no more calls are not in it.
    connections: Mutex<Vec<Arc<Shared>>>,
    /// Whether one is being opened.
    opening: AtomicBool,
    /// Whether a task closes those that nobody uses.
    swept: AtomicBool,
}

/// What hands requests over to a connection, until it takes no more.
///
/// One that is handed over in the moment in which hyper stops to take them would
/// stay between the two, unanswered, for as long as anybody has a sender. So they
/// take turns.
type Dispatch = Mutex<Option<Connection<TokioIo<Greeted<Stream>>, Body, TokioExecutor>>>;

/// Runs until the connection takes no more requests.
async fn dispatch(connection: Arc<Dispatch>) {
    let ended = poll_fn(|cx| {
        let mut dispatch = lock(&connection);
        let Some(connection) = dispatch.as_mut() else {
            return Poll::Ready(Ok(()));
        };
        let ended = ready!(Pin::new(connection).poll(cx));
        *dispatch = None;
        Poll::Ready(ended)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "upstream connection ended");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection.
struct Shared {
    sender: SendRequest<Body>,
    dispatch: Arc<Dispatch>,
    life: Life,
    /// Most calls at a time.
    most: usize,
    load: Mutex<Load>,
    /// Takes no more calls.
    over: AtomicBool,
}

#[derive(Debug)]
struct Load {
    calls: usize,
    /// When the last one ended.
    since: Instant,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({:?} of {})", self.load(), self.most)
    }
}

impl Shared {
    /// Begins HTTP/2 on a connection, for a call; returns when the other side
    /// does too.
    async fn begin(
        stream: Stream,
        endpoint: &Endpoint,
        limits: &PoolLimits,
        due: tokio::time::Instant,
    ) -> Result<Self, ConnectError> {
        let address = || endpoint.address().described();
        let closed = || ConnectError::Io {
            address: address(),
            cause: io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it closed the connection when HTTP/2 began",
            ),
        };
        let (stream, greeting) = Greeted::new(stream);
        let begun = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false)
            .max_header_list_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = begun.map_err(|_| closed())?;
        let connection = Arc::new(Mutex::new(Some(connection)));
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the last call on the connection, when nothing else has it"
        )]
        tokio::spawn(self::dispatch(Arc::clone(&connection)));
        let Ok(greeting) = tokio::time::timeout_at(due, greeting).await else {
            let (address, after) = (address(), limits.connect_timeout);
            return Err(ConnectError::Timeout { address, after });
        };
        let Some(greeting) = greeting.map_err(|_| closed())? else {
            return Err(ConnectError::NotHttp2 { address: address() });
        };
        let most = greeting.streams.map_or(MAX_STREAMS, |most| most as usize);
        Ok(Self {
            sender,
            dispatch: connection,
            life: Life::begin(),
            // A server that takes none now may later; the call waits on the connection.
            most: most.clamp(1, MAX_STREAMS),
            load: Mutex::new(Load {
                calls: 1,
                since: Instant::now(),
            }),
            over: AtomicBool::new(false),
        })
    }

    fn load(&self) -> MutexGuard<'_, Load> {
        lock(&self.load)
    }

    /// Sends a request; it comes back when the connection took none any more.
    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Failed> {
        let answer = {
            let dispatch = lock(&self.dispatch);
            if dispatch.is_none() {
                return Err(Failed::Unsent);
            }
            self.sender.clone().try_send_request(request)
        };
        answer.await.map_err(|mut failed| match failed.take_message() {
            Some(_) => Failed::Unsent,
            None => Failed::Sent(failed.into_error()),
        })
    }

    fn is_idle(&self) -> bool {
        self.load().calls == 0
    }

    fn has_been_idle_for(&self, time: Duration) -> bool {
        let load = self.load();
        load.calls == 0 && load.since.elapsed() >= time
    }

    /// Whether further calls can be sent on it.
    fn is_usable(&self, limits: &PoolLimits) -> bool {
        !self.over.load(Ordering::Relaxed)
            && !self.sender.is_closed()
            && !self.life.is_over(limits.max_age)
            && !self.has_been_idle_for(limits.idle_timeout)
    }
}

impl Multiplexed {
    fn connections(&self) -> MutexGuard<'_, Vec<Arc<Shared>>> {
        lock(&self.connections)
    }

    /// How many carry no call.
    pub(super) fn idle(&self) -> usize {
        self.connections().iter().filter(|shared| shared.is_idle()).count()
    }

    /// Room for a call.
    fn take(&self, limits: &PoolLimits) -> Option<Lane> {
        let mut connections = self.connections();
        // What is dropped here ends on its own, with its last call.
        connections.retain(|shared| shared.is_usable(limits));
        connections.iter().find_map(Lane::on)
    }

    /// Lets go of a connection that nobody uses. It closes soon, not at once.
    pub(super) fn give_up_idle(&self) {
        let mut connections = self.connections();
        if let Some(at) = connections.iter().rposition(|shared| shared.is_idle()) {
            connections.remove(at);
        }
    }
}

/// Being the one that opens a connection.
pub(super) struct Claim {
    endpoint: Weak<Endpoint>,
    /// Whether others wait for what becomes of it.
    used: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(endpoint) = self.endpoint.upgrade() {
            endpoint.multiplexed.opening.store(false, Ordering::SeqCst);
            if self.used {
                endpoint.offer();
            }
        }
    }
}

/// The right to open a connection. The place is let go before the claim.
pub(super) struct Opening {
    place: Place,
    claim: Claim,
}

/// A call's part of a connection.
pub(super) struct Lane {
    shared: Arc<Shared>,
    /// To be told when there is room again.
    endpoint: Weak<Endpoint>,
}

impl Lane {
    fn on(shared: &Arc<Shared>) -> Option<Self> {
        let mut load = shared.load();
        if load.calls >= shared.most {
            return None;
        }
        load.calls += 1;
        drop(load);
        Some(Self {
            shared: Arc::clone(shared),
            endpoint: Weak::new(),
        })
    }

    fn of(mut self, endpoint: &Arc<Endpoint>) -> Self {
        self.endpoint = Arc::downgrade(endpoint);
        self
    }

    /// No further calls on this connection.
    fn close(&self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut load = self.shared.load();
        load.calls -= 1;
        load.since = Instant::now();
        let idle = load.calls == 0;
        drop(load);
        if let Some(endpoint) = self.endpoint.upgrade() {
            if idle {
                endpoint.keep_idle(&self.shared);
            }
            endpoint.offer();
        }
    }
}

impl Carrier for Lane {
    type Claim = Claim;
    type Opening = Opening;

    fn kept(endpoint: &Arc<Endpoint>, limits: &PoolLimits) -> Option<Self> {
        Some(endpoint.multiplexed.take(limits)?.of(endpoint))
    }

    fn claim(endpoint: &Arc<Endpoint>) -> Option<Claim> {
        let taken = endpoint.multiplexed.opening.swap(true, Ordering::SeqCst);
        (!taken).then(|| Claim {
            endpoint: Arc::downgrade(endpoint),
            used: false,
        })
    }

    fn opening(mut claim: Claim, place: Place) -> Opening {
        claim.used = true;
        Opening { place, claim }
    }

    fn wish(_: bool, to: oneshot::Sender<Grant<Self>>) -> Wish {
        Wish::Shared { to }
    }
}

impl Endpoint {
    /// Whether HTTP/2 can be spoken to it; not over TLS.
    pub fn takes_http2(&self) -> bool {
        self.takes_plain()
    }

    /// Sends a request in HTTP/2, beside others on its connection.
    ///
    /// A call that its server certainly never began goes out again: on another
    /// connection when this one is being closed, and once when the call was
    /// refused (RFC 9113 section 8.7). Dropping the future cancels the call
    /// upstream and no other.
    pub(super) async fn send_http2(
        self: &Arc<Self>,
        request: Box<Request<Body>>,
    ) -> Result<Response<AnswerBody>, Box<SendFailure>> {
        let (replay, mut request) = Replay::of(*request);
        let (mut moves, mut refused) = (0, false);
        loop {
            let lane = match self.lane().await {
                Ok(lane) => lane,
                Err(error) => {
                    let unsent = replay.request().map(Box::new);
                    return Err(Box::new(SendFailure { error, unsent }));
                }
            };
            let failed = match lane.shared.send(self.in_http2(request)).await {
                Ok(response) => {
                    replay.answered();
                    return Ok(response.map(|incoming| AnswerBody::shared(incoming, lane)));
                }
                Err(failed) => failed,
            };
            let again = match failed.fate() {
                Fate::Closing => {
                    lane.close();
                    moves += 1;
                    moves <= MAX_MOVES
                }
                Fate::Refused => !std::mem::replace(&mut refused, true),
                Fate::Unknown => false,
            };
            drop(lane);
            if let Some(again) = replay.request().filter(|_| again) {
                request = again;
                continue;
            }
            let address = self.address().described();
            let (error, unsent) = match (failed, replay.failed()) {
                (_, Some(cause)) => (SendError::Body(cause), None),
                (Failed::Sent(cause), None) => (SendError::Broken { address, cause }, None),
                (Failed::Unsent, None) => {
                    let cause = io::Error::new(io::ErrorKind::ConnectionAborted, "it closes every connection");
                    (SendError::Lost { address, cause }, replay.request())
                }
            };
            let unsent = unsent.map(Box::new);
            return Err(Box::new(SendFailure { error, unsent }));
        }
    }

    /// Room for a call, on a connection that is there or a new one.
    async fn lane(self: &Arc<Self>) -> Result<Lane, SendError> {
        let limits = self.limits();
        let due = ways::due(&limits);
        let Opening { place, claim } = match self.way::<Lane>(&limits, false, due).await? {
            Grant::Kept(lane) => return Ok(lane),
            Grant::Open(opening) => opening,
        };
        let stream = self.connect(place, &limits, due).await?;
        let shared = Arc::new(Shared::begin(stream, self, &limits, due).await?);
        self.multiplexed.connections().push(Arc::clone(&shared));
        // Those that wait have the rest of it.
        drop(claim);
        let endpoint = Arc::downgrade(self);
        Ok(Lane { shared, endpoint })
    }

    /// The request as it is sent: the host is part of its target (RFC 9113
    /// section 8.3.1).
    fn in_http2(&self, request: Request<Body>) -> Request<Body> {
        let (mut parts, body) = request.into_parts();
        let host = parts.headers.remove(header::HOST);
        let target = parts.uri.path_and_query().cloned();
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let to = |host: &HeaderValue| {
            Uri::builder()
                .scheme("http")
                .authority(host.as_bytes())
                .path_and_query(target.clone())
                .build()
        };
        if let Ok(uri) = to(host.as_ref().unwrap_or(self.host())).or_else(|_| to(self.host())) {
            parts.uri = uri;
        }
        parts.version = Version::HTTP_2;
        Request::from_parts(parts, body)
    }

    /// Keeps a connection whose last call ended, if there is still use for it.
    fn keep_idle(self: &Arc<Self>, shared: &Arc<Shared>) {
        let limits = self.limits();
        let mut connections = self.multiplexed.connections();
        let idle = connections.iter().filter(|shared| shared.is_idle()).count();
        if idle > limits.max_idle || self.is_surplus(&limits, shared.life) {
            connections.retain(|kept| !Arc::ptr_eq(kept, shared));
        }
        let sweep = !connections.is_empty() && !self.multiplexed.swept.swap(true, Ordering::SeqCst);
        drop(connections);
        if sweep {
            self.sweep(|endpoint, limits| endpoint.multiplexed.drop_expired(limits));
        }
    }
}

impl Multiplexed {
    /// Lets go of what is of no more use. Returns whether something is left.
    fn drop_expired(&self, limits: &PoolLimits) -> bool {
        let mut connections = self.connections();
        connections.retain(|shared| shared.is_usable(limits));
        let left = !connections.is_empty();
        self.swept.store(left, Ordering::SeqCst);
        left
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tasks of tests end with their runtime")]
mod tests {
    use std::convert::Infallible;

    use futures_util::future::join_all;
    use http_body_util::{BodyExt, Empty};
    use hyper::service::service_fn;
    use hyper_util::server::conn::auto;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::upstream::{Address, Protocol};

    fn endpoint(port: u16, max_conns: usize) -> Arc<Endpoint> {
        let address = Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port,
            tls: None,
            at: None,
        };
        let limits = PoolLimits {
            max_conns,
            ..PoolLimits::default()
        };
        Endpoint::new(address, limits)
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        (listener, port)
    }

    fn request() -> Box<Request<Body>> {
        Box::new(Request::new(
            Empty::new().map_err(|never| match never {}).boxed_unsync(),
        ))
    }

    /// Answers in whatever it is spoken to in.
    fn serve(stream: TcpStream) {
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<hyper::body::Incoming>| async move {
                let version = format!("{:?}", request.version());
                Ok::<_, Infallible>(Response::new(http_body_util::Full::new(bytes::Bytes::from(version))))
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
        });
    }

    #[tokio::test]
    async fn all_that_wait_learn_that_nobody_listens() {
        let (listener, port) = listener().await;
        drop(listener);
        for max_conns in [0, 2] {
            let endpoint = endpoint(port, max_conns);
            let calls = (0..50).map(|_| endpoint.send(request(), Protocol::Http2));
            for tried in join_all(calls).await {
                let failure = tried.expect_err("nobody is there");
                assert!(failure.unsent.is_some());
                let refused = matches!(failure.error, SendError::Connect(ConnectError::Io { .. }));
                assert!(refused, "{}", failure.error);
            }
            assert_eq!(endpoint.connections(), crate::upstream::Connections::default());
        }
    }

    #[tokio::test]
    async fn a_caller_that_leaves_while_it_opens_holds_nobody_up() {
        let (listener, port) = listener().await;
        let endpoint = endpoint(port, 1);
        let call = || {
            let endpoint = Arc::clone(&endpoint);
            tokio::spawn(async move { endpoint.send(request(), Protocol::Http2).await.map(drop) })
        };
        let first = call();
        // It says nothing.
        let silent = listener.accept().await.expect("a connection");
        let second = call();
        tokio::task::yield_now().await;
        first.abort();
        serve(listener.accept().await.expect("another connection").0);
        drop(silent);
        second.await.expect("no panic").expect("an answer");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn servers_that_close_their_connections_all_the_time_lose_no_call() {
        let (listener, port) = listener().await;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let echo = service_fn(|request: Request<hyper::body::Incoming>| async move {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        Ok::<_, Infallible>(Response::new(request.into_body()))
                    });
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), echo));
                    tokio::select! {
                        _ = connection.as_mut() => return,
                        () = tokio::time::sleep(Duration::from_millis(20)) => {}
                    }
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                });
            }
        });
        let endpoint = endpoint(port, 0);
        let callers = (0..20).map(|caller| {
            let endpoint = Arc::clone(&endpoint);
            tokio::spawn(async move {
                for number in 0..100 {
                    let sent = format!("{caller}/{number}");
                    let body = http_body_util::Full::new(bytes::Bytes::from(sent.clone()));
                    let request = Request::post("/").body(body.map_err(|never| match never {}).boxed_unsync());
                    let answer = endpoint
                        .send(Box::new(request.expect("a request")), Protocol::Http2)
                        .await;
                    let body = answer.expect("an answer").into_body().collect().await.expect("a body");
                    assert_eq!(body.to_bytes(), sent);
                }
            })
        });
        for caller in join_all(callers).await {
            caller.expect("no panic");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_gives_way_to_a_call_of_another_protocol() {
        let (listener, port) = listener().await;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream);
            }
        });
        let endpoint = endpoint(port, 1);
        for (protocol, expected) in [
            (Protocol::Http2, "HTTP/2.0"),
            (Protocol::Http1, "HTTP/1.1"),
            (Protocol::Http2, "HTTP/2.0"),
        ] {
            let answer = endpoint.send(request(), protocol).await.expect("an answer");
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(body, expected);
        }
    }
}
