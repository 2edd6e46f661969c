//! Accepting connections and serving HTTP/1.1 and h2c on them until drained.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use super::{
    Service,
    activity::{Activity, Held, Limits},
    fast,
    linger::Lingering,
    socket::Socket,
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
pub async fn serve(listener: Arc<TcpListener>, service: Service, stop: Stop) {
    let mut pause = ACCEPT_PAUSE;
    let finish = Stop::new();
    loop {
        let accepted = tokio::select! {
            // First: from then on, connections are another's.
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = ACCEPT_PAUSE;
                let connection = connection(stream, peer, service.clone(), finish.clone());
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
        let connection = connection(stream, peer, service.clone(), last.clone());
        service.tasks.spawn(connection);
        waiting += 1;
    }
    drop(listener);
    if waiting > 0 {
        tokio::time::sleep(LAST_REQUEST).await;
        last.cancel();
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, service: Service, stop: Stop) {
    // Only delays small writes if it fails; not worth refusing a caller.
    let _ = stream.set_nodelay(true);
    let (fast, limits) = {
        // Let go at once: connections may stay for hours, and must not keep a snapshot.
        let snapshot = service.current.get();
        let server = &snapshot.config.server;
        (server.fast_lane, Limits::new(server))
    };
    let socket = Socket::Tcp(stream);
    if fast {
        return fast::serve(socket, peer, service, stop).await;
    }
    let activity = Activity::new(limits);
    let stream = Lingering::new(socket, Arc::clone(&activity));
    // It is large, and the fast lane's connections do not need the room.
    Box::pin(base(stream, peer, service, activity, stop)).await;
}

/// Serves HTTP/1.1 and HTTP/2 on a connection until it ends.
pub(super) async fn base<S>(stream: S, peer: SocketAddr, service: Service, activity: Arc<Activity>, stop: Stop)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let builder = {
        let snapshot = service.current.get();
        builder(&snapshot.config.server)
    };
    let requests = Arc::clone(&activity);
    let respond = service_fn(move |request: Request<Incoming>| {
        let under_way = requests.request(request.version());
        let service = service.clone();
        async move {
            let response = service.call(request, peer).await?;
            Ok::<_, Infallible>(response.map(|body| Held::new(body, under_way)))
        }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), respond);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => Some(ended),
        () = stop.cancelled() => None,
        () = activity.overdue() => None,
    };
    let ended = if ended.is_some() {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        loop {
            tokio::select! {
                ended = connection.as_mut() => break Some(ended),
                () = tokio::time::sleep(GOODBYE) => if activity.is_quiet() { break None },
            }
        }
    };
    activity.hand_over();
    if let Some(Err(error)) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

fn builder(server: &config::Server) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        // As Go writes them: scripts look for `X-Call-Id` in what `curl -i` prints.
        .title_case_headers(true)
        .timer(TokioTimer::new())
        // `Activity` bounds heads, and idle connections apart from them.
        .header_read_timeout(None)
        .max_buf_size(server.max_header_bytes.as_usize());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(server.max_header_bytes.0).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(server.read_timeout));
    builder
}
