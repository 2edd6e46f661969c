//! Accepting connections and serving HTTP/1.1 and h2c on them until drained.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::{body::Incoming, service::service_fn, upgrade::OnUpgrade};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    Service,
    activity::{Activity, End, Limits},
    connections::{Connections, Open},
    fast, handshake,
    held::Held,
    http2::{self, Streams},
    limits,
    linger::Lingering,
    received::Received,
    socket::{Socket, Stream},
};
use crate::{config, shutdown::Stop};

/// How long a connection that is asked to end may take when nothing is under way on it.
pub(super) const GOODBYE: Duration = Duration::from_secs(2);

/// First and longest pause after the system refused to accept (out of file
/// descriptors, usually): trying at once would burn a core and change nothing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long a connection accepted at the last moment gets to send its request.
const LAST_REQUEST: Duration = Duration::from_millis(500);

/// Accepts connections until `stop`, then returns; connections that are open
/// finish their requests as tasks of the service. The listener closes when
/// nobody else holds it.
pub async fn serve(listener: Arc<TcpListener>, connections: Arc<Connections>, service: Service, stop: Stop) {
    let mut pause = ACCEPT_PAUSE;
    let finish = Stop::new();
    loop {
        let next = async {
            connections.room(&service.current).await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            // First: from then on, connections are another's.
            biased;
            () = stop.cancelled() => break,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = ACCEPT_PAUSE;
                let open = connections.accepted();
                let connection = connection(stream, peer, open, service.clone(), finish.clone());
                service.tasks.spawn(connection);
            }
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
    let Some(listener) = Arc::into_inner(listener) else {
        // It was handed over: whoever has it accepts what is waiting, and nobody
        // who calls can have noticed. A connection that was just accepted still
        // gets an answer.
        tokio::time::sleep(LAST_REQUEST).await;
        finish.cancel();
        return;
    };
    finish.cancel();
    // What the system has accepted for us would be reset by closing the listener.
    let last = Stop::new();
    let mut waiting = 0;
    while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
        let open = connections.accepted();
        let connection = connection(stream, peer, open, service.clone(), last.clone());
        service.tasks.spawn(connection);
        waiting += 1;
    }
    drop(listener);
    if waiting > 0 {
        tokio::time::sleep(LAST_REQUEST).await;
        last.cancel();
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, open: Open, service: Service, stop: Stop) {
    // Only delays small writes if it fails; not worth refusing a caller.
    let _ = stream.set_nodelay(true);
    let (fast, bounds, tls, patience) = {
        // Let go at once: connections may stay for hours, and must not keep a snapshot.
        let snapshot = service.current.get();
        let server = &snapshot.config.server;
        (
            server.fast_lane,
            Limits::new(server),
            snapshot.tls.clone(),
            server.read_timeout,
        )
    };
    let (socket, service) = match tls {
        None => (Socket::new(Stream::Tcp(stream), open), service),
        Some(tls) => {
            let handshake = tokio::select! {
                ended = handshake::accept(stream, &tls) => ended,
                () = tokio::time::sleep(patience) => Err(io::ErrorKind::TimedOut.into()),
                () = async { stop.cancelled().await; tokio::time::sleep(GOODBYE).await } => return,
            };
            match handshake {
                Ok((stream, transport)) => (Socket::new(Stream::Tls(stream), open), service.over(transport)),
                Err(error) => {
                    tracing::debug!(%peer, %error, "no TLS handshake");
                    return;
                }
            }
        }
    };
    // What only we know is told by the base lane.
    if fast && !service.transport.is_sanitised() {
        return fast::serve(socket, peer, service, stop).await;
    }
    let activity = Activity::new(bounds, 0);
    let stream = Lingering::new(socket, Arc::clone(&activity));
    // It is large, and the fast lane's connections do not need the room.
    Box::pin(base(stream, peer, service, activity, stop, true)).await;
}

/// Serves HTTP/1.1 and HTTP/2 on a connection until it ends; `fresh` unless it
/// carried requests before, which were HTTP/1.1 and stay so.
pub(super) async fn base<S>(
    stream: S,
    peer: SocketAddr,
    service: Service,
    activity: Arc<Activity>,
    stop: Stop,
    fresh: bool,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let builder = {
        let snapshot = service.current.get();
        let builder = builder(&snapshot.config.server);
        if fresh { builder } else { builder.http1_only() }
    };
    let requests = Arc::clone(&activity);
    let asked = AskedToSwitch::default();
    let switches = asked.clone();
    let respond = service_fn(move |mut request: Request<Incoming>| {
        let bounds = Limits::new(&service.current.get().config.server);
        let version = request.version();
        let under_way = requests.request(version, bounds);
        if version == Version::HTTP_2 && request.method() == Method::CONNECT {
            // Its stream may become a tunnel, which has no answer's body to end it.
            request.extensions_mut().insert(Arc::new(requests.busy()));
        }
        let service = service.clone();
        let (asked, switch) = (switches.clone(), request.extensions().get::<OnUpgrade>().cloned());
        let (request, progress) = Received::of(request);
        async move {
            let mut response = service.call(request, peer).await?;
            // Callers of HTTP/2 are told apart from their answers.
            if version < Version::HTTP_2 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                asked.refused(switch);
                let is_last = under_way.is_last()
                    || match progress {
                        Some(progress) => !progress.pass_over().await,
                        None => false,
                    };
                if is_last {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
            }
            Ok::<_, Infallible>(response.map(|body| Held::new(body, version, under_way)))
        }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), respond);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => Ok(ended),
        () = stop.cancelled() => Err(End::Soon),
        end = activity.over() => Err(end),
    };
    let ended = match ended {
        Ok(ended) => Some(ended),
        Err(End::AtOnce) => None,
        Err(End::Soon) => {
            connection.as_mut().graceful_shutdown();
            loop {
                tokio::select! {
                    ended = connection.as_mut() => break Some(ended),
                    () = tokio::time::sleep(GOODBYE) => if activity.is_quiet() { break None },
                    () = activity.cut_off() => break None,
                }
            }
        }
    };
    if let Some(mut stream) = asked.left_open::<S>() {
        // Fails when the caller is gone.
        let _ = stream.shutdown().await;
    }
    activity.hand_over();
    if let Some(Err(error)) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// The last switch of protocols that a caller asked for and did not get.
///
/// A connection that may switch is not closed by the library at its end, but
/// given to whoever waits for the switch.
#[derive(Clone, Default)]
struct AskedToSwitch(Arc<Mutex<Option<OnUpgrade>>>);

impl AskedToSwitch {
    fn refused(&self, switch: Option<OnUpgrade>) {
        if switch.is_some() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = switch;
        }
    }

    /// The connection, when it has ended for HTTP and nobody closed it.
    fn left_open<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self) -> Option<S> {
        let switch = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let upgraded = switch.now_or_never()?.ok()?;
        let parts = auto::upgrade::downcast::<TokioIo<S>>(upgraded).ok()?;
        Some(parts.io.into_inner())
    }
}

fn builder(server: &config::Server) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams::new(server));
    builder
        .http1()
        // As Go writes them: scripts look for `X-Call-Id` in what `curl -i` prints.
        .title_case_headers(true)
        .timer(TokioTimer::new())
        // `Activity` bounds heads, and idle connections apart from them.
        .header_read_timeout(None)
        .max_buf_size(server.max_header_bytes.as_usize())
        .max_headers(limits::headers_read(server));
    http2::configure(&mut builder, server);
    builder
}
