//! The listener that Prometheus and load balancers ask: `/metrics` and
//! `/healthz`, without authentication.
//!
//! It is a server of its own so that metrics can be read, and readiness seen
//! to turn off, while the main one drains. It knows two paths and no router.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::{CONTENT_TYPE, Metrics};
use crate::{
    proxy::headers::RETRY_AFTER_SECONDS,
    shutdown::{Stop, Tasks},
};

/// Bound on receiving a request's head and on an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Bound on a connection, so that one whose peer does not read its answer
/// goes away as well. Scrapers connect again.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// Pause after a failed accept: without file descriptors each one would fail at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `/metrics` and `/healthz` until `stop`, which should come after the
/// main server has drained. `ready` decides between 200 and 503 of `/healthz`.
/// The listener closes when nobody else holds it.
pub async fn serve<R>(listener: Arc<TcpListener>, metrics: Arc<Metrics>, tasks: Tasks, ready: R, stop: Stop)
where
    R: Fn() -> bool + Send + Sync + 'static,
{
    let ready = Arc::new(ready);
    loop {
        let stream = tokio::select! {
            // First: from then on, connections are another's.
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the metrics listener cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        tasks.spawn(connection(
            stream,
            Arc::clone(&metrics),
            Arc::clone(&ready),
            stop.clone(),
        ));
    }
}

async fn connection<R>(stream: TcpStream, metrics: Arc<Metrics>, ready: Arc<R>, stop: Stop)
where
    R: Fn() -> bool + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = respond(&request, &metrics, || ready());
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop.cancelled() => None,
        () = tokio::time::sleep(CONNECTION_LIFETIME) => None,
    };
    let ended = if ended.is_some() {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        tokio::time::timeout(HEADER_TIMEOUT, connection).await.ok()
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "connection of the metrics listener ended");
    }
}

/// The answer to one request.
fn respond<B>(request: &Request<B>, metrics: &Metrics, ready: impl Fn() -> bool) -> Response<Full<Bytes>> {
    match (request.uri().path(), request.method()) {
        ("/metrics", _) => answer(StatusCode::OK, CONTENT_TYPE, metrics.render()),
        ("/healthz", &Method::GET) if ready() => answer(StatusCode::OK, TEXT, "OK".to_owned()),
        ("/healthz", &Method::GET) => {
            let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "shutting down\n".to_owned());
            let soon = HeaderValue::from(RETRY_AFTER_SECONDS);
            response.headers_mut().insert(header::RETRY_AFTER, soon);
            response
        }
        ("/healthz", _) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET"));
            response
        }
        _ => answer(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned()),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
