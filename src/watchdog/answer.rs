//! Answers that come from the watchdog itself, and the line about each call.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};

use super::log::note;
use crate::{
    proxy::{body, headers},
    upstream::Body,
};

/// Marks answers of the watchdog (http mode).
pub(super) const OF_WATCHDOG: HeaderValue = HeaderValue::from_static("of-watchdog");
/// Marks answers of the limit on concurrent calls.
const MIDDLEWARE: HeaderValue = HeaderValue::from_static("faas-middleware");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A status without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}

/// A status and a line of text.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    typed(status, TEXT, text)
}

/// A status and content of a type.
pub(super) fn typed(status: StatusCode, content_type: HeaderValue, content: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(content.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// A failure between the watchdog and the function's own server.
pub(super) fn internal(status: StatusCode, took: Duration) -> Response<Body> {
    let mut response = with_duration(empty(status), took);
    response.headers_mut().insert(headers::INTERNAL, OF_WATCHDOG);
    response
}

/// Too many calls at once.
pub(super) fn busy(limit: usize) -> Response<Body> {
    let mut response = typed(
        StatusCode::TOO_MANY_REQUESTS,
        HeaderValue::from_static("text/plain"),
        format!("Concurrent request limit exceeded. Max concurrent requests: {limit}\n"),
    );
    let soon = HeaderValue::from(headers::RETRY_AFTER_SECONDS);
    response.headers_mut().insert(header::RETRY_AFTER, soon);
    response.headers_mut().insert(headers::INTERNAL, MIDDLEWARE);
    response
}

/// Not ready for calls yet, or not any more.
pub(super) fn not_ready() -> Response<Body> {
    let mut response = empty(StatusCode::SERVICE_UNAVAILABLE);
    let soon = HeaderValue::from(headers::RETRY_AFTER_SECONDS);
    response.headers_mut().insert(header::RETRY_AFTER, soon);
    response
}

/// A method the mode does not take.
pub(super) fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Says how long the function took.
pub(super) fn with_duration(mut response: Response<Body>, took: Duration) -> Response<Body> {
    if let Ok(value) = HeaderValue::try_from(format!("{:.6}", took.as_secs_f64())) {
        response.headers_mut().insert(headers::DURATION_SECONDS, value);
    }
    response
}

/// What the line about a call says of its request.
pub(super) struct Asked {
    method: Method,
    uri: Uri,
    call_id: Option<HeaderValue>,
    /// Probes of a cluster would fill the log.
    silent: bool,
}

impl Asked {
    /// Remembers what is needed once the request is gone.
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            call_id: request.headers().get(headers::CALL_ID).cloned(),
            silent: request
                .headers()
                .get(header::USER_AGENT)
                .is_some_and(|agent| agent.as_bytes().starts_with(b"kube-probe")),
        }
    }

    /// Writes the line.
    pub(super) fn log(&self, response: &Response<Body>, took: Duration, with_call_id: bool) {
        if !self.silent {
            let length = http_body::Body::size_hint(response.body()).exact();
            note(format_args!(
                "{}",
                self.line(response.status(), length, took, with_call_id)
            ));
        }
    }

    fn line(&self, status: StatusCode, length: Option<u64>, took: Duration, with_call_id: bool) -> String {
        let length = length.map_or_else(|| "-1".to_owned(), |length| length.to_string());
        let line = format!(
            "{} {} - {status} - ContentLength: {length} ({:.4}s)",
            self.method,
            self.uri,
            took.as_secs_f64()
        );
        if !with_call_id {
            return line;
        }
        let id = self.call_id.as_ref().and_then(|id| id.to_str().ok());
        format!("{line} [{}]", id.unwrap_or("none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_about_a_call() {
        let request = http::Request::get("/a?b=1")
            .header("x-call-id", "id-1")
            .body(())
            .expect("valid");
        let asked = Asked::of(&request);
        let took = Duration::from_micros(1234);
        assert_eq!(
            asked.line(StatusCode::OK, Some(12), took, false),
            "GET /a?b=1 - 200 OK - ContentLength: 12 (0.0012s)"
        );
        assert_eq!(
            asked.line(StatusCode::BAD_GATEWAY, None, took, true),
            "GET /a?b=1 - 502 Bad Gateway - ContentLength: -1 (0.0012s) [id-1]"
        );
    }

    #[test]
    fn busy_is_said_in_openfaas_words() {
        let response = busy(3);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["content-type"], "text/plain");
        assert_eq!(response.headers()["x-openfaas-internal"], "faas-middleware");
    }
}
